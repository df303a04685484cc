"""Methods and samplers that weigh or choose images: what they all have to do.

They come down to ERM where they are to, to the bit; two processes train as one does; a training that was
killed goes on with the same bits; absent groups and single images do no harm.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.base import Method, SumOverProcesses, one_process
from classifiers.training.recipes import Facts, phases_of
from classifiers.training.samplers import SamplerName
from pipeline.content.checkpoints import load_checkpoint
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages.shared.presets import PRESETS, preset_values
from tests.classifiers.toys import (
    SELECTIONS,
    TRAINING,
    Killed,
    assert_same_training,
    batch_of,
    context_of,
    in_two_processes,
    killed_after,
    part_of,
    settings_of,
    train_in_phases,
)
from tests.support import PROJECT

Numbers = dict[str, Any]

METHODS: dict[str, Numbers] = {
    "inverse": {"name": "weighted", "weights": "inverse"},
    "effective_number": {"name": "weighted", "weights": "effective_number", "beta": 0.9},
    "reweighing": {"name": "weighted", "weights": "reweighing"},
    "hardest": {"name": "hardest", "candidates": 2},
    "hardest_in_groups": {"name": "hardest_in_groups", "candidates": 3},
    "loss_proportional": {"name": "loss_proportional", "candidates": 2},
    "cvar": {"name": "cvar", "share": 0.3},
    "spectral_decoupling": {"name": "spectral_decoupling", "strength": 0.1, "targets": [0.44, 2.5]},
}
# Where a method comes down to ERM: on images of which every group has as many.
AS_ERM: dict[str, Numbers] = {
    "inverse": METHODS["inverse"],
    "effective_number": METHODS["effective_number"],
    "no_effective_number": METHODS["effective_number"] | {"beta": 0.0},
    "reweighing": METHODS["reweighing"],
    "hardest": METHODS["hardest"] | {"candidates": 1},
    "hardest_in_groups": METHODS["hardest_in_groups"] | {"candidates": 1},
    "loss_proportional": METHODS["loss_proportional"] | {"candidates": 1},
    "cvar": METHODS["cvar"] | {"share": 1.0},
    "spectral_decoupling": METHODS["spectral_decoupling"] | {"strength": 0.0},
}
RECIPES: dict[str, Recipe] = {
    **{name: Recipe(method=numbers) for name, numbers in METHODS.items()},
    **{name: Recipe(method={"name": "erm"}, sampler=name) for name in get_args(SamplerName)},
    "hardest of balanced batches": Recipe(method=METHODS["hardest"], sampler="balanced_batches"),
}


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def trained(accelerator, checkpoint: Path, recipe: Recipe, images: LabelledImages = TRAINING, **changes):
    """Train a small network on toy images; return it, the method and the result."""
    network, methods = new_backbone(Backbone(width=8), seed=0), []
    settings = settings_of(sampler=recipe.sampler, **{"average": 0.2, **changes})
    (phase,) = phases_of(recipe, settings, images, Facts(2, network.last.in_features))
    build = phase.build

    def noted(look):
        part = build(look)
        methods.append(part.method)
        return part

    phase = replace(phase, build=noted)
    result = train_in_phases(network, [phase], settings, SELECTIONS, accelerator, checkpoint)
    return network, methods[-1], result


def built(numbers: Numbers, counts: list[int], total: SumOverProcesses = one_process) -> Method:
    return Recipe(method=numbers).method.build(context_of(counts, total=total))


# ERM


def as_many_of_each_group() -> LabelledImages:
    smallest = min(TRAINING.group_counts(4))
    places = [np.flatnonzero(TRAINING.groups == group)[:smallest] for group in range(4)]
    return TRAINING.subset(np.concatenate(places))


@pytest.mark.parametrize("name", AS_ERM)
def test_a_method_comes_down_to_erm_to_the_bit(name, accelerator, tmp_path):
    images, changes = as_many_of_each_group(), {"batch_size": 13}  # whose inverse is not exact
    erm = trained(accelerator, tmp_path / "erm.pt", Recipe(method={"name": "erm"}), images, **changes)
    method = Recipe(method=AS_ERM[name])
    network, _, result = trained(accelerator, tmp_path / "method.pt", method, images, **changes)
    assert_same_training((network, erm[1], result), erm)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_not_erm_on_uniform_batches(name, accelerator, tmp_path):
    """Otherwise the test above would prove nothing."""
    erm = trained(accelerator, tmp_path / "erm.pt", Recipe(method={"name": "erm"}))
    other = trained(accelerator, tmp_path / "other.pt", RECIPES[name])
    same = torch.equal(erm[0].last.weight, other[0].last.weight)
    assert same == (name == "uniform")


# Several processes


class Weight(nn.Module):
    """A network whose logit is linear in four numbers, which stand for an image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0, 0.2, 1.5]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images @ self.weight


def twelve_images() -> Batch:
    groups = torch.tensor([0, 0, 1, 3, 0, 3, 3, 1, 0, 0, 1, 1])
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    features[7] = features[2]  # equal losses, which end up in two processes
    known = torch.arange(12) != 5
    return batch_of(features, groups // 2, groups, known=known, seed=3)


def gradient_and_loss(method: Method, batch: Batch) -> tuple[torch.Tensor, float]:
    network = Weight()
    (loss,) = method.losses(network, batch).values
    loss.backward()
    return network.weight.grad, loss.item()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("split", [slice(0, 3), slice(0, 12, 2), slice(0, 1), slice(0, 0)])
def test_gradients_summed_over_two_processes_equal_one_processs(name, split):
    """It holds even if a process sees none of a group, none of the chosen images, or none at all."""
    batch, counts = twelve_images(), [5, 4, 0, 3]
    mine = torch.zeros(12, dtype=torch.bool)
    mine[split] = True
    parts = [part_of(batch, mine), part_of(batch, ~mine)]
    gradient, loss = gradient_and_loss(built(METHODS[name], counts), batch)
    shares = in_two_processes(
        lambda number, total: gradient_and_loss(built(METHODS[name], counts, total), parts[number])
    )
    torch.testing.assert_close(shares[0][0] + shares[1][0], gradient)
    assert shares[0][1] + shares[1][1] == pytest.approx(loss, rel=1e-5)
    assert gradient.abs().sum() > 0


# Resumption


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_that_was_killed_resumes_to_the_same_bits(name, accelerator, tmp_path):
    """It is killed before the first evaluation, right after one, and between two."""
    recipe, checkpoint = RECIPES[name], tmp_path / "state.pt"
    whole = trained(accelerator, tmp_path / "whole.pt", recipe)
    for batches in (2, 3, 5):
        with pytest.raises(Killed):
            trained(accelerator, checkpoint, recipe, killed_after(batches, TRAINING))
    assert load_checkpoint(checkpoint)["done"] == 6
    resumed = trained(accelerator, checkpoint, recipe, killed_after(6, TRAINING))
    assert_same_training(resumed, whole)


# Absent groups and single images


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("group", [0, 3])
@pytest.mark.parametrize("known", [True, False])
def test_a_batch_of_one_image_has_a_finite_loss_and_gradient(name, group, known):
    batch = batch_of(
        torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
        torch.tensor([group // 2]),
        torch.tensor([group]),
        known=torch.tensor([known]),
    )
    if "candidates" in METHODS[name]:  # a step's one image, and its candidates
        batch = part_of(batch, torch.zeros(METHODS[name]["candidates"], dtype=torch.long))
        batch = batch_of(batch.images, batch.targets, batch.groups, known=batch.known)
    gradient, loss = gradient_and_loss(built(METHODS[name], [7, 0, 0, 1]), batch)
    assert loss > 0
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_without_some_groups_goes_well(name, accelerator, tmp_path):
    """Of four groups one has three images, and one has none; batches have one image."""
    many, few = (np.flatnonzero(TRAINING.groups == group) for group in (0, 3))
    images = TRAINING.subset(np.concatenate([many, few[:3]]))
    network, _, result = trained(accelerator, tmp_path / "s.pt", RECIPES[name], images, batch_size=1)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert len(result.history) == 4


# Registration


def test_the_base_preset_has_a_recipe_of_each_method_and_sampler():
    values = preset_values("avatars", PROJECT / PRESETS)["train"]["definitions"]
    recipes = {name: Recipe.model_validate(value) for name, value in values.items()}
    methods = {recipe.method.name for recipe in recipes.values()}
    assert methods >= {numbers["name"] for numbers in METHODS.values()}
    assert {recipe.sampler for recipe in recipes.values()} == set(get_args(SamplerName))
    balanced = recipes["group_dro_balanced"]
    assert (balanced.method.name, balanced.sampler) == ("group_dro", "group_balanced")


def test_methods_that_look_at_groups_need_protected_labels_in_training():
    needs = {name: recipe.method.needs for name, recipe in RECIPES.items() if name in METHODS}
    by_group = {"inverse", "effective_number", "reweighing", "hardest_in_groups"}
    assert {name for name, labels in needs.items() if labels == {"training"}} == by_group
    assert {name for name, labels in needs.items() if not labels} == set(METHODS) - by_group
