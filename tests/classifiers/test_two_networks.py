"""JTT and pseudo-groups: what a first network says of the images decides how a second one is trained."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from classifiers.training.loop import Part
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.phase_settings import JTT, PseudoGroups
from classifiers.training.recipes import Facts, phases_of
from classifiers.training.samplers import BalancedSampler, SourceShareSampler, UniformSampler
from pipeline.content.checkpoints import load_checkpoint
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.by_recipe import RECIPES, train_by
from tests.classifiers.toys import (
    SELECTIONS,
    TRAINING,
    Killed,
    assert_same_weights,
    killed_after,
    settings_of,
    train_in_phases,
)

WITH_TWO_NETWORKS = [name for name, recipe in RECIPES.items() if "phases" in recipe]


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def labelled(targets: list[int]) -> LabelledImages:
    """Return images with these targets; their protected groups are of no use."""
    ids = np.array([f"image-{k}" for k in range(len(targets))], dtype=object)
    unknown = np.zeros(len(targets), dtype=bool)
    return LabelledImages(ids, TRAINING.read, np.array(targets), 2 * np.array(targets), known=unknown)


def second_part(recipe: dict[str, Any], images: LabelledImages, scores: list[float]) -> Part:
    """Build the second phase of a recipe after a network with these scores."""
    phases = phases_of(Recipe.model_validate(recipe), settings_of(), images, Facts(4, 3))
    return phases[1].build(lambda seen: np.array(scores))


# JTT


def test_errors_have_their_share_of_the_draws():
    """Of ten images two are wrong, and repeated 50 times: they have 100 of 108 draws."""
    scores = [0.9, 0.1, 0.2, 0.7, 0.5, 0.1, 0.2, 0.3, 0.4, 0.49]
    targets = [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]  # a score of .5 is predicted 1: the fifth and the last are wrong
    recipe = {"method": {"name": "erm"}, "phases": {"name": "jtt", "repeats": 50}}
    part = second_part(recipe, labelled(targets), scores)
    epoch = np.concatenate([part.sampler(step) for step in range(108)])[: 108 * 16]
    drawn = part.training.ids[epoch]
    assert len(part.training) == 108
    assert np.isin(drawn, ["image-4", "image-9"]).mean() == 100 / 108
    assert (drawn == "image-0").mean() == 1 / 108
    assert part.training.targets[epoch].mean() == (50 + 2) / 108


def test_a_first_network_without_errors_leaves_all_images(accelerator, tmp_path):
    images = labelled([1, 0, 1])
    recipe = {"method": {"name": "erm"}, "phases": {"name": "jtt", "repeats": 50}}
    part = second_part(recipe, images, [0.9, 0.1, 0.6])
    assert part.training.ids.tolist() == images.ids.tolist()
    assert part.training.targets.tolist() == images.targets.tolist()


@pytest.mark.parametrize(
    "phases", [{"name": "jtt", "repeats": 1}, {"name": "pseudo_groups"}], ids=lambda phases: phases["name"]
)
def test_without_a_use_of_what_it_says_the_first_network_leaves_no_trace(phases, accelerator, tmp_path):
    """With nothing repeated, and ERM on pseudo-groups, the second network is ERM's from the first weights.

    Images are as they are: mirroring depends on the step's number in both phases together.
    """
    erm = train_by({"method": {"name": "erm"}}, accelerator, tmp_path / "erm.pt", flip=False, average=0.2)
    twice, _, result = train_by(
        {"method": {"name": "erm"}, "phases": phases},
        accelerator,
        tmp_path / "twice.pt",
        flip=False,
        average=0.2,
    )
    assert_same_weights(twice.state_dict(), erm[0].state_dict())
    assert result.history[-1]["step"] == 12 + 3
    assert result.history[-1]["accuracy"] == erm[2].history[-1]["accuracy"]


# Pseudo-groups


def test_predictions_stand_for_the_protected_group():
    """Whatever the protected groups of the data are, and although none is known."""
    targets, scores = [0, 0, 1, 1, 1], [0.1, 0.5, 0.9, 0.2, 0.3]
    recipe = {
        "method": {"name": "group_dro", "adjustment": 1.0},
        "sampler": "group_balanced",
        "phases": {"name": "pseudo_groups"},
    }
    soft = replace(labelled(targets), memberships=np.full((5, 8), 1 / 8))
    part = second_part(recipe, soft, scores)
    assert part.training.groups.tolist() == [0, 1, 3, 2, 2]
    assert part.training.known is None
    assert part.training.memberships is None
    assert part.training.targets.tolist() == targets
    assert isinstance(part.method, GroupDRO)
    assert part.method.q.tolist() == [0.25] * 4
    assert part.method.adjustments.tolist() == pytest.approx([1, 1, 2**-0.5, 1])
    assert isinstance(part.sampler, BalancedSampler)
    assert len(part.sampler.members) == 4


def test_a_first_network_without_errors_makes_two_groups():
    recipe = {"method": {"name": "group_dro"}, "phases": {"name": "pseudo_groups"}}
    part = second_part(recipe, labelled([1, 0, 1]), [0.9, 0.1, 0.6])
    assert part.training.groups.tolist() == [3, 0, 3]
    assert part.method.q.tolist() == [0.5, 0, 0, 0.5]


def test_pseudo_groups_may_be_parted_by_source():
    images = replace(labelled([0, 1, 1]), synthetic=np.array([False, False, True]))
    recipe = {
        "method": {"name": "group_dro"},
        "phases": {"name": "pseudo_groups"},
        "group_by": "group_and_source",
    }
    part = second_part(recipe, images, [0.1, 0.2, 0.9])
    assert part.training.groups.tolist() == [0, 2, 3 + 4]
    assert len(part.method.q) == 8


def environment_objective(scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
    """Compute what EIIL maximises (Creager et al., ICML 2021), in closed form."""
    logits = np.log(scores / (1 - scores))
    g = (scores - targets) * logits
    return ((shares * g).mean() ** 2 + ((1 - shares) * g).mean() ** 2) / 2


def test_eiils_objective_by_hand_and_by_autograd():
    logits, targets, shares = np.array([2, -1, 0.5]), np.array([1, 1, 0]), np.array([0.8, 0.3, 0.5])
    value = environment_objective(1 / (1 + np.exp(-logits)), targets, shares)
    assert value == pytest.approx(0.02321829, abs=1e-8)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        scale * torch.from_numpy(logits), torch.from_numpy(targets).double(), reduction="none"
    )
    weights = torch.from_numpy(shares)
    gradients = [
        torch.autograd.grad((part * losses).mean(), scale, retain_graph=True)[0]
        for part in (weights, 1 - weights)
    ]
    assert value == pytest.approx(sum(float(g) ** 2 for g in gradients) / 2)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 0.99).filter(lambda p: p != 0.5), st.integers(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=7,
    )
)
def test_right_and_wrong_are_the_environments_that_eiil_looks_for(images):
    """No partition has a higher value, nor do shares of images in both environments."""
    scores, targets, shares = (np.array(column) for column in zip(*images, strict=True))
    recipe = {"method": {"name": "group_dro"}, "phases": {"name": "pseudo_groups"}}
    part = second_part(recipe, labelled(targets.tolist()), scores.tolist())
    wrong = part.training.groups % 2 != part.training.targets
    found = environment_objective(scores, targets, wrong.astype(float))
    partitions = product((0.0, 1.0), repeat=len(images))
    best = max(environment_objective(scores, targets, np.array(partition)) for partition in partitions)
    assert found == pytest.approx(best, rel=1e-9)
    assert environment_objective(scores, targets, shares) <= found * (1 + 1e-9)


# Both


@pytest.mark.parametrize(("share", "steps"), [(0.25, 3), (0.5, 6), (0.01, 1)])
@pytest.mark.parametrize("settings", [JTT, PseudoGroups])
def test_the_first_network_is_on_top_of_the_budget(settings, share, steps):
    first, second = settings(share=share).stretches(TRAINING, 12)
    assert (first.steps, second.steps) == (steps, 12)
    assert (first.fresh, second.fresh) == (False, True)


@pytest.mark.parametrize("name", WITH_TWO_NETWORKS)
def test_the_first_network_is_trained_by_erm_on_uniform_batches(name):
    recipe = Recipe.model_validate(RECIPES[name])
    part = phases_of(recipe, settings_of(), TRAINING, Facts(2, 3))[0].build(lambda images: np.array([]))
    assert type(part.method) is ERM
    assert isinstance(part.sampler, UniformSampler)
    assert part.training is TRAINING


def test_the_first_networks_batches_have_no_fixed_share_of_real_images():
    images = replace(TRAINING, synthetic=np.arange(len(TRAINING)) < 20)
    recipe = Recipe.model_validate({**RECIPES["jtt"], "real_share": 0.5})
    first, second = phases_of(recipe, settings_of(), images, Facts(2, 3))
    assert isinstance(first.build(lambda images: np.array([])).sampler, UniformSampler)
    assert isinstance(second.build(lambda images: np.zeros(len(images))).sampler, SourceShareSampler)


def test_a_first_networks_predictions_are_those_of_its_average(accelerator, tmp_path):
    """Killed right after the look: the pseudo-groups are the predictions of the weights in the state."""
    recipe, checkpoint = RECIPES["pseudo_groups_dro"], tmp_path / "state.pt"
    images = killed_after(7, TRAINING)  # six batches and the look
    with pytest.raises(Killed):
        train_by(recipe, accelerator, checkpoint, images, checkpoint_seconds=1e-9, average=0.3)
    state = load_checkpoint(checkpoint)
    assert state["done"] == 6
    network = new_backbone(Backbone(width=8), seed=0)
    network.load_state_dict(state["evaluated"])
    scores = predict(network, TRAINING.read, len(TRAINING), accelerator)
    assert 0 < (scores >= 0.5).sum() < 256

    whole = train_by(recipe, accelerator, tmp_path / "whole.pt", average=0.3)
    phases = phases_of(Recipe.model_validate(recipe), settings_of(average=0.3), TRAINING, Facts(2, 32))
    by_scores = [replace(phases[1], build=lambda look: phases[1].build(lambda images: scores))]
    anew = new_backbone(Backbone(width=8), seed=0)
    train_in_phases(
        anew, [phases[0], *by_scores], settings_of(average=0.3), SELECTIONS, accelerator, tmp_path / "anew.pt"
    )
    assert_same_weights(anew.state_dict(), whole[0].state_dict())
