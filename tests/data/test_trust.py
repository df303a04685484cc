"""Judgements of complements and of the balanced set: figures by hand, levels at their thresholds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.balancing import Added
from data.trust import balance_judgement, complements_judgement, cross_checks, has_halves
from pipeline.errors import UserError

ONE = ["Blond", "Male"]
TWO = ["Blond", "Male", "Eyeglasses"]
GROUPS = ["Blond=0, Male=0", "Blond=0, Male=1", "Blond=1, Male=0", "Blond=1, Male=1"]


def labels(ids: list[str], names: list[str], *by: list[tuple[int, ...]]) -> pd.DataFrame:
    """Make labels by the labeller and, if they are given, by the checkers of half 0 and of half 1."""
    columns = {}
    for ending, rows in zip(("", "_0", "_1"), by, strict=False):
        columns |= {f"{name}{ending}": [row[k] for row in rows] for k, name in enumerate(names)}
    return pd.DataFrame(columns).assign(id=ids)


# Who checks what


def z_and_complements() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make z and z': both halves agree on a; they see different targets of b; half 1 sees no flip of c'."""
    z = labels(
        ["a", "b", "c"], ONE,
        [(0, 0), (0, 1), (1, 0)], [(0, 0), (0, 1), (1, 0)], [(0, 0), (1, 1), (1, 0)],
    )  # fmt: skip
    primes = labels(
        ["c'", "a'", "b'"], ONE,
        [(1, 1), (0, 1), (0, 0)], [(1, 1), (0, 1), (0, 0)], [(1, 0), (0, 1), (1, 0)],
    )  # fmt: skip
    return z, primes.assign(pair_id=["c", "a", "b"], flips="Male")


def test_each_half_checks_what_the_other_one_promises() -> None:
    z, primes = z_and_complements()
    checks, by_checkers = cross_checks(primes, z, ONE, true_originals=False)
    assert by_checkers
    assert list(checks.itertuples(index=False, name=None)) == [
        # Half 0 promises, half 1 checks: c' is not Male; b was 0, and is seen as 1.
        (0, 3, True, False), (1, 1, True, True), (2, 0, False, True),
        # Half 1 promises, half 0 checks: b was 1, and is seen as 0.
        (0, 3, True, True), (1, 1, True, True), (2, 2, False, True),
    ]  # fmt: skip
    # The labeller, asked about itself, finds no fault.
    alone, by_checkers = cross_checks(primes[["id", "pair_id", "flips", *ONE]], z, ONE, True)
    assert not by_checkers and len(alone) == 3
    assert alone[["kept", "flipped"]].all(axis=None)
    assert alone["group"].tolist() == [3, 1, 0]


@pytest.mark.parametrize("without", ["z", "complements", "one column"])
def test_without_checkers_the_labeller_checks_itself(without: str) -> None:
    z, primes = z_and_complements()
    if without == "z":
        z = z[["id", *ONE]]
    elif without == "complements":
        primes = primes[["id", "pair_id", "flips", *ONE]]
    else:
        primes = primes.drop(columns="Male_1")
        assert not has_halves(primes, ONE) and has_halves(primes, ["Blond"])
    checks, by_checkers = cross_checks(primes, z, ONE, true_originals=False)
    assert not by_checkers and checks["complement"].tolist() == [0, 1, 2]


def test_both_halves_check_the_truth_of_real_images() -> None:
    true = labels(["r", "s"], ONE, [(1, 0), (0, 1)])
    primes = labels(
        ["r'", "s'"], ONE, [(0, 0), (0, 0)], [(1, 1), (0, 0)], [(0, 1), (0, 1)],
    ).assign(pair_id=["r", "s"], flips="Male")  # fmt: skip
    checks, by_checkers = cross_checks(primes, true, ONE, true_originals=True)
    assert by_checkers
    assert checks["group"].tolist() == [3, 0, 3, 0]  # the truth, flipped
    assert checks["kept"].tolist() == [False, True, True, True]  # by half 1, then by half 0
    assert checks["flipped"].tolist() == [True, False, True, True]


def test_of_several_attributes_all_are_to_be_as_promised() -> None:
    z = labels(["a"], TWO, *[[(1, 0, 1)]] * 3)
    primes = labels(["a'", "a''"], TWO, *[[(1, 1, 1), (1, 1, 1)]] * 3)
    primes = primes.assign(pair_id="a", flips=["Male", "Male+Eyeglasses"])
    checks, _ = cross_checks(primes, z, TWO, true_originals=False)
    assert checks["group"].tolist() == [7, 6, 7, 6]
    assert checks["flipped"].tolist() == [True, False, True, False]  # the second kept its Eyeglasses
    assert checks["kept"].all()


def test_an_original_that_is_not_there_is_named() -> None:
    z, primes = z_and_complements()
    with pytest.raises(UserError, match="no row for id 'b'"):
        cross_checks(primes, z[z["id"] != "b"], ONE, true_originals=False)


# Complements


def checks_of(kept: float, flipped: float, n: int = 100) -> pd.DataFrame:
    """Make two checks of each of n complements, of four groups in turn; failed checks are spread evenly."""
    holds = {name: np.arange(n) < round(share * n) for name, share in (("kept", kept), ("flipped", flipped))}
    random = np.random.default_rng(0)
    one = pd.DataFrame({"complement": np.arange(n), "group": np.arange(n) % 4})
    one = one.assign(**{name: random.permutation(held) for name, held in holds.items()})
    return pd.concat([one, one], ignore_index=True)


def judged(checks: pd.DataFrame, passed: Any = None, by_checkers: bool = True, inherited: bool = True):
    passed = np.ones(checks["complement"].max() + 1, dtype=bool) if passed is None else passed
    return complements_judgement("complements", checks, by_checkers, passed, GROUPS, inherited)


@pytest.mark.parametrize(
    ("kept", "flipped", "level"),
    [
        (1.0, 1.0, "fine"),
        (0.85, 0.85, "fine"),
        (0.84, 1.0, "doubtful"),
        (1.0, 0.84, "doubtful"),
        (0.61, 0.95, "doubtful"),
        (0.95, 0.61, "doubtful"),
        (0.6, 1.0, "useless"),
        (1.0, 0.6, "useless"),
        (0.5, 0.5, "useless"),
    ],
)
def test_levels_of_complements(kept: float, flipped: float, level: str) -> None:
    judgement = judged(checks_of(kept, flipped))
    assert judgement.level == level
    assert (judgement.figures["kept"], judgement.figures["flipped"]) == (kept, flipped)
    assert bool(judgement.remedy) == (level != "fine")


@pytest.mark.parametrize(
    ("accuracy", "by_checkers", "level"),
    [(0.59, True, "doubtful"), (0.6, True, "useless"), (None, True, "useless"), (0.59, False, "useless")],
)
def test_checkers_that_are_no_better_than_chance_call_nothing_useless(
    accuracy: float | None, by_checkers: bool, level: str
) -> None:
    """They call nothing fine either: halves of few rare images are too few to learn from."""
    passed = np.ones(100, dtype=bool)
    arguments = (by_checkers, passed, GROUPS, True, accuracy)
    found = complements_judgement("complements", checks_of(0.4, 1.0), *arguments)
    assert found.level == level
    assert ("right for only 59.0 %" in found.sentence) == (level == "doubtful")
    if level == "doubtful":
        assert complements_judgement("complements", checks_of(1.0, 1.0), *arguments).level == "doubtful"


def test_a_group_that_is_not_made_is_doubtful_however_good_the_others_are() -> None:
    checks = checks_of(1.0, 1.0)
    of_last = np.flatnonzero(checks["group"] == 3)
    assert len(of_last) == 50
    checks.loc[of_last[:25], "kept"] = False
    assert judged(checks).level == "fine"  # half of it
    checks.loc[of_last[25], "flipped"] = False
    judgement = judged(checks)
    assert judgement.level == "doubtful"
    assert judgement.figures["kept"] == 0.875  # 25 of 200
    assert [judgement.figures[f"group_{k}_as_promised"] for k in range(4)] == [1.0, 1.0, 1.0, 0.48]
    assert (
        "worst of the groups promised is Blond=1, Male=1, where both hold for 48.0 %." in judgement.sentence
    )


def test_what_the_gates_let_through_decides_and_all_is_told() -> None:
    checks = checks_of(0.5, 1.0)
    kept = checks["kept"].to_numpy()[:100]
    judgement = judged(checks, kept)
    assert judgement.level == "fine"
    assert judgement.figures == {
        "complements": 100.0, "used": 50.0, "kept": 1.0, "flipped": 1.0, "kept_before_gates": 0.5,
        "flipped_before_gates": 1.0, "by_checkers": 1.0, "checker_accuracy": None,
        **{f"group_{k}_as_promised": 1.0 for k in range(4)},
    }  # fmt: skip
    assert judgement.sentence.startswith(
        "By classifiers that did not label them, the target stays in 100.0 % and the protected attributes "
        "are as promised in 100.0 % of the 50 that passed the gates (50.0 % and 100.0 % of all 100); worst"
    )
    assert judged(checks, ~kept).level == "useless"
    only_two = judged(checks, kept & (np.arange(100) % 4 < 2))
    assert only_two.figures["group_2_as_promised"] is None


def test_no_complement_that_passes_is_no_complement_that_misleads() -> None:
    judgement = judged(checks_of(1.0, 1.0), np.zeros(100, dtype=bool))
    assert judgement.level == "doubtful"
    assert judgement.sentence == "None of 100 passed the gates, so that none is used."
    assert judgement.figures["kept"] is None and judgement.figures["kept_before_gates"] == 1.0


def test_a_labeller_that_judges_itself_is_said_so() -> None:
    judgement = judged(checks_of(1.0, 1.0), by_checkers=False)
    assert judgement.sentence.startswith("By the labeller itself, which has no checkers")
    assert judgement.figures["by_checkers"] == 0.0


def test_rescored_labels_do_not_rest_on_the_promise() -> None:
    judgement = judged(checks_of(0.5, 0.5), inherited=False)
    assert judgement.level == "doubtful"
    assert "their labels are the classifiers' own" in judgement.sentence
    assert judged(checks_of(1.0, 1.0), inherited=False).level == "fine"


# The balanced set


def summary(counts: list[int], kl_joint: float, kl_uniform: float, kl_target: float, kl_male: float):
    return {
        "images": sum(counts), "group_counts": {f"group_{k}": n for k, n in enumerate(counts)},
        "kl_joint": kl_joint, "kl_uniform": kl_uniform, "kl_target": kl_target,
        "kl_protected": {"Male": kl_male},
    }  # fmt: skip


BEFORE = summary([507, 35, 27, 531], 0.4765, 0.4770, 0.0001, 0.0004)


def added(rows: int = 710, **values: Any) -> Added:
    given: dict[str, Any] = {"cap": 180, "dropped": np.zeros(4, dtype=int), "cut_by": "nothing"}
    return Added(pd.DataFrame({"id": map(str, range(rows))}), **(given | values))


def test_a_balanced_set_in_its_figures() -> None:
    after = summary([682, 210, 207, 711], 0.1533, 0.1536, 0.0001, 0.0002)
    cut = added(dropped=np.array([0, 0, 9165, 9645]), cut_by="marginals")
    judgement = balance_judgement(BEFORE, after, cut, "Blond")
    assert judgement.level == "fine" and judgement.remedy == ""
    assert judgement.step == "balanced data"
    assert judgement.sentence == (
        "Groups of 507 / 35 / 27 / 531 real images became 682 / 210 / 207 / 711; in nats, the KL divergence "
        "from equal groups goes from 0.4770 to 0.1536, that from independent attributes from 0.4765 to "
        "0.1533; 18,810 candidates beyond 180 of a group were left out, as more would leave a group or an "
        "attribute less balanced."
    )
    assert judgement.figures["group_2_before"] == 27 and judgement.figures["group_2_after"] == 207
    assert judgement.figures["kl_uniform_before"] == 0.4770
    assert judgement.figures["kl_uniform_after"] == 0.1536
    assert judgement.figures["kl_protected_Male_after"] == 0.0002
    assert (judgement.figures["cap"], judgement.figures["synthetic"]) == (180, 710)


def test_what_gets_worse_is_useless_though_the_attributes_are_independent() -> None:
    """All candidates are added, without a cap."""
    after = summary([682, 210, 9372, 10356], 0.0073, 0.4, 0.5150, 0.0003)
    judgement = balance_judgement(BEFORE, after, added(20_000), "Blond")
    assert judgement.level == "useless"
    assert judgement.sentence.endswith(
        "further from balance than the real images alone are the marginal of Blond from 0.0001 to 0.5150."
    )
    assert judgement.remedy


@pytest.mark.parametrize(
    ("worse", "level"),
    [
        ({}, "fine"),  # all as it was
        ({"kl_uniform": 0.4771}, "useless"),
        ({"kl_target": 0.0002}, "useless"),
        ({"kl_protected": {"Male": 0.0005}}, "useless"),
        ({"kl_joint": 0.4771}, "fine"),  # no distance from equal groups
        ({"kl_uniform": 0.4770 + 1e-13}, "fine"),  # rounding
    ],
)
def test_any_divergence_from_equal_groups_may_stay_but_not_rise(worse: dict[str, Any], level: str) -> None:
    after = summary([700, 700, 700, 700], 0.4765, 0.4770, 0.0001, 0.0004)
    assert balance_judgement(BEFORE, after | worse, added(), "Blond").level == level


@pytest.mark.parametrize(("smallest", "level"), [(99, "doubtful"), (100, "fine")])
def test_a_group_of_a_tenth_of_the_largest_is_just_enough(smallest: int, level: str) -> None:
    after = summary([900, 300, smallest, 1000], 0.1, 0.2, 0.0001, 0.0004)
    judgement = balance_judgement(BEFORE, after, added(), "Blond")
    assert judgement.level == level
    said = "the smallest group has less than 10.0 % of the largest" in judgement.sentence
    assert said == (smallest == 99)
    assert bool(judgement.remedy) == (smallest == 99)


def test_the_advice_is_on_what_keeps_the_groups_small() -> None:
    after = summary([900, 300, 9, 1000], 0.1, 0.2, 0.0001, 0.0004)
    limited = balance_judgement(BEFORE, after, added(cut_by="limit", dropped=np.full(4, 5)), "Blond")
    assert limited.remedy == "Raise balance.synthetic_per_real."
    assert (
        "20 candidates beyond 180 of a group were left out, as balance.synthetic_per_real" in limited.sentence
    )
    assert "complement.per_group" in balance_judgement(BEFORE, after, added(), "Blond").remedy


def test_where_nothing_joins_the_reason_is_the_sentence() -> None:
    nothing = added(0, cap=0, why_none="no complement passed all gates", remedy="loosen balance.gates")
    judgement = balance_judgement(BEFORE, BEFORE, nothing, "Blond")
    assert judgement.level == "useless"
    assert judgement.sentence == (
        "No synthetic image can join the 1,100 real ones: no complement passed all gates."
    )
    assert judgement.remedy == "Loosen balance.gates."
