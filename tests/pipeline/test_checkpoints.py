"""Checkpoints: whole or not there, refused where they are damaged, and nothing in them is ever run."""

import hashlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoints import fault_of_checkpoint, load_checkpoint, save_checkpoint
from pipeline.errors import UserError


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

    monkeypatch.setattr("pipeline.stores.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"done": 2})
    assert load_checkpoint(path)["done"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


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
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


@pytest.mark.parametrize("what", ["program", "numpy", "no torch file", "bare pickle"])
def test_what_is_no_plain_value_is_refused_without_running_it(what, tmp_path):
    """Also where the hash is right."""
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
