"""The rows of an export: their keys, positions and order, whatever the memory."""

import hashlib
import os
import re
import resource
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.exports import rows as rows_module
from data.exports.rows import image_counts, read_rows, write_rows
from data.manifest import Manifest, read_manifest
from data.names import manifest_columns
from pipeline.content.files import write_json
from pipeline.content.stores import Store, commit_shard, finish_store, shard_sizes
from pipeline.content.tables import write_table
from pipeline.errors import UserError, sentence_of_os_error

STORES = ["out/real", "out/synthetic/z"]
SHARD = 4096  # items
COUNT = 100_000
PLACES = pd.DataFrame(
    {
        "split": ["train", "train", "validation", "test"],
        "source": ["real", "z", "real", "real"],
        "place": [0, 0, 1, 2],
    }
)


def make_manifest(
    folder: Path, ids: Sequence[str], attributes: Sequence[str] = ("Blond_Hair", "Male")
) -> Manifest:
    """Make a manifest of images with these ids.

    Args:
        folder: the project's.
        ids: of the images, which are in turn of the training, the validation and the test split, and z.
        attributes: the target, then the protected ones.

    Returns:
        The manifest; its stores have the images in reverse.
    """
    turn = np.arange(len(ids)) % 4
    table = pd.DataFrame({"id": ids}).reindex(columns=manifest_columns(attributes))
    table = table.assign(
        store=np.where(turn == 3, STORES[1], STORES[0]),
        target=np.arange(len(ids)) // 2 % 2,
        protected=1,
        split=np.array(["train", "validation", "test", "train"])[turn],
        source=np.where(turn == 3, "z", "real"),
        pair_id=pd.Series(ids).where(turn == 3),
    )
    for number, name in enumerate(attributes):
        table[f"{name}_score"] = np.where(turn == 3, number + np.arange(len(ids)) / 1e6, np.nan)
    for name in STORES:
        backward = table.loc[table["store"] == name, ["id"]][::-1]
        sizes = shard_sizes(len(backward), SHARD)
        for shard in range(len(sizes)):
            commit_shard(folder / name, shard, backward.iloc[shard * SHARD :][:SHARD])
        finish_store(folder / name, len(sizes))
    balanced = folder / "out/balanced"
    write_table(balanced / "manifest.parquet", table)
    sheet = {"attributes": {"target": attributes[0], "protected": list(attributes[1:])}}
    write_json(balanced / "datasheet.json", sheet)
    return read_manifest(balanced)


def written(manifest: Manifest, places: pd.DataFrame = PLACES, shuffled: bool = False) -> pd.DataFrame:
    path = manifest.root / "work/rows.parquet"
    write_rows(path, manifest, STORES, places, shuffled)
    return read_rows(path, manifest, 0, pq.read_metadata(path).num_rows)


def keys_of(manifest: Manifest, places: pd.DataFrame = PLACES) -> dict[str, str]:
    return written(manifest, places).set_index("id")["key"].to_dict()


def digest(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[:16]


def test_keys_by_hand(tmp_path: Path) -> None:
    expected = {
        "000007.jpg": "000007",
        "z-00000001": "z-00000001",
        "../x.webp": "___x",
        "b.c.TIFF": "b_c",
        "png": "png",
        "it's 1,5 %": "it_s_1_5__",
        "a/1.png": f"a_1-{digest('a/1.png')}",
        "a_1.png": f"a_1-{digest('a_1.png')}",
        "Ä.png": f"_-{digest('Ä.png')}",
        "Ö.png": f"_-{digest('Ö.png')}",
        "N.jpg": f"N-{digest('N.jpg')}",
        "n.jpeg": f"n-{digest('n.jpeg')}",
        "y" * 80: "y" * 80,
        "y" * 81: "y" * 63 + f"-{digest('y' * 81)}",
    }
    assert keys_of(make_manifest(tmp_path, list(expected))) == expected


IDS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=100)
    | st.from_regex(r"[aA]{1,2}[/_.]?1?(\.png|\.JPG)?", fullmatch=True),
    min_size=4, max_size=40, unique=True,
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(ids=IDS)
def test_keys_are_safe_and_no_two_are_the_same_whatever_is_exported(ids: list[str]) -> None:
    with TemporaryDirectory() as folder:
        manifest = make_manifest(Path(folder), ids)
        keys = keys_of(manifest)
        of_test = keys_of(manifest, PLACES[PLACES["split"] == "test"])
    assert set(keys) == set(ids)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,80}", key) for key in keys.values())
    assert len({key.lower() for key in keys.values()}) == len(ids)
    assert of_test == {id: keys[id] for id in ids[2::4]}


@pytest.mark.parametrize("memory", [1000, 64, 2])
def test_rows_are_the_manifests_with_their_positions(
    tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pandas selects, sorts and joins 30 MB of rows the same way.

    With little memory they are sorted by way of the disk, and with too little after some tries.
    """
    tries = []
    write = rows_module._write_rows
    monkeypatch.setattr(
        rows_module, "_write_rows", lambda *given: (tries.append(given[-1]), write(*given))[1]
    )
    monkeypatch.setattr(rows_module, "MEMORY", memory)
    manifest = make_manifest(tmp_path, [f"{number % 97:070d}-{number:06d}" for number in range(COUNT)])
    rows = written(manifest)
    table = pd.read_parquet(manifest.path)
    expected = pd.concat([table[table["split"] == split] for split in ("train", "validation", "test")])
    pd.testing.assert_frame_equal(rows[table.columns.tolist()], expected.reset_index(drop=True))
    for name, members in rows.groupby("store"):
        positions = Store(tmp_path / str(name)).positions(members["id"])
        assert members["position"].tolist() == positions.tolist()
    assert rows["key"].equals(rows["id"].rename("key"))
    path = tmp_path / "work/rows.parquet"
    for start, stop in ((0, 1), (8191, 8193), (8192, 16384), (12345, 33333), (COUNT - 1, COUNT)):
        pd.testing.assert_frame_equal(
            read_rows(path, manifest, start, stop), rows[start:stop].reset_index(drop=True)
        )
    assert [file.name for file in path.parent.iterdir()] == ["rows.parquet"]
    assert tries[:3] == ([2, 4, 8] if memory == 2 else [memory])


def test_what_neither_memory_nor_disk_can_hold_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MEMORY", 2)
    monkeypatch.setattr(rows_module.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1000}.get(name, 4096))
    manifest = make_manifest(tmp_path, [f"{number:070d}" for number in range(COUNT)])
    with pytest.raises(UserError, match="neither the memory nor the disk to sort its rows") as raised:
        written(manifest)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.rglob("*.tmp")) == []


def test_shuffled_rows_are_in_one_random_order_within_their_splits(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [f"image-{number:04d}" for number in range(2000)])
    plain, shuffled = written(manifest), written(manifest, shuffled=True)
    pd.testing.assert_frame_equal(shuffled, written(manifest, shuffled=True))
    assert shuffled["split"].equals(plain["split"])
    by_id = [rows.sort_values("id", ignore_index=True) for rows in (shuffled, plain)]
    pd.testing.assert_frame_equal(*by_id)
    train = shuffled[shuffled["split"] == "train"]
    assert abs(np.corrcoef(train.index, train["id"].rank())[0, 1]) < 0.1
    assert all(
        0.3 < (train["source"][start : start + 100] == "z").mean() < 0.7 for start in range(0, 1000, 500)
    )


def test_images_are_counted_by_what_they_are(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [f"image-{number}" for number in range(8)])
    assert image_counts(manifest).to_numpy().tolist() == [
        ["test", "real", "out/real", 1, 1, 2],
        ["train", "real", "out/real", 0, 1, 2],
        ["train", "z", "out/synthetic/z", 1, 1, 2],
        ["validation", "real", "out/real", 0, 1, 2],
    ]


def test_a_folders_name_is_no_pattern(tmp_path: Path) -> None:
    for name in ("data [1]", "what?", "50% * 'so'"):
        assert keys_of(make_manifest(tmp_path / name, ["a", "b", "c", "d"])) == {id: id for id in "abcd"}


def test_attributes_may_differ_in_case_alone(tmp_path: Path) -> None:
    """SQL takes such names to be the same."""
    manifest = make_manifest(tmp_path, ["a", "b", "c", "d"], ["male", "Male"])
    rows = written(manifest)
    assert rows.loc[rows["id"] == "d", ["male_score", "Male_score"]].to_numpy().tolist() == [[3e-6, 1 + 3e-6]]


def test_an_image_that_its_store_has_not_is_named(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["a", "b", "c", "it's"])
    commit_shard(tmp_path / STORES[1], 0, pd.DataFrame({"id": ["another"]}))
    with pytest.raises(UserError) as raised:
        written(manifest)
    assert str(raised.value) == f'{tmp_path / STORES[1]} has no item with id "it\'s".'


@pytest.mark.parametrize("name", ["out/balanced/manifest.parquet", "out/real/rows/shard-00000.parquet"])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    manifest = make_manifest(tmp_path, ["a", "b", "c", "d"])
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:40] + bytes(len(content) - 40))
    with pytest.raises(UserError, match=r"cannot be read .* `zprime verify`") as raised:
        written(manifest)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_id_that_two_images_have_is_refused(tmp_path: Path) -> None:
    """They would have the same file name."""
    manifest = make_manifest(tmp_path, ["a", "b", "c", "a"])
    with pytest.raises(UserError, match=r"manifest\.parquet has the id 'a' twice"):
        written(manifest)


def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [f"{number:070d}" for number in range(COUNT)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            written(manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sentence_of_os_error(raised.value).startswith(f"File too large at {tmp_path}")
    assert [path.name for path in (tmp_path / "work").iterdir()] == []


def test_what_a_killed_run_has_spilled_goes_with_the_next(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["a", "b", "c", "d"])
    (tmp_path / "work/rows.spilled").mkdir(parents=True)
    (tmp_path / "work/rows.spilled/located").write_bytes(b"half")
    assert sorted(written(manifest)["id"]) == ["a", "b", "c", "d"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["rows.parquet"]


def test_an_interrupt_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB raises RuntimeError."""
    manifest = make_manifest(tmp_path, [f"{number:070d}" for number in range(COUNT)])
    write = rows_module._write

    def interrupted(*given: Any) -> None:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        write(*given)

    monkeypatch.setattr(rows_module, "_write", interrupted)
    # A shell starts background processes with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            written(manifest)
    finally:
        signal.signal(signal.SIGINT, before)
