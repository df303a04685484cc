"""Checkpoints are complete or absent, refused if they are damaged, and no code in them is ever run."""

import hashlib
import io
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.cards import NetworkCard
from classifiers.networks.parameters import Backbone
from generators.networks.cards import GeneratorCard
from generators.networks.loading import save_generator
from generators.networks.progressive import Generator
from pipeline.content.checkpoints import fault_of_checkpoint, load_checkpoint, save_checkpoint
from pipeline.content.index import write_index
from pipeline.errors import NO_ROOM, UserError


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "deep" / "state.pt"
    save_checkpoint(path, {"done": 1, "weights": torch.arange(1000.0)})
    return path


def test_a_checkpoint_comes_back(path):
    state = {
        "done": 3,
        "weights": {"w": torch.arange(3.0)},
        "history": [{"loss": 0.5}],
        "best": float("-inf"),
    }
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"].pop("w"), state["weights"].pop("w"))
    assert loaded == state
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]
    assert fault_of_checkpoint(path) is None


def test_without_a_checkpoint_there_is_no_state(tmp_path):
    assert load_checkpoint(tmp_path / "state.pt") is None


def test_a_failure_while_a_checkpoint_is_written_leaves_the_old_one(path, monkeypatch):
    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.content.files.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"done": 2})
    assert load_checkpoint(path)["done"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit this process's files to `size` bytes: then writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_checkpoint(folder: Path, number: int) -> None:
    save_checkpoint(folder / "state.pt", {"done": number, "weights": torch.full((1000,), float(number))})


def write_generator(folder: Path, number: int) -> None:
    torch.manual_seed(number)
    save_generator(
        folder, Generator(4, 8, {4: 8, 8: 8}), GeneratorCard(latent_dim=4, resolution=8, number=number)
    )


def write_classifier(folder: Path, number: int) -> None:
    parameters = Backbone(name="small", width=8)
    save_network(folder, new_backbone(parameters, number), NetworkCard(backbone=parameters))


def write_an_index(folder: Path, number: int) -> None:
    write_index(folder, {"number": number, "note": "long enough for a limit" * 200})


@pytest.mark.parametrize("limit", [0, 100, 2000, 4000])
@pytest.mark.parametrize("write", [write_checkpoint, write_generator, write_classifier, write_an_index])
def test_what_a_full_disk_has_no_room_for_is_an_error_with_its_number_and_leaves_the_old(
    write: Callable[[Path, int], None], limit: int, tmp_path
):
    write(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_of_at_most(limit), pytest.raises(OSError, match="File too large") as raised:
        write(tmp_path, 2)
    assert raised.value.errno in NO_ROOM  # for which a stage says what to do
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("size", [0, 10, 32, 33, 1000, -1])
def test_a_checkpoint_that_was_cut_is_refused(path, size):
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    assert_damaged(path)


@pytest.mark.parametrize("place", [0, 31, 32, 100, 0.5, -1])
def test_a_checkpoint_with_a_flipped_bit_is_refused(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    assert_damaged(path)


def assert_damaged(path: Path) -> None:
    sentence = f"{path} is damaged: remove it to train from the start."
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert str(error.value) == sentence
    assert fault_of_checkpoint(path) == sentence


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


@pytest.mark.parametrize("what", ["program", "numpy", "no torch file", "bare pickle"])
def test_what_is_no_plain_value_is_refused_without_running_it(what, tmp_path):
    """It is refused even if the hash is right."""
    trace, body = tmp_path / "trace", io.BytesIO()
    if what == "program":
        torch.save({"done": MakesFolder(trace)}, body)
    elif what == "numpy":
        torch.save({"done": np.float64(1)}, body)
    elif what == "bare pickle":
        pickle.dump({"done": MakesFolder(trace)}, body, protocol=2)
    path = tmp_path / "state.pt"
    path.write_bytes(hashlib.sha256(body.getvalue()).digest() + body.getvalue())
    with pytest.raises(UserError, match="is no state of a training"):
        load_checkpoint(path)
    assert "is no state of a training" in fault_of_checkpoint(path)
    assert not trace.exists()
