"""The verdict on a planted generator of noise: real trainings on real digits, tiny."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from classifiers.training.loop import in_one_phase, train_classifier
from classifiers.training.methods.erm import ERM
from classifiers.training.parameters import Optimizer, Training
from data.controls import duplicated_rows
from data.sources.digits import Digits
from pipeline.content.resumable import Session
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages.reporting.recommending import recommend
from stages.reporting.validation_draws import Run

SIDE = 8  # px
SEEDS = (0, 1)
SETTINGS = {
    "optimizer": Optimizer(name="adamw", learning_rate=3e-3),
    "steps": 250,
    "batch_size": 64,
    "evaluations": 3,
    "flip": False,
    "shift": 0.0,
    "sampler": "uniform",
}


def images_of(pixels: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> LabelledImages:
    ids = np.array([f"image-{k}" for k in range(len(pixels))], dtype=object)
    return LabelledImages(ids, lambda chosen: pixels[chosen], targets, groups)


def with_noise(images: LabelledImages, n: int, seed: int) -> LabelledImages:
    """The images and n of noise, which a generator that learned nothing makes, in groups of one size."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    groups = np.arange(n) % 4
    pixels = np.concatenate([images.read(np.arange(len(images))), noise])
    return images_of(
        pixels, np.concatenate([images.targets, groups // 2]), np.concatenate([images.groups, groups])
    )


@pytest.mark.slow
@pytest.mark.exhaustive  # by real trainings what test_recommending proves by predictions
def test_where_synthetic_images_are_noise_the_duplicated_real_ones_are_recommended(tmp_path: Path) -> None:
    source = Digits(train=1000, correlation=0.9)
    table = source.table()
    sets = {}
    for split in ("train", "validation"):
        rows = table[table["split"] == split]
        pixels = np.stack([source.image(row, SIDE) for row in rows.to_dict("records")])
        targets = rows["Five_or_more"].to_numpy(np.int64)
        sets[split] = images_of(pixels, targets, 2 * targets + rows["Red"].to_numpy(np.int64))
    original, validation = sets["train"], sets["validation"]
    data = {
        "original": original,
        "duplicated": original.subset(duplicated_rows(original.groups, 4, seed=0)),
        "sampled": with_noise(original, 800, seed=1),
        "augmented": with_noise(original, 800, seed=2),
    }
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))

    def worst_group(scores: np.ndarray, images: LabelledImages) -> float:
        right = (scores >= 0.5) == images.targets
        return float(min(right[images.groups == group].mean() for group in range(4)))

    runs = []
    for name, images in data.items():
        for seed in SEEDS:
            network = new_backbone(Backbone(width=8), seed)
            settings = Training(**SETTINGS, seed=seed)
            session = Session(name, accelerator, tmp_path / name / str(seed) / "state.pt", 3600.0)
            phases = in_one_phase(images, ERM(), settings)
            selections = {"worst": worst_group}
            trained = train_classifier(session, network, phases, validation, settings, selections)
            network.load_state_dict(trained.best["worst"])
            scores = predict(network, validation.read, len(validation), accelerator)
            predictions = pd.DataFrame(
                {
                    "id": validation.ids,
                    "target": validation.targets,
                    "Red": validation.groups % 2,
                    "score": scores,
                }
            )
            runs.append(Run(name, "erm", seed, predictions))
    verdict = recommend(runs, ["Red"], judgements={}, seed=0)
    assert (verdict.data, verdict.recipe) == ("duplicated", "erm")
    assert verdict.synthetic_earn_their_place is False
    assert verdict.complements_earn_their_place is False
    figures = {cell.data: cell.validation_worst_group_accuracy for cell in verdict.cells}
    assert figures["duplicated"] > figures["original"] + 0.1  # the bias bites, and repeating mends it
