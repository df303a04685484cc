"""Linear directions of attributes in latent space: s(z) = w·z + b with a unit normal w.

A domain is a protected group a in 0 ... 2^k - 1: one combination of the k protected attributes' values
(pipeline/content/groups.py). Of labelled latents the labels say which; of any latent the signs of the
protected hyperplanes' distances do, so that a move is a function of the latent alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.content.files import write_json
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

FloatArray = NDArray[np.floating[Any]]

FEWEST = 20  # latents, as which a group of fewer counts


@dataclass(frozen=True)
class Hyperplane:
    """An attribute's hyperplane: positive where the attribute is 1.

    Attributes:
        attribute: its name; of the target's plane in a domain one of `domain_names`.
        normal: w, unit length, [D].
        offset: b.
    """

    attribute: str
    normal: NDArray[np.float64]
    offset: float

    def distance(self, latents: FloatArray) -> NDArray[np.float64]:
        """The signed distance s(z) of latents [n, D]: [n], in units of the latent space."""
        return latents @ self.normal + self.offset


@dataclass(frozen=True)
class Planes:
    """The hyperplanes that complements are made of.

    Attributes:
        protected: of the k protected attributes, in their order.
        by_domain: the target's in each of the 2^k domains, or in none of them.
    """

    target: Hyperplane
    protected: tuple[Hyperplane, ...]
    by_domain: tuple[Hyperplane, ...] = ()

    def domains_of(self, latents: FloatArray) -> NDArray[np.int64]:
        """The domain of each latent [n, D], by the sides of the protected hyperplanes that it is on: [n]."""
        sides = np.stack([plane.distance(latents) > 0 for plane in self.protected], axis=1)
        return protected_groups(sides.astype(np.int64))[0]

    def target_sides_of(self, latents: FloatArray) -> NDArray[np.bool_]:
        """Whether latents [n, D] are on the positive side of the target's plane, or their domain's: [n]."""
        if not self.by_domain:
            return self.target.distance(latents) > 0
        distances = np.stack([plane.distance(latents) for plane in self.by_domain])
        chosen: NDArray[np.float64] = distances[self.domains_of(latents), np.arange(len(latents))]
        return chosen > 0


def domain_names(target: str, protected: Sequence[str]) -> list[str]:
    """The names of the target's plane in each domain: "Blond_Hair in Male=0, Eyeglasses=1"; [2^k]."""
    values = protected_columns(np.arange(2 ** len(protected)), len(protected))
    settings = (", ".join(f"{n}={v}" for n, v in zip(protected, row, strict=True)) for row in values)
    return [f"{target} in {setting}" for setting in settings]


def planes_of(planes: Mapping[str, Hyperplane], target: str, protected: Sequence[str]) -> Planes:
    """What `load_hyperplanes` read, as complements use it: with a plane per domain where they were fitted."""
    by_domain = tuple(planes[name] for name in domain_names(target, protected) if name in planes)
    return Planes(planes[target], tuple(planes[name] for name in protected), by_domain)


def confident(scores: FloatArray, confidence: float) -> NDArray[np.bool_]:
    """Which scores [n] in [0, 1] are at least `confidence` (0.5 to 1) or at most 1 - `confidence`: [n]."""
    return (scores >= confidence) | (scores <= 1.0 - confidence)


def with_rare_share(name: str, labels: NDArray[np.int_], share: float, seed: int) -> NDArray[np.int64]:
    """Positions, ascending, of labels [n] in {0, 1} among which the rarer label has this share: [m].

    Labels of one kind, drawn without replacement, are left out, as few as do. Which label is the rarer is as
    it was. The share is met to within what one latent makes. Source: Ramaswamy et al., 2021 (ablations).

    Args:
        name: of the hyperplane; the draw depends on it and on the seed.
        share: in (0, 0.5].

    Raises `UserError` where not one of the rarer label would be left; it says which share can be had.
    """
    rarer = int(np.bincount(labels, minlength=2).argmin())
    if not (labels == rarer).any():
        return np.arange(len(labels))  # nothing to fit with: `fit_hyperplane` says so
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


def group_weights(groups: NDArray[np.int_]) -> NDArray[np.float64]:
    """Weights of latents, [n], by which every group [n] that occurs counts the same; 1 on the average.

    Where the attributes of the images go together, a plane that is to tell one of them would otherwise lean
    towards the other: it is right about most images by telling that. A group of fewer than `FEWEST` latents
    counts as that many do: one latent alone, labelled by mistake, is not to decide about a plane.
    """
    counts = np.bincount(groups)
    weights = 1.0 / np.maximum(counts, FEWEST)[groups]
    return np.asarray(weights * len(groups) / max(weights.sum(), 1e-12), dtype=np.float64)


def with_both_labels(labels: NDArray[np.int_], scores: FloatArray) -> NDArray[np.int64]:
    """The labels [n] as they are, or, where all are the same, 1 for the upper half of the scores [n].

    A plane through labels of one kind does not exist. One between lower and higher scores says at least which
    latents the labeller finds more like it; who fits it has to say that it is no more (`plane_trust`).
    """
    if len(np.unique(labels)) != 1:
        return labels.astype(np.int64)
    upper = np.argsort(np.argsort(scores, kind="stable"), kind="stable") >= len(scores) / 2
    return upper.astype(np.int64)


def fit_hyperplane(
    name: str,
    latents: FloatArray,
    labels: NDArray[np.int_],
    C: float,
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> Hyperplane:
    """Fit a linear SVM to latents [n, D] and hard labels [n] in {0, 1}; normalised by ||w||.

    Args:
        name: the attribute's, or of the target's plane in a domain one of `domain_names`.
        C: the SVM's inverse regularisation.
        weights: of the latents, [n]; None: either label weighs the same.

    Raises `UserError` where only one label occurs, or none. Source: METHODS 1.3 (Ramaswamy et al., 2021).
    """
    from sklearn.svm import LinearSVC  # a second to import, and most stages do without

    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        raise UserError(_one_label(name, counts))
    # Attributes may be rare: each class weighs the same, or the plane would leave the data.
    class_weight = "balanced" if weights is None else None
    dual = len(labels) < latents.shape[1]
    machine = LinearSVC(C=C, class_weight=class_weight, dual=dual, random_state=seed)
    machine.fit(latents, labels, weights)
    normal = machine.coef_[0].astype(np.float64)
    length = float(np.linalg.norm(normal))
    return Hyperplane(name, normal / length, float(machine.intercept_[0]) / length)


def _one_label(name: str, counts: NDArray[np.int_]) -> str:
    """Why no plane can be fitted to labels of which there are so many [2], and what to do."""
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


def plane_balanced_accuracy(plane: Hyperplane, latents: FloatArray, labels: NDArray[np.int_]) -> float:
    """(TPR + TNR) / 2 of the plane's sign against labels [n]; NaN where a label does not occur."""
    from sklearn.metrics import balanced_accuracy_score

    if np.bincount(labels, minlength=2).min() == 0:
        return float("nan")
    return float(balanced_accuracy_score(labels, plane.distance(latents) > 0))


def angle_between(first: Hyperplane, second: Hyperplane) -> float:
    """The angle θ between two normals, in degrees: 0 to 180."""
    return float(np.degrees(np.arccos(np.clip(first.normal @ second.normal, -1.0, 1.0))))


def save_hyperplanes(path: Path, planes: list[Hyperplane]) -> None:
    """Write hyperplanes as JSON: attribute, or name of the target's plane in a domain -> normal, offset."""
    write_json(path, {p.attribute: {"normal": p.normal.tolist(), "offset": p.offset} for p in planes})


def load_hyperplanes(path: Path) -> dict[str, Hyperplane]:
    """Read what `save_hyperplanes` wrote, by attribute or name of the target's plane in a domain."""
    content = json.loads(path.read_text())
    return {name: Hyperplane(name, np.array(p["normal"]), p["offset"]) for name, p in content.items()}
