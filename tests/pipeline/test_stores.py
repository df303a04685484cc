"""Stores: items are found by id, files that a record names are complete, faults are named."""

import json
import os
import re
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.content.files import committed, sha256_of_file, write_json
from pipeline.content.index import INDEX, RECORDS, write_index
from pipeline.content.stores import (
    ROWS,
    Store,
    commit_files,
    commit_shard,
    committed_shard,
    committed_shards,
    finish_store,
    remove_temporaries,
    shard_sizes,
)
from pipeline.content.tables import join_by_id, read_table, write_table
from pipeline.errors import UserError
from pipeline.integrity import faulty_files, reopen_store
from tests.support import ForkedPython, run_python

N = 10  # items
ITEMS = np.random.default_rng(0).integers(0, 256, (N, 3, 2, 3), dtype=np.uint8)
TABLE = pd.DataFrame({"id": [f"item-{k}" for k in range(N)], "split": ["train", "test"] * 5})
SIZES = (4, 4, 2)
LIST_0 = "files/shard-00000.json"
ROWS_1 = str(ROWS / "shard-00001.parquet")


def commit(folder: Path, shard: int, sizes=SIZES, items=ITEMS, array="images") -> dict:
    start = sum(sizes[:shard])
    here = slice(start, start + sizes[shard])
    return commit_shard(folder, shard, TABLE[here], array, items[here])


def written(folder: Path, sizes=SIZES, items=ITEMS, array="images") -> Store:
    for shard in range(len(sizes)):
        commit(folder, shard, sizes, items, array)
    finish_store(folder, len(sizes), array, items.shape[1:], str(items.dtype))
    return Store(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Round trips


@pytest.mark.parametrize(("dtype", "array"), [("uint8", "images"), ("float32", "latents")])
def test_a_store_gives_back_every_bit_across_its_shards(dtype, array, tmp_path):
    items = ITEMS if dtype == "uint8" else np.random.default_rng(0).normal(size=(N, 5)).astype(dtype)
    store = written(tmp_path / "store", items=items, array=array)
    assert sorted(files_of(store.folder)) == [
        INDEX,
        *(f"records/shard-0000{k}.json" for k in range(3)),
        *(f"rows/shard-0000{k}.parquet" for k in range(3)),
        *(f"shard-0000{k}.h5" for k in range(3)),
    ]
    assert (len(store), store.item_shape, store.items_per_shard) == (N, items.shape[1:], [4, 4, 2])
    for read in (store.read(np.arange(N)), store.read_between(0, N)):
        assert read.dtype == items.dtype
        np.testing.assert_array_equal(read, items)
    pd.testing.assert_frame_equal(store.rows[["id", "split"]], TABLE)
    assert store.rows["shard"].tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert store.rows["row"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, N), max_size=4).filter(lambda sizes: sum(sizes) <= N),
    data=st.data(),
)
def test_any_split_into_shards_gives_the_same_items_and_rows(sizes, data, tmp_path_factory):
    """Shards may be uneven, and empty ones may be anywhere."""
    sizes = (*sizes, N - sum(sizes))
    store = written(tmp_path_factory.mktemp("split") / "store", sizes)
    assert store.items_per_shard == list(sizes)
    start = data.draw(st.integers(0, N))
    stop = data.draw(st.integers(start, N))
    np.testing.assert_array_equal(store.read_between(start, stop), ITEMS[start:stop])
    assert store.rows_between(start, stop)["id"].tolist() == TABLE["id"][start:stop].tolist()
    chosen = data.draw(st.lists(st.integers(0, N - 1), max_size=25))
    np.testing.assert_array_equal(store.read(np.array(chosen, dtype=np.int64)), ITEMS[chosen])
    bounds = [store.bounds(shard) for shard in range(len(sizes))]
    assert [stop - start for start, stop in bounds] == list(sizes)
    assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]
    for shard, (start, stop) in enumerate(bounds):
        assert (store.rows_between(start, stop)["shard"] == shard).all()
    assert faulty_files(store.folder) == {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Store:
    return written(tmp_path_factory.mktemp("stores") / "store")


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(st.integers(0, N - 1), max_size=25))
def test_any_ids_in_any_order_give_their_items(shared, chosen):
    """An id may be asked for twice, or none at all."""
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


def test_rows_are_found_by_a_columns_values_with_their_positions(shared):
    found = shared.rows_where("id", ["item-9", "item-4", "nothing", "item-3"])
    assert found["id"].tolist() == ["item-3", "item-4", "item-9"]
    assert found["position"].tolist() == [3, 4, 9]
    assert shared.rows_where("split", ["test"])["position"].tolist() == [1, 3, 5, 7, 9]
    assert len(shared.rows_where("split", ["oracle"])) == 0


def test_what_is_read_is_a_copy_that_may_be_changed(shared):
    positions = np.array([0, 1])
    shared.read(positions)[:] = 0
    shared.read_between(0, 2)[:] = 0
    np.testing.assert_array_equal(shared.read(positions), ITEMS[:2])


def test_a_store_of_rows_alone_has_no_arrays(tmp_path):
    for shard, part in enumerate(("ab", "", "c")):
        rows = pd.DataFrame({"id": pd.Series(list(part), dtype=object), "score": [0.5] * len(part)})
        commit_shard(tmp_path / "labels", shard, rows)
    finish_store(tmp_path / "labels", 3)
    store = Store(tmp_path / "labels")
    assert store.rows["id"].tolist() == ["a", "b", "c"]
    assert store.rows["shard"].tolist() == [0, 0, 2]
    assert not list(store.folder.glob("*.h5"))


@given(st.integers(1, 10**7), st.integers(1, 10**5))
def test_shards_are_full_but_for_the_last(items, shard_size):
    sizes = shard_sizes(items, max(shard_size, items // 1000 + 1))
    assert sum(sizes) == items
    assert set(sizes[:-1]) <= {max(shard_size, items // 1000 + 1)}
    assert 0 < sizes[-1] <= max(shard_size, items // 1000 + 1)


# The files


def test_an_array_is_contiguous_and_readable_by_h5py_and_by_numpy_alone(shared):
    path = shared.folder / "shard-00001.h5"
    with h5py.File(path) as file:
        dataset = file["images"]
        assert list(file) == ["images"]
        assert (dataset.chunks, dataset.compression, dataset.dtype) == (None, None, np.uint8)
        np.testing.assert_array_equal(dataset[:], ITEMS[4:8])
        offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    assert size == ITEMS[4:8].nbytes
    mapped = np.memmap(path, np.uint8, "r", offset, ITEMS[4:8].shape)
    np.testing.assert_array_equal(mapped, ITEMS[4:8])
    assert isinstance(shared._map(1), np.memmap)
    assert not shared._map(1).flags.writeable


def test_floats_are_read_by_h5py_as_they_were(tmp_path):
    latents = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    written(tmp_path, items=latents, array="latents")
    with h5py.File(tmp_path / "shard-00002.h5") as file:
        np.testing.assert_array_equal(file["latents"][:], latents[8:])


def test_items_that_are_not_contiguous_in_memory_are_written_in_their_order(tmp_path):
    turned = np.asfortranarray(ITEMS[::-1])
    np.testing.assert_array_equal(written(tmp_path, items=turned).read_between(0, N), ITEMS[::-1])


def test_the_same_items_make_the_same_bytes_at_another_time(shared, tmp_path):
    time.sleep(1.01 - time.time() % 1)  # HDF5 keeps times in seconds
    assert files_of(written(tmp_path / "again").folder) == files_of(shared.folder)


# Commits


def test_records_come_last_and_hold_what_is_on_disk(tmp_path):
    record = commit_shard(tmp_path, 1, TABLE[4:8], "images", ITEMS[4:8], left_out={"a": "why"})
    assert record["items"] == 4
    assert record["left_out"] == {"a": "why"}
    assert list(record["files"]) == ["shard-00001.h5", ROWS_1]
    for name, file in record["files"].items():
        assert file["bytes"] == (tmp_path / name).stat().st_size
        assert file["sha256"] == sha256_of_file(tmp_path / name)
    assert committed_shard(tmp_path, 1) == record
    assert committed_shards(tmp_path) == {1: record}
    assert committed_shard(tmp_path, 0) is None


def test_records_come_in_the_order_of_their_numbers(tmp_path):
    for shard in (2, 0, 1):
        commit(tmp_path, shard)
    assert list(committed_shards(tmp_path)) == [0, 1, 2]


def test_files_are_renamed_one_by_one_record_before_index_and_index_last(tmp_path, monkeypatch):
    names, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: names.append(to.name) or replace(path, to))
    written(tmp_path, (10,))
    assert names == ["shard-00000.h5", "shard-00000.parquet", "shard-00000.json", INDEX]


@pytest.mark.parametrize("there", [(0, 2), (), (0, 1, 2, 3)])
def test_a_store_that_lacks_a_shard_or_has_one_too_many_is_not_finished(there, tmp_path):
    for shard in there:
        commit_shard(tmp_path, shard, TABLE[:1], "images", ITEMS[:1])
    with pytest.raises(RuntimeError, match=re.escape(str(list(there)))):
        finish_store(tmp_path, 3, "images", (3, 2, 3), "uint8")
    with pytest.raises(UserError, match=r"is not a store: index\.json is missing"):
        Store(tmp_path)


def test_finishing_keeps_the_records_until_the_store_is_published(tmp_path):
    """After a kill, or a full disk, between the two, the next run has its shards."""
    written(tmp_path)
    assert list(committed_shards(tmp_path)) == [0, 1, 2]


def test_an_index_records_what_else_lies_in_the_folder_and_nothing_twice(tmp_path):
    folder = written(tmp_path / "store").folder
    (folder / "deep").mkdir()
    (folder / "deep/more.json").write_text("{}")
    write_index(folder, {**json.loads((folder / INDEX).read_text()), "note": 1})
    index = json.loads((folder / INDEX).read_text())
    assert list(index["files"]) == ["deep/more.json"]
    assert index["note"] == 1
    assert [list(shard["files"]) for shard in index["shards"]][1] == [ROWS_1, "shard-00001.h5"]
    (folder / "deep/more.json").write_text("[]")
    assert faulty_files(folder) == {"deep/more.json": "its sha256 differs from the recorded one"}


def of_many_files(folder: Path) -> list[str]:
    """Make a store of two shards with three files each, and one file beside them; return the six names."""
    names = [f"deep/{shard}/{k}" for shard in (0, 1) for k in range(3)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for shard in (0, 1):
        commit_files(folder, shard, 3, names[3 * shard :][:3])
    (folder / "deep/beside").write_text("it")
    finish_store(folder, 2)
    return names


def test_of_many_files_an_index_names_a_list(tmp_path):
    names = of_many_files(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    assert [list(shard["files"]) for shard in index["shards"]] == [[LIST_0], ["files/shard-00001.json"]]
    assert [shard["folders"] for shard in index["shards"]] == [["deep/0"], ["deep/1"]]
    assert list(index["files"]) == ["deep/beside"]
    assert json.loads((tmp_path / LIST_0).read_text()) == {
        name: {"bytes": 8, "sha256": sha256_of_file(tmp_path / name)} for name in names[:3]
    }
    assert faulty_files(tmp_path) == {}


def test_a_single_file_needs_no_list(tmp_path):
    (tmp_path / "one").write_text("1")
    record = commit_files(tmp_path, 0, 5, ["one"])
    assert record == {"items": 5, "files": {"one": {"bytes": 1, "sha256": sha256_of_file(tmp_path / "one")}}}


def test_several_files_of_a_shard_lie_in_a_folder_of_their_own(tmp_path):
    """Folders of listed files are not searched; the store's own folder must be."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("1")
    with pytest.raises(ValueError, match="put them into a folder there"):
        commit_files(tmp_path, 0, 5, ["one", "two"])


@pytest.mark.parametrize("broken", ["deep/0/1", LIST_0])
def test_what_is_wrong_with_listed_files_is_named_and_costs_their_shard(broken, tmp_path):
    names = of_many_files(tmp_path)
    (tmp_path / broken).unlink()
    assert faulty_files(tmp_path) == {broken: "missing"}
    reopen_store(tmp_path, [broken])
    assert list(committed_shards(tmp_path)) == [1]
    assert all((tmp_path / name).exists() for name in names[3:])
    assert not (tmp_path / "deep/beside").exists()
    if broken != LIST_0:  # else nothing says which files were its shard's
        assert not any((tmp_path / name).exists() for name in names[:3])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"/file": {"bytes": 1, "sha256": "0"}}', "it names a file outside its folder, '/file'"),
        (
            '{"a/../../file": {"bytes": 1, "sha256": "0"}}',
            "it names a file outside its folder, 'a/../../file'",
        ),
        ('{"file": {"bytes": 1}}', "file.sha256: Field required"),
        ("[1]", "the file: Input should be an object"),
        ("{", "the file: Invalid JSON: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_a_list_that_is_none_is_named(content, complaint, tmp_path):
    """It is named even if the index records the file as it is."""
    of_many_files(tmp_path)
    (tmp_path / LIST_0).write_text(content)
    index = json.loads((tmp_path / INDEX).read_text())
    index["shards"][0]["files"] = {
        LIST_0: {"bytes": len(content), "sha256": sha256_of_file(tmp_path / LIST_0)}
    }
    write_index(tmp_path, index)
    assert faulty_files(tmp_path) == {LIST_0: f"not a list of files ({complaint})"}


def test_a_list_that_the_index_does_not_record_is_refused(tmp_path):
    of_many_files(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["shards"][0]["list"] = "../list.json"
    write_index(tmp_path, index)
    assert "it does not record the list '../list.json'" in faulty_files(tmp_path)[INDEX]


def test_temporaries_are_removed_and_listed_folders_not_searched(tmp_path, monkeypatch):
    """No temporaries are written into folders that may hold a million images."""
    of_many_files(tmp_path)
    for place in ("", "deep", "deep/0"):
        (tmp_path / place / "a.1a2b3c4d.tmp").write_text("half")
    remove_temporaries(tmp_path, committed_shards(tmp_path))
    assert [path.parent.name for path in tmp_path.rglob("*.tmp")] == ["0"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_the_old_file_and_no_other(error, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)), committed(path) as temporary:
        temporary.write_text("new")
        raise error
    assert files_of(tmp_path) == {"file": b"old"}


def test_a_disk_that_fails_to_sync_leaves_nothing_behind(tmp_path, monkeypatch):
    commit(tmp_path, 0)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipeline.content.files.os.fsync", fail)
    before = files_of(tmp_path)
    with pytest.raises(OSError, match="Input/output error") as raised:
        commit(tmp_path, 1)
    assert raised.value.errno == 5
    assert files_of(tmp_path) == before


def test_a_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr("pipeline.content.files.os.fsync", lambda fd: there.append(list(files_of(tmp_path))))
    write_json(tmp_path / "file", 1)
    ((name,),) = there
    assert name.startswith("file.")
    assert name.endswith(".tmp")


def test_two_writers_of_one_file_do_not_disturb_one_another(tmp_path):
    path, both = tmp_path / "file", threading.Barrier(2)

    def write(content: str) -> None:
        for _ in range(50):
            with committed(path) as temporary:
                both.wait(10)
                temporary.write_text(content)
                both.wait(10)

    contents = ["a" * 5000, "b" * 7000]
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_text() in contents
    assert path.read_text() in contents
    assert list(files_of(tmp_path)) == ["file"]


# Kills


KILLED_AT_EVERY_MOMENT = """
import os, signal, sys
from pathlib import Path
import numpy as np, pandas as pd
from pipeline.content import stores

rows = pd.DataFrame({"id": [f"item-{k}" for k in range(3)]})
moment = 0
while True:
    moment += 1
    folder = Path(sys.argv[1]) / str(moment)
    stores.commit_shard(folder, 0, rows, "images", np.full((3, 64, 64, 3), 7, np.uint8))
    child = os.fork()
    if child == 0:
        passed = 0

        def pass_by(event="", arguments=()):
            global passed
            passed += event == "" or event == "open" or event.startswith("os.")
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sync = os.fsync
        def fsync(descriptor):
            pass_by(); sync(descriptor); pass_by()

        os.fsync = fsync
        sys.addaudithook(pass_by)
        for shard in (0, 1):
            stores.commit_shard(folder, shard, rows, "images", np.full((3, 64, 64, 3), 8, np.uint8))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(moment)
"""


def test_a_kill_at_any_moment_leaves_no_file_that_counts_and_is_not_whole(tmp_path):
    """The kill comes before each opening, syncing and renaming of a file; shard 0 is remade, 1 is new."""
    done = run_python("-c", KILLED_AT_EVERY_MOMENT, tmp_path)
    assert done.returncode == 0, done.stderr
    moments = int(done.stdout)
    assert moments > 20
    finished = []
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        records = committed_shards(folder)
        finished.append(1 in records)
        if 1 in records:
            for name, file in records[1]["files"].items():
                assert (folder / name).stat().st_size == file["bytes"]
                assert sha256_of_file(folder / name) == file["sha256"]
        for path in folder.glob("*.h5"):
            with h5py.File(path) as file:
                images = file["images"][:]
            assert images.shape == (3, 64, 64, 3)
            assert (images == images.flat[0]).all()
    assert finished[0] is False
    assert finished[-1] is True


WRITER = """
import sys
from itertools import count
from pathlib import Path
import numpy as np, pandas as pd
from pipeline.content.stores import commit_shard, committed_shards

folder = Path(sys.argv[1])
rows = pd.DataFrame({"id": [f"item-{k}" for k in range(100)]})
for shard in count(len(committed_shards(folder))):
    commit_shard(folder, shard, rows, "images", np.full((100, 64, 64, 3), shard % 256, np.uint8))
"""


@pytest.mark.slow
def test_kills_at_random_moments_leave_whole_shards(tmp_path):
    random = np.random.default_rng(0)
    for _ in range(3):
        before = len(list((tmp_path / RECORDS).glob("*.json")))
        writer = ForkedPython("-c", WRITER, tmp_path)
        end = time.monotonic() + 30
        while len(list((tmp_path / RECORDS).glob("*.json"))) < before + 3:
            assert time.monotonic() < end
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.05))
        writer.kill()
        writer.wait()
        records = committed_shards(tmp_path)
        assert list(records) == list(range(len(records)))
        for record in records.values():
            for name, file in record["files"].items():
                assert sha256_of_file(tmp_path / name) == file["sha256"]
    finish_store(tmp_path, len(records), "images", (64, 64, 3), "uint8")
    store = Store(tmp_path)
    for shard in range(len(records)):
        assert (store.read_between(*store.bounds(shard)) == shard % 256).all()


# A full disk


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pandas as pd
from pipeline.stage import run_stage
from pipeline.content.stores import commit_shard, write_json

limit, through_stage, folder = int(sys.argv[1]), sys.argv[2] == "stage", Path("store")
rows = pd.DataFrame({"id": [f"item-{k}" for k in range(10)]})
images = np.full((10, 64, 64, 3), 7, np.uint8)

def main() -> None:
    commit_shard(folder, 0, rows, "images", images)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    commit_shard(folder, 1, rows, "images", images)

if through_stage:
    sys.argv = ["stage"]
    run_stage(main)
try:
    main()
except OSError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(error.errno, type(error).__name__)  # into a file, too
"""


@pytest.mark.parametrize("limit", [0, 100, 1000, 3000, 50_000, 122_000])
def test_a_shard_that_the_disk_has_no_room_for_is_an_error_with_its_number(limit, tmp_path):
    """The disk is full in the layout of HDF5, in the array, or in the table."""
    done = run_python("-c", FULL, limit, "alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "27 OSError\n"
    assert sorted(files_of(tmp_path / "store")) == [
        f"{RECORDS}/shard-00000.json",
        "rows/shard-00000.parquet",
        "shard-00000.h5",
    ]


def test_a_stage_on_a_full_disk_says_so_in_one_sentence(tmp_path):
    done = run_python("-c", FULL, 50_000, "stage", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: File too large")
    assert "make room and run the same again; finished shards and checkpoints are kept." in line
    assert list(committed_shards(tmp_path / "store")) == [0]


# Damage


def flip_a_bit(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shard-00001.h5", ROWS_1])
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 1), r"\d+ bytes, \d+ recorded"),
        (flip_a_bit, "its sha256 differs from the recorded one"),
        (lambda path: path.unlink(), "missing"),
    ],
    ids=["truncated", "bit_flipped", "missing"],
)
def test_a_damaged_file_is_the_one_fault_that_is_named(name, damage, fault, tmp_path):
    folder = written(tmp_path / "store").folder
    assert faulty_files(folder) == {}
    damage(folder / name)
    assert list(faulty_files(folder)) == [name]
    assert re.fullmatch(fault, faulty_files(folder)[name])


def test_all_damaged_files_are_named(tmp_path):
    folder = written(tmp_path / "store").folder
    flip_a_bit(folder / "shard-00002.h5")
    (folder / "shard-00000.h5").unlink()
    assert list(faulty_files(folder)) == ["shard-00000.h5", "shard-00002.h5"]


def test_a_missing_and_a_broken_index_are_faults(tmp_path):
    folder = written(tmp_path / "store").folder
    os.truncate(folder / INDEX, 100)
    assert "not an index" in faulty_files(folder)[INDEX]
    (folder / INDEX).unlink()
    assert faulty_files(folder) == {INDEX: "missing"}


@pytest.mark.slow
def test_an_index_with_any_flipped_bit_is_read_or_refused_and_no_defect(tmp_path):
    folder = written(tmp_path / "store").folder
    whole = (folder / INDEX).read_bytes()
    for place in range(len(whole)):
        (folder / INDEX).write_bytes(whole)
        flip_a_bit(folder / INDEX, place)
        try:
            faulty_files(folder)
            Store(folder)
        except UserError as error:
            assert str(folder) in str(error)
        except Exception as error:
            pytest.fail(f"{whole[max(0, place - 20) : place + 20]!r} at {place}: {error!r}")


def sentence_of(read) -> str:
    with pytest.raises(UserError) as raised:
        read()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_to_a_header(path: Path) -> None:
    os.truncate(path, 200)


def of_another_shape(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = ITEMS[:3]


def of_another_dtype(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = ITEMS[4:8].astype(np.int16)


def of_another_name(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["latents"] = ITEMS[4:8]


def compressed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=ITEMS[4:8], compression="gzip")


def a_group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("images")


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        cut_to_a_header,
        of_another_shape,
        of_another_dtype,
        of_another_name,
        compressed,
        a_group,
        Path.unlink,
    ],
)
def test_a_damaged_array_is_named_with_the_command_that_mends_it(damage, tmp_path):
    folder = written(tmp_path / "store").folder
    damage(folder / "shard-00001.h5")
    store = Store(folder)
    np.testing.assert_array_equal(store.read(np.arange(4)), ITEMS[:4])  # the others are as good as before
    np.testing.assert_array_equal(store.read_between(0, 4), ITEMS[:4])
    for read in (lambda: store.read(np.arange(N)), lambda: store.read_between(3, 8)):
        sentence = sentence_of(read)
        assert sentence.startswith(f"{folder / 'shard-00001.h5'} is damaged (")
        assert sentence.endswith(f": `zprime verify --mend {folder}` makes it again.")


def with_a_row_less(path: Path) -> None:
    pd.read_parquet(path)[:-1].to_parquet(path)


def without_ids(path: Path) -> None:
    pd.read_parquet(path).drop(columns="id").to_parquet(path)


@pytest.mark.parametrize("damage", [truncated, cut_to_a_header, with_a_row_less, without_ids, Path.unlink])
def test_a_damaged_table_is_named(damage, tmp_path):
    folder = written(tmp_path / "store").folder
    damage(folder / ROWS_1)
    store = Store(folder)
    assert store.rows_between(0, 4)["id"].tolist() == TABLE["id"][:4].tolist()
    for read in (lambda: store.rows, lambda: store.rows_between(6, 7), lambda: store.rows_where("id", [])):
        sentence = sentence_of(read)
        assert str(folder / ROWS_1) in sentence
        if damage in (truncated, cut_to_a_header, with_a_row_less):
            assert "`zprime verify" in sentence


def test_what_is_no_store_is_named(tmp_path):
    assert sentence_of(lambda: Store(tmp_path)) == (
        f"{tmp_path} is not a store: index.json is missing. Run `dvc repro` to make it."
    )


@pytest.mark.parametrize("content", ['{"files": ', "{}", "[]", "\xff"])
def test_a_store_with_a_broken_index_is_named(content, tmp_path):
    folder = written(tmp_path / "store").folder
    (folder / INDEX).write_bytes(content.encode("latin-1"))
    assert INDEX in sentence_of(lambda: Store(folder))


# Opened again


@pytest.mark.parametrize("faulty", ["shard-00001.h5", ROWS_1])
def test_a_store_opened_again_lacks_the_faulty_shard_alone_and_is_made_whole(faulty, tmp_path):
    folder = written(tmp_path / "store").folder
    before = files_of(folder)
    kept = {
        name: (folder / name).stat()
        for name in before
        if "00001" not in name and name.endswith((".h5", ".parquet"))
    }
    flip_a_bit(folder / faulty)
    reopen_store(folder, [faulty])
    assert list(committed_shards(folder)) == [0, 2]
    assert not (folder / INDEX).exists()
    assert not (folder / "shard-00001.h5").exists()
    commit(folder, 1)
    finish_store(folder, 3, "images", (3, 2, 3), "uint8")
    assert files_of(folder) == before
    for name, stat in kept.items():
        assert os.path.samestat((folder / name).stat(), stat)
        assert (folder / name).stat().st_mtime_ns == stat.st_mtime_ns


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

    monkeypatch.setattr("pipeline.content.files.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_sha256_of_a_file_that_is_known(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "abc") == known
