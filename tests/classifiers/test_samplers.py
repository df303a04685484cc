"""Samplers: epochs, balance, the share of real images, what parts the images, the same batch again."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from classifiers.networks.images import LabelledImages
from classifiers.training.samplers import (
    NO_STRATUM,
    SAMPLERS,
    BalancedBatches,
    BalancedSampler,
    OverSampler,
    SamplerName,
    SourceShareSampler,
    UnderSampler,
    UniformSampler,
    new_sampler,
)

GROUPS = np.array([0] * 70 + [1] * 20 + [2] * 9 + [3])
SYNTHETIC = np.arange(100) % 10 >= 2  # 80 of 100: group 0 has 14 real images, 1 has 4, 2 has 2, 3 has none


def drawn(sampler, steps: int) -> np.ndarray:
    return np.concatenate([sampler(step) for step in range(steps)])


@pytest.mark.parametrize("batch_size", [10, 7, 33, 100, 250])
def test_the_uniform_sampler_gives_every_image_once_per_epoch(batch_size):
    """It holds even if batches cross the end of an epoch, or of several."""
    order = drawn(UniformSampler(GROUPS, batch_size, seed=0), 1000 // batch_size + 1)[:1000]
    epochs = order.reshape(10, 100)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
    assert len(np.unique(epochs, axis=0)) == 10
    assert not np.array_equal(epochs[0], np.arange(100))


def test_the_balanced_sampler_gives_all_groups_and_their_images_with_the_same_probability():
    positions = drawn(BalancedSampler(GROUPS, 100, seed=0), 200)  # 20,000 draws
    shares = np.bincount(GROUPS[positions], minlength=4) / len(positions)
    np.testing.assert_allclose(shares, 0.25, atol=0.015)
    of_second = np.bincount(positions[GROUPS[positions] == 1])[70:90]
    np.testing.assert_allclose(of_second / of_second.sum(), 1 / 20, atol=0.015)


def test_the_balanced_sampler_does_without_groups_that_are_empty():
    groups = np.array([0, 0, 0, 3])
    positions = drawn(BalancedSampler(groups, 50, seed=0), 20)
    assert (positions == 3).mean() == pytest.approx(0.5, abs=0.05)


# Epochs and batches with as many images of every group

TEN = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


@pytest.mark.parametrize("batch_size", [1, 3, 8, 16, 40])
def test_over_sampling_repeats_every_group_to_the_size_of_the_largest(batch_size):
    """An epoch has 16 images: 0 to 3 once, 4 to 6 once and one of them again, 7 and 8 twice, 9 four times."""
    order = drawn(OverSampler(TEN, batch_size, seed=0), 320 // batch_size + 1)[:320].reshape(20, 16)
    counts = np.array([np.bincount(epoch, minlength=10) for epoch in order])
    assert (counts == counts[0]).all()
    assert counts[0, [0, 1, 2, 3, 7, 8, 9]].tolist() == [1, 1, 1, 1, 2, 2, 4]
    assert sorted(counts[0, 4:7].tolist()) == [1, 1, 2]
    assert len(np.unique(order, axis=0)) == 20


def test_the_image_that_is_repeated_once_more_depends_on_the_seed():
    counts = [np.bincount(OverSampler(TEN, 16, seed)(0), minlength=10)[4:7] for seed in range(20)]
    assert {int(np.argmax(count)) for count in counts} == {0, 1, 2}


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_under_sampling_draws_one_subset_with_as_many_of_every_group(batch_size):
    """The smallest group has one image: an epoch has four positions, one of each group, always the same."""
    order = drawn(UnderSampler(TEN, batch_size, seed=3), 120 // batch_size)[:120].reshape(30, 4)
    for epoch in order:
        assert np.sort(epoch).tolist() == np.sort(order[0]).tolist()
        assert np.sort(TEN[epoch]).tolist() == [0, 1, 2, 3]
    assert len(np.unique(order, axis=0)) > 10  # of 24 orders
    subsets = {tuple(np.sort(UnderSampler(TEN, 4, seed)(0)).tolist()) for seed in range(200)}
    assert len(subsets) == 4 * 3 * 2


def test_balanced_draws_have_a_quarter_of_each_of_four_groups():
    positions = drawn(BalancedSampler(TEN, 100, seed=0), 400)
    expected = np.array([1 / 4] * 4 + [1 / 3] * 3 + [1 / 2] * 2 + [1]) / 4
    np.testing.assert_allclose(np.bincount(positions) / len(positions), expected, atol=0.01)


@pytest.mark.parametrize("batch_size", [4, 12])
def test_a_balanced_batch_has_as_many_images_of_every_group(batch_size):
    sampler = BalancedBatches(TEN, batch_size, seed=0)
    for step in range(20):
        assert np.bincount(TEN[sampler(step)]).tolist() == [batch_size // 4] * 4


@pytest.mark.parametrize(
    ("batch_size", "first"),
    [(6, [[2, 2, 1, 1], [1, 1, 2, 2]]), (1, np.eye(4).tolist()), (7, [[2, 2, 2, 1], [2, 2, 1, 2]])],
)
def test_the_remainder_of_a_balanced_batch_rotates(batch_size, first):
    sampler = BalancedBatches(TEN, batch_size, seed=0)
    counts = [np.bincount(TEN[sampler(step)], minlength=4).tolist() for step in range(40)]
    assert counts[: len(first)] == first
    assert counts[4:] == counts[:-4]
    assert np.sum(counts[:4], axis=0).tolist() == [batch_size] * 4
    assert all(max(count) - min(count) <= 1 for count in counts)


def test_within_a_group_of_balanced_batches_every_image_comes_once_per_epoch():
    positions = drawn(BalancedBatches(TEN, 6, seed=0), 40)  # 240: 60 of each group
    for group, members in enumerate(([0, 1, 2, 3], [4, 5, 6], [7, 8], [9])):
        epochs = positions[TEN[positions] == group].reshape(-1, len(members))
        assert (np.sort(epochs, axis=1) == members).all()
        assert len(epochs) == 60 // len(members)
        assert len(members) == 1 or len(np.unique(epochs, axis=0)) > 1


@pytest.mark.parametrize("sampler", [BalancedBatches, BalancedSampler, OverSampler, UnderSampler])
@pytest.mark.parametrize("strata", [np.array([2]), np.array([5, 5, 5]), np.array([1, 3])])
def test_absent_groups_and_single_images_are_no_exception(sampler, strata):
    positions = drawn(sampler(strata, 1, 0), 60)
    assert set(positions.tolist()) == set(range(len(strata)))
    outside = np.append(strata, [NO_STRATUM] * 5)
    assert set(drawn(sampler(outside, 4, 0), 15).tolist()) == set(range(len(strata)))


# What parts the images


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_parts_by_what_its_entry_says_and_needs_no_more(name):
    """Without protected labels, only samplers that need them draw other batches."""
    images = labelled(np.array([0] * 30 + [1] * 30 + [2] * 25 + [3] * 15))
    unlabelled = replace(images, groups=2 * images.targets)
    batches = [new_sampler(name, of, 12, 0)(5).tolist() for of in (images, unlabelled)]
    assert (batches[0] != batches[1]) == (SAMPLERS[name].needs == {"training"})
    assert SAMPLERS[name].needs in (frozenset(), {"training"})


@pytest.mark.parametrize(
    ("name", "of_class", "of_group"),
    [
        ("class_balanced", 0.5, None),
        ("oversampled_classes", 0.5, None),
        ("undersampled_classes", 0.5, None),
        ("group_balanced", 0.5, 0.25),
        ("oversampled_groups", 0.5, 0.25),
        ("undersampled_groups", 0.5, 0.25),
        ("balanced_batches", 0.5, 0.25),
        ("uniform", 0.1, 0.01),
    ],
)
def test_shares_of_class_1_and_of_its_rarest_group(name, of_class, of_group):
    positions = drawn(new_sampler(name, labelled(GROUPS), 100, 0), 200)
    assert (GROUPS[positions] >= 2).mean() == pytest.approx(of_class, abs=0.02)
    # By class, group 3 keeps its tenth of class 1; under-sampling takes all ten images of the class.
    of_group = of_class / 10 if of_group is None else of_group
    assert (GROUPS[positions] == 3).mean() == pytest.approx(of_group, abs=0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_images_whose_group_is_not_known_are_in_no_group(name):
    known = np.arange(100) % 3 > 0
    positions = drawn(new_sampler(name, replace(labelled(GROUPS), known=known), 100, 0), 30)
    assert known[positions].all() == (SAMPLERS[name].needs == {"training"})
    none = replace(labelled(GROUPS), known=np.zeros(100, bool))
    assert len(set(drawn(new_sampler(name, none, 100, 0), 30).tolist())) > 15


def labelled(groups: np.ndarray) -> LabelledImages:
    """Return labels without images."""
    ids = np.arange(len(groups)).astype(object)
    return LabelledImages(ids, lambda positions: positions, groups // 2, groups, SYNTHETIC)


def half_real(groups: np.ndarray, batch_size: int, seed: int) -> SourceShareSampler:
    return SourceShareSampler("uniform", labelled(groups), 0.5, batch_size, seed)


@pytest.mark.parametrize(
    "sampler", [UniformSampler, BalancedSampler, BalancedBatches, OverSampler, UnderSampler, half_real]
)
def test_a_batch_depends_on_seed_and_step_alone(sampler):
    first, again, other = (sampler(GROUPS, 16, seed) for seed in (0, 0, 1))
    for step in (30, 2, 17):  # in any order
        assert first(step).shape == (16,)
        np.testing.assert_array_equal(first(step), again(step))
        np.testing.assert_array_equal(first(step), first(step))
        assert not np.array_equal(first(step), other(step))
    assert not np.array_equal(first(0), first(1))


# The share of real images


def mixed(name: str, share: float, batch_size: int = 16, seed: int = 0) -> SourceShareSampler:
    return SourceShareSampler(name, labelled(GROUPS), share, batch_size, seed)


@pytest.mark.parametrize("name", ["uniform", "group_balanced"])
@pytest.mark.parametrize(("share", "real"), [(0.25, 4), (0.5, 8), (0.9, 14)])  # 0.9 * 16 = 14.4
def test_every_batch_has_its_share_of_real_images(name, share, real):
    sampler = mixed(name, share)
    for step in range(20):
        synthetic = SYNTHETIC[sampler(step)]
        assert synthetic.tolist() == [False] * real + [True] * (16 - real)


def test_each_part_has_its_own_epochs():
    """20 real images, 4 a batch: each once in 5 batches; 80 synthetic ones, 12 a batch: in 20 / 3."""
    batches = np.array([mixed("uniform", 0.25)(step) for step in range(20)])
    for epoch in batches[:, :4].reshape(4, 20):
        np.testing.assert_array_equal(np.sort(epoch), np.flatnonzero(~SYNTHETIC))
    for epoch in batches[:, 4:].reshape(3, 80):
        np.testing.assert_array_equal(np.sort(epoch), np.flatnonzero(SYNTHETIC))


def test_each_part_is_balanced_over_its_own_groups():
    """Real images have three groups, synthetic ones four."""
    positions = np.concatenate([mixed("group_balanced", 0.5, 100)(step) for step in range(400)])  # 40,000
    synthetic, groups = SYNTHETIC[positions], GROUPS[positions]
    real_shares = np.bincount(groups[~synthetic], minlength=4) / (~synthetic).sum()
    np.testing.assert_allclose(real_shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.015)
    np.testing.assert_allclose(np.bincount(groups[synthetic]) / synthetic.sum(), 0.25, atol=0.015)


def test_every_sampler_can_be_named_and_every_name_has_a_sampler():
    assert set(get_args(SamplerName)) == set(SAMPLERS)
