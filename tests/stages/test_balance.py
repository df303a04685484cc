"""The stage balance: what it reads for each source, and what it leaves in out/balanced."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.stores import Store, commit_shard, finish_store, write_json
from stages import balance
from stages.paths import ATTRIBUTES, BALANCED, LABELS, SYNTHETIC
from tests.balanced import NAMES, make_project, write_parameters


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


def write_with_real_prime(**section: object) -> None:
    write_parameters(balance=section)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["inverted"] = ["real"]
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


def test_out_balanced_is_whole(project: Path) -> None:
    assert faulty_files(BALANCED) == {}
    names = {path.name for path in BALANCED.iterdir()}
    assert names == {
        "manifest.parquet", "sampled.parquet", "complements.parquet", "datasheet.json", "index.json",
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
    accuracies = {"group_0_accuracy": 0.95, "group_1_accuracy": 0.6, "group_2_accuracy": 0.9}
    write_json(ATTRIBUTES / NAMES[0] / "metrics.json", accuracies | {"group_3_accuracy": None})
    write_with_real_prime(sources=["z", "z_prime", "real_prime"], gates={"labeller_accuracy": 0.9})
    balance.main()
    table = pd.read_parquet(BALANCED / "manifest.parquet")
    z = Store(LABELS / "z").rows
    trusted = z["id"][(2 * z["Blond_Hair"] + z["Male"]).isin([0, 2])]
    assert 0 < len(trusted) < len(z)
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
    labels = pd.read_parquet("out/real/labels.parquet")
    rare = labels[(labels["split"] == "train") & (labels["Blond_Hair"] == 1) & (labels["Male"] == 1)]
    labels[~labels["id"].isin(rare["id"].iloc[:3])].to_parquet("out/real/labels.parquet", index=False)
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
