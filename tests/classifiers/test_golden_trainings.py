"""Trainings of classifiers end with the recorded weights, to the bit.

`python -m tests.classifiers.test_golden_trainings` records them anew: do so only if they are meant to change.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from classifiers.networks.weights import copy_of_weights
from classifiers.training.loop import train_classifier
from classifiers.training.method_settings import Recipe
from classifiers.training.parameters import Optimizer, Training
from classifiers.training.recipes import Facts, phases_of
from classifiers.training.settings.losses import ERMSettings, GroupDROSettings
from pipeline.content.resumable import Session
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests import golden

GOLDEN = Path(__file__).parent / "golden_trainings.json"
N_GROUPS = 4
SGD = Optimizer(name="sgd", learning_rate=0.05, schedule="constant", warm_up=0.2)
PLAIN: dict[str, Any] = {"optimizer": SGD, "flip": False, "shift": 0.0, "average": 0.0}
FULL: dict[str, Any] = {"optimizer": Optimizer(), "flip": True, "shift": 0.125, "average": 0.05}

RECIPES = {
    "erm": Recipe(method=ERMSettings()),
    "erm_balanced": Recipe(method=ERMSettings(), sampler="group_balanced", weight_decay=1e-2),
    "group_dro": Recipe(method=GroupDROSettings(step_size=0.1)),
    "group_dro_adjusted": Recipe(method=GroupDROSettings(step_size=0.1, adjustment=2.0)),
    "source_balanced": Recipe(method=ERMSettings(), sampler="group_balanced", group_by="group_and_source"),
    "source_groups": Recipe(method=GroupDROSettings(), group_by="group_and_source"),
    "pretrained": Recipe(method=ERMSettings(), sampler="group_balanced", phases={"name": "pretrain"}),
    "pretrained_group_dro": Recipe(
        method=GroupDROSettings(step_size=0.1), phases={"name": "pretrain", "share": 0.25}
    ),
    "half_real": Recipe(method=ERMSettings(), sampler="group_balanced", real_share=0.5),
}
SETTINGS = {"plain": PLAIN, "full": FULL}
TRAININGS = [f"{recipe} {settings}" for recipe in RECIPES for settings in SETTINGS]


def toy_images(n: int, seed: int, synthetic_share: float) -> LabelledImages:
    """Return images of noise with a bright left half if the target is 1; the groups differ in size."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, n)
    protected = np.where(random.random(n) < 0.8, targets, 1 - targets)
    pixels = random.integers(60, 160, (n, 8, 8, 3))
    pixels[:, :, :4, 0] += 60 * targets[:, None, None]
    pixels[:, :, :, 2] += 40 * protected[:, None, None]
    images = pixels.astype(np.uint8)
    return LabelledImages(
        ids=np.array([f"image-{number}" for number in range(n)], dtype=object),
        read=lambda positions: images[positions],
        targets=targets,
        groups=targets * 2 + protected,
        synthetic=random.random(n) < synthetic_share if synthetic_share else None,
    )


def accuracy(scores: np.ndarray, images: LabelledImages) -> float:
    return float(((scores > 0.5) == images.targets).mean())


def sharpness(scores: np.ndarray, images: LabelledImages) -> float:
    return float(np.abs(scores - 0.5).mean())


def record(training: str, checkpoint: Path) -> dict[str, Any]:
    """Run one of `TRAININGS`; return its last and its best weights, and its history."""
    recipe_name, settings_name = training.split()
    recipe = RECIPES[recipe_name]
    settings = Training(
        **SETTINGS[settings_name],
        weight_decay=recipe.weight_decay,
        sampler=recipe.sampler,
        steps=20,
        batch_size=16,
        evaluations=4,
        seed=5,
    )
    network = new_backbone(Backbone(width=8), seed=7)
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    trained = train_classifier(
        Session(training, accelerator, checkpoint, 3600.0),
        network,
        phases_of(recipe, settings, toy_images(96, 0, 0.4), Facts(2, network.last.in_features)),
        toy_images(64, 1, 0.0),
        settings,
        {"accuracy": accuracy, "sharpness": sharpness},
    )
    return golden.record_of({"last": copy_of_weights(network), **trained.best}, trained.history)


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_ends_as_it_was_recorded(training, tmp_path):
    golden.assert_is(record(training, tmp_path / "state.pt"), GOLDEN, training)


def test_no_two_recipes_are_the_same():
    """Every option has an effect: each recipe ends with other weights."""
    trainings = json.loads(GOLDEN.read_text())["trainings"]
    assert list(trainings) == TRAININGS
    assert len({training["weights"]["last"]["sha256"] for training in trainings.values()}) == len(TRAININGS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        golden.save(GOLDEN, {name: record(name, Path(folder) / f"{name}.pt") for name in TRAININGS})
