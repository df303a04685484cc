"""Compares the files of a folder with its index, and prepares a damaged store to be made again."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.content.files import sha256_of_file, write_json
from pipeline.content.index import INDEX, RECORDS, FileRecords, checked_index, read_index, read_list
from pipeline.content.stores import shard_name


def faulty_files(folder: Path) -> dict[str, str]:
    """Find files of a folder that are missing, or whose size or content its index does not record.

    Args:
        folder: the folder.

    Returns:
        Name -> what is wrong, sorted; empty if all files are as recorded.
    """
    if not (folder / INDEX).is_file():
        return {INDEX: "missing"}
    try:
        index = checked_index(folder)
    except ValueError as error:
        return {INDEX: f"not an index of a store ({error})"}
    faults: dict[str, str] = {}
    faults |= _faults_of(folder, index["files"])
    for record in index.get("shards", []):
        faults |= _faults_of(folder, record["files"])
        if "list" in record and record["list"] not in faults:
            try:
                faults |= _faults_of(folder, read_list(folder, record["list"]))
            except ValueError as error:
                faults[record["list"]] = f"not a list of files ({error})"
    return dict(sorted(faults.items()))


def _faults_of(folder: Path, files: FileRecords) -> dict[str, str]:
    found = ((name, _fault_of_file(folder / name, **record)) for name, record in files.items())
    return {name: fault for name, fault in found if fault}


def _fault_of_file(path: Path, bytes: int, sha256: str) -> str | None:
    try:
        if not path.is_file():
            return "missing"
        if path.stat().st_size != bytes:
            return f"{path.stat().st_size} bytes, {bytes} recorded"
        if sha256_of_file(path) != sha256:
            return "its sha256 differs from the recorded one"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def reopen_store(folder: Path, faulty: Sequence[str]) -> None:
    """Turn a finished store into an unfinished one without its faulty files and the shards that have any.

    Args:
        folder: the folder of the store.
        faulty: the names of its faulty files.
    """
    index = read_index(folder)
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    for shard, record in enumerate(index["shards"]):
        names = {*record["files"]}
        if "list" in record and record["list"] not in faulty:
            names |= {*read_list(folder, record["list"])}
        if not names.isdisjoint(faulty):
            for name in names:
                (folder / name).unlink(missing_ok=True)
        else:
            write_json(folder / RECORDS / f"{shard_name(shard)}.json", record)
    for name in index["files"]:  # files of the store as a whole are written again when it is finished
        (folder / name).unlink(missing_ok=True)
    (folder / INDEX).unlink()
