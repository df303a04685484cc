"""The index of a folder: index.json, with the size and sha256 of every file, and its own sha256.

Its schemas are typed dictionaries, as a shard's record travels between processes as it is.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.content.files import sha256_of_file, write_json
from pipeline.content.typed_files import first_fault
from pipeline.errors import UserError

INDEX = "index.json"
RECORDS = Path("records")
STRICT = ConfigDict(strict=True, extra="forbid")
OPEN = ConfigDict(strict=True, extra="allow")  # what makes shards may note more
Names = list[str]


@with_config(STRICT)
class FileRecord(TypedDict):
    """What a file was when it was written.

    Attributes:
        bytes: its size.
        sha256: of its content.
    """

    bytes: int
    sha256: str


FileRecords = dict[str, FileRecord]  # by the file's name in the folder


@with_config(OPEN)
class ShardRecord(TypedDict):
    """What says that a shard is finished, and of which files it is.

    Attributes:
        items: how many there are.
        files: its files; of many files only their list.
        list: of many files: the name of the file that lists them.
        folders: of many files: the folders that hold these files and no others.
        left_out: of real images: id → why the image is left out.
    """

    items: int
    files: FileRecords
    list: NotRequired[str]
    folders: NotRequired[Names]
    left_out: NotRequired[dict[str, str]]


@with_config(OPEN)
class Index(TypedDict):
    """The content of index.json.

    Attributes:
        sha256: of the other entries.
        files: those that belong to no shard.
        shards: of a store: the shards' records in their order.
        array: of a store: the name of the arrays in its shards; null for a store of rows only.
        item_shape: of a store: the shape of one item.
        dtype: of a store: of its arrays; empty for a store of rows only.
        made_by: the stage with its arguments.
        work: the folder in `.work/` that it was made in, without the digest of the code.
    """

    sha256: NotRequired[str]
    files: NotRequired[FileRecords]
    shards: NotRequired[list[ShardRecord]]
    array: NotRequired[str | None]
    item_shape: NotRequired[list[int]]
    dtype: NotRequired[str]
    made_by: NotRequired[str | None]
    work: NotRequired[str | None]


_INDEX, _FILES = TypeAdapter(Index), TypeAdapter(FileRecords)


def file_record(path: Path) -> FileRecord:
    """Return the size and sha256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def write_index(folder: Path, about: Index) -> None:
    """Write a folder's index.

    It holds the entries of `about`, the size and sha256 of every file that is not recorded yet, and the
    sha256 of all these.

    Args:
        folder: the folder of the store.
        about: what the store holds; `files` and `shards` in it are records of files.
    """
    files, shards = dict(about.get("files", {})), about.get("shards", [])
    known = {INDEX, *files, *(name for shard in shards for name in shard["files"])}
    for path in paths_in(folder, shards):
        name = str(path.relative_to(folder))
        if name not in known and not name.startswith(f"{RECORDS}/"):
            files[name] = file_record(path)
    index = {**about, "files": files}
    write_json(folder / INDEX, {**index, "sha256": _sha256_of_index(index)})


def paths_in(folder: Path, shards: Iterable[ShardRecord]) -> Iterator[Path]:
    """Yield the files of a folder, but not those in folders of files that the shards' lists record."""
    listed = {folder / name for shard in shards for name in shard.get("folders", [])}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(parent, name) not in listed)
        yield from (Path(parent, name) for name in sorted(names))


def _sha256_of_index(index: Mapping[str, Any]) -> str:
    """Hash the content of an index, its own sha256 left out."""
    content = {key: value for key, value in index.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_index(folder: Path) -> Index:
    """Read a folder's index; raise `UserError` if index.json is missing or its checksum fails."""
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder} is not a store: {INDEX} is missing. Run `dvc repro` to make it.")
    try:
        return checked_index(folder)
    except ValueError as error:
        raise UserError(f"{folder / INDEX} is not an index of a store ({error}).") from error


def checked_index(folder: Path) -> Index:
    """Read a folder's index and check it.

    Every file that it names lies in the folder: mending a store removes files that its index names.

    Args:
        folder: the folder of the store.

    Returns:
        The content of index.json, with "files" and "sha256".

    Raises:
        ValueError: index.json cannot be read, its sha256 does not match, or a record in it is malformed; the
            message says which.
    """
    try:
        content = json.loads((folder / INDEX).read_text())
    except OSError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise ValueError("it has no sha256 of its own")
    if content["sha256"] != _sha256_of_index(content):
        raise ValueError("its sha256 differs from the one in it")
    try:
        index = _INDEX.validate_python(content)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    if "files" not in index:
        raise ValueError("files: Field required")
    _refuse_outside(index["files"])
    for shard in index.get("shards", []):
        _refuse_outside(shard["files"])
        if shard.get("list", INDEX) not in (INDEX, *shard["files"]):
            raise ValueError(f"it does not record the list {shard['list']!r}")
    return index


def read_list(folder: Path, name: str) -> FileRecords:
    """Read the list of a shard's files.

    Args:
        folder: the folder of the store.
        name: the list's name.

    Returns:
        Name -> size and sha256.

    Raises:
        ValueError: the file is not such a list, or cannot be read.
    """
    try:
        files = _FILES.validate_json((folder / name).read_bytes())
    except OSError as error:
        raise ValueError(str(error)) from error
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    _refuse_outside(files)
    return files


def _refuse_outside(files: FileRecords) -> None:
    """Raise a `ValueError` if a name leads out of the folder."""
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"it names a file outside its folder, {name!r}")


def with_notes(items: int, files: FileRecords, notes: Mapping[str, Any]) -> ShardRecord:
    """Return a shard's record with further entries."""
    return cast(ShardRecord, {"items": items, "files": files, **notes})
