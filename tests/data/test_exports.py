"""Every export format, read back by its own reader: the manifest's ids, labels, splits, counts and pixels."""

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, JpegImagePlugin

from data.exports import EXPORTS
from data.exports.base import safe_name
from data.exports.stylegan import Forgotten, MembersOnDisk
from data.sources.celeba import CelebA as CelebASource
from data.sources.waterbirds import Waterbirds as WaterbirdsSource
from stages import export
from tests.balanced import NAMES, SIDE, expected_images, make_project, manifest, write_parameters

SPLIT_NUMBERS = {"train": 0, "validation": 1, "test": 2}
PER_FILE = 30  # so that the training split has several files, the others one
JPEG_TOLERANCE = 6  # of 255, of smooth pictures at quality 95


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Provide the current folder, with out/balanced and every export of it as PNG."""
    folder = tmp_path_factory.mktemp("exports")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    make_project()
    write_parameters(images_per_file=PER_FILE)
    for name in EXPORTS:
        export.main(name)
    yield folder
    patch.undo()


@pytest.fixture
def exported(project: Path, tmp_path: Path) -> Callable[..., Path]:
    """Export with other settings, to a folder of its own."""

    def run(name: str, **settings: object) -> Path:
        kept = Path("out/export") / name
        kept.replace(tmp_path / "kept")
        write_parameters(images_per_file=PER_FILE, **settings)
        try:
            export.main(name)
            kept.replace(tmp_path / name)
        finally:
            write_parameters(images_per_file=PER_FILE)
            (tmp_path / "kept").replace(kept)
        return tmp_path / name

    return run


def array(image: Image.Image | bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image)


def ids_by_file() -> dict[str, str]:
    """Return the id of each file name, for layouts without ids: imagefolder has ids and the same names."""
    tables = [pd.read_csv(path) for path in Path("out/export/imagefolder").glob("*/metadata.csv")]
    return {Path(row["file_name"]).name: row["id"] for table in tables for _, row in table.iterrows()}


def assert_images(images: dict[str, np.ndarray], ids: set[str], tolerance: int = 0) -> None:
    """Check that there are exactly these ids, each with its own picture."""
    assert set(images) == ids
    expected = expected_images()
    for id, image in images.items():
        assert image.shape == (SIDE, SIDE, 3)
        assert np.abs(image.astype(int) - expected[id]).max() <= tolerance, id


# hf-parquet


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by the card", "as files"])
def test_hf_parquet_as_datasets_reads_it(project: Path, tmp_path: Path, how: str) -> None:
    import datasets

    folder = str(project / "out/export/hf-parquet")
    if how == "by the card":
        loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path))
    else:
        files = {split: f"{folder}/data/balanced-{split}-*.parquet" for split in SPLIT_NUMBERS}
        loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    expected, images = manifest(), {}
    assert {split: len(rows) for split, rows in loaded.items()} == expected["split"].value_counts().to_dict()
    for split, rows in loaded.items():
        assert rows.features["y"] == datasets.ClassLabel(names=["not_Blond_Hair", "Blond_Hair"])
        assert rows.features["a"] == datasets.ClassLabel(names=["not_Male", "Male"])
        assert isinstance(rows.features["image"], datasets.Image)
        for row in rows:
            told = expected.loc[row["id"]]
            assert told["split"] == split
            labels = (told["target"], told["protected"], told["group"], told["source"])
            assert (row["y"], row["a"], row["group"], row["source"]) == labels
            assert row["Male"] == row["a"]
            assert isinstance(row["image"], Image.Image)
            images[row["id"]] = array(row["image"])
            if told["source"] == "real":
                assert row["pair_id"] is None
                assert row["Blond_Hair_score"] is None
            else:
                assert row["pair_id"] == told["pair_id"]
                assert row["Blond_Hair_score"] == told["Blond_Hair_score"]
                assert row["Male_score"] == told["Male_score"]
    assert_images(images, set(expected["id"]))


def test_hf_parquet_has_the_documented_schema(project: Path) -> None:
    folder = project / "out/export/hf-parquet"
    names = sorted(path.name for path in (folder / "data").glob("*.parquet"))
    assert names == [
        "balanced-test-00000-of-00001.parquet",
        *(f"balanced-train-{number:05d}-of-00004.parquet" for number in range(4)),
        "balanced-validation-00000-of-00001.parquet",
    ]
    schema = pq.read_schema(folder / "data" / names[0])
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["y"] == {"names": ["not_Blond_Hair", "Blond_Hair"], "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"}
    tables = [pd.read_parquet(folder / "data" / name) for name in names]
    assert [len(table) for table in tables] == [18, 30, 30, 30, 10, 12]
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert header["configs"][0]["data_files"] == [
        {"split": split, "path": f"data/balanced-{split}-*.parquet"} for split in SPLIT_NUMBERS
    ]
    counts = {split["name"]: split["num_examples"] for split in header["dataset_info"]["splits"]}
    assert counts == {"train": 100, "validation": 12, "test": 18}


# webdataset


def read_webdataset(folder: Path) -> Iterator[tuple[str, dict]]:
    import webdataset

    for split in SPLIT_NUMBERS:
        shards = [str(path) for path in sorted(folder.glob(f"balanced-{split}-*.tar"))]
        for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
            yield split, sample


def test_webdataset_as_webdataset_reads_it(project: Path) -> None:
    expected, images = manifest(), {}
    for split, sample in read_webdataset(project / "out/export/webdataset"):
        row = sample["json"]
        told = expected.loc[row["id"]]
        assert told["split"] == split
        assert sample["cls"] == row["y"] == told["target"]
        labels = (told["protected"], told["group"], told["source"])
        assert (row["a"], row["group"], row["source"]) == labels
        assert row["pair_id"] == (None if told["source"] == "real" else told["pair_id"])
        images[row["id"]] = array(sample["png"])
    assert_images(images, set(expected["id"]))


def test_the_members_of_a_sample_stand_side_by_side(project: Path) -> None:
    folder = project / "out/export/webdataset"
    files = sorted(path.name for path in folder.glob("*.tar"))
    assert files[1:5] == [f"balanced-train-{number:06d}.tar" for number in range(4)]
    for name in files:
        with tarfile.open(folder / name) as tar:
            members = tar.getnames()
        keys = [member.split(".")[0] for member in members]
        assert [member.split(".", 1)[1] for member in members] == ["png", "cls", "json"] * (len(keys) // 3)
        assert keys[::3] == keys[1::3] == keys[2::3]
        assert len(set(keys)) == len(keys) // 3


def test_every_shard_of_a_webdataset_is_a_mixture(project: Path) -> None:
    sources = [sample["json"]["source"] for _, sample in read_webdataset(project / "out/export/webdataset")]
    for start in range(0, 90, PER_FILE):
        assert {"real", "z", "z_prime"} == set(sources[start : start + PER_FILE])


# imagefolder


def test_imagefolder_as_torchvision_reads_it(project: Path) -> None:
    from torchvision.datasets import ImageFolder

    expected, images = manifest(), {}
    for split in SPLIT_NUMBERS:
        folder = project / "out/export/imagefolder" / split
        metadata = pd.read_csv(folder / "metadata.csv").set_index("file_name")
        loaded = ImageFolder(str(folder))
        assert loaded.classes == ["0_not_Blond_Hair", "1_Blond_Hair"]
        assert len(loaded) == (expected["split"] == split).sum() == len(metadata)
        for (image, label), (path, _) in zip(loaded, loaded.samples, strict=True):
            row = metadata.loc[str(Path(path).relative_to(folder))]
            told = expected.loc[row["id"]]
            assert told["split"] == split
            assert label == row["y"] == told["target"]
            assert (row["a"], row["group"]) == (told["protected"], told["group"])
            images[row["id"]] = array(image)
    assert_images(images, set(expected["id"]))


def test_imagefolder_as_datasets_reads_it(project: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(project / "out/export/imagefolder"), cache_dir=str(tmp_path)
    )
    expected, images = manifest(), {}
    assert set(loaded) == set(SPLIT_NUMBERS)
    for split, rows in loaded.items():
        for row in rows:
            told = expected.loc[row["id"]]
            assert (told["split"], told["target"], told["source"]) == (split, row["y"], row["source"])
            assert row["pair_id"] == ("-" if told["source"] == "real" else told["pair_id"])
            images[row["id"]] = array(row["image"])
    assert_images(images, set(expected["id"]))


# waterbirds: readers written from those of the repositories that its module names


def test_waterbirds_as_group_dro_reads_it(project: Path) -> None:
    folder = project / "out/export/waterbirds/waterbird_complete95_forest2water2"
    metadata = pd.read_csv(folder / "metadata.csv")
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    assert metadata.columns.tolist() == columns
    assert (folder / "RELEASE_v1.0.txt").is_file()  # of WILDS
    expected = manifest()
    by_file = {f"images/{file}": id for file, id in ids_by_file().items()}
    told = expected.loc[[by_file[name] for name in metadata["img_filename"]]]
    assert len(metadata) == len(expected)
    assert metadata["img_id"].tolist() == list(range(1, len(metadata) + 1))
    assert metadata["y"].tolist() == told["target"].tolist()
    assert metadata["split"].tolist() == told["split"].map(SPLIT_NUMBERS).tolist()
    assert (metadata["y"] * 2 + metadata["place"]).tolist() == told["group"].tolist()
    images = {by_file[name]: array(Image.open(folder / name)) for name in metadata["img_filename"]}
    assert_images(images, set(expected["id"]))


def test_waterbirds_as_balancing_groups_reads_it(project: Path) -> None:
    table = pd.read_csv(project / "out/export/waterbirds/metadata_waterbirds.csv")
    assert table.columns.tolist() == ["id", "filename", "split", "y", "a"]
    root = project / "out/export/waterbirds/waterbird_complete95_forest2water2"
    expected, images = manifest(), {}
    for split, number in SPLIT_NUMBERS.items():
        part = table[table["split"] == number]
        told = expected.loc[part["id"]]
        assert set(told["split"]) == {split}
        assert (2 * part["y"] + part["a"]).tolist() == told["group"].tolist()
        files = zip(part["id"], part["filename"], strict=True)
        images |= {id: array(Image.open(root / name)) for id, name in files}
    assert_images(images, set(expected["id"]))


def test_zprime_reads_its_own_waterbirds(project: Path) -> None:
    folder = project / "out/export/waterbirds/waterbird_complete95_forest2water2"
    table = WaterbirdsSource(name="waterbirds", folder=folder).table()
    expected = manifest()
    for split, rows in table.groupby("split"):
        told = expected.loc[expected["split"] == split, "group"]
        groups = rows["y"] * 2 + rows["place"]
        assert groups.value_counts().to_dict() == told.value_counts().to_dict()


# celeba


def test_celeba_as_torchvision_reads_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CelebA

    monkeypatch.setattr(CelebA, "file_list", [])  # the MD5s of the original's lists
    expected, images = manifest(), {}
    by_file = ids_by_file()
    kinds = ["attr", "identity", "bbox", "landmarks"]
    for split, name in zip(SPLIT_NUMBERS, ("train", "valid", "test"), strict=True):
        loaded = CelebA(str(project / "out/export"), split=name, target_type=kinds)
        assert loaded.attr_names == list(NAMES)
        assert len(loaded) == (expected["split"] == split).sum()
        for file, (image, (attributes, identity, box, landmarks)) in zip(
            loaded.filename, loaded, strict=True
        ):
            told = expected.loc[by_file[file]]
            assert told["split"] == split
            assert attributes.tolist() == [told["target"], told["protected"]]
            assert (identity.item(), box.tolist()) == (0, [0, 0, SIDE, SIDE])
            assert landmarks.tolist() == [0] * 10
            images[told["id"]] = array(image)
    assert_images(images, set(expected["id"]))


def test_celeba_as_group_dro_reads_it(project: Path) -> None:
    folder = project / "out/export/celeba"
    attributes = pd.read_csv(folder / "list_attr_celeba.csv")
    partition = pd.read_csv(folder / "list_eval_partition.csv")
    expected = manifest()
    by_file = ids_by_file()
    told = expected.loc[[by_file[name] for name in attributes["image_id"]]]
    assert len(told) == len(expected)
    assert partition["image_id"].equals(attributes["image_id"])
    assert partition["partition"].tolist() == told["split"].map(SPLIT_NUMBERS).tolist()
    assert attributes["Blond_Hair"].tolist() == (2 * told["target"] - 1).tolist()
    assert attributes["Male"].tolist() == (2 * told["protected"] - 1).tolist()


def test_celeba_as_balancing_groups_reads_it(project: Path) -> None:
    folder = project / "out/export/celeba"
    table = pd.read_csv(folder / "metadata_celeba.csv")
    assert table.columns.tolist() == ["id", "filename", "split", "y", "a"]
    told = manifest().loc[table["id"]]
    assert table["split"].tolist() == told["split"].map(SPLIT_NUMBERS).tolist()
    assert (2 * table["y"] + table["a"]).tolist() == told["group"].tolist()
    files = zip(table["id"], table["filename"], strict=True)
    images = {id: array(Image.open(folder / "img_align_celeba" / name)) for id, name in files}
    assert_images(images, set(told["id"]))
    assert (folder / "RELEASE_v1.0.txt").is_file()


def test_names_of_attributes_that_no_file_can_have_become_safe() -> None:
    names = ["Blond_Hair", "Blond Hair", "../Hair", "Haar/Länge"]
    assert [safe_name(name) for name in names] == ["Blond_Hair", "Blond_Hair", "___Hair", "Haar_L_nge"]


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_zprime_reads_its_own_celeba(project: Path, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "celeba"
    ignored = shutil.ignore_patterns("*.csv" if form == "txt" else "*.txt")
    shutil.copytree(project / "out/export/celeba", folder, ignore=ignored)
    table = CelebASource(name="celeba", folder=folder, crop=None).table()
    expected = manifest()
    told = expected.loc[table["id"].map(ids_by_file())]
    assert table["split"].tolist() == told["split"].tolist()
    assert table[list(NAMES)].to_numpy().tolist() == told[["target", "protected"]].to_numpy().tolist()


# stylegan-zip: a reader written from NVlabs' training/dataset.py


def read_stylegan(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read the names of the images, the images and the labels."""
    with zipfile.ZipFile(path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        extensions = Image.registered_extensions()
        names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in extensions)
        labels = dict(json.loads(archive.read("dataset.json"))["labels"])
        images = np.stack([array(archive.read(name)) for name in names])
    return names, images, np.array([labels[name] for name in names])


def test_stylegan_zip_has_the_training_images_and_their_labels(project: Path) -> None:
    folder = project / "out/export/stylegan-zip"
    assert {path.name for path in folder.iterdir()} == {"balanced.zip", "index.json"}
    names, images, labels = read_stylegan(folder / "balanced.zip")
    expected = manifest()
    expected = expected[expected["split"] == "train"]  # a trainer takes all that it finds
    by_file = ids_by_file()
    ids = [by_file[Path(name).name] for name in names]
    assert labels.dtype == np.int64
    assert labels.tolist() == expected.loc[ids, "target"].tolist()
    assert_images(dict(zip(ids, images, strict=True)), set(expected["id"]))
    assert [name.split("/")[0] for name in names] == [f"{k // PER_FILE:05d}" for k in range(100)]


def test_stylegan_zip_of_a_split_that_was_asked_for(exported: Callable[..., Path]) -> None:
    folder = exported("stylegan-zip", rows="validation", encoding="jpeg")
    names, _, _ = read_stylegan(folder / "balanced.zip")
    assert len(names) == 12
    assert {Path(name).suffix for name in names} == {".png"}  # whatever the encoding: its readers expect it


@pytest.mark.slow
def test_a_zip_of_more_members_than_a_plain_one_can_have(tmp_path: Path) -> None:
    """The bytes are those of `ZipFile` alone, above 65,535 members, for which it needs other records."""
    members, count = tmp_path / "members", 70_000
    for name, is_plain in (("plain.zip", True), ("large.zip", False)):
        with members.open("wb+") as file, zipfile.ZipFile(tmp_path / name, "w") as whole:
            if not is_plain:
                whole.filelist, whole.NameToInfo = MembersOnDisk(file), Forgotten()
            for number in range(count):
                whole.writestr(zipfile.ZipInfo(f"{number:06d}.png"), b"%d" % number)
            assert len(whole.infolist()) == count
            assert bool(whole.NameToInfo) is is_plain
    assert (tmp_path / "large.zip").read_bytes() == (tmp_path / "plain.zip").read_bytes()
    assert members.stat().st_size > count * 50
    with zipfile.ZipFile(tmp_path / "large.zip") as whole:
        assert whole.namelist() == [f"{number:06d}.png" for number in range(count)]


# All formats


def test_jpeg_is_444_and_near(exported: Callable[..., Path]) -> None:
    images, sizes = {}, []
    for quality in (95, 30):
        folder = exported("webdataset", encoding="jpeg", quality=quality)
        for _, sample in read_webdataset(folder):
            images[sample["json"]["id"]] = array(sample["jpg"])
        if quality == 95:
            assert_images(images, set(manifest()["id"]), JPEG_TOLERANCE)
        with tarfile.open(folder / "balanced-test-000000.tar") as tar:
            members = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
            image = tar.extractfile(members[0])
            assert image is not None
            assert JpegImagePlugin.get_sampling(Image.open(image)) == 0  # 4:4:4
        sizes.append(sum(member.size for member in members))
        shutil.rmtree(folder)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(("encoding", "suffix"), [("png", ".png"), ("jpeg", ".jpg")])
def test_files_and_parquet_paths_have_the_suffix_of_their_encoding(
    exported: Callable[..., Path], encoding: str, suffix: str
) -> None:
    folder = exported("hf-parquet", encoding=encoding, rows="test")
    table = pd.read_parquet(folder / "data")
    assert {Path(image["path"]).suffix for image in table["image"]} == {suffix}
    folder = exported("imagefolder", encoding=encoding, rows="test")
    assert {path.suffix for path in (folder / "test").glob("*/*")} == {suffix}
    assert len(list((folder / "test").glob("*/*"))) == 18


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ("real", {"train": 40, "validation": 12, "test": 18}),
        ("synthetic", {"train": 60}),
        ("train", {"train": 100}),
        ("validation", {"validation": 12}),
    ],
)
def test_rows_choose_what_is_exported(
    exported: Callable[..., Path], rows: str, counts: dict[str, int]
) -> None:
    folder = exported("hf-parquet", rows=rows)
    table = pd.read_parquet(folder / "data", columns=["id", "source"])
    told = manifest().loc[table["id"]]
    assert told["split"].value_counts().to_dict() == counts
    if rows in ("real", "synthetic"):
        assert set(told["source"] == "real") == {rows == "real"}


def test_generated_images_are_training_images(project: Path) -> None:
    for split in SPLIT_NUMBERS:
        files = (project / "out/export/hf-parquet/data").glob(f"balanced-{split}-*")
        sources = set(pd.concat(pd.read_parquet(file) for file in files)["source"])
        assert sources == ({"real", "z", "z_prime"} if split == "train" else {"real"})


def test_pandas_reads_all_shards_of_hf_parquet_as_one_table(project: Path) -> None:
    table = pd.read_parquet(project / "out/export/hf-parquet/data").set_index("id")
    expected = manifest()
    assert set(table.index) == set(expected["id"])
    assert table["y"].equals(expected.loc[table.index, "target"].rename("y"))
    assert table["a"].equals(expected.loc[table.index, "protected"].rename("a"))
    assert_images({id: array(image["bytes"]) for id, image in table["image"].items()}, set(expected["id"]))
