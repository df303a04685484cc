"""fit_hyperplanes: out/latents/z and out/labels/z -> out/hyperplanes/: normals, offsets, metrics."""

import numpy as np

from generators.cards import read_card
from generators.hyperplanes import angle_between, balanced_accuracy, fit_hyperplane, save_hyperplanes
from generators.latents import to_sphere
from pipeline.errors import UserError
from pipeline.parameters import read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, write_json
from pipeline.work import publish, work_folder
from stages.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS


def main() -> None:
    """Fit each attribute's hyperplane on one part of the latents and validate it on another."""
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
    rows = join_by_id(rows, labels[["id", *parameters.attributes]], str(LABELS / "z"))
    fit, validation = (rows[rows["part"] == part] for part in ("fit", "validation"))
    fit_latents, validation_latents = (store.read(part["position"].to_numpy()) for part in (fit, validation))
    if on_sphere:
        fit_latents, validation_latents = to_sphere(fit_latents), to_sphere(validation_latents)
    planes, metrics = [], {}
    for attribute in parameters.attributes:
        truth = fit[attribute].to_numpy()
        plane = fit_hyperplane(attribute, fit_latents, truth, section.C, section.seed)
        planes.append(plane)
        held_out = validation[attribute].to_numpy()
        metrics[attribute] = {
            "balanced_accuracy": balanced_accuracy(plane, validation_latents, held_out),
            # What a generator that normalises its input renders (METHODS 1.5).
            "balanced_accuracy_on_sphere": balanced_accuracy(plane, to_sphere(validation_latents), held_out),
            "positives": float(np.mean(truth)),
        }
        print(f"fit_hyperplanes {attribute}: balanced accuracy {metrics[attribute]['balanced_accuracy']:.3f}")
    settings = [section.model_dump(), parameters.attributes, parameters.latent_space]
    work = work_folder("fit_hyperplanes", [LATENTS / "z", LABELS / "z"], settings)
    save_hyperplanes(work / "hyperplanes.json", planes)
    angle = angle_between(planes[0], planes[1])
    write_json(work / "metrics.json", {**metrics, "angle_degrees": angle})
    publish(work, HYPERPLANES)


if __name__ == "__main__":
    run_stage(main)
