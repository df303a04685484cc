"""The command that hashes written files and mends them, tested on the outputs of real stages."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.cards import NetworkCard
from classifiers.networks.parameters import Backbone
from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import save_generator
from generators.networks.progressive import Generator
from pipeline.content.checkpoints import save_checkpoint
from pipeline.content.files import write_json
from pipeline.content.index import INDEX, read_index, write_index
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.work import WORK, reopen, work_folder
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_values
from tests.declared import declare
from tests.support import PROJECT, run_python
from zprime.verify import main

REAL = Path("out/real")
AVATARS = {
    "name": "avatars", "train": 24, "validation": 12, "validation_minimum": 2, "test_per_group": 2,
    "oracle": 8, "seed": 1,
}  # fmt: skip


def run_module(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_python("-m", *command, cwd=cwd)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Make out/real in shards of 16 images, and out/latents/z, by their stages."""
    folder = tmp_path_factory.mktemp("made")
    parameters = preset_values("smoke", PROJECT / PRESETS)
    parameters["prepare"] |= {"resolution": 16, "shard_size": 16, "source": AVATARS}
    parameters["sample"] |= {"fit": 20, "validation": 10, "pair": 30}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    GeneratorCard(latent_dim=8, resolution=16).write(folder / "out/generator" / CARD)
    write_index(folder / "out/generator", {"made_by": "load_gan", "work": f"load_gan/{'0' * 16}"})
    for stage in ("prepare", "sample"):
        done = run_module(f"stages.{stage}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def outputs(made, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project"))
    return Path("out")


def flip_a_bit(path: Path, share: float = 0.5, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
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
    assert capsys.readouterr().out == "3 outputs are whole\n"


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


def saved_checkpoint() -> Path:
    """Write a checkpoint as a killed training leaves it."""
    path = WORK / "train_gan" / ("0" * 16) / "state.pt"
    save_checkpoint(path, {"weights": torch.zeros(10)})
    return path


def test_damaged_checkpoints_are_named_and_whole_ones_pass(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = saved_checkpoint()
    main([WORK])
    assert capsys.readouterr().out == "0 outputs and 1 checkpoints are whole\n"
    truncate(path)
    with pytest.raises(UserError, match=r"^files that are wrong: 1"):
        main([Path.cwd()])
    assert f"{path} is damaged" in capsys.readouterr().out


def test_other_files_of_that_name_are_no_checkpoints(tmp_path, monkeypatch):
    """They may be a user's own: mending would remove them."""
    monkeypatch.chdir(tmp_path)
    Path("theirs").mkdir()
    Path("theirs/state.pt").write_bytes(b"state")
    with pytest.raises(UserError, match="nothing that zprime wrote is below"):
        main([Path()], mend=True)
    assert Path("theirs/state.pt").exists()


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 1.0])  # the header, its sizes, the tensors
def test_a_flipped_bit_of_weights_is_named(share, bit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    declare("train_gan", "train_attribute Male")
    work = work_folder("train_gan")
    save_generator(
        work.folder / "generator", Generator(4, 8, {4: 8, 8: 8}), GeneratorCard(latent_dim=4, resolution=8)
    )
    work.publish(Path("out/generator"), work.folder / "generator")
    work = work_folder("train_attribute Male")
    parameters = Backbone(name="small", width=8)
    save_network(work.folder / "classifier", new_backbone(parameters, 0), NetworkCard(backbone=parameters))
    work.publish(Path("out/attributes/Male"), work.folder / "classifier")
    main([Path("out")])
    assert capsys.readouterr().out == "2 outputs are whole\n"
    weights = [Path("out/attributes/Male/network.safetensors"), Path("out/generator/generator.safetensors")]
    for path in weights:
        flip_a_bit(path, share, bit)
    with pytest.raises(UserError, match=r"^files that are wrong: 2"):
        main([Path("out")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{path}: its sha256 differs from the recorded one" for path in weights]


@pytest.mark.slow
def test_any_flipped_bit_of_an_index_is_named(tmp_path):
    folder = tmp_path / "store"
    commit_shard(folder, 0, pd.DataFrame({"id": ["a", "b"]}), left_out={"c": "why"})
    finish_store(folder, 1)
    assert faulty_files(folder) == {}
    whole = (folder / INDEX).read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[place] ^= 1 << bit
            (folder / INDEX).write_bytes(broken)
            assert list(faulty_files(folder)) == [INDEX], (place, bit)
        with pytest.raises(UserError, match=r"store/index\.json is not an index of a store"):
            read_index(folder)


def test_an_index_without_its_sha256_is_named(outputs):
    path = REAL / INDEX
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    write_json(path, content)
    assert faulty_files(REAL) == {INDEX: "not an index of a store (it has no sha256 of its own)"}


@pytest.mark.parametrize(
    "name",
    [
        "out/attributes/Male", "out/generator", "out/hyperplanes", "out/balanced", "out/quality",
        "out/runs/original/erm/0", "out/labels/z", "out/export/imagefolder",
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", ["out", "", "."])
def test_the_lost_index_of_any_output_is_named(given, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    write_json(folder / "deep/metrics.json", {})
    write_index(folder, {"files": {}})
    main([Path("out")])
    (Path(name) / INDEX).unlink()
    with pytest.raises(UserError, match=r"^files that are wrong: 1"):
        main([Path(given or name)])
    assert capsys.readouterr().out.splitlines()[1:] == [f"{name}/{INDEX}: missing"]


def test_what_has_no_index_is_not_asked_for_one(outputs, capsys):
    """The report and the evaluation are written in place."""
    write_json(Path("out/evaluation/plots/a.json"), {})
    write_json(Path("out/report/a.json"), {})
    main([outputs])
    assert capsys.readouterr().out == "3 outputs are whole\n"


@pytest.mark.parametrize("name", ["out/real/shard-00000.h5", "out/real/index.json", "checkpoint"])
def test_a_file_that_cannot_be_read_is_named_in_one_sentence(name, outputs, capsys):
    """A special file of Linux, whose first bytes cannot be read, takes its place."""
    path = saved_checkpoint() if name == "checkpoint" else Path(name)
    path.unlink()
    path.symlink_to("/proc/self/mem")
    if path.name.startswith("shard"):  # of the size that is recorded
        index = read_index(REAL)
        index["shards"][0]["files"][path.name]["bytes"] = 0
        write_index(REAL, index)
    with pytest.raises(UserError, match=r"^files that are wrong: 1"):
        main([outputs, WORK])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(str(path))
    assert "Input/output error)" in line


def test_the_command_ends_with_status_1_and_one_line_on_stderr(outputs):
    (REAL / "shard-00000.h5").unlink()
    process = run_module("zprime.verify", "out")
    assert process.returncode == 1
    assert process.stdout == "out/real/shard-00000.h5: missing\n"
    assert process.stderr == (
        "error: files that are wrong: 1. --mend makes those of finished outputs again, and removes "
        "checkpoints, so that their trainings start anew.\n"
    )


# Mending


@pytest.mark.parametrize(("damage", "name", "fault"), DAMAGES)
def test_mending_makes_that_shard_again_and_touches_no_other(damage, name, fault, outputs, capsys):
    index, before = (REAL / INDEX).read_bytes(), stats_of(REAL)
    latents = stats_of(Path("out/latents"))
    damage(REAL / name)
    main([outputs], mend=True)
    assert "3 outputs are whole" in capsys.readouterr().out
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


@pytest.mark.slow
def test_mending_by_the_command_ends_with_status_0(outputs):
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    process = run_module("zprime.verify", "out", "--mend")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("out/latents/z/shard-00000.h5: its sha256 differs")
    assert process.stdout.endswith("3 outputs are whole\n")


def test_two_stores_are_mended_at_once(outputs):
    flip_a_bit(REAL / "shard-00001.h5")
    (Path("out/latents/z") / "rows/shard-00000.parquet").unlink()
    main([outputs], mend=True)
    main([outputs])
    assert len(Store(REAL)) > 40


def test_an_output_without_shards_is_made_again_by_its_stage(outputs):
    """The stage is fit_hyperplanes, on labels written by hand."""
    latents = Store(Path("out/latents/z"))
    work = work_folder("label z")
    positive = (latents.read_between(0, len(latents)) > 0).astype(np.int64)
    rows = latents.rows[["id"]].assign(Blond_Hair=positive[:, 0], Male=positive[:, 1])
    rows = rows.assign(Blond_Hair_score=rows["Blond_Hair"] * 1.0, Male_score=rows["Male"] * 1.0)
    commit_shard(work.folder, 0, rows)
    finish_store(work.folder, 1)
    work.publish(Path("out/labels/z"))
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


def test_a_damaged_store_and_a_damaged_checkpoint_are_both_mended(outputs, capsys):
    path = saved_checkpoint()
    truncate(path)
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    main([outputs, WORK], mend=True)
    lines = capsys.readouterr().out.splitlines()
    assert f"{path} is removed: its training starts anew" in lines
    assert lines[-1] == "3 outputs are whole"
    assert not path.exists()
    main([outputs])


def test_a_damaged_checkpoint_alone_is_removed_and_a_whole_one_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = saved_checkpoint()
    main([WORK], mend=True)
    assert path.exists()
    flip_a_bit(path)
    main([WORK], mend=True)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{path} is removed: its training starts anew",
        "0 outputs are whole",
    ]
    assert not path.exists()


# An index that somebody else wrote: nothing outside of the output is touched


@pytest.fixture
def precious(outputs) -> Path:
    path = Path("precious/file")
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.mark.parametrize("shards", [True, False])
@pytest.mark.parametrize(
    "work",
    [
        "../precious", "{cwd}/precious", "prepare/../../precious", "prepare", "", None, "..",
        "sample/0123456789abcdef", "prepare/0123456789abcdef/../../../precious",
    ],
)  # fmt: skip
def test_a_work_folder_that_is_none_is_not_followed(work, shards, outputs, precious):
    flip_a_bit(REAL / "summary.json")
    index = read_index(REAL) | {"work": work.format(cwd=Path.cwd()) if work else work}
    write_index(REAL, index if shards else {key: index[key] for key in ("files", "made_by", "work")})
    before = stats_of(Path())
    for mend in (lambda: main([REAL], mend=True), lambda: reopen(REAL, ["summary.json"])):
        with pytest.raises(UserError, match=r"as the work of stage 'prepare', which is none: remove out"):
            mend()
    assert stats_of(Path()) == before


@pytest.mark.parametrize("stage", ["../precious", "stages.prepare", "zprime.verify", "rm", "", None])
def test_a_stage_that_zprime_has_not_is_not_run(stage, outputs, precious):
    flip_a_bit(REAL / "summary.json")
    write_index(REAL, read_index(REAL) | {"made_by": stage, "work": f"{stage}/{'0' * 16}"})
    before = stats_of(Path())
    with pytest.raises(UserError, match=r"names a stage that zprime has not, .*: remove out/real"):
        main([REAL], mend=True)
    assert stats_of(Path()) == before


def test_an_argument_of_a_stage_leads_nowhere_either(outputs, precious):
    flip_a_bit(REAL / "summary.json")
    stage = "train /../../precious"
    write_index(REAL, read_index(REAL) | {"made_by": stage, "work": f"train-/../../precious/{'0' * 16}"})
    before = stats_of(Path())
    with pytest.raises(UserError, match=r"names a stage that zprime has not, .*: remove out/real"):
        main([REAL], mend=True)
    with pytest.raises(UserError, match=r"no stage that runs `python -m stages\.train /\.\./"):
        reopen(REAL, ["summary.json"])
    assert stats_of(Path()) == before


@pytest.mark.parametrize(
    "name", ["../../precious/file", "{cwd}/precious/file", "rows/../../../precious/file"]
)
@pytest.mark.parametrize("place", ["shard", "files"])
def test_a_file_outside_of_the_output_is_not_removed(place, name, outputs, precious, capsys):
    index, name = read_index(REAL), name.format(cwd=Path.cwd())
    files = index["shards"][0]["files"] if place == "shard" else index["files"]
    files[name] = {"bytes": 0, "sha256": "0" * 64}
    write_index(REAL, index)
    before = stats_of(Path())
    with pytest.raises(UserError, match=r"out/real/index\.json is lost"):
        main([REAL], mend=True)
    assert f"it names a file outside its folder, {name!r}" in capsys.readouterr().out
    with pytest.raises(UserError, match="outside its folder"):
        reopen(REAL, [name])
    with pytest.raises(UserError, match="outside its folder"):
        Store(REAL)
    assert stats_of(Path()) == before


def test_what_cannot_be_mended_is_said(outputs, capfd):
    """The stage's input is missing: it fails, and says so."""
    (Path("out/generator") / CARD).unlink()
    flip_a_bit(Path("out/latents/z/shard-00000.h5"))
    with pytest.raises(UserError, match="out/latents/z could not be mended: run `dvc repro`"):
        main([Path("out/latents")], mend=True)
    assert "error: out/generator holds no generator" in capfd.readouterr().err
