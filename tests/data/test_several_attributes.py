"""Two protected attributes, from the balanced manifest to every export, read back; the datasheet; gates."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from data import BalancedDataset
from data.exports import EXPORTS
from data.manifest import read_manifest
from pipeline.content.stores import Store
from pipeline.errors import UserError
from stages import balance, export
from stages.shared.paths import REAL, REAL_LABELS
from tests.balanced import leave_training_images, make_project, manifest, write_parameters

ATTRIBUTES = ["Blond_Hair", "Male", "Eyeglasses"]
CELEBA_SPLITS = ["train", "validation", "test"]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Provide the current folder of these tests: 30 z with three complements each, and every export."""
    folder = tmp_path_factory.mktemp("several")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    make_project(ATTRIBUTES)
    for name in EXPORTS:
        export.main(name)
    yield folder
    patch.undo()


@pytest.fixture
def balanced_with(project: Path) -> Iterator:
    """Run the stage with other parameters in `balance`, return the datasheet, and restore all at the end."""

    def run(**section: object) -> dict:
        write_parameters(ATTRIBUTES, section)
        balance.main()
        return json.loads(Path("out/balanced/datasheet.json").read_text())

    yield run
    run()


@pytest.fixture
def labels() -> pd.DataFrame:
    """Return each id's labels by name: for real images the true ones, for z' those of its z, flipped."""
    of_z = Store(Path("out/labels/z")).rows.set_index("id")[ATTRIBUTES]
    primes = Store(Path("out/synthetic/z_prime")).rows.set_index("id")
    of_prime = of_z.loc[primes["pair_id"]].set_index(primes.index)
    for name in ATTRIBUTES[1:]:
        of_prime[name] ^= primes["flips"].str.split("+").map(lambda flips, name=name: name in flips)
    real = pd.read_parquet("out/real/labels.parquet").set_index("id")[ATTRIBUTES]
    return pd.concat([real, of_z, of_prime]).astype(int)


def test_the_manifest_numbers_the_protected_groups(labels: pd.DataFrame) -> None:
    table = manifest(4)
    told = labels.loc[table.index]
    assert len(table) == 70 + 30 + 90
    assert table["target"].tolist() == told["Blond_Hair"].tolist()
    assert table["protected"].tolist() == (2 * told["Male"] + told["Eyeglasses"]).tolist()
    # Each z with its complements: one image of every protected group.
    synthetic = table[table["source"] != "real"]
    assert synthetic.groupby("pair_id")["protected"].apply(sorted).tolist() == [[0, 1, 2, 3]] * 30


def test_the_datasheet_by_hand(labels: pd.DataFrame) -> None:
    sheet = json.loads(Path("out/balanced/datasheet.json").read_text())
    assert sheet["attributes"] == {"target": "Blond_Hair", "protected": ["Male", "Eyeglasses"]}
    assert sheet["groups"]["group_6"] == "Blond_Hair=1, Male=1, Eyeglasses=0"
    assert len(sheet["groups"]) == 8
    assert sheet["before"]["group_counts"] == {f"group_{group}": 5 for group in range(8)}
    said = Store(Path("out/labels/z_prime")).rows.set_index("id")[ATTRIBUTES]
    right = said == labels.loc[said.index]
    assert sheet["target_kept"] == pytest.approx(right["Blond_Hair"].mean())
    assert sheet["protected_flipped"] == pytest.approx(right[["Male", "Eyeglasses"]].all(axis=1).mean())
    flips = Store(Path("out/synthetic/z_prime")).rows.set_index("id")["flips"]
    of_male = sheet["complements"]["z_prime"]["attributes"]["Male"]
    assert of_male["flipped"] == pytest.approx(right["Male"][flips != "Eyeglasses"].mean())
    assert of_male["kept"] == pytest.approx(right["Male"][flips == "Eyeglasses"].mean())
    assert sheet["complements"]["z_prime"]["images"] == sheet["complements"]["z_prime"]["kept"] == 90


def test_the_dataset_and_its_table(labels: pd.DataFrame) -> None:
    dataset = BalancedDataset("out/balanced")
    table = dataset.to_pandas()
    assert table.columns.tolist() == [
        "id", "store", "y", "a", "split", "source", "pair_id",
        "Blond_Hair_score", "Male_score", "Eyeglasses_score", "Male", "Eyeglasses", "group",
    ]  # fmt: skip
    told = labels.loc[table["id"]]
    assert table[["y", "Male", "Eyeglasses"]].to_numpy().tolist() == told.to_numpy().tolist()
    assert table["group"].tolist() == manifest(4).loc[table["id"], "group"].tolist()
    item = dataset[len(dataset) - 1]
    assert item["group"] == 4 * item["y"] + item["a"] == table["group"].iloc[-1]


def test_celeba_has_a_column_per_attribute(labels: pd.DataFrame) -> None:
    from data.sources.celeba import CelebA

    table = CelebA(name="celeba", folder=Path("out/export/celeba"), crop=None).table()
    lists = pd.read_csv("out/export/celeba/list_attr_celeba.csv")
    assert lists.columns.tolist() == ["image_id", *ATTRIBUTES]
    expected = manifest(4)
    for split in CELEBA_SPLITS:
        told = labels.loc[expected.index[expected["split"] == split]]
        read = table[table["split"] == split]
        assert sorted(map(tuple, read[ATTRIBUTES].to_numpy())) == sorted(map(tuple, told.to_numpy()))


def test_waterbirds_has_the_number_of_the_combination(labels: pd.DataFrame) -> None:
    table = pd.read_csv("out/export/waterbirds/metadata_waterbirds.csv")
    told = labels.loc[table["id"]]
    assert table["a"].tolist() == (2 * told["Male"] + told["Eyeglasses"]).tolist()
    folder = Path("out/export/waterbirds/waterbird_complete95_forest2water2")
    assert pd.read_csv(folder / "metadata.csv")["place"].tolist() == table["a"].tolist()
    assert set(table["a"]) == {0, 1, 2, 3}


def test_hf_parquet_names_every_combination(labels: pd.DataFrame, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(Path("out/export/hf-parquet").absolute()), cache_dir=str(tmp_path))
    rows = loaded["train"]
    assert rows.features["a"].names == [
        "not_Male+not_Eyeglasses", "not_Male+Eyeglasses", "Male+not_Eyeglasses", "Male+Eyeglasses",
    ]  # fmt: skip
    assert rows.features["Eyeglasses"].names == ["not_Eyeglasses", "Eyeglasses"]
    assert rows.features["Eyeglasses_score"] == datasets.Value("float64")
    told = labels.loc[rows["id"]]
    for name in ("Male", "Eyeglasses"):
        assert list(rows[name]) == told[name].tolist()
    assert list(rows["a"]) == (2 * told["Male"] + told["Eyeglasses"]).tolist()
    assert list(rows["group"]) == (4 * told["Blond_Hair"] + list(rows["a"])).tolist()
    scores = Store(Path("out/labels/z")).rows.set_index("id")["Eyeglasses_score"]
    read = dict(zip(rows["id"], rows["Eyeglasses_score"], strict=True))
    assert {id: read[id] for id in scores.index} == scores.to_dict()
    assert read["train-000000"] is None


def test_webdataset_and_imagefolder_tell_both(labels: pd.DataFrame) -> None:
    names = ["y", "Male", "Eyeglasses"]
    seen = {}
    for path in Path("out/export/webdataset").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                if member.name.endswith(".json") and file is not None:
                    record = json.load(file)
                    seen[record["id"]] = [record[name] for name in names]
    assert seen == {id: labels.loc[id].tolist() for id in manifest(4).index}
    metadata = pd.concat(pd.read_csv(path) for path in Path("out/export/imagefolder").glob("*/metadata.csv"))
    assert metadata[names].to_numpy().tolist() == labels.loc[metadata["id"]].to_numpy().tolist()


def test_stylegan_zip_has_the_target(labels: pd.DataFrame) -> None:
    import zipfile

    with zipfile.ZipFile("out/export/stylegan-zip/balanced.zip") as archive:
        listed = json.loads(archive.read("dataset.json"))["labels"]
    table = read_manifest(Path("out/balanced")).rows("train")
    assert sorted(y for _, y in listed) == sorted(labels.loc[table["id"], "Blond_Hair"])


# The stage with gates, other sources, and the control


def test_gates_reach_the_manifest_and_the_datasheet(balanced_with, labels: pd.DataFrame) -> None:
    gates = {"agreement": "both", "hyperplane": "none", "move_length": 2.0}
    whole = {path: path.read_bytes() for path in (REAL / "labels.parquet", REAL_LABELS)}
    leave_training_images([1, 1, 1, 3, 2, 4, 2, 5])  # so far from balance that all that pass may join
    sheet = balanced_with(gates=gates)
    for path, content in whole.items():
        path.write_bytes(content)
    assert sheet["cap"]["cut_by"] == "nothing"
    said = Store(Path("out/labels/z_prime")).rows.set_index("id")[ATTRIBUTES]
    right = (said == labels.loc[said.index]).all(axis=1)
    table = manifest(4)
    assert set(table.index[table["source"] == "z_prime"]) == set(right.index[right])
    pairs = Store(Path("out/synthetic/z_prime")).rows.set_index("id")["pair_id"]
    assert set(table.index[table["source"] == "z"]) == set(pairs[right])
    about = sheet["complements"]["z_prime"]
    assert about["dropped"]["agreement"]["all"] == 90 - about["kept"] == (~right).sum() > 0
    assert about["dropped"]["move_length"]["all"] == 0
    assert sheet["gates"] == {**gates, "confidence": None, "labeller_accuracy": None}
    of_group_2 = (labels.loc[right.index] == [0, 1, 0]).all(axis=1)
    assert about["dropped"]["agreement"]["group_2"] == (of_group_2 & ~right).sum()
    judged = pd.read_parquet("out/balanced/complements.parquet").set_index("id")
    assert judged["kept"].equals(right.loc[judged.index].rename("kept"))


def test_the_control_has_the_quota_of_every_group(balanced_with, labels: pd.DataFrame) -> None:
    sheet = balanced_with(sources=["z_prime"])
    sampled = pd.read_parquet("out/balanced/sampled.parquet")
    of_z = sampled[sampled["source"] == "z"]
    groups = 4 * of_z["target"] + of_z["protected"]
    told = labels.loc[of_z["id"]]
    assert groups.tolist() == (4 * told["Blond_Hair"] + 2 * told["Male"] + told["Eyeglasses"]).tolist()
    available = Store(Path("out/labels/z")).rows
    numbers = 4 * available["Blond_Hair"] + 2 * available["Male"] + available["Eyeglasses"]
    for group in range(8):
        quota, candidates = sheet["sampled"]["quota"][f"group_{group}"], (numbers == group).sum()
        assert quota == sheet["synthetic"]["group_counts"][f"group_{group}"]
        assert sheet["sampled"]["distinct"][f"group_{group}"] == min(quota, candidates)
        assert (groups == group).sum() == (quota if candidates else 0)
    assert sheet["sampled"]["images"] == 40 + len(of_z)
    real = pd.read_parquet("out/balanced/manifest.parquet").query("source == 'real'")
    assert sampled["id"][sampled["source"] == "real"].tolist() == real["id"].tolist()


def test_a_name_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    table = pd.read_parquet("out/balanced/manifest.parquet").rename(columns={"Male_score": "group_score"})
    table.to_parquet(tmp_path / "manifest.parquet", index=False)
    sheet = {"attributes": {"target": "Blond_Hair", "protected": ["group", "Eyeglasses"]}}
    (tmp_path / "datasheet.json").write_text(json.dumps(sheet))
    with pytest.raises(UserError, match="a protected attribute is called 'group', as is another column"):
        read_manifest(tmp_path)
    sheet["attributes"]["protected"][0] = "Young"
    (tmp_path / "datasheet.json").write_text(json.dumps(sheet))
    with pytest.raises(UserError, match="has no column 'Young_score', which its datasheet names"):
        read_manifest(tmp_path)
