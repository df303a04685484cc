"""Files from elsewhere: only the file that the parameters name is opened, a checkpoint as tensors only."""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.content import elsewhere
from pipeline.errors import UserError

ZIP = b"PK\x03\x04"  # how torch tells its two formats apart


class Record:
    """Takes the place of a class that a checkpoint names: it has attributes, but no behaviour."""


def refuse_another_file(path: Path, sha256: str) -> None:
    """Raise `UserError` unless `path` is a file with this sha256."""
    elsewhere.refuse_another_file(path, sha256, "load_gan.path")


def read_tensors(path: Path, record_class: str) -> Any:
    """Read what `torch.save` wrote, in its zip or its older format: tensors, plain values and `Record`s.

    No code of the file runs, and no file fills the memory: the tensors that it declares must fit into its own
    size.

    Args:
        path: the file.
        record_class: the full name of the one class of its own that the file may name.

    Returns:
        The file's content, on the CPU.

    Raises:
        UserError: the file is broken, or contains more than that.
    """
    try:
        _refuse_strange_archive(path)
        with FakeTensorMode():  # shapes alone: nothing is allocated
            _refuse_hollow_tensors(path, _load(path, record_class))
        return _load(path, record_class)
    except UserError:
        raise
    except Exception as error:  # torch raises a dozen kinds, which all mean that the file is no checkpoint
        # torch's own message is left out: it has many lines, and says how to run an unsafe file anyway.
        raise UserError(
            f"load_gan.path: {path} is no checkpoint that can be read as tensors only "
            f"({type(error).__name__}): it is broken, or holds code."
        ) from error


def _load(path: Path, record_class: str) -> Any:
    with torch.serialization.safe_globals([(Record, record_class)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_strange_archive(path: Path) -> None:
    """Refuse what `torch.save` does not write: compressed members (bombs), names that leave a folder."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"load_gan.path: {path} has a member outside its folder, {member.filename!r}.")
        if member.compress_type != zipfile.ZIP_STORED:
            raise UserError(
                f"load_gan.path: {path} has a compressed member, {member.filename!r}: torch.save writes none."
            )
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise UserError(f"load_gan.path: {path} has members that are larger together than the file.")


def _refuse_hollow_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that claim more memory than the file has bytes.

    Args:
        path: the file.
        content: what the file holds, with fake tensors.

    Raises:
        UserError: a tensor is larger than its storage, or all storages together than the file.
    """
    storages = {}
    for tensor in _tensors(content):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        if tensor.numel() * tensor.itemsize > storage.nbytes():  # a stride of 0 repeats elements
            raise UserError(f"load_gan.path: {path} has a tensor that is larger than its storage.")
    declared, available = sum(storages.values()), path.stat().st_size
    if declared > available:
        raise UserError(
            f"load_gan.path: {path} declares tensors of {declared:,} bytes, but has {available:,} bytes."
        )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor in what `torch.load` returned, however deep."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Record):
        yield from _tensors(vars(content))
    elif isinstance(content, dict | list | tuple | set):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _tensors(value)
