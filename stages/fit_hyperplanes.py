"""fit_hyperplanes: out/latents/z and out/labels/z -> out/hyperplanes/: normals, offsets, metrics."""

import numpy as np

from generators.hyperplanes import angle_between, balanced_accuracy, fit_hyperplane, save_hyperplanes
from generators.latents import to_sphere
from pipeline.parameters import read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, read_table, write_json
from stages.paths import HYPERPLANES, LABELS, LATENTS


def main() -> None:
    """Fit each attribute's hyperplane on one part of the latents and validate it on another."""
    parameters = read_parameters()
    section = parameters.fit_hyperplanes
    store = Store(LATENTS / "z")
    path = LABELS / "z" / "labels.parquet"
    rows = join_by_id(store.rows, read_table(path, ("id", *parameters.attributes)), str(path))
    fit, validation = (rows[rows["part"] == part] for part in ("fit", "validation"))
    fit_latents, validation_latents = (store.read(store.positions(part["id"])) for part in (fit, validation))
    planes, metrics = [], {}
    for attribute in parameters.attributes:
        labels = fit[attribute].to_numpy()
        plane = fit_hyperplane(attribute, fit_latents, labels, section.C, section.seed)
        planes.append(plane)
        truth = validation[attribute].to_numpy()
        metrics[attribute] = {
            "balanced_accuracy": balanced_accuracy(plane, validation_latents, truth),
            # What a generator that normalises its input renders (METHODS 1.5).
            "balanced_accuracy_on_sphere": balanced_accuracy(plane, to_sphere(validation_latents), truth),
            "positives": float(np.mean(labels)),
        }
        print(f"fit_hyperplanes {attribute}: balanced accuracy {metrics[attribute]['balanced_accuracy']:.3f}")
    save_hyperplanes(HYPERPLANES / "hyperplanes.json", planes)
    angle = angle_between(planes[0], planes[1])
    write_json(HYPERPLANES / "metrics.json", {**metrics, "angle_degrees": angle})


if __name__ == "__main__":
    run_stage(main)
