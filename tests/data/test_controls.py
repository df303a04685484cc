"""The controls: every group as often as it should be, evenly, the same each time."""

import numpy as np
import pytest

from data.controls import duplicated_rows, sampled_rows

GROUPS = np.array([0, 1, 0, 3, 0, 0, 1, 0, 0, 0])  # 7, 2, 0, 1


def test_duplicated_groups_are_as_large_as_the_largest() -> None:
    rows = duplicated_rows(GROUPS, 4, seed=0)
    assert np.bincount(GROUPS[rows], minlength=4).tolist() == [7, 7, 0, 7]
    assert rows.tolist() == sorted(rows)
    times = np.bincount(rows, minlength=len(GROUPS))
    assert times[GROUPS == 0].tolist() == [1] * 7  # the largest group stays as it is
    assert sorted(times[GROUPS == 1]) == [3, 4]  # three whole copies, and one image more
    assert times[3] == 7


def test_the_remainder_is_drawn_from_the_seed() -> None:
    drawn = [tuple(duplicated_rows(GROUPS, 4, seed)) for seed in range(20)]
    assert drawn[3] == tuple(duplicated_rows(GROUPS, 4, 3))
    assert len(set(drawn)) == 2  # either image of group 1 may be the one that stands there once more


def test_duplicated_rows_of_more_groups() -> None:
    groups = np.array([0, 5, 5, 5, 7])
    rows = duplicated_rows(groups, 8, seed=0)
    assert np.bincount(groups[rows], minlength=8).tolist() == [3, 0, 0, 0, 0, 3, 0, 3]


def test_sampled_rows_are_distinct_while_there_are_enough() -> None:
    drawn = {tuple(sampled_rows(GROUPS, np.array([4, 2, 0, 0]), seed)) for seed in range(20)}
    for rows in map(np.array, drawn):
        assert np.bincount(GROUPS[rows], minlength=4).tolist() == [4, 2, 0, 0]
        assert len(np.unique(rows)) == len(rows)
    assert len(drawn) > 5  # of the 35 ways to choose four of seven


def test_sampled_rows_repeat_evenly_where_there_are_too_few() -> None:
    rows = sampled_rows(GROUPS, np.array([9, 5, 3, 4]), seed=0)
    # Nothing belongs to group 2: its quota cannot be filled.
    assert np.bincount(GROUPS[rows], minlength=4).tolist() == [9, 5, 0, 4]
    times = np.bincount(rows, minlength=len(GROUPS))
    assert sorted(times[GROUPS == 0]) == [1] * 5 + [2] * 2
    assert sorted(times[GROUPS == 1]) == [2, 3]
    assert times[3] == 4


@pytest.mark.parametrize("groups", [[], [1, 1]])
def test_an_empty_quota_takes_nothing(groups: list[int]) -> None:
    assert sampled_rows(np.array(groups, dtype=np.int64), np.zeros(4, dtype=np.int64), 0).tolist() == []
