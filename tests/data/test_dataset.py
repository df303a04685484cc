"""BalancedDataset: the manifest's rows with their own pictures, in this process and in workers."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from data import BalancedDataset
from pipeline.content.stores import Store
from pipeline.errors import UserError
from tests.balanced import SIDE, expected_images, make_project, manifest

BALANCED = "out/balanced"


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Provide the current folder of these tests."""
    folder = tmp_path_factory.mktemp("dataset")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    make_project()
    yield folder
    patch.undo()


def assert_is_row(item: dict, row: pd.Series) -> None:
    told = manifest().loc[row["id"]]
    assert (item["y"], item["a"], item["group"]) == (told["target"], told["protected"], told["group"])
    assert item["source"] == told["source"]
    pixels = (item["image"] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, expected_images()[row["id"]])


def test_items_are_the_rows_of_the_manifest() -> None:
    dataset = BalancedDataset(BALANCED)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == len(manifest())
    item = dataset[0]
    assert item["image"].dtype == torch.float32
    assert item["image"].shape == (3, SIDE, SIDE)
    for index, row in dataset.to_pandas().sample(20, random_state=0).iterrows():
        assert_is_row(dataset[index], row)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize(
    ("split", "source", "count"),
    [
        ("train", None, 100),
        ("train", "real", 40),
        (None, "synthetic", 60),
        (None, "z_prime", 30),
        ("test", None, 18),
    ],
)
def test_split_and_source_choose_rows(split: str | None, source: str | None, count: int) -> None:
    table = BalancedDataset(BALANCED, split=split, source=source).to_pandas()
    assert len(table) == count
    if split is not None:
        assert set(table["split"]) == {split}
    wanted = {"synthetic": {"z", "z_prime"}, None: set(table["source"])}.get(source, {source})
    assert set(table["source"]) == wanted


def test_the_transform_gets_the_picture() -> None:
    from torchvision.transforms import v2

    transform = v2.Compose([v2.ToImage(), v2.Resize(8), v2.ToDtype(torch.float32, scale=True)])
    dataset = BalancedDataset(BALANCED, split="train", transform=transform)
    assert dataset[0]["image"].shape == (3, 8, 8)
    as_it_is = BalancedDataset(BALANCED, split="train", transform=np.asarray)
    np.testing.assert_array_equal(as_it_is[3]["image"], expected_images()[as_it_is.to_pandas()["id"][3]])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_this_process_reads(start: str) -> None:
    dataset = BalancedDataset(BALANCED, split="train")
    alone = [dataset[index] for index in range(len(dataset))]  # and the stores are open when workers start
    loader = DataLoader(dataset, batch_size=16, num_workers=2, multiprocessing_context=start)
    batches = list(loader)
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, torch.stack([item["image"] for item in alone]))
    for name in ("y", "a", "group"):
        assert torch.cat([batch[name] for batch in batches]).tolist() == [item[name] for item in alone]
    assert [source for batch in batches for source in batch["source"]] == [item["source"] for item in alone]


def test_no_store_is_opened_before_an_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("data.dataset.Store", lambda folder: opened.append(folder.name) or Store(folder))
    dataset = BalancedDataset(BALANCED, source="z")
    assert opened == []
    _ = dataset[0], dataset[1]
    assert opened == ["z"]


def test_a_pickle_has_no_images_in_it() -> None:
    dataset = BalancedDataset(BALANCED)
    small = len(pickle.dumps(dataset))
    for index in range(len(dataset)):
        dataset[index]
    assert len(pickle.dumps(dataset)) == small
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[5]["image"], dataset[5]["image"])


def test_it_is_found_from_another_folder(project: Path, tmp_path: Path, monkeypatch) -> None:
    expected = BalancedDataset(BALANCED)[7]["image"]
    monkeypatch.chdir(tmp_path)
    assert torch.equal(BalancedDataset(project / BALANCED)[7]["image"], expected)


def test_the_tables_are_the_same() -> None:
    dataset = BalancedDataset(BALANCED, split="train")
    table = dataset.to_pandas()
    assert table["group"].tolist() == manifest().loc[table["id"], "group"].tolist()
    frame = dataset.as_dask()
    counts = frame.groupby("group").size().compute(scheduler="synchronous")
    assert counts.sort_index().to_dict() == table["group"].value_counts().sort_index().to_dict()
    assert frame["id"].compute(scheduler="synchronous").tolist() == table["id"].tolist()
    table["y"] = -1
    assert (dataset.to_pandas()["y"] >= 0).all()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"split": "dev"}, "there is no split 'dev'; expected one of train, validation, test."),
        (
            {"source": "fake"},
            "there is no source 'fake'; expected one of real, synthetic, z, z_prime, real_prime.",
        ),
        (
            {"split": "test", "source": "z"},
            "the balanced manifest has no rows for 'test' and 'z'.",
        ),
    ],
)
def test_what_is_not_there_is_one_sentence(asked: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        BalancedDataset(BALANCED, **asked)
    assert str(raised.value) == sentence


def test_a_folder_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.parquet is missing: run `dvc repro` to make it\."):
        BalancedDataset(tmp_path)
