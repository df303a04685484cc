"""Samplers: epochs, groups with the same probability, the share of real images, the same batch again."""

from typing import get_args

import numpy as np
import pytest

from classifiers.networks.images import LabelledImages
from classifiers.training.samplers import (
    SAMPLERS,
    GroupBalancedSampler,
    SamplerName,
    SourceShareSampler,
    UniformSampler,
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
    positions = drawn(GroupBalancedSampler(GROUPS, 100, seed=0), 200)  # 20,000 draws
    shares = np.bincount(GROUPS[positions], minlength=4) / len(positions)
    np.testing.assert_allclose(shares, 0.25, atol=0.015)
    of_second = np.bincount(positions[GROUPS[positions] == 1])[70:90]
    np.testing.assert_allclose(of_second / of_second.sum(), 1 / 20, atol=0.015)


def test_the_balanced_sampler_does_without_groups_that_are_empty():
    groups = np.array([0, 0, 0, 3])
    positions = drawn(GroupBalancedSampler(groups, 50, seed=0), 20)
    assert (positions == 3).mean() == pytest.approx(0.5, abs=0.05)


def labelled(groups: np.ndarray) -> LabelledImages:
    """Return labels without images."""
    ids = np.arange(len(groups)).astype(object)
    return LabelledImages(ids, lambda positions: positions, groups // 2, groups, SYNTHETIC)


def half_real(groups: np.ndarray, batch_size: int, seed: int) -> SourceShareSampler:
    return SourceShareSampler("uniform", labelled(groups), 0.5, batch_size, seed)


@pytest.mark.parametrize("sampler", [UniformSampler, GroupBalancedSampler, half_real])
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
