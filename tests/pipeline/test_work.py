"""Resumable state: its folder is that of its inputs and parameters; checkpoints are whole or not there."""

import os
import pickle

import numpy as np
import pytest
import torch

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.stores import INDEX
from pipeline.work import digest_of, publish, work_folder


def test_a_digest_depends_on_every_input_and_parameter(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    digests = [
        digest_of([first, second], {"a": 1, "b": 2}),
        digest_of([second, first], {"a": 1, "b": 2}),
        digest_of([first], {"a": 1, "b": 2}),
        digest_of([first, second], {"a": 1, "b": 3}),
        digest_of([first, second], {"a": 1}),
    ]
    assert len(set(digests)) == 5
    assert digests[0] == digest_of([first, second], {"b": 2, "a": 1})  # whatever the order of the keys
    first.write_text("3")
    assert digest_of([first, second], {"a": 1, "b": 2}) not in digests


def test_a_folders_digest_depends_on_the_content_of_its_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("1")
    before = digest_of([tmp_path], None)
    assert digest_of([tmp_path], None) == before
    (tmp_path / "deep" / "file").write_text("2")
    assert digest_of([tmp_path], None) != before


def test_a_stores_digest_is_that_of_its_index(tmp_path):
    (tmp_path / INDEX).write_text("{}")
    before = digest_of([tmp_path], None)
    (tmp_path / "shard").write_text("large")
    assert digest_of([tmp_path], None) == before
    (tmp_path / INDEX).write_text("[]")
    assert digest_of([tmp_path], None) != before


def test_the_same_work_finds_its_folder_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = work_folder("train", [], [1])
    (folder / "state").write_text("half")
    assert (work_folder("train", [], [1]) / "state").read_text() == "half"
    assert work_folder("train", [], [2]) != folder != work_folder("label", [], [1])


def test_publishing_replaces_what_stood_there(tmp_path):
    work, output = tmp_path / "work", tmp_path / "out" / "stage"
    for content in ("old", "new"):
        work.mkdir()
        (work / content).write_text(content)
        publish(work, output)
    assert [path.name for path in output.iterdir()] == ["new"]
    assert not work.exists()


def test_a_checkpoint_comes_back(tmp_path):
    state = {
        "done": 3,
        "weights": {"w": torch.arange(3.0)},
        "history": [{"loss": 0.5}],
        "best": float("-inf"),
    }
    save_checkpoint(tmp_path / "deep" / "state.pt", state)
    loaded = load_checkpoint(tmp_path / "deep" / "state.pt")
    assert torch.equal(loaded["weights"].pop("w"), state["weights"].pop("w"))
    assert loaded == state
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.pt"]


def test_without_a_checkpoint_there_is_no_state(tmp_path):
    assert load_checkpoint(tmp_path / "state.pt") is None


def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"done": 1})

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.stores.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"done": 2})
    assert load_checkpoint(path) == {"done": 1}


def test_checkpoints_are_loaded_without_running_anything(tmp_path):
    class MakesFolder:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trace"),))

    torch.save({"done": MakesFolder()}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "state.pt")
    assert not (tmp_path / "trace").exists()
    torch.save({"done": np.float64(1)}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "state.pt")
