"""Recipes: group ids with the source, phases, and the meaning of each if no image is synthetic."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from classifiers.networks.backbones import SmallResNet
from classifiers.networks.images import LabelledImages
from classifiers.training.loop import Part, Phase, train_classifier
from classifiers.training.method_settings import AnyMethodSettings, Recipe
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.parameters import Training
from classifiers.training.phase_settings import AnyPhaseSettings
from classifiers.training.recipes import Facts, grouped_by_source, phases_of
from classifiers.training.samplers import SAMPLERS
from pipeline.content.resumable import Session
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

SETTINGS = Training(steps=12, batch_size=8, evaluations=2, flip=False, shift=0.0, sampler="uniform", seed=3)
# Two real images of group 1 and one of each other; synthetic ones of groups 1 (three), 2 and 3.
GROUPS = np.array([0, 1, 1, 2, 3, 1, 1, 1, 2, 3])
SYNTHETIC = np.array([False] * 5 + [True] * 5)


def images_of(groups: np.ndarray, synthetic: np.ndarray | None) -> LabelledImages:
    """Return images of 8 px whose pixels all have the image's number."""
    ids = np.array([f"image-{number}" for number in range(len(groups))], dtype=object)

    def read(positions: np.ndarray) -> np.ndarray:
        return np.tile(positions.astype(np.uint8)[:, None, None, None], (1, 8, 8, 3))

    return LabelledImages(ids, read, groups // 2, groups, synthetic)


IMAGES = images_of(GROUPS, SYNTHETIC)
REAL = images_of(GROUPS[:5], None)


def part_of(phase: Phase) -> Part:
    """Build a phase's part; no recipe uses the network's scores."""

    def look(images: LabelledImages) -> np.ndarray:
        raise AssertionError("a recipe looked back")

    return phase.build(look)


def test_the_groups_of_synthetic_images_come_after_those_of_real_ones():
    assert grouped_by_source(IMAGES, 4).groups.tolist() == [0, 1, 1, 2, 3, 5, 5, 5, 6, 7]
    assert grouped_by_source(REAL, 4) is REAL
    three = grouped_by_source(
        images_of(np.array([7, 7]), np.array([True, False])), 8
    )  # two protected attributes
    assert three.groups.tolist() == [15, 7]


def test_soft_groups_of_real_images_alone_have_columns_for_synthetic_ones_too():
    soft = np.eye(4)[REAL.groups]
    parted = grouped_by_source(replace(REAL, memberships=soft), 4)
    assert parted.groups.tolist() == REAL.groups.tolist()
    np.testing.assert_array_equal(parted.memberships, np.hstack([soft, np.zeros((5, 4))]))


def test_the_source_is_a_part_of_the_methods_groups():
    recipe = Recipe(method={"name": "group_dro", "adjustment": 1.0}, group_by="group_and_source")
    (phase,) = phases_of(recipe, SETTINGS, IMAGES, Facts(2, 3))
    assert isinstance(part_of(phase).method, GroupDRO)
    assert part_of(phase).method.q.tolist() == pytest.approx(
        [1 / 7] * 4 + [0] + [1 / 7] * 3
    )  # group 0 is real only
    expected = [1, 2**-0.5, 1, 1, 1, 3**-0.5, 1, 1]
    assert part_of(phase).method.adjustments.tolist() == pytest.approx(expected)
    assert part_of(phase).training.targets.tolist() == IMAGES.targets.tolist()


def test_the_source_is_a_part_of_the_balanced_samplers_groups():
    """Each of the seven groups has 1/7 of the draws: so group 1 has 1/7 of real and 1/7 of synthetic ones."""
    recipe = Recipe(method={"name": "erm"}, sampler="group_balanced", group_by="group_and_source")
    settings = SETTINGS.model_copy(update={"sampler": "group_balanced", "batch_size": 100})
    (phase,) = phases_of(recipe, settings, IMAGES, Facts(2, 3))
    sampler = part_of(phase).sampler
    drawn = np.concatenate([sampler(step) for step in range(100)])
    shares = np.bincount(drawn, minlength=10) / len(drawn)
    expected = np.array([1, 1 / 2, 1 / 2, 1, 1, 1 / 3, 1 / 3, 1 / 3, 1, 1]) / 7
    np.testing.assert_allclose(shares, expected, atol=0.015)


def test_pretraining_parts_the_steps_the_images_and_the_methods():
    recipe = Recipe(method={"name": "group_dro"}, phases={"name": "pretrain", "share": 0.25})
    first, second = phases_of(recipe, SETTINGS, IMAGES, Facts(2, 3))
    assert (first.steps, second.steps) == (3, 9)  # the same budget as any recipe's
    assert part_of(first).training.ids.tolist() == IMAGES.ids[5:].tolist()
    assert part_of(second).training.ids.tolist() == IMAGES.ids[:5].tolist()
    assert part_of(first).method.q.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert part_of(second).method.q.tolist() == pytest.approx([1 / 4] * 4)


def test_pretraining_reads_synthetic_images_alone_then_real_ones_alone(tmp_path):
    read: list[list[int]] = []

    def spy(positions: np.ndarray) -> np.ndarray:
        read.append(sorted(set(positions.tolist())))
        return IMAGES.read(positions)

    recipe = Recipe(
        method={"name": "erm"}, sampler="group_balanced", phases={"name": "pretrain", "share": 0.25}
    )
    phases = phases_of(recipe, SETTINGS, replace(IMAGES, read=spy), Facts(2, 3))
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    selections = {"accuracy": lambda scores, images: 0.0}
    session = Session("toy", accelerator, tmp_path / "state.pt", 3600.0)
    result = train_classifier(session, SmallResNet(4), phases, REAL, SETTINGS, selections)
    assert len(read) == 12
    assert all(min(positions) >= 5 for positions in read[:3])
    assert all(max(positions) < 5 for positions in read[3:])
    assert set().union(*map(set, read)) == set(range(10))
    assert [record["step"] for record in result.history] == [6, 12]


def test_real_images_have_their_share_of_every_batch():
    recipe = Recipe(method={"name": "erm"}, real_share=0.75)
    (phase,) = phases_of(recipe, SETTINGS, IMAGES, Facts(2, 3))
    sampler = part_of(phase).sampler
    for step in range(10):
        assert (~SYNTHETIC[sampler(step)]).sum() == 6


@pytest.mark.parametrize(
    "images", [REAL, images_of(GROUPS[:5], np.zeros(5, bool)), images_of(GROUPS[:5], np.ones(5, bool))]
)
@pytest.mark.parametrize(
    "remedy", [{"phases": {"name": "pretrain"}}, {"real_share": 0.5}, {"group_by": "group_and_source"}]
)
def test_with_images_of_one_source_all_steps_are_on_them(images, remedy):
    (phase,) = phases_of(Recipe(method={"name": "erm"}, **remedy), SETTINGS, images, Facts(2, 3))
    (plain,) = phases_of(Recipe(method={"name": "erm"}), SETTINGS, images, Facts(2, 3))
    assert (phase.steps, len(part_of(phase).training)) == (12, 5)
    assert isinstance(part_of(phase).method, ERM)
    samplers = part_of(phase).sampler, part_of(plain).sampler
    for step in range(5):
        np.testing.assert_array_equal(samplers[0](step), samplers[1](step))


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, set()),
        ({"weight_decay": 1.0, "phases": {"name": "pretrain"}}, set()),
        ({"method": {"name": "group_dro"}}, {"training"}),
        ({"sampler": "group_balanced", "real_share": 0.5}, {"training"}),
        ({"group_by": "group_and_source"}, {"training"}),
    ],
)
def test_a_recipe_needs_the_protected_labels_of_its_parts(changes, needs):
    assert Recipe(**{"method": {"name": "erm"}, **changes}).needs == needs


def test_whatever_a_recipe_may_name_says_which_protected_labels_it_needs():
    settings = [
        kind for union in (AnyMethodSettings, AnyPhaseSettings) for kind in get_args(get_args(union)[0])
    ]
    parts = [*settings, *SAMPLERS.values()]
    assert len(parts) >= 6
    for part in parts:
        assert part.needs <= {"training", "validation", "prediction"}, part
