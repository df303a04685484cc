"""fit_hyperplanes: out/latents/z and out/labels/z -> out/hyperplanes/: normals, offsets, metrics."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from generators.cards import read_card
from generators.hyperplanes import (
    Hyperplane,
    angle_between,
    balanced_accuracy,
    confident,
    domain_names,
    fit_hyperplane,
    save_hyperplanes,
    with_rare_share,
)
from generators.latents import to_sphere
from pipeline.errors import UserError
from pipeline.groups import protected_groups
from pipeline.parameters import FitHyperplanes, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, write_json
from pipeline.work import publish, work_folder
from stages.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS


@dataclass(frozen=True)
class Part:
    """Latents and what is known of them: rows of n, latents [n, D]."""

    rows: pd.DataFrame
    latents: NDArray[np.float32]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Part":
        """Those that are chosen, by a mask or by their positions."""
        return Part(
            self.rows[chosen] if chosen.dtype == bool else self.rows.iloc[chosen], self.latents[chosen]
        )

    def labels(self, attribute: str) -> NDArray[np.int64]:
        """The labels [n] of an attribute, in {0, 1}."""
        return self.rows[attribute].to_numpy(np.int64)

    def domains(self, protected: list[str]) -> NDArray[np.int64]:
        """The domains [n], as the labels say."""
        return protected_groups(self.rows[protected].to_numpy(np.int64))[0]


def fit_plane(
    name: str, attribute: str, fit: Part, validation: Part, section: FitHyperplanes
) -> tuple[Hyperplane, dict[str, Any]]:
    """One hyperplane, fitted on what the ablations leave of `fit`, and its metrics on all of `validation`."""
    chosen = fit
    if section.confidence > 0.5:
        chosen = fit.where(confident(fit.rows[f"{attribute}_score"].to_numpy(), section.confidence))
    if section.rare_share is not None:
        of = with_rare_share(name, chosen.labels(attribute), section.rare_share, section.seed)
        chosen = chosen.where(of)
    labels, held_out = chosen.labels(attribute), validation.labels(attribute)
    plane = fit_hyperplane(name, chosen.latents, labels, section.C, section.seed)
    accuracies = {
        "balanced_accuracy": balanced_accuracy(plane, validation.latents, held_out),
        # What a generator that normalises its input renders (METHODS 1.5).
        "balanced_accuracy_on_sphere": balanced_accuracy(plane, to_sphere(validation.latents), held_out),
    }
    print(f"fit_hyperplanes {name}: balanced accuracy {accuracies['balanced_accuracy']:.3f}")
    negative, positive = np.bincount(labels, minlength=2).tolist()
    return plane, {
        **{key: None if math.isnan(value) else value for key, value in accuracies.items()},
        "positives": float(np.mean(fit.labels(attribute))),
        "latents": {"0": negative, "1": positive},
    }


def main() -> None:
    """Fit each attribute's hyperplane on one part of the latents and validate it on another.

    The target's in each domain too, where it is to be domain-dependent.
    """
    parameters = read_parameters()
    section = parameters.fit_hyperplanes
    on_sphere = parameters.latent_space == "sphere"
    if on_sphere and not read_card(GENERATOR)["normalises_latents"]:
        raise UserError(
            f"latent_space is sphere, but the generator in {GENERATOR} does not normalise its latents: two "
            "latents of one direction are two images. Use euclidean."
        )
    store = Store(LATENTS / "z")
    rows = store.rows_where("part", ["fit", "validation"])
    labels = Store(LABELS / "z").rows_where("id", rows["id"])
    rows = join_by_id(rows, labels.drop(columns=["shard", "row", "position"]), str(LABELS / "z"))

    def part_of(rows: pd.DataFrame) -> Part:
        latents = store.read(rows["position"].to_numpy())
        return Part(rows, to_sphere(latents) if on_sphere else latents)

    fit = part_of(rows[rows["part"] == "fit"].iloc[: section.latents])
    validation = part_of(rows[rows["part"] == "validation"])
    fits = [(attribute, attribute, fit, validation) for attribute in parameters.attributes]
    if section.domain_dependent:
        domains, held_out = fit.domains(parameters.protected), validation.domains(parameters.protected)
        fits += [
            (name, parameters.target, fit.where(domains == domain), validation.where(held_out == domain))
            for domain, name in enumerate(domain_names(parameters.target, parameters.protected))
        ]
    fitted = [fit_plane(*of, section) for of in fits]
    planes = [plane for plane, _ in fitted]
    angles = {f"{a.attribute} x {b.attribute}": angle_between(a, b) for a, b in combinations(planes, 2)}
    metrics = {plane.attribute: of_plane for plane, of_plane in fitted}
    settings = [section.model_dump(), parameters.attributes, parameters.latent_space]
    work = work_folder("fit_hyperplanes", [LATENTS / "z", LABELS / "z"], settings)
    save_hyperplanes(work / "hyperplanes.json", planes)
    write_json(work / "metrics.json", {**metrics, "angles_degrees": angles})
    publish(work, HYPERPLANES)


if __name__ == "__main__":
    run_stage(main)
