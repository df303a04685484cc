"""Trainings by recipe: they survive kills, and depend neither on processes nor on labels they do not need."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifiers.training.method_settings import Recipe
from classifiers.training.parameters import Optimizer
from pipeline.content.checkpoints import load_checkpoint
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.by_recipe import RECIPES, train_by
from tests.classifiers.toys import TRAINING, Killed, assert_same_training, killed_after

PROJECT = Path(__file__).parents[2]
IN_ONE_PHASE = [name for name, recipe in RECIPES.items() if "phases" not in recipe]
OF_TWO_NETWORKS = [name for name, recipe in RECIPES.items() if "phases" in recipe]


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


@pytest.mark.parametrize(
    ("name", "reads", "done"),
    [
        *[(name, (2, 6, 3), [2, 8, 11]) for name in IN_ONE_PHASE],
        # The first network has six steps, and the look reads once: killed before, in and after the look.
        *[(name, (2, 4, 1, 4, 2), [2, 6, 6, 9, 11]) for name in OF_TWO_NETWORKS],
    ],
)
def test_a_killed_training_resumes_to_the_same_bits(name, reads, done, accelerator, tmp_path):
    changes: dict[str, Any] = {"average": 0.2, "optimizer": Optimizer(), "shift": 0.125}
    whole = train_by(RECIPES[name], accelerator, tmp_path / "whole.pt", **changes)
    checkpoint, kept = tmp_path / "state.pt", []
    for count in reads:
        with pytest.raises(Killed):
            images = killed_after(count, TRAINING)
            train_by(RECIPES[name], accelerator, checkpoint, images, 1e-9, **changes)
        kept.append(load_checkpoint(checkpoint)["done"])
    assert kept == done
    assert_same_training(train_by(RECIPES[name], accelerator, checkpoint, **changes), whole)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cutmix", *OF_TWO_NETWORKS])
def test_no_protected_label_has_an_effect_where_none_is_needed(name, accelerator, tmp_path):
    random = np.random.default_rng(0)
    others = replace(TRAINING, groups=2 * TRAINING.targets + random.integers(0, 2, 256))
    assert_same_training(
        train_by(RECIPES[name], accelerator, tmp_path / "others.pt", others),
        train_by(RECIPES[name], accelerator, tmp_path / "own.pt"),
    )


@pytest.mark.parametrize(
    ("name", "needs"),
    [("fgsm", set()), ("mixup", {"training"}), ("lisa", {"training"}), ("cutmix", set())]
    + [(name, set()) for name in OF_TWO_NETWORKS],
)  # mixup's batches are balanced here
def test_a_recipe_says_which_protected_labels_it_needs(name, needs):
    assert Recipe.model_validate(RECIPES[name]).needs == needs


def test_no_two_recipes_are_the_same(accelerator, tmp_path):
    histories = [
        train_by(recipe, accelerator, tmp_path / f"{name}.pt")[2].history for name, recipe in RECIPES.items()
    ]
    losses = {tuple(record["loss"] for record in history) for history in histories}
    assert len(losses) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_of_one_image_trains(name, accelerator, tmp_path):
    network, _, result = train_by(RECIPES[name], accelerator, tmp_path / "state.pt", batch_size=1)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert all(np.isfinite([*record.values()]).all() for record in result.history)


@pytest.mark.parametrize("name", RECIPES)
def test_data_with_few_groups_train(name, accelerator, tmp_path):
    """Two of four groups, and of the other ones a single image."""
    groups = TRAINING.groups
    rare = np.flatnonzero(groups == 1)[:1]
    kept = np.concatenate([rare, np.flatnonzero((groups == 0) | (groups == 2))])
    network, _, _ = train_by(RECIPES[name], accelerator, tmp_path / "state.pt", TRAINING.subset(kept))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


# Several processes

BATCH_SIZES = (5, 1)


def train_all(output: str) -> None:
    """Train by each recipe, in however many processes this is one of; the first writes the outcome."""
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    outcome = []
    for name in RECIPES:
        for size in BATCH_SIZES:
            state = Path(output).with_name(f"{name}-{size}-{accelerator.num_processes}.pt")
            changes = {"batch_size": size, "optimizer": Optimizer(name="sgd", learning_rate=0.01)}
            network, _, result = train_by(RECIPES[name], accelerator, state, **changes)
            outcome.append((accelerator.num_processes, network.state_dict(), result.history))
    if accelerator.is_main_process:
        torch.save(outcome, output)


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one(tmp_path):
    """Batches are odd, or have fewer images than there are processes."""
    train_all(str(tmp_path / "one.pt"))
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "from tests.classifiers.test_trained_recipes import train_all\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"train_all({str(tmp_path / 'two.pt')!r})\n"
    )
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run([*launcher, *options, str(script)], cwd=PROJECT, env=environment, check=True)
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert len(one) == len(two) == len(RECIPES) * len(BATCH_SIZES)
    for (first, weights, history), (second, other_weights, other_history) in zip(one, two, strict=True):
        assert (first, second) == (1, 2)
        for name in weights:
            torch.testing.assert_close(other_weights[name], weights[name], rtol=0, atol=1e-5, msg=name)
        for record, other in zip(history, other_history, strict=True):
            assert other == pytest.approx(record, abs=1e-5)
