"""Judgements of generators: coverage by hand and by brute force; judgements of planted generators."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from generators.latents import sample_latents
from generators.trust import NEAREST, VARIETY, copies_judgement, judge_generator, variety_judgement
from generators.variety import (
    LATENTS,
    PART,
    PER_GROUP,
    Figures,
    compact,
    covered,
    distances_between,
    draw_sample,
    expected_coverage,
    nearest_distances,
)
from pipeline.content.trust import Judgement

NAMES = ["t=0, a=0", "t=0, a=1", "t=1, a=0", "t=1, a=1"]
SHARES = np.array([0.45, 0.3, 0.2, 0.05])
SIDE = 16


# What is compared


def test_an_image_is_compared_by_the_means_of_its_64_areas():
    image = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    image[0, 0, 0] = [4, 8, 0]  # one pixel of the first area, of four
    image[0, 14:, 14:] = 255  # the last area
    numbers = compact(image).reshape(3, 8, 8)  # channels first
    assert numbers[:, 0, 0].tolist() == [1.0, 2.0, 0.0]
    assert numbers[:, 7, 7].tolist() == [255.0] * 3
    assert numbers.sum() == 3.0 + 3 * 255.0


@pytest.mark.parametrize("side", [4, 8, 12, 64])
def test_images_of_any_size_are_compared(side):
    images = np.full((2, side, side, 3), 7, dtype=np.uint8)
    assert compact(images).dtype == np.float32
    np.testing.assert_allclose(compact(images), np.full((2, 192), 7.0), rtol=1e-6)


def test_distances_by_hand():
    distances = distances_between(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 4.0]]))
    np.testing.assert_allclose(distances, [[4.0], [5.0]])


def test_the_nearest_is_not_the_point_itself():
    line = np.array([[0.0], [1.0], [5.0]])
    own = np.arange(3)
    assert nearest_distances(line, line).tolist() == [0.0, 0.0, 0.0]
    assert nearest_distances(line, line, own=own).tolist() == [1.0, 1.0, 4.0]
    assert nearest_distances(line, line, k=2, own=own).tolist() == [5.0, 4.0, 5.0]
    assert nearest_distances(line, line, own=np.array([0, -1, -1])).tolist() == [1.0, 0.0, 0.0]
    assert nearest_distances(line, line, k=4).tolist() == [math.inf] * 3


# Coverage


def test_coverage_by_hand():
    real = np.array([[0.0], [1.0], [3.0], [10.0]])
    # To the second nearest other: 0 has a radius of 3, 1 of 2, 3 of 3, and 10 of 9.
    for generated, expected in (
        (-2.9, [True, False, False, False]),
        (3.1, [False, False, True, True]),
        (2.5, [True, True, True, True]),
        (20.0, [False, False, False, False]),
    ):
        found = covered(real, np.arange(4), real, np.array([[generated]]), k=2)
        assert found.tolist() == expected, generated


@given(st.integers(2, 12), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_coverage_is_that_of_brute_force(n, m, k, seed):
    random = np.random.default_rng(seed)
    real, generated = random.normal(size=(n, 3)), random.normal(size=(m, 3))
    own = np.where(random.random(n) < 0.7, np.arange(n), -1)
    points = np.where(own[:, None] >= 0, real, random.normal(size=(n, 3)))
    expected = []
    for point, itself in zip(points, own, strict=True):
        others = sorted(np.linalg.norm(point - other) for j, other in enumerate(real) if j != itself)
        radius = others[k - 1] if k <= len(others) else math.inf
        expected.append(min(np.linalg.norm(point - one) for one in generated) <= radius)
    assert covered(points, own, real, generated, k).tolist() == expected


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (2, 2, 2), (4, 3, 2), (3, 5, 3)])
def test_the_expected_coverage_is_a_share_of_all_orders(n, m, k):
    """It counts the orders of n real and m generated images with a generated one in the first k."""
    orders = list(itertools.combinations(range(n + m), m))  # the places of the generated ones
    assert expected_coverage(n, m, k) == pytest.approx(sum(places[0] < k for places in orders) / len(orders))


def test_images_of_the_same_kind_cover_each_other_as_expected():
    random = np.random.default_rng(0)
    real, generated, points = (random.normal(size=(400, 5)) for _ in range(3))
    found = covered(points, np.full(400, -1), real, generated).mean()
    assert found == pytest.approx(expected_coverage(400, 400), abs=0.03)
    assert expected_coverage(400, 400) == pytest.approx(1 - 2**-5, abs=0.001)


# The sample


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5), st.integers(0, 9))
def test_small_groups_are_sought_whole_and_halves_are_alike(sizes, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    sample = draw_sample(groups, seed)
    assert (np.diff(sample.positions) > 0).all()
    assert sample.typical.sum() == min(len(groups), 2 * LATENTS)
    np.testing.assert_array_equal(np.sort(sample.shuffled), np.flatnonzero(sample.typical))
    halves = np.bincount(sample.half[sample.typical], minlength=2)
    assert halves[0] - halves[1] in (0, 1)
    sought = np.bincount(groups[sample.positions][sample.sought], minlength=len(sizes))
    assert sought.tolist() == [min(size, PER_GROUP) for size in sizes]


def test_of_many_images_those_of_rare_groups_are_sought_beside_the_typical_ones():
    groups = np.zeros(20_000, dtype=np.int64)
    groups[:200] = 1
    sample = draw_sample(groups, 0)
    of_rare = groups[sample.positions] == 1
    assert of_rare.sum() == 200
    assert sample.typical.sum() == 8000
    assert 40 < (of_rare & sample.typical).sum() < 130  # a hundredth of them: 80
    other = draw_sample(groups, 1)
    assert other.positions.tolist() != sample.positions.tolist()


# Planted generators


def drawn(n: int, seed: int, shares: NDArray[np.float64] = SHARES) -> tuple[NDArray, NDArray]:
    """Draw images of n discs on paper, and their groups: by the disc's place, then by the paper's colour."""
    random = np.random.default_rng(seed)
    groups = random.choice(4, size=n, p=shares / shares.sum())
    target, protected = groups // 2, groups % 2
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    centre = np.stack([0.3 + 0.4 * target, np.full(n, 0.5)], axis=1) + random.normal(0, 0.05, (n, 2))
    radius = random.uniform(0.12, 0.2, n)
    away = np.hypot(y[None] - centre[:, :1, None], x[None] - centre[:, 1:, None])
    ink = np.clip((radius[:, None, None] - away) * SIDE + 0.5, 0, 1)[..., None]
    paper = np.where(protected[:, None] == 1, [220.0, 170.0, 120.0], [120.0, 170.0, 220.0])
    paper = paper + random.normal(0, 12, (n, 3))
    colour = random.uniform(0, 90, (n, 3))
    images = paper[:, None, None] * (1 - ink) + colour[:, None, None] * ink
    return np.rint(images).clip(0, 255).astype(np.uint8), groups


REAL, GROUPS = drawn(1200, 0)


def judged(
    images: NDArray[np.uint8], real: NDArray[np.uint8] = REAL, groups: NDArray = GROUPS
) -> list[Judgement]:
    """Return the judgements of a generator that makes these images one after the other."""
    return judge_generator(real.__getitem__, groups, NAMES, one_after_the_other(images), 6, 0)


def one_after_the_other(images: NDArray[np.uint8]) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    """Make a generator of these images, which starts again when all are made."""
    numbers = itertools.cycle(range(len(images)))
    return lambda latents: images[[next(numbers) for _ in latents]]


def noise(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def blurred(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur images over 5 px, and restore their contrast."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for _ in range(2):
        pixels = F.avg_pool2d(pixels, 5, 1, 2, count_include_pad=False)
    contrasted = ((pixels - 127.5) * 4 + 127.5).clamp(0, 255)
    return contrasted.byte().permute(0, 2, 3, 1).numpy()


def test_held_out_images_are_a_perfect_generator():
    variety, nearest = judged(drawn(1200, 5)[0])
    assert (variety.step, nearest.step) == (VARIETY, NEAREST)
    assert (variety.level, nearest.level) == ("fine", "fine")
    assert variety.remedy == nearest.remedy == ""
    figures = variety.figures
    assert figures["coverage"] == pytest.approx(figures["expected_coverage"], abs=0.03)
    for group in range(4):
        assert figures[f"group_{group}_coverage"] > 0.85
        assert figures[f"group_{group}_coverage_by_others"] < 0.3
    assert figures["diversity"] == pytest.approx(1.0, abs=0.1)
    assert nearest.figures["nearest"] == pytest.approx(1.0, abs=0.1)
    worst = min(range(4), key=lambda group: figures[f"group_{group}_coverage"])
    assert variety.sentence == (
        f"{100 * figures['coverage']:.0f} % of the real training images have a generated one near, where a "
        f"perfect generator reaches 97 %, and of {NAMES[worst]}, which is covered worst, "
        f"{100 * figures[f'group_{worst}_coverage']:.0f} %."
    )


@pytest.mark.parametrize("image", [REAL[:1], REAL.mean(axis=0, keepdims=True).astype(np.uint8), noise(1)])
def test_one_image_is_useless(image):
    variety, _ = judged(image)
    assert variety.level == "useless"
    assert variety.sentence == (
        "it makes one image, or shades of it: two of them are 0.00 times as far apart as two real images."
    )
    assert variety.remedy.startswith("Train it for longer")


def test_shades_of_one_image_are_useless():
    mean = REAL.mean(axis=0)
    variety, _ = judged((mean + 0.15 * (drawn(1200, 5)[0] - mean)).round().astype(np.uint8))
    assert variety.level == "useless"
    assert variety.figures["diversity"] == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("images", [noise(600), blurred(noise(600)), 255 - drawn(600, 5)[0]])
def test_images_of_something_else_are_useless(images):
    variety, nearest = judged(images)
    assert variety.level == "useless"
    assert variety.figures["coverage"] < 0.05
    assert "do not look like the data" in variety.sentence
    assert nearest.level == "doubtful"
    assert nearest.figures["nearest"] > 1.5


def test_copies_of_training_images_are_doubtful_and_of_few_useless():
    variety, nearest = judged(REAL)
    assert (variety.level, nearest.level) == ("fine", "doubtful")
    assert nearest.sentence == (
        "its images are 0.00 times as far from the nearest real training image as real ones are from each "
        "other: it copies them."
    )
    few, nearest = judged(REAL[:5])
    assert few.level == "useless"
    assert few.figures["diversity"] > 0.5  # the five differ
    assert nearest.level == "doubtful"
    more, _ = judged(REAL[:60])
    assert more.level == "useless"
    assert 0.1 < more.figures["coverage"] < 0.45
    assert more.sentence.endswith("a perfect generator reaches 97 %: it copies a few.")
    assert more.remedy.startswith("Use more real images")


@pytest.mark.parametrize("group", range(4))
def test_a_group_that_is_missing_is_named(group):
    shares = SHARES.copy()
    shares[group] = 0.0
    variety, nearest = judged(drawn(1200, 5, shares)[0])
    assert (variety.level, nearest.level) == ("doubtful", "fine")
    assert f"but of {NAMES[group]} " in variety.sentence
    assert variety.figures[f"group_{group}_coverage"] < 0.5
    assert "group_balance" in variety.remedy


def test_a_group_that_looks_like_another_is_said_to_be_unknown():
    """A group that is a random half of others is covered by the other half."""
    groups = GROUPS.copy()
    halved = np.flatnonzero(groups == 0)[::2]
    groups[groups == 1] = 0
    groups[halved] = 1
    variety, _ = judged(drawn(1200, 5)[0], groups=groups)
    assert variety.level == "fine"
    unknown = "; of t=0, a=1 nothing can be told, as its images are too few or look like others."
    assert variety.sentence.endswith(unknown)


def test_a_few_real_images_tell_nothing():
    (only,) = judged(REAL[:100], REAL[:19], GROUPS[:19])
    assert only.level == "doubtful"
    assert only.sentence == "19 real training images are too few to tell how varied its images are."
    assert len(judged(REAL[:100], REAL[:20], GROUPS[:20])) == 2


def test_the_order_of_the_real_images_makes_no_difference():
    """Files are often sorted by class."""
    images, order = drawn(1200, 5)[0], np.argsort(GROUPS, kind="stable")
    for one, other in zip(judged(images), judged(images, REAL[order], GROUPS[order]), strict=True):
        assert one.level == other.level == "fine"
        for name in one.figures:
            assert one.figures[name] == pytest.approx(other.figures[name], abs=0.1)


def test_the_judgement_is_the_same_twice_and_that_of_its_seed():
    images = drawn(1200, 5)[0]
    assert judged(images) == judged(images)

    def of_seed(seed: int) -> list[Judgement]:
        return judge_generator(REAL.__getitem__, GROUPS, NAMES, one_after_the_other(images), 6, seed)

    assert of_seed(1) != of_seed(0)


def test_the_latents_are_of_numbers_of_their_own_and_no_more_than_a_part_is_made_at_a_time():
    seen, read = [], []

    def render(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen.append(latents)
        return REAL[: len(latents)]

    def read_real(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        read.append(positions)
        return REAL[positions]

    judge_generator(read_real, GROUPS, NAMES, render, 6, 3)
    np.testing.assert_array_equal(np.concatenate(seen), sample_latents(3, "trust", 0, 600, 6))
    np.testing.assert_array_equal(np.concatenate(read), np.arange(1200))
    assert max(map(len, seen + read)) == PART


# What is said


def figures_of(**changes) -> Figures:
    values = {
        "coverage": 0.9,
        "expected": 0.97,
        "groups": np.array([0.9, 0.95, 0.9, 0.8]),
        "others": np.array([0.1, 0.2, 0.3, 0.4]),
        "sizes": np.array([300, 300, 100, 20]),
        "nearest": 1.0,
        "diversity": 1.0,
    }
    return Figures(**(values | changes))


def test_a_group_has_to_be_more_than_half_way_from_those_without_it_to_a_perfect_one():
    # Of the last group: (0.97 + 0.4) / 2 = 0.685.
    for value, level in ((0.69, "fine"), (0.68, "doubtful")):
        found = variety_judgement(figures_of(groups=np.array([0.9, 0.95, 0.9, value])), NAMES)
        assert found.level == level
    assert found.sentence == (
        "90 % of the real training images have a generated one near, where a perfect generator reaches 97 %, "
        "but of t=1, a=1 68 %, where a generator that makes none of that group reaches 40 %."
    )


def test_a_group_that_cannot_be_told_needs_half_of_a_perfect_coverage():
    others = np.array([0.1, 0.2, 0.3, 0.9])
    for value, level in ((0.5, "fine"), (0.48, "doubtful")):
        changed = figures_of(groups=np.array([0.9, 0.95, 0.9, value]), others=others)
        found = variety_judgement(changed, NAMES)
        assert found.level == level
        assert "; of t=1, a=1 nothing can be told" in found.sentence


def test_a_group_without_enough_images_decides_nothing():
    changed = figures_of(groups=np.array([0.9, 0.95, 0.9, 0.1]), sizes=np.array([300, 300, 100, 9]))
    assert variety_judgement(changed, NAMES).level == "fine"
    absent = figures_of(
        groups=np.array([0.9, 0.95, 0.9, np.nan]),
        others=np.array([0.1, 0.2, 0.3, np.nan]),
        sizes=np.array([300, 300, 100, 0]),
    )
    found = variety_judgement(absent, NAMES)
    assert found.level == "fine"
    assert found.figures["group_3_coverage"] is None


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "fine"),
        ({"coverage": 0.49}, "fine"),
        ({"coverage": 0.48}, "doubtful"),  # half of 0.97 is 0.485
        ({"coverage": 0.098}, "doubtful"),
        ({"coverage": 0.096}, "useless"),
        ({"coverage": 0.48, "nearest": 0.49}, "useless"),
        ({"coverage": 0.49, "nearest": 0.49}, "fine"),
        ({"diversity": 0.2}, "fine"),
        ({"diversity": 0.19}, "useless"),
        ({"diversity": math.nan}, "fine"),
    ],
)
def test_levels_of_variety(changes, level):
    assert variety_judgement(figures_of(**changes), NAMES).level == level


@pytest.mark.parametrize(
    ("nearest", "level"), [(0.49, "doubtful"), (0.5, "fine"), (1.5, "fine"), (1.51, "doubtful")]
)
def test_levels_of_copies(nearest, level):
    assert copies_judgement(figures_of(nearest=nearest)).level == level


def test_of_doubled_real_images_copies_cannot_be_told():
    doubled, groups = np.repeat(REAL[:100], 2, axis=0), np.repeat(GROUPS[:100], 2)
    _, nearest = judged(drawn(600, 5)[0], doubled, groups)
    assert nearest.level == "doubtful"
    assert nearest.figures == {"nearest": None}
    assert "nobody can tell copies" in nearest.sentence
