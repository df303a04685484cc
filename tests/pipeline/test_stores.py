"""Stores: items are found by id, committed shards stay as they are, faults are named."""

import json
import os
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.stores import (
    INDEX,
    ROWS,
    Store,
    StoreWriter,
    faults_of_store,
    join_by_id,
    read_table,
    sha256_of_file,
    write_json,
    write_shard,
    write_table,
)

N = 10  # items, in shards of 4, 4 and 2
ITEMS = np.random.default_rng(0).integers(0, 256, (N, 3, 2, 3), dtype=np.uint8)
TABLE = pd.DataFrame({"id": [f"item-{k}" for k in range(N)], "split": ["train", "test"] * 5})


def new_writer(folder, rows=TABLE, shape=(3, 2, 3), dtype="uint8", array="images") -> StoreWriter:
    return StoreWriter(folder, array, shape, dtype, rows, shard_size=4)


def written(folder, items=ITEMS, rows=TABLE, dtype="uint8", array="images") -> Store:
    writer = new_writer(folder, rows, items.shape[1:], dtype, array)
    for shard in writer.missing():
        here = items[shard * 4 : shard * 4 + len(writer.rows_of(shard))]
        writer.record(shard, write_shard(folder, shard, array, here))
    writer.finish()
    return Store(folder)


# Round trips


@pytest.mark.parametrize(("dtype", "array"), [("uint8", "images"), ("float32", "latents")])
def test_a_store_gives_back_every_bit_across_its_shards(dtype, array, tmp_path):
    items = ITEMS if dtype == "uint8" else np.random.default_rng(0).normal(size=(N, 5)).astype(dtype)
    store = written(tmp_path / "store", items, dtype=dtype, array=array)
    assert sorted(path.name for path in store.folder.glob("*.h5")) == [f"shard-0000{k}.h5" for k in range(3)]
    assert len(store) == N
    assert store.item_shape == items.shape[1:]
    read = store.read(np.arange(N))
    assert read.dtype == items.dtype
    np.testing.assert_array_equal(read, items)
    pd.testing.assert_frame_equal(store.rows[["id", "split"]], TABLE)
    assert store.rows["shard"].tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert store.rows["row"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Store:
    return written(tmp_path_factory.mktemp("stores") / "store")


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(st.integers(0, N - 1), max_size=25))
def test_any_ids_in_any_order_give_their_items(shared, chosen):
    """Also where one is asked for twice, or none at all."""
    positions = shared.positions([f"item-{k}" for k in chosen])
    np.testing.assert_array_equal(shared.read(positions), ITEMS[chosen])


def test_ids_may_come_as_a_list_an_array_or_a_column(shared):
    ids = TABLE["id"].sample(frac=1, random_state=0)
    expected = ITEMS[ids.index]
    for form in (ids, ids.tolist(), ids.to_numpy(dtype=object)):
        np.testing.assert_array_equal(shared.read(shared.positions(form)), expected)


def test_an_unknown_id_is_named(shared):
    with pytest.raises(UserError, match=r"store has no item with id 'item-77'"):
        shared.positions(["item-3", "item-77", "item-78"])


def test_what_is_read_is_a_copy_that_may_be_changed(shared):
    positions = np.array([0, 1])
    shared.read(positions)[:] = 0
    np.testing.assert_array_equal(shared.read(positions), ITEMS[:2])


def test_shards_are_contiguous_uncompressed_and_mapped_into_memory(shared):
    with h5py.File(shared.folder / "shard-00001.h5") as file:
        dataset = file["images"]
        assert (dataset.chunks, dataset.compression) == (None, None)
        offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    assert size == ITEMS[4:8].nbytes
    raw = (shared.folder / "shard-00001.h5").read_bytes()[offset : offset + size]
    assert raw == ITEMS[4:8].tobytes()
    mapped = shared._map(1)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable


def test_the_same_items_make_the_same_bytes(shared, tmp_path):
    again = written(tmp_path / "again")
    for name in (INDEX, "shard-00000.h5", "shard-00001.h5", "shard-00002.h5"):
        assert (again.folder / name).read_bytes() == (shared.folder / name).read_bytes(), name


# Interrupted and resumed


def test_a_committed_shard_is_kept_and_only_the_others_are_missing(tmp_path):
    folder = tmp_path / "store"
    first = new_writer(folder)
    assert first.missing() == [0, 1, 2]
    first.record(1, write_shard(folder, 1, "images", ITEMS[4:8]))
    before = (folder / "shard-00001.h5").stat()

    resumed = new_writer(folder)
    assert resumed.missing() == [0, 2]
    assert resumed.is_committed(1)
    for shard in resumed.missing():
        items = ITEMS[shard * 4 : shard * 4 + 4]
        resumed.record(shard, write_shard(folder, shard, "images", items))
    resumed.finish()
    after = (folder / "shard-00001.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    np.testing.assert_array_equal(Store(folder).read(np.arange(N)), ITEMS)
    assert faults_of_store(folder) == []


def test_a_shard_that_was_written_but_not_recorded_is_missing(tmp_path):
    """A kill between the two: the index names only what is whole."""
    folder = tmp_path / "store"
    new_writer(folder).record(0, write_shard(folder, 0, "images", ITEMS[:4]))
    write_shard(folder, 1, "images", ITEMS[4:8])
    assert new_writer(folder).missing() == [1, 2]


def test_a_kill_before_the_rename_leaves_the_old_shard(tmp_path, monkeypatch):
    written(tmp_path / "store")
    path = tmp_path / "store" / "shard-00000.h5"
    before = path.read_bytes()

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.stores.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "store", 0, "images", 255 - ITEMS[:4])
    assert path.read_bytes() == before


def test_a_store_that_lacks_a_shard_is_not_finished(tmp_path):
    writer = new_writer(tmp_path / "store")
    writer.record(0, write_shard(tmp_path / "store", 0, "images", ITEMS[:4]))
    with pytest.raises(RuntimeError, match=r"\[1, 2\]"):
        writer.finish()
    with pytest.raises(UserError, match=r"rows\.parquet is missing"):
        Store(tmp_path / "store")


def test_finishing_twice_changes_nothing(tmp_path):
    """A kill after finish, before the store was published."""
    store = written(tmp_path / "store")
    index = (store.folder / INDEX).read_bytes()
    writer = new_writer(store.folder)
    assert writer.missing() == []
    writer.finish()
    assert (store.folder / INDEX).read_bytes() == index
    np.testing.assert_array_equal(Store(store.folder).read(np.arange(N)), ITEMS)


# Rows that are left out


def test_rows_that_are_left_out_are_gone_and_the_others_keep_their_items(tmp_path):
    """Left out: the first of shard 0, the last two of shard 1, all of shard 2."""
    gone = {0: "truncated", 6: "no picture", 7: "oversized", 8: "bad", 9: "bad"}
    folder = tmp_path / "store"
    writer = new_writer(folder)
    for shard in writer.missing():
        numbers = [k for k in range(N) if k // 4 == shard]
        left_out = {f"item-{k}": gone[k] for k in numbers if k in gone}
        record = write_shard(folder, shard, "images", ITEMS[[k for k in numbers if k not in gone]])
        writer.record(shard, {**record, "left_out": left_out})
    expected = {f"item-{k}": why for k, why in gone.items()}
    assert new_writer(folder).left_out() == expected  # known after a kill, too
    writer.finish()
    store = Store(folder)
    kept = [1, 2, 3, 4, 5]
    assert store.ids.tolist() == [f"item-{k}" for k in kept]
    np.testing.assert_array_equal(store.read(np.arange(5)), ITEMS[kept])
    np.testing.assert_array_equal(store.read(store.positions(["item-5", "item-1"])), ITEMS[[5, 1]])
    assert json.loads((folder / INDEX).read_text())["items"] == 5
    with pytest.raises(UserError, match="item-6"):
        store.positions(["item-6"])
    assert faults_of_store(folder) == []


# Faults


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shard-00001.h5", ROWS])
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 1), r"\d+ bytes, \d+ recorded"),
        (flip_a_bit, "its sha256 differs"),
        (lambda path: path.unlink(), "missing"),
    ],
    ids=["truncated", "bit_flipped", "missing"],
)
def test_a_damaged_file_is_the_one_fault_that_is_named(name, damage, fault, tmp_path):
    folder = written(tmp_path / "store").folder
    assert faults_of_store(folder) == []
    damage(folder / name)
    (line,) = faults_of_store(folder)
    assert line.startswith(f"{folder / name}: ")
    assert re.search(fault, line)


def test_all_damaged_files_are_named(tmp_path):
    folder = written(tmp_path / "store").folder
    flip_a_bit(folder / "shard-00002.h5")
    (folder / "shard-00000.h5").unlink()
    assert [line.split(":")[0] for line in faults_of_store(folder)] == [
        str(folder / "shard-00000.h5"),
        str(folder / "shard-00002.h5"),
    ]


def test_a_store_that_was_never_finished_is_a_fault(tmp_path):
    folder = tmp_path / "store"
    new_writer(folder).record(0, write_shard(folder, 0, "images", ITEMS[:4]))
    (line,) = faults_of_store(folder)
    assert "never finished" in line


def test_a_missing_and_a_broken_index_are_faults(tmp_path):
    folder = written(tmp_path / "store").folder
    (folder / INDEX).write_text('{"files": ')
    assert "not an index" in faults_of_store(folder)[0]
    (folder / INDEX).unlink()
    assert faults_of_store(folder) == [f"{folder / INDEX}: missing"]


@pytest.mark.parametrize(
    "damage", [lambda path: os.truncate(path, 200), lambda path: path.unlink()], ids=["truncated", "missing"]
)
def test_reading_a_damaged_shard_names_it_and_the_command_that_checks(damage, tmp_path):
    store = written(tmp_path / "store")
    damage(store.folder / "shard-00001.h5")
    np.testing.assert_array_equal(store.read(np.arange(4)), ITEMS[:4])  # the others are as good as before
    with pytest.raises(UserError, match=r"shard-00001\.h5 cannot be read.*python -m pipeline\.verify"):
        store.read(np.arange(N))


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(UserError, match=r"is not a store: index\.json is missing"):
        Store(tmp_path)


def test_a_store_with_a_broken_index_is_named(tmp_path):
    folder = written(tmp_path / "store").folder
    (folder / INDEX).write_text('{"files": ')
    with pytest.raises(UserError, match=r"index\.json"):
        Store(folder)


def test_a_store_with_a_truncated_table_is_named(tmp_path):
    folder = written(tmp_path / "store").folder
    os.truncate(folder / ROWS, 100)
    with pytest.raises(UserError, match=r"rows\.parquet"):
        Store(folder)


def test_ids_that_stand_twice_are_refused(tmp_path):
    rows = pd.DataFrame({"id": ["a", "b", "a"]})
    with pytest.raises(UserError, match="'a' stands more than once"):
        new_writer(tmp_path / "store", rows)


# Joins


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_a_join_by_id_survives_shuffled_rows(seed, n):
    random = np.random.default_rng(seed)
    labels = pd.DataFrame({"id": [f"z-{k}" for k in range(n)], "label": random.integers(0, 2, n)})
    truth = dict(zip(labels["id"], labels["label"], strict=True))
    left = pd.DataFrame({"id": random.permutation(labels["id"])[: n // 2 + 1]})
    left["number"] = np.arange(len(left))
    joined = join_by_id(left, labels.sample(frac=1, random_state=seed), "labels")
    assert joined["id"].tolist() == left["id"].tolist()
    assert joined["number"].tolist() == left["number"].tolist()
    assert joined["label"].tolist() == [truth[id] for id in left["id"]]


def test_a_join_may_ask_for_a_row_twice():
    joined = join_by_id(
        pd.DataFrame({"id": ["b", "a", "b"]}), pd.DataFrame({"id": ["a", "b"], "x": [1, 2]}), "t"
    )
    assert joined["x"].tolist() == [2, 1, 2]


def test_a_join_names_what_is_missing():
    left, right = pd.DataFrame({"id": ["a", "b", "c"]}), pd.DataFrame({"id": ["c"], "x": [1]})
    with pytest.raises(UserError, match=r"labels: no row for id 'a' \(2 ids are missing\)"):
        join_by_id(left, right, "labels")


def test_a_join_names_what_stands_twice():
    right = pd.DataFrame({"id": ["a", "b", "b"], "x": [1, 2, 3]})
    with pytest.raises(UserError, match="labels: id 'b' stands in the table more than once"):
        join_by_id(pd.DataFrame({"id": ["a"]}), right, "labels")


# Tables and JSON


def test_tables_keep_their_rows_order_and_not_their_index(tmp_path):
    table = pd.DataFrame({"id": ["b", "a"], "x": [1.5, -2.0]}, index=[7, 3])
    write_table(tmp_path / "deep" / "table.parquet", table)
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "deep" / "table.parquet"), table.reset_index(drop=True)
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["table.parquet"]


def test_a_missing_table_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(UserError, match=r"labels\.parquet is missing"):
        read_table(tmp_path / "labels.parquet")
    write_table(tmp_path / "labels.parquet", pd.DataFrame({"id": ["a"], "Male": [1]}))
    with pytest.raises(UserError, match=r"labels\.parquet has no column 'Young'; it has id, Male"):
        read_table(tmp_path / "labels.parquet", ("id", "Young"))


def test_a_kill_while_json_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.stores.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_sha256_of_a_file_that_is_known(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "abc") == known
