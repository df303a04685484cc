"""What the benchmarks compute with: ratios of medians, bounds, baselines that compute the same."""

import time

import numpy as np
import pytest

from benchmarks.complement import one_by_one, random_planes
from benchmarks.measuring import Result, compare, peak_bytes, resident_bytes
from generators.complements import complement, subset_flips


def test_a_ratio_says_how_many_times_quicker_ours_is(monkeypatch):
    monkeypatch.setattr("benchmarks.measuring.SHORTEST", 0.0)
    ratio, theirs, ours = compare(lambda: time.sleep(0.06), lambda: time.sleep(0.02), rounds=3)
    assert ratio == pytest.approx(3, rel=0.2)
    assert (theirs, ours) == (pytest.approx(0.06, rel=0.2), pytest.approx(0.02, rel=0.2))


@pytest.mark.parametrize(
    ("value", "target", "at_least", "met"),
    [(2, 2, True, True), (1.9, 2, True, False), (1, 1.05, False, True), (1.1, 1.05, False, False)],
)
def test_a_target_is_a_bound_from_below_or_from_above(value, target, at_least, met):
    assert Result("figure", value, target, at_least, "").met is met
    assert Result("figure", value, None, at_least, "").met is None


def test_memory_in_use_counts_what_is_held_and_not_what_is_freed():
    before = resident_bytes()
    held = np.ones(64 << 20, dtype=np.uint8)
    assert resident_bytes() - before > 60 << 20
    del held
    assert resident_bytes() - before < 8 << 20
    assert peak_bytes() - before > 60 << 20


def test_the_baseline_of_complements_computes_the_same():
    latents = np.random.default_rng(0).standard_normal((50, 16), dtype=np.float32)
    (of,) = subset_flips("complement", random_planes(16))[0].by_domain
    np.testing.assert_allclose(one_by_one(latents, of), complement(latents, of), atol=1e-5)
