"""The stage balance: what it reads for each source, and what it leaves in out/balanced."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.trust import Judgement, read_judgements
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from stages import balance
from stages.shared.paths import ATTRIBUTES, BALANCED, LABELS, SYNTHETIC
from tests.balanced import (
    NAMES,
    labeller_metrics_of,
    leave_training_images,
    make_project,
    write_labels,
    write_parameters,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_project()
    return tmp_path


def write_real_prime(ids: list[str]) -> None:
    """The complements of these real images; the classifiers say 1 of everything."""
    rows = pd.DataFrame({"id": [f"real_prime-{id}" for id in ids], "pair_id": ids})
    rows = rows.assign(flips="Male", move_length=1.0, flipped=True, target_stayed=True)
    commit_shard(SYNTHETIC / "real_prime", 0, rows)
    finish_store(SYNTHETIC / "real_prime", 1)
    said = rows[["id"]].assign(**dict.fromkeys(NAMES, 1), **{f"{name}_score": 0.9 for name in NAMES})
    commit_shard(LABELS / "real_prime", 0, said)
    finish_store(LABELS / "real_prime", 1)


def set_parameters(**values: object) -> None:
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(parameters | values))


def write_with_real_prime(**section: object) -> None:
    write_parameters(balance=section)
    set_parameters(inverted=["real"])


def read_datasheet() -> dict[str, Any]:
    return json.loads((BALANCED / "datasheet.json").read_text())


def judgements_by_step() -> dict[str, Judgement]:
    return {judgement.step: judgement for judgement in read_judgements(BALANCED)}


def labels_of_kept_promises(target: int | None = None) -> None:
    """The labeller and both halves' checkers see a flip of Male, and the same target, in every pair.

    Args:
        target: of all images; None: as it was of z.
    """
    z = Store(LABELS / "z").rows.drop(columns=["shard", "row"])
    if target is not None:
        z[NAMES[0]] = target
    pairs = Store(SYNTHETIC / "z_prime").rows["pair_id"]
    prime = z.set_index("id").loc[pairs].reset_index(drop=True)
    prime = prime.assign(Male=1 - prime["Male"], id=Store(SYNTHETIC / "z_prime").rows["id"])
    for source, table in (("z", z), ("z_prime", prime)):
        halves = {f"{name}_{half}": table[name] for name in NAMES for half in (0, 1)}
        write_labels(source, table.assign(**halves))


def test_out_balanced_is_whole(project: Path) -> None:
    assert faulty_files(BALANCED) == {}
    names = {path.name for path in BALANCED.iterdir()}
    assert names == {
        "manifest.parquet", "sampled.parquet", "complements.parquet", "datasheet.json", "trust.json",
        "index.json",
    }  # fmt: skip
    table = pd.read_parquet(BALANCED / "complements.parquet")
    assert table.columns.tolist() == balance.JUDGED_COLUMNS
    assert len(table) == 30
    columns = pd.read_parquet(BALANCED / "manifest.parquet").columns.tolist()
    assert columns == [
        "id", "store", "target", "protected", "split", "source", "pair_id", "Blond_Hair_score", "Male_score",
    ]  # fmt: skip
    assert pd.read_parquet(BALANCED / "sampled.parquet").columns.tolist() == columns


@pytest.mark.parametrize(
    ("sources", "counts"),
    [
        (["real_prime"], {"real": 70, "real_prime": 4}),
        (["z", "z_prime", "real_prime"], {"real": 70, "z": 30, "z_prime": 30, "real_prime": 4}),
    ],
)
def test_complements_of_real_images_take_the_true_labels(
    project: Path, sources: list[str], counts: dict[str, int]
) -> None:
    ids = [f"train-{number:06d}" for number in range(4)]
    write_real_prime(ids)
    write_with_real_prime(sources=sources)
    balance.main()
    table = pd.read_parquet(BALANCED / "manifest.parquet")
    assert table["source"].value_counts().to_dict() == counts
    true = pd.read_parquet("out/real/labels.parquet").set_index("id").loc[ids]
    added = table[table["source"] == "real_prime"].set_index("pair_id").loc[ids]
    assert added["target"].tolist() == true["Blond_Hair"].tolist()
    assert added["protected"].tolist() == (1 - true["Male"]).tolist()
    assert set(added["store"]) == {"out/synthetic/real_prime"}
    sheet = json.loads((BALANCED / "datasheet.json").read_text())
    about = sheet["complements"]["real_prime"]
    assert set(sheet["complements"]) == set(sources) - {"z"}
    assert about["target_kept"] == true["Blond_Hair"].mean()
    assert about["protected_flipped"] == (1 - true["Male"]).mean()


def test_gates_hold_for_complements_of_real_images(project: Path) -> None:
    ids = [f"train-{number:06d}" for number in range(8)]
    write_real_prime(ids)
    leave_training_images([10, 10, 10, 7], keep=ids)  # what passes is of the last group
    write_with_real_prime(sources=["real_prime"], gates={"agreement": "both"})
    balance.main()
    true = pd.read_parquet("out/real/labels.parquet").set_index("id").loc[ids]
    confirmed = true.index[(true["Blond_Hair"] == 1) & (true["Male"] == 0)]
    table = pd.read_parquet(BALANCED / "manifest.parquet").query("source != 'real'")
    assert sorted(table["pair_id"]) == sorted(confirmed)
    sheet = json.loads((BALANCED / "datasheet.json").read_text())
    assert sheet["complements"]["real_prime"]["dropped"]["agreement"] == {
        "all": 6, "group_0": 2, "group_1": 2, "group_2": 2, "group_3": 0,
    }  # fmt: skip
    quota = sheet["sampled"]["quota"]
    assert quota == {"group_0": 0, "group_1": 0, "group_2": 0, "group_3": 2}


def test_a_group_whose_labeller_errs_gives_no_complements_but_those_of_real_images(project: Path) -> None:
    """By the metrics of the target's classifier: right of 0.95, 0.6 and 0.9; group 3 was never tried."""
    ids = [f"train-{number:06d}" for number in range(8)]
    write_real_prime(ids)
    labeller_metrics_of([0.95, 0.6, 0.9, None]).write(ATTRIBUTES / NAMES[0] / "metrics.json")
    z = Store(LABELS / "z").rows
    trusted = z["id"][(2 * z["Blond_Hair"] + z["Male"]).isin([0, 2])]
    assert 0 < len(trusted) < len(z)
    assert 2 * z["Blond_Hair"][z["id"].isin(trusted)].sum() < len(trusted)  # most pairs are not blond
    leave_training_images([5, 5, 10, 10], keep=ids)
    write_with_real_prime(sources=["z", "z_prime", "real_prime"], gates={"labeller_accuracy": 0.9})
    balance.main()
    table = pd.read_parquet(BALANCED / "manifest.parquet")
    assert sorted(table["id"][table["source"] == "z"]) == sorted(trusted)
    assert sorted(table["pair_id"][table["source"] == "z_prime"]) == sorted(trusted)
    assert sorted(table["pair_id"][table["source"] == "real_prime"]) == ids


def test_real_complements_that_nobody_makes_are_one_sentence(project: Path) -> None:
    write_parameters(balance={"sources": ["real_prime"]})
    with pytest.raises(UserError, match="real_prime") as raised:
        balance.main()
    assert "inverted" in str(raised.value)
    write_with_real_prime(sources=["real_prime"])
    with pytest.raises(UserError, match="out/synthetic/real_prime is not a store"):
        balance.main()


def test_confirmed_complements_fill_the_groups(project: Path) -> None:
    """Confirmed complements with the inherited target, until a group of 7 is as large as the others: 10."""
    leave_training_images([10, 10, 10, 7])
    write_parameters(balance={"policy": "fill", "sources": ["z_prime"], "gates": {"agreement": "both"}})
    balance.main()
    table = pd.read_parquet(BALANCED / "manifest.parquet")
    added = table[table["source"] != "real"]
    assert set(added["source"]) == {"z_prime"}
    said = Store(LABELS / "z_prime").rows.set_index("id").loc[added["id"], list(NAMES)]
    assert said.to_numpy().tolist() == [[1, 1]] * len(added)
    sheet = json.loads((BALANCED / "datasheet.json").read_text())
    assert sheet["before"]["group_counts"]["group_3"] == 7
    judged = pd.read_parquet(BALANCED / "complements.parquet").query("kept and group == 3")
    assert len(added) == min(3, len(judged)) > 0


# The cap


def test_the_limit_leaves_as_many_of_every_group_in_whole_pairs(project: Path) -> None:
    write_parameters(balance={"synthetic_per_real": 0.55})  # of 40: 22, 5 of each group
    balance.main()
    sheet = read_datasheet()
    assert sheet["synthetic_per_real"] == 0.55
    assert sheet["synthetic"]["group_counts"] == {f"group_{group}": 5 for group in range(4)}
    assert sheet["cap"] == {
        "per_group": 5, "cut_by": "limit", "dropped": {f"group_{group}": 10 for group in range(4)},
    }  # fmt: skip
    assert sheet["sampled"]["quota"] == sheet["synthetic"]["group_counts"]
    table = pd.read_parquet(BALANCED / "manifest.parquet").query("source != 'real'")
    assert set(table["pair_id"].value_counts()) == {2}
    assert "as balance.synthetic_per_real says" in judgements_by_step()["balanced data"].sentence


def test_without_a_limit_and_a_worse_marginal_all_join(project: Path) -> None:
    sheet = read_datasheet()
    assert sheet["cap"] == {
        "per_group": 15, "cut_by": "nothing", "dropped": {f"group_{group}": 0 for group in range(4)},
    }  # fmt: skip


def test_the_datasheet_has_each_attributes_distance_from_halves(project: Path) -> None:
    leave_training_images([10, 10, 8, 2])
    balance.main()
    sheet = read_datasheet()

    def from_half(share: float) -> float:
        return share * np.log(2 * share) + (1 - share) * np.log(2 * (1 - share))

    assert sheet["before"]["kl_target"] == pytest.approx(from_half(20 / 30))
    assert sheet["before"]["kl_protected"] == {"Male": pytest.approx(from_half(18 / 30))}
    # 15 of each group join.
    assert sheet["after"]["kl_target"] == pytest.approx(from_half(50 / 90))
    assert sheet["after"]["kl_protected"] == {"Male": pytest.approx(from_half(48 / 90))}
    assert sheet["synthetic"]["kl_target"] == sheet["synthetic"]["kl_protected"]["Male"] == 0.0
    assert {"kl_target", "kl_protected"} < set(sheet["sampled"])
    figures = judgements_by_step()["balanced data"].figures
    assert figures["kl_target_before"] == sheet["before"]["kl_target"]
    assert figures["kl_protected_Male_after"] == sheet["after"]["kl_protected"]["Male"]


# Whether it may be trusted


def test_labels_that_are_coins_stop_the_run_with_what_to_do(project: Path, capsys) -> None:
    assert [(j.step, j.level) for j in read_judgements(BALANCED)] == [
        ("complements", "useless"),
        ("balanced data", "fine"),
    ]
    before = (BALANCED / "index.json").read_bytes()
    set_parameters(on_useless="stop")
    with pytest.raises(
        UserError, match=r"complements is useless: By the labeller itself.*balance.gates.agree"
    ):
        balance.main()
    assert (BALANCED / "index.json").read_bytes() == before
    assert "useless: complements: By the labeller itself" in capsys.readouterr().out


def test_complements_are_judged_by_the_halves_that_did_not_label_them(project: Path) -> None:
    labels_of_kept_promises()
    set_parameters(on_useless="stop")
    balance.main()
    judgement = judgements_by_step()["complements"]
    assert judgement.level == "fine"
    assert (judgement.figures["kept"], judgement.figures["flipped"]) == (1.0, 1.0)
    # The halves confirm nothing of each other: what the labeller as a whole says is not asked.
    prime = Store(LABELS / "z_prime").rows.drop(columns=["shard", "row"])
    write_labels("z_prime", prime.assign(Male_1=1 - prime["Male_1"], Blond_Hair_0=1))
    with pytest.raises(UserError, match="complements is useless: By classifiers that did not label them"):
        balance.main()
    set_parameters(on_useless="go_on")
    balance.main()
    figures = judgements_by_step()["complements"].figures
    # Of Male half 1 denies every flip that half 0 promises. Half 0 sees all as blond, as 15 of 30 z are.
    assert (figures["flipped"], figures["kept"]) == (0.5, 0.75)
    assert read_datasheet()["protected_flipped"] == 1.0


def test_complements_of_real_images_are_judged_against_the_truth(project: Path) -> None:
    ids = [f"train-{number:06d}" for number in range(8)]
    write_real_prime(ids)
    said = Store(LABELS / "real_prime").rows.drop(columns=["shard", "row"])
    true = pd.read_parquet("out/real/labels.parquet").set_index("id").loc[ids]
    halves = {
        "Blond_Hair_0": true["Blond_Hair"], "Blond_Hair_1": 0, "Male_0": 1 - true["Male"], "Male_1": 1,
    }  # fmt: skip
    write_labels("real_prime", said.assign(**{name: np.asarray(value) for name, value in halves.items()}))
    write_with_real_prime(sources=["z", "z_prime", "real_prime"])
    balance.main()
    found = judgements_by_step()
    assert list(found) == ["complements", "complements of real images", "balanced data"]
    of_real = found["complements of real images"].figures
    # Half 0 is right of all. Half 1 says 0 of the target, as 4 of 8 are, and 1 of Male, as 4 of 8 promise.
    assert (of_real["kept"], of_real["flipped"], of_real["by_checkers"]) == (0.75, 0.75, 1.0)
    assert found["complements"].figures["by_checkers"] == 0.0  # out/labels/z has none


@pytest.mark.parametrize("on_useless", ["stop", "go_on"])
def test_where_all_candidates_are_of_one_target_nothing_joins(project: Path, on_useless: str) -> None:
    """Every promise is kept, as the labeller sees it: it calls all images blond."""
    labels_of_kept_promises(target=1)
    set_parameters(on_useless=on_useless)
    start = {
        "stop": "balanced data is useless: No synthetic image can join the 40 real ones: ",
        "go_on": "balance: no synthetic image is left to add; ",
    }[on_useless]
    with pytest.raises(UserError) as caught:
        balance.main()
    assert str(caught.value).startswith(
        f"{start}of the candidates, by group 0 / 0 / 30 / 30, any number would"
    )
    assert "labellers that are right in each of them" in str(caught.value)


def test_a_target_that_is_found_too_often_is_capped(project: Path) -> None:
    """Of 30 z 3 are not blond: with 3 of each group the marginals are as they were."""
    labels_of_kept_promises()
    z = Store(LABELS / "z").rows.drop(columns=["shard", "row"])
    rare = z["id"][z["Blond_Hair"] == 0].iloc[:3]
    pairs = Store(SYNTHETIC / "z_prime").rows["pair_id"]
    prime = Store(LABELS / "z_prime").rows.drop(columns=["shard", "row"])
    for source, table, of in (("z", z, z["id"]), ("z_prime", prime, pairs)):
        blond = (~of.isin(rare)).astype(int)
        names = ("Blond_Hair", "Blond_Hair_0", "Blond_Hair_1")
        write_labels(source, table.assign(**dict.fromkeys(names, blond)))
    set_parameters(on_useless="stop")
    balance.main()
    sheet = read_datasheet()
    assert sheet["synthetic"]["group_counts"] == {f"group_{group}": 3 for group in range(4)}
    assert sheet["cap"] == {
        "per_group": 3, "cut_by": "marginals",
        "dropped": {"group_0": 0, "group_1": 0, "group_2": 24, "group_3": 24},
    }  # fmt: skip
    assert judgements_by_step()["balanced data"].level == "fine"
    # A tenth as many real blond people: 27 of each group may join.
    leave_training_images([10, 10, 1, 1])
    balance.main()
    assert read_datasheet()["after"]["group_counts"] == {
        "group_0": 13, "group_1": 13, "group_2": 28, "group_3": 28,
    }  # fmt: skip
