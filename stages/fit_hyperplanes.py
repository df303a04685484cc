"""fit_hyperplanes: fit a plane per attribute to out/latents/z and out/labels/z; writes out/hyperplanes/."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from generators.hyperplanes import (
    Hyperplane,
    angle_between,
    confident,
    domain_names,
    fit_hyperplane,
    group_balancing_weights,
    plane_balanced_accuracy,
    save_hyperplanes,
    with_both_labels,
    with_rare_share,
)
from generators.latents import to_sphere
from generators.networks.cards import read_card
from generators.plane_trust import (
    angle_judgement,
    one_label_judgement,
    plane_group_accuracies,
    plane_judgement,
)
from pipeline.content.groups import group_names, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id
from pipeline.content.trust import Judgement, settle
from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import AllParameters, read_parameters
from stages.shared.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS
from stages.shared.planes import HyperplaneMetrics


@dataclass(frozen=True)
class LabelledLatents:
    """Holds latents with the scores and labels of their images.

    Attributes:
        rows: one row per latent, [n].
        latents: [n, D].
    """

    rows: pd.DataFrame
    latents: NDArray[np.float32]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "LabelledLatents":
        """Return the chosen latents; `chosen` is a mask or positions."""
        return LabelledLatents(
            self.rows[chosen] if chosen.dtype == bool else self.rows.iloc[chosen], self.latents[chosen]
        )

    def labels(self, attribute: str) -> NDArray[np.int64]:
        """Return the labels [n] of an attribute, in {0, 1}."""
        return self.rows[attribute].to_numpy(np.int64)

    def labelled(self, attribute: str, labels: NDArray[np.int64]) -> "LabelledLatents":
        """Return the same latents with other labels [n] of an attribute."""
        return LabelledLatents(self.rows.assign(**{attribute: labels}), self.latents)

    def domains(self, protected: list[str]) -> NDArray[np.int64]:
        """Return the protected group of each latent, [n], by its labels."""
        return protected_groups(self.rows[protected].to_numpy(np.int64))[0]

    def groups(self, parameters: AllParameters) -> NDArray[np.int64]:
        """Return the target x protected group of each latent, [n], by its labels."""
        return self.labels(parameters.target) * parameters.n_protected + self.domains(parameters.protected)


@dataclass(frozen=True)
class Fitted:
    """Holds a hyperplane, its metrics for metrics.json, and the judgement whether it can be trusted."""

    plane: Hyperplane
    metrics: dict[str, Any]
    judgement: Judgement


def fit_plane(
    name: str, attribute: str, fit: LabelledLatents, validation: LabelledLatents, parameters: AllParameters
) -> Fitted:
    """Fit one hyperplane and measure it.

    If all latents to fit with have the same label, the plane separates high from low scores instead, and is
    judged useless.

    Args:
        name: of the plane in the outputs.
        attribute: the attribute that it separates.
        fit: latents to fit with; the ablations in `fit_hyperplanes` leave some of them out.
        validation: latents to measure on; all are used.
        parameters: as params.yaml holds them.

    Returns:
        the plane, its metrics and its judgement.
    """
    section = parameters.fit_hyperplanes
    given = fit.labels(attribute)
    fit = fit.labelled(attribute, with_both_labels(given, fit.rows[f"{attribute}_score"].to_numpy()))
    chosen = fit
    if section.confidence > 0.5:
        chosen = fit.where(confident(fit.rows[f"{attribute}_score"].to_numpy(), section.confidence))
    if section.rare_share is not None:
        of = with_rare_share(name, chosen.labels(attribute), section.rare_share, section.seed)
        chosen = chosen.where(of)
    labels, held_out = chosen.labels(attribute), validation.labels(attribute)
    weights = group_balancing_weights(chosen.groups(parameters)) if section.group_balanced else None
    plane = fit_hyperplane(name, chosen.latents, labels, section.C, section.seed, weights)
    accuracies = {
        "balanced_accuracy": plane_balanced_accuracy(plane, validation.latents, held_out),
        # A generator that normalises its input renders points of the sphere (METHODS 1.5).
        "balanced_accuracy_on_sphere": plane_balanced_accuracy(
            plane, to_sphere(validation.latents), held_out
        ),
    }
    print(f"fit_hyperplanes {name}: balanced accuracy {accuracies['balanced_accuracy']:.3f}")
    names = group_names(parameters.target, parameters.protected)
    of_groups, counts = plane_group_accuracies(
        plane, validation.latents, held_out, validation.groups(parameters), len(names)
    )
    negative, positive = np.bincount(labels, minlength=2).tolist()
    metrics = {
        **{key: _or_none(value) for key, value in accuracies.items()},
        "group_accuracies": [_or_none(value) for value in of_groups],
        "group_n": counts.tolist(),
        "positives": float(np.mean(given)),
        "latents": {"0": negative, "1": positive},
    }
    if len(given) > 0 and given.min() == given.max():
        return Fitted(plane, metrics, one_label_judgement(name, int(given[0]), len(given)))
    judgement = plane_judgement(
        name,
        accuracies["balanced_accuracy"],
        np.bincount(held_out, minlength=2).tolist(),
        of_groups,
        counts,
        names,
        crossed=attribute in parameters.protected,
    )
    return Fitted(plane, metrics, judgement)


def _or_none(value: float) -> float | None:
    """Return a figure as JSON holds it: None for NaN."""
    return None if math.isnan(value) else float(value)


def main() -> None:
    """Fit each attribute's hyperplane, and the target's in each domain if asked for, and validate them."""
    parameters = read_parameters()
    section = parameters.fit_hyperplanes
    on_sphere = parameters.latent_space == "sphere"
    if on_sphere and not read_card(GENERATOR).normalises_latents:
        raise UserError(
            f"latent_space is sphere, but the generator in {GENERATOR} does not normalise its latents: two "
            "latents of one direction are two images. Use euclidean."
        )
    store = Store(LATENTS / "z")
    rows = store.rows_where("part", ["fit", "validation"])
    labels = Store(LABELS / "z").rows_where("id", rows["id"])
    rows = join_by_id(rows, labels.drop(columns=["shard", "row", "position"]), str(LABELS / "z"))

    def latents_of(rows: pd.DataFrame) -> LabelledLatents:
        latents = store.read(rows["position"].to_numpy())
        return LabelledLatents(rows, to_sphere(latents) if on_sphere else latents)

    fit = latents_of(rows[rows["part"] == "fit"].iloc[: section.latents])
    validation = latents_of(rows[rows["part"] == "validation"])
    fits = [(attribute, attribute, fit, validation) for attribute in parameters.attributes]
    if section.domain_dependent:
        domains, held_out = fit.domains(parameters.protected), validation.domains(parameters.protected)
        fits += [
            (name, parameters.target, fit.where(domains == domain), validation.where(held_out == domain))
            for domain, name in enumerate(domain_names(parameters.target, parameters.protected))
        ]
    fitted = [fit_plane(*of, parameters) for of in fits]
    planes = [of.plane for of in fitted]
    angles = {(a.attribute, b.attribute): angle_between(a, b) for a, b in combinations(planes, 2)}
    held_apart = {pair: angle for pair, angle in angles.items() if {*pair} & {*parameters.protected}}
    metrics = {of.plane.attribute: of.metrics for of in fitted}
    work = work_folder("fit_hyperplanes")
    save_hyperplanes(work.folder / "hyperplanes.json", planes)
    named = {f"{first} x {second}": angle for (first, second), angle in angles.items()}
    content = {**metrics, "angles_degrees": named}
    HyperplaneMetrics.model_validate(content).write(work.folder / "metrics.json")
    judgements = [*(of.judgement for of in fitted), angle_judgement(held_apart)]
    settle(judgements, work.folder, parameters.on_useless)
    work.publish(HYPERPLANES)


if __name__ == "__main__":
    run_stage(main)
