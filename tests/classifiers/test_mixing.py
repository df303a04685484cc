"""Mixup, CutMix and LISA: losses by hand, which images are paired, and ERM where nothing is mixed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from classifiers.networks.images import LabelledImages
from classifiers.training.batches import Batch, batch_at
from classifiers.training.descent import descend, new_optimizer
from classifiers.training.methods.mixing import Mixing
from classifiers.training.pairs import AnyPairs, SelectivePairs
from classifiers.training.samplers import BalancedSampler, UniformSampler
from classifiers.training.settings.examples import LISASettings, MixupSettings
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.by_recipe import train_by
from tests.classifiers.toys import (
    TRAINING,
    assert_same_training,
    batch_of,
    context_of,
    settings_of,
    toy_images,
)


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


class Sum(nn.Module):
    """A network whose logit is w times the sum of an image's first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.w * images[:, 0].sum((1, 2))


def keeping(monkeypatch, *shares: float) -> None:
    """Make every mixture keep these shares of its first images."""
    kept = torch.tensor(shares).reshape(-1, 1, 1, 1).numpy()
    monkeypatch.setattr(
        Mixing, "kept", lambda self, pairs, size, random: np.broadcast_to(kept, (pairs, 1, 1, 1)).copy()
    )


def pairs_of(first: list[float], second: list[float], targets: list[int]) -> Batch:
    """Return pairs of images of one pixel."""
    images = torch.tensor([*first, *second]).reshape(-1, 1, 1, 1).repeat(1, 3, 1, 1)
    return batch_of(images, torch.tensor(targets), torch.zeros(len(targets), dtype=torch.long))


# Mixtures


def test_the_loss_of_two_mixtures_by_hand(monkeypatch, accelerator):
    """.75 (1) + .25 (-1) = .5 with target .75, and .25 (.4) + .75 (.8) = .7 with target 0."""
    keeping(monkeypatch, 0.75, 0.25)
    network, batch = Sum(), pairs_of([1.0, 0.4], [-1.0, 0.8], [1, 0, 0, 0])
    method = MixupSettings().build(context_of([1, 1, 1, 1]))
    losses = method.losses(network, batch)
    assert losses.logits.tolist() == pytest.approx([0.5, 0.7])
    assert losses.targets.tolist() == [0.75, 0]

    def loss(z: float, y: float) -> float:
        return np.log1p(np.exp(z)) - y * z

    expected = (0.75 * loss(0.5, 1) + 0.25 * loss(0.5, 0) + loss(0.7, 0)) / 2
    assert losses.values[0].item() == pytest.approx(expected)

    # A mixture counts among the positives and the negatives by its shares of them.
    sums = descend(network, method, new_optimizer(network, method, settings_of()), 0.1, batch, accelerator)
    scores = 1 / (1 + np.exp(-np.array([0.5, 0.7])))
    assert sums.tolist() == pytest.approx(
        [expected, 0.75 * scores[0], 0.75, 0.25 * scores[0] + scores[1], 1.25]
    )


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_shares_are_drawn_from_beta(alpha):
    """Beta(α, α) has the mean ½ and the variance 1 / (4 (2 α + 1))."""
    method = MixupSettings(alpha=alpha).build(context_of([1, 1, 1, 1]))
    kept = method.kept(20_000, (8, 8), np.random.default_rng(0))
    assert kept.shape == (20_000, 1, 1, 1)
    assert kept.mean() == pytest.approx(0.5, abs=0.01)
    assert kept.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_cutmix_pastes_a_box_with_the_share_of_the_second_image():
    method = MixupSettings(alpha=1.0, mix="cutmix").build(context_of([1, 1, 1, 1]))
    kept = method.kept(2000, (32, 64), np.random.default_rng(0))
    shares = np.random.default_rng(0).beta(1.0, 1.0, 2000)
    assert kept.shape == (2000, 1, 32, 64)
    pasted = kept[:, 0] == 0
    assert np.array_equal(kept[:, 0] == 1, ~pasted)
    rows, columns = pasted.any(2), pasted.any(1)
    assert np.array_equal(pasted, rows[:, :, None] & columns[:, None, :])
    for sides in (rows, columns):  # without a gap
        assert (np.diff(sides.astype(int), axis=1) == 1).sum(1).max() == 1
    # The box has the side √(1 - λ) of the image's, to a pixel; where the edge cuts it, it is smaller.
    heights, widths = rows.sum(1), columns.sum(1)
    inside = pasted.any((1, 2)) & ((rows[:, [0, -1]].sum(1) + columns[:, [0, -1]].sum(1)) == 0)
    assert 200 < inside.sum() < 1800
    side = np.sqrt(1 - shares)
    np.testing.assert_allclose(heights[inside], 32 * side[inside], atol=1)
    np.testing.assert_allclose(widths[inside], 64 * side[inside], atol=1)
    assert (heights <= 32 * side + 1).all()
    assert (widths <= 64 * side + 1).all()


def test_a_cut_box_changes_the_target_by_what_it_covers():
    images = torch.cat([torch.zeros(50, 3, 8, 8), torch.ones(50, 3, 8, 8)])
    targets = torch.cat([torch.zeros(50, dtype=torch.long), torch.ones(50, dtype=torch.long)])
    method = MixupSettings(alpha=1.0, mix="cutmix").build(context_of([1, 1, 1, 1]))
    mixed, soft = method.mixed(batch_of(images, targets, 2 * targets))
    torch.testing.assert_close(soft, mixed.mean((1, 2, 3)))
    assert soft.std() > 0.1


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixtures_do_not_depend_on_the_number_of_processes(mix):
    method = LISASettings(mix=mix).build(context_of([1, 1, 1, 1]))
    positions = np.random.default_rng(0).permutation(256)[:66].reshape(33, 2)

    def mixed(process: int, processes: int, step: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
        of_process = SimpleNamespace(
            process_index=process, num_processes=processes, device=torch.device("cpu")
        )
        return method.mixed(batch_at(TRAINING, positions, settings_of(), step, 0.0, of_process))

    whole = mixed(0, 1)
    assert whole[0].shape == (33, 3, 8, 8)
    for k in range(2):
        for part, all_of_it in zip(mixed(k, 2), whole, strict=True):
            assert torch.equal(part, all_of_it[k::2])
    assert not torch.equal(mixed(0, 1, step=6)[1], whole[1])  # λ is another one at another step


def test_a_process_without_a_pair_has_a_share_of_zero():
    """Of a batch of one pair the second of two processes has nothing."""
    nothing = SimpleNamespace(process_index=1, num_processes=2, device=torch.device("cpu"))
    batch = batch_at(TRAINING, np.array([[0, 1]]), settings_of(), 0, 0.0, nothing)
    method = Mixing(2.0, "mixup", lambda count: torch.ones(()))
    losses = method.losses(Sum(), batch)
    assert losses.values[0].item() == 0
    assert losses.logits.shape == losses.targets.shape == (0,)


# Reduced to ERM


@pytest.mark.parametrize("name", ["mixup", "lisa"])
def test_mixtures_of_nothing_but_the_first_image_are_erm_to_the_bit(name, accelerator, tmp_path, monkeypatch):
    """With images as they are: the second ones take part in the random numbers of mirroring."""
    erm = train_by({"method": {"name": "erm"}}, accelerator, tmp_path / "erm.pt", flip=False)
    mixed = train_by({"method": {"name": name}}, accelerator, tmp_path / "mixed.pt", flip=False)
    assert mixed[2].history != erm[2].history
    keeping(monkeypatch, 1.0)
    assert_same_training(
        train_by({"method": {"name": name}}, accelerator, tmp_path / "first.pt", flip=False), erm
    )


def test_lisa_without_partners_is_erm(accelerator, tmp_path):
    """All images are of one group: each is mixed with itself, but for the rounding of λ x + (1 - λ) x."""
    members = TRAINING.subset(np.flatnonzero(TRAINING.groups == 3))
    one, other = (
        train_by({"method": {"name": name}}, accelerator, tmp_path / name, members, flip=False)
        for name in ("erm", "lisa")
    )
    for first, second in zip(one[0].parameters(), other[0].parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


# Pairs


def test_any_pairs_make_a_ring():
    """Every image of the batch is once the first and once the second, never with itself."""
    base = UniformSampler(TRAINING.groups, 16, 0)
    sampler, rings = AnyPairs(base, 0), set()
    for step in range(20):
        pairs = sampler(step)
        assert pairs.shape == (16, 2)
        assert pairs[:, 0].tolist() == base(step).tolist()
        assert sorted(pairs[:, 1].tolist()) == sorted(pairs[:, 0].tolist())
        assert (pairs[:, 0] != pairs[:, 1]).all()
        assert np.array_equal(sampler(step), pairs)
        rings.add(tuple(pairs[:, 1].tolist()))
    assert len(rings) == 20


def test_a_batch_of_one_image_is_paired_with_itself():
    ((first, second),) = AnyPairs(UniformSampler(TRAINING.groups, 1, 0), 0)(3)
    assert first == second


def four_protected() -> LabelledImages:
    """Return images of two targets and four protected groups; no negative has protected group 3."""
    images, random = toy_images(400, 0), np.random.default_rng(1)
    protected = random.integers(0, 4, 400) % np.where(images.targets == 1, 4, 3)
    return replace(images, groups=images.targets * 4 + protected, known=random.random(400) < 0.9)


def test_a_selective_pair_shares_the_target_or_the_protected_group():
    images = four_protected()
    targets, protected, known = images.targets, images.groups % 4, images.known
    sampler = SelectivePairs(UniformSampler(images.groups, 400, 0), images, 4, 0.25, 7)
    pairs = np.concatenate([sampler(step) for step in range(10)])
    first, second = pairs.T
    itself = first == second
    lonely = ~itself & (~known[first] | ~known[second])
    assert not lonely.any()
    assert itself[~known[first]].all()
    same_target = targets[first] == targets[second]
    same_group = protected[first] == protected[second]
    assert (same_target ^ same_group)[~itself].all()
    # Where the protected group has both targets, a quarter of the pairs are of one target.
    both = known[first] & (protected[first] < 3)
    assert not itself[both].any()
    assert same_target[both].mean() == pytest.approx(0.25, abs=0.03)
    # Positives of group 3 have no negative to go with: three quarters go with themselves.
    assert itself[known[first] & (protected[first] == 3)].mean() == pytest.approx(0.75, abs=0.05)
    # Partners are drawn evenly: each of a group's images as often as another.
    drawn = np.bincount(second[both & ~same_target & (images.groups[first] == 0)], minlength=400)
    wanted = known & (images.groups == 4)
    assert drawn[~wanted].sum() == 0
    assert (drawn[wanted] > 0).mean() > 0.9


def test_pairs_of_sources_are_chosen_by_the_protected_group_alone():
    """Groups of synthetic images are numbered after those of real ones."""
    images = replace(
        TRAINING, groups=TRAINING.groups + 4 * (np.arange(256) % 2), synthetic=np.arange(256) % 2 == 1
    )
    plain, by_source = (
        SelectivePairs(UniformSampler(TRAINING.groups, 64, 0), of, 2, 0.5, 0) for of in (TRAINING, images)
    )
    assert np.array_equal(by_source(0), plain(0))


def test_partners_of_an_image_with_an_unknown_group_only_are_absent():
    images = replace(TRAINING, known=np.zeros(256, bool))
    pairs = SelectivePairs(UniformSampler(images.groups, 32, 0), images, 2, 0.5, 0)(0)
    assert np.array_equal(pairs[:, 0], pairs[:, 1])


def test_mixup_draws_partners_like_images():
    """From balanced groups, though three quarters of the images are of one."""
    groups = np.array([0] * 96 + [1] * 32)
    sampler = AnyPairs(BalancedSampler(groups, 50, 0), 0)
    partners = np.concatenate([sampler(step)[:, 1] for step in range(40)])
    assert groups[partners].mean() == pytest.approx(0.5, abs=0.04)
