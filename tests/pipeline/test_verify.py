"""The command that hashes what was written, and mends it: on the outputs of real stages."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from generators.cards import CARD
from pipeline.checkpoints import save_checkpoint
from pipeline.errors import UserError
from pipeline.stores import INDEX, Store, commit_shard, finish_store
from pipeline.verify import main
from pipeline.work import publish, work_folder

PROJECT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}
REAL = Path("out/real")
AVATARS = {
    "kind": "avatars", "train": 24, "validation": 12, "validation_minimum": 2, "test_per_group": 2,
    "oracle": 8, "seed": 1,
}  # fmt: skip


def run_module(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """out/real in shards of 16 images, and out/latents/z, made by their stages."""
    folder = tmp_path_factory.mktemp("made")
    parameters = yaml.safe_load((PROJECT / "presets/smoke.yaml").read_text())
    parameters["prepare"] |= {"resolution": 16, "shard_size": 16, "source": AVATARS}
    parameters["sample"] |= {"fit": 20, "validation": 10, "pair": 30}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    (folder / "out/generator").mkdir(parents=True)
    (folder / "out/generator" / CARD).write_text(json.dumps({"latent_dim": 8}))
    for stage in ("prepare", "sample"):
        done = run_module(f"stages.{stage}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def outputs(made, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project"))
    return Path("out")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def stats_of(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


DAMAGES = [
    (flip_a_bit, "shard-00001.h5", "its sha256 differs from the recorded one"),
    (flip_a_bit, "rows/shard-00002.parquet", "its sha256 differs from the recorded one"),
    (truncate, "shard-00000.h5", "bytes, "),
    (Path.unlink, "rows/shard-00001.parquet", "missing"),
    (flip_a_bit, "labels.parquet", "its sha256 differs from the recorded one"),
]


# Naming


def test_whole_outputs_are_counted(outputs, capsys):
    main([outputs])
    assert capsys.readouterr().out == "2 outputs are whole\n"


@pytest.mark.parametrize(("damage", "name", "fault"), DAMAGES)
def test_the_damaged_file_and_no_other_is_named(damage, name, fault, outputs, capsys):
    damage(REAL / name)
    with pytest.raises(
        UserError, match=r"^files that are wrong: 1\. --mend makes those of finished outputs again"
    ):
        main([outputs])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{REAL / name}: ")
    assert fault in line


def test_faults_of_all_outputs_are_named(outputs, capsys):
    truncate(REAL / "shard-00002.h5")
    (REAL / "summary.json").unlink()
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    with pytest.raises(UserError, match=r"^files that are wrong: 3"):
        main([REAL, Path("out/latents")])
    named = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert named == {"out/real/shard-00002.h5", "out/real/summary.json", "out/latents/z/shard-00000.h5"}


def test_a_folder_without_an_output_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing that zprime wrote is below"):
        main([tmp_path])


def test_damaged_checkpoints_are_named_and_whole_ones_pass(tmp_path, capsys):
    save_checkpoint(tmp_path / "run/state.pt", {"weights": torch.zeros(10)})
    main([tmp_path])
    truncate(tmp_path / "run/state.pt")
    with pytest.raises(UserError, match=r"^files that are wrong: 1"):
        main([tmp_path])
    assert f"{tmp_path}/run/state.pt is damaged" in capsys.readouterr().out


def test_the_command_ends_with_status_1_and_one_line_on_stderr(outputs):
    (REAL / "shard-00000.h5").unlink()
    process = run_module("pipeline.verify", "out")
    assert process.returncode == 1
    assert process.stdout == "out/real/shard-00000.h5: missing\n"
    assert process.stderr == "error: files that are wrong: 1. --mend makes those of finished outputs again.\n"


# Mending


@pytest.mark.parametrize(("damage", "name", "fault"), DAMAGES)
def test_mending_makes_that_shard_again_and_touches_no_other(damage, name, fault, outputs, capsys):
    index, before = (REAL / INDEX).read_bytes(), stats_of(REAL)
    latents = stats_of(Path("out/latents"))
    damage(REAL / name)
    main([outputs], mend=True)
    assert "2 outputs are whole" in capsys.readouterr().out
    assert (REAL / INDEX).read_bytes() == index
    made_again = {path for path, stat in stats_of(REAL).items() if stat != before[path]}
    expected = {f"{REAL}/{name}" for name in (INDEX, "labels.parquet", "bad_images.parquet", "summary.json")}
    if "shard" in name:
        shard = Path(name).name.split(".")[0]
        expected |= {f"{REAL}/{shard}.h5", f"{REAL}/rows/{shard}.parquet"}
    assert made_again == expected
    assert set(stats_of(REAL)) == set(before)
    assert stats_of(Path("out/latents")) == latents
    assert [path for path in Path(".work").rglob("*") if path.is_file()] == []
    main([outputs])


def test_mending_by_the_command_ends_with_status_0(outputs):
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    process = run_module("pipeline.verify", "out", "--mend")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("out/latents/z/shard-00000.h5: its sha256 differs")
    assert process.stdout.endswith("2 outputs are whole\n")


def test_two_stores_are_mended_at_once(outputs):
    flip_a_bit(REAL / "shard-00001.h5")
    (Path("out/latents/z") / "rows/shard-00000.parquet").unlink()
    main([outputs], mend=True)
    main([outputs])
    assert len(Store(REAL)) > 40


def test_an_output_without_shards_is_made_again_by_its_stage(outputs):
    """fit_hyperplanes, on labels written by hand."""
    latents = Store(Path("out/latents/z"))
    folder = work_folder("label z", [], 1)
    positive = (latents.read_between(0, len(latents)) > 0).astype(np.int64)
    rows = latents.rows[["id"]].assign(Blond_Hair=positive[:, 0], Male=positive[:, 1])
    commit_shard(folder, 0, rows)
    finish_store(folder, 1)
    publish(folder, Path("out/labels/z"))
    done = run_module("stages.fit_hyperplanes")
    assert done.returncode == 0, done.stderr
    path = Path("out/hyperplanes")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    truncate(path / "hyperplanes.json")
    main([outputs], mend=True)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


@pytest.mark.parametrize("mend", [False, True])
def test_a_damaged_index_is_named_and_mending_says_what_to_do(mend, outputs, capsys):
    truncate(REAL / INDEX)
    with pytest.raises(UserError) as raised:
        main([outputs], mend=mend)
    assert f"{REAL / INDEX}: not an index of a store" in capsys.readouterr().out
    if mend:
        assert str(raised.value) == (
            f"{REAL / INDEX} is lost: remove {REAL}, and `dvc repro` makes it again."
        )
    assert (REAL / "shard-00000.h5").exists()


def test_what_cannot_be_mended_is_said(outputs, capfd):
    """Its input is gone: the stage fails, and says so."""
    (Path("out/generator") / CARD).unlink()
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    with pytest.raises(UserError, match="out/latents/z could not be mended: run `dvc repro`"):
        main([outputs], mend=True)
    assert "error: out/generator holds no generator" in capfd.readouterr().err
