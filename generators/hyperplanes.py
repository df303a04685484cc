"""Linear directions of attributes in latent space: s(z) = w·z + b with a unit normal w.

A domain is a protected group a in 0 ... 2^k - 1: one combination of the values of the k protected attributes
(pipeline/content/groups.py). For labelled latents it is known from their labels. For any latent it is read
from the signs of its distances to the protected hyperplanes, so that a move depends on the latent alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import AnyFloatArray
from pipeline.content.files import write_json
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

FEWEST = 20  # latents: those of a smaller group weigh as those of a group of this size


@dataclass(frozen=True)
class Hyperplane:
    """Represents an attribute's hyperplane: distances are positive where the attribute is 1.

    Attributes:
        attribute: the attribute's name; for the target's plane in one domain, one of `domain_names`.
        normal: w, unit length, [D].
        offset: b.
    """

    attribute: str
    normal: NDArray[np.float64]
    offset: float

    def distance(self, latents: AnyFloatArray) -> NDArray[np.float64]:
        """Compute the signed distances s(z) of latents [n, D]: [n], in units of the latent space."""
        return latents @ self.normal + self.offset


@dataclass(frozen=True)
class Planes:
    """Holds the hyperplanes that complements are computed from.

    Attributes:
        target: the target's plane, fitted over all domains.
        protected: the planes of the k protected attributes, in their order.
        by_domain: the target's plane in each of the 2^k domains; empty if none were fitted.
    """

    target: Hyperplane
    protected: tuple[Hyperplane, ...]
    by_domain: tuple[Hyperplane, ...] = ()

    def domains_of(self, latents: AnyFloatArray) -> NDArray[np.int64]:
        """Find the domain of each latent [n, D] from its sides of the protected hyperplanes: [n]."""
        sides = np.stack([plane.distance(latents) > 0 for plane in self.protected], axis=1)
        return protected_groups(sides.astype(np.int64))[0]

    def target_sides_of(self, latents: AnyFloatArray) -> NDArray[np.bool_]:
        """Tell which latents [n, D] are on the positive side of the target's plane (in their domain): [n]."""
        if not self.by_domain:
            return self.target.distance(latents) > 0
        distances = np.stack([plane.distance(latents) for plane in self.by_domain])
        chosen: NDArray[np.float64] = distances[self.domains_of(latents), np.arange(len(latents))]
        return chosen > 0


def domain_names(target: str, protected: Sequence[str]) -> list[str]:
    """List the names of the target's plane in each domain, [2^k]: "Blond_Hair in Male=0, Eyeglasses=1"."""
    values = protected_columns(np.arange(2 ** len(protected)), len(protected))
    settings = (", ".join(f"{n}={v}" for n, v in zip(protected, row, strict=True)) for row in values)
    return [f"{target} in {setting}" for setting in settings]


def planes_of(planes: Mapping[str, Hyperplane], target: str, protected: Sequence[str]) -> Planes:
    """Collect the planes that complements use, with one per domain if they were fitted.

    Args:
        planes: as `load_hyperplanes` returns them.
        target: the target's name.
        protected: the protected attributes' names.

    Returns:
        The planes of the target and of the protected attributes.
    """
    by_domain = tuple(planes[name] for name in domain_names(target, protected) if name in planes)
    return Planes(planes[target], tuple(planes[name] for name in protected), by_domain)


def confident(scores: AnyFloatArray, confidence: float) -> NDArray[np.bool_]:
    """Tell which scores [n] are at least `confidence` (0.5 to 1) or at most 1 - `confidence`: bool [n]."""
    return (scores >= confidence) | (scores <= 1.0 - confidence)


def with_rare_share(name: str, labels: NDArray[np.int_], share: float, seed: int) -> NDArray[np.int64]:
    """Select latents such that the rarer label has a given share among them.

    Latents of one label, drawn without replacement, are left out, as few as possible. The rarer label stays
    the rarer one. The share is met up to the effect of one latent. Source: Ramaswamy et al., 2021
    (ablations).

    Args:
        name: the hyperplane's name; the draw depends on it and on the seed.
        labels: [n] in {0, 1}.
        share: of the rarer label, in (0, 0.5].
        seed: of the draw.

    Returns:
        The positions of the latents to keep, ascending, int64 [m].

    Raises:
        UserError: no latent of the rarer label would be left; the sentence says which share is possible.
    """
    rarer = int(np.bincount(labels, minlength=2).argmin())
    if not (labels == rarer).any():
        return np.arange(len(labels))  # `fit_hyperplane` raises the error: there is only one label
    rare, common = np.flatnonzero(labels == rarer), np.flatnonzero(labels != rarer)
    random = generator_for(seed, "rare_share", name)
    n_common = round(len(rare) * (1.0 - share) / share)
    n_rare = round(len(common) * share / (1.0 - share))
    if n_common <= len(common):
        common = random.choice(common, n_common, replace=False)
    elif n_rare > 0:
        rare = random.choice(rare, n_rare, replace=False)
    else:
        raise UserError(
            f"fit_hyperplanes: rare_share {share} of the rarer label of {name} cannot be had from "
            f"{len(common):,} latents of the other label: one latent beside them is a share of "
            f"{1 / (len(common) + 1):.2g}. Use that or more, or fit with more latents."
        )
    return np.sort(np.concatenate([rare, common])).astype(np.int64)


def group_balancing_weights(groups: NDArray[np.int_]) -> NDArray[np.float64]:
    """Weigh latents so that every group that occurs counts the same.

    If two attributes of the images are correlated, a plane that is to separate one of them would otherwise
    lean towards the other: it is right about most images by separating the other. A latent of a group of
    fewer than `FEWEST` weighs as much as one of a group of `FEWEST`: a single mislabelled latent must not
    decide where the plane lies.

    Args:
        groups: the group of each latent, [n].

    Returns:
        The weights, float64 [n]; 1 on average.
    """
    counts = np.bincount(groups)
    weights = 1.0 / np.maximum(counts, FEWEST)[groups]
    return np.asarray(weights * len(groups) / max(weights.sum(), 1e-12), dtype=np.float64)


def with_both_labels(labels: NDArray[np.int_], scores: AnyFloatArray) -> NDArray[np.int64]:
    """Return the labels, or, if all are the same, 1 for the upper half of the scores and 0 for the lower.

    No plane separates labels of one kind. A plane between lower and higher scores at least shows which
    latents the labeller finds more like the attribute; the caller has to say that it shows no more
    (`plane_trust`).

    Args:
        labels: [n] in {0, 1}.
        scores: of the labeller, [n] in [0, 1].

    Returns:
        Labels, int64 [n] in {0, 1}.
    """
    if len(np.unique(labels)) != 1:
        return labels.astype(np.int64)
    upper = np.argsort(np.argsort(scores, kind="stable"), kind="stable") >= len(scores) / 2
    return upper.astype(np.int64)


def fit_hyperplane(
    name: str,
    latents: AnyFloatArray,
    labels: NDArray[np.int_],
    C: float,
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> Hyperplane:
    """Fit a linear SVM to latents and hard labels, normalised by ||w||.

    Source: METHODS 1.3 (Ramaswamy et al., 2021).

    Args:
        name: the attribute's, or of the target's plane in one domain one of `domain_names`.
        latents: z, [n, D].
        labels: [n] in {0, 1}.
        C: the SVM's inverse regularisation.
        seed: of the solver.
        weights: of the latents, [n]; None: both labels have the same total weight.

    Returns:
        The hyperplane, with a unit normal.

    Raises:
        UserError: only one label occurs, or there are no latents.
    """
    from sklearn.svm import LinearSVC  # lazy: slow import

    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        raise UserError(_one_label(name, counts))
    # Attributes may be rare: both classes get the same total weight, or the plane would leave the data.
    class_weight = "balanced" if weights is None else None
    dual = len(labels) < latents.shape[1]
    machine = LinearSVC(C=C, class_weight=class_weight, dual=dual, random_state=seed)
    machine.fit(latents, labels, weights)
    normal = machine.coef_[0].astype(np.float64)
    length = float(np.linalg.norm(normal))
    return Hyperplane(name, normal / length, float(machine.intercept_[0]) / length)


def _one_label(name: str, counts: NDArray[np.int_]) -> str:
    """Say why no plane can be fitted to labels that occur so often, counts [2], and what to do."""
    attribute, _, domain = name.partition(" in ")
    where = f" of the domain {domain}" if domain else ""
    remedy = "a longer GAN training, more latents or a lower fit_hyperplanes.confidence may help"
    if domain:
        remedy += ", or domain_dependent false"
    if counts.sum() == 0:
        return f"fit_hyperplanes: there is no latent{where} to fit {attribute} with: {remedy}."
    return (
        f"fit_hyperplanes: all {counts.sum()} images{where} to fit with are labelled {attribute}="
        f"{counts.argmax()}: the generator makes none of the other kind, or the classifier finds none. See "
        f"out/labels/z and out/attributes/{attribute}; {remedy}."
    )


def plane_balanced_accuracy(plane: Hyperplane, latents: AnyFloatArray, labels: NDArray[np.int_]) -> float:
    """Compute (TPR + TNR) / 2 of the plane's sign against labels [n]; NaN if a label does not occur."""
    from sklearn.metrics import balanced_accuracy_score

    if np.bincount(labels, minlength=2).min() == 0:
        return float("nan")
    return float(balanced_accuracy_score(labels, plane.distance(latents) > 0))


def angle_between(first: Hyperplane, second: Hyperplane) -> float:
    """Compute the angle θ between two normals, in degrees: 0 to 180."""
    return float(np.degrees(np.arccos(np.clip(first.normal @ second.normal, -1.0, 1.0))))


def save_hyperplanes(path: Path, planes: list[Hyperplane]) -> None:
    """Write hyperplanes as JSON: attribute (or name of the target's plane in a domain) -> normal, offset."""
    write_json(path, {p.attribute: {"normal": p.normal.tolist(), "offset": p.offset} for p in planes})


def load_hyperplanes(path: Path) -> dict[str, Hyperplane]:
    """Read what `save_hyperplanes` wrote, by attribute or name of the target's plane in a domain."""
    content = json.loads(path.read_text())
    return {name: Hyperplane(name, np.array(p["normal"]), p["offset"]) for name, p in content.items()}
