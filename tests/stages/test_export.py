"""The stage export: pieces over workers, interruptions, memory, what it refuses."""

import gc
import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from data.exports import EXPORTS, export_of
from data.exports import base as base_module
from data.exports import images as images_module
from data.exports import rows as rows_module
from data.manifest import Manifest
from data.parameters import Export
from pipeline.content.files import sha256_of_file, write_json
from pipeline.content.index import INDEX
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.work import WORK
from stages import export
from stages.parameters import read_parameters
from stages.reporting.recommending import recommend
from stages.shared.paths import BALANCED, EXPORT, RECOMMENDATION
from tests.balanced import make_project, write_parameters
from tests.support import ForkedPython, run_python


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_project()
    return tmp_path


def content_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_whole_and_the_same_each_time(project: Path, name: str) -> None:
    write_parameters(images_per_file=30)
    export.main(name)
    first = content_of(EXPORT / name)
    assert faulty_files(EXPORT / name) == {}
    assert set(json.loads((EXPORT / name / INDEX).read_text())) >= {"made_by", "work", "files"}
    assert [path for path in WORK.rglob("*") if path.is_file()] == []
    export.main(name)
    assert content_of(EXPORT / name) == first


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_two_workers_write_what_one_process_writes(project: Path) -> None:
    for name in EXPORTS:
        write_parameters(images_per_file=30)
        export.main(name)
    alone = content_of(EXPORT)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["cluster"] = {"mode": "local", "workers": 2}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    for name in EXPORTS:
        export.main(name)
    assert content_of(EXPORT) == alone


@pytest.mark.parametrize("name", EXPORTS)
def test_an_interrupted_export_leaves_nothing_and_goes_on(project: Path, name: str, monkeypatch) -> None:
    """Interrupted in its third piece; the pieces before it are not made again."""
    write_parameters(images_per_file=30)
    export.main(name)
    undisturbed = content_of(EXPORT / name)
    for path in sorted(EXPORT.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    _interrupt(name, monkeypatch)
    assert not [path for path in EXPORT.rglob("*") if path.is_file()]
    assert not [path for path in WORK.rglob("*.parquet") if path.stat().st_size == 0]
    kept = {path: path.stat().st_mtime_ns for path in WORK.rglob("records/*.json")}
    assert len(kept) == 2
    assert _encoded(name, monkeypatch) == (100 if name == "stylegan-zip" else 130) - 60
    assert content_of(EXPORT / name) == undisturbed


def write_verdict(sentence: str) -> None:
    write_json(RECOMMENDATION, recommend([], ["Male"], {}, 0).model_dump() | {"sentence": sentence})


def test_the_data_card_begins_with_the_verdict(project: Path) -> None:
    export.main("hf-parquet")
    without = (EXPORT / "hf-parquet/README.md").read_text().split("---\n", 2)[2]
    assert without.splitlines()[1:4] == [
        "# Blond_Hair by Male, balanced by zprime",
        "",
        "`y` is Blond_Hair, `a` is Male, `group` = y * 2 + a. `source` is real, z (generated), z_prime (the",
    ]
    write_verdict("Train {erm} on the duplicated data.")  # braces are no fields of the card
    export.main("hf-parquet")
    card = (EXPORT / "hf-parquet/README.md").read_text().split("---\n", 2)[2]
    assert card.splitlines()[1:4] == [
        "# Blond_Hair by Male, balanced by zprime", "", "Train {erm} on the duplicated data.",
    ]  # fmt: skip
    assert "zprime calls `augmented`" in card
    assert card.endswith(without.split("zprime\n", 1)[1])  # the rest is the same


def test_with_another_verdict_an_interrupted_export_begins_anew(project: Path, monkeypatch) -> None:
    write_parameters(images_per_file=30)
    write_verdict("One.")
    _interrupt("hf-parquet", monkeypatch)
    write_verdict("Another.")
    assert _encoded("hf-parquet", monkeypatch) == 130
    assert "Another." in (EXPORT / "hf-parquet/README.md").read_text()


def _interrupt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that ends with its 70th image."""
    encoded, made = images_module.encoded, []

    def interrupted(*arguments) -> bytes:
        made.append(1)
        if len(made) == 70:
            raise KeyboardInterrupt
        return encoded(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(images_module, "encoded", interrupted)
        export.main(name)
    gc.collect()  # the end of its process would have let go of the work folder


def _encoded(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many images an export makes."""
    encoded, made = images_module.encoded, []

    def counted(*arguments) -> bytes:
        made.append(1)
        return encoded(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(images_module, "encoded", counted)
        export.main(name)
    return len(made)


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_a_reader_takes_for_complete(project: Path) -> None:
    write_parameters(images_per_file=2)
    process = ForkedPython("-m", "stages.export", "webdataset")
    while process.poll() is None and not list(WORK.rglob("records/*.json")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0
    assert not EXPORT.exists()
    export.main("webdataset")
    assert faulty_files(EXPORT / "webdataset") == {}
    assert len(list((EXPORT / "webdataset").glob("*.tar"))) == 50 + 6 + 9


@pytest.mark.parametrize("name", EXPORTS)
def test_an_index_grows_with_the_pieces_not_with_the_images(project: Path, name: str) -> None:
    write_parameters(images_per_file=30)
    export.main(name)
    index = json.loads((EXPORT / name / INDEX).read_text())
    pieces = 4 + 1 + 1  # of training, validation, test
    if name == "stylegan-zip":
        assert list(index["files"]) == ["balanced.zip"]
        return
    assert [shard["items"] for shard in index["shards"]] == [30, 30, 30, 10, 12, 18]
    assert sum(len(shard["files"]) for shard in index["shards"]) == pieces
    assert not [file for file in index["files"] if file.endswith(".png")]
    images = len(list((EXPORT / name).rglob("*.png")))
    listed = [json.loads(path.read_text()) for path in (EXPORT / name / "files").glob("*.json")]
    assert sum(map(len, listed)) == images


def test_an_old_export_is_replaced_as_a_whole(project: Path) -> None:
    write_parameters(rows="all")
    export.main("imagefolder")
    write_parameters(rows="test")
    export.main("imagefolder")
    assert {path.name for path in (EXPORT / "imagefolder").iterdir()} == {"test", "files", INDEX}


@pytest.mark.slow
def test_what_is_damaged_is_mended_piece_by_piece(project: Path) -> None:
    write_parameters(images_per_file=30)
    for name in ("webdataset", "stylegan-zip", "celeba"):
        export.main(name)
    before = content_of(EXPORT)
    damaged = EXPORT / "celeba/img_align_celeba/train-000000.png"  # of the first piece
    size = damaged.stat().st_size
    damaged.write_bytes(b"x")
    assert faulty_files(EXPORT / "celeba") == {
        "img_align_celeba/train-000000.png": f"1 bytes, {size} recorded"
    }
    (EXPORT / "webdataset/balanced-train-000001.tar").write_bytes(b"x")
    (EXPORT / "stylegan-zip/balanced.zip").unlink()
    kept = ["webdataset/balanced-train-000000.tar", "celeba/img_align_celeba/z-00000029.png"]
    untouched = [(EXPORT / name).stat().st_ino for name in kept]
    done = run_python("-m", "zprime.verify", "--mend", EXPORT)
    assert done.returncode == 0, done.stderr
    assert content_of(EXPORT) == before
    assert [(EXPORT / name).stat().st_ino for name in kept] == untouched


def test_only_a_batch_of_images_is_in_memory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of images per file: at most a batch is read before the first of it is written."""
    monkeypatch.setattr(images_module, "BATCH", 8)
    read, sizes = images_module.ImageReader.read, []

    def weighed(self, rows: pd.DataFrame) -> np.ndarray:
        images = read(self, rows)
        assert all(not store._maps for store in self.stores.values())  # nothing stays mapped
        sizes.append(len(images))
        return images

    monkeypatch.setattr(images_module.ImageReader, "read", weighed)
    write_parameters(images_per_file=1000)
    export.main("hf-parquet")
    assert max(sizes) == 8
    assert sum(sizes) == 130


@pytest.mark.parametrize("name", EXPORTS)
def test_no_process_holds_more_than_the_rows_of_a_piece(project: Path, name: str, monkeypatch) -> None:
    """The manifest's own table is never read, and no more rows at once than `export.images_per_file`."""
    read, sizes = rows_module.read_rows, []

    def weighed(*arguments) -> pd.DataFrame:
        sizes.append(len(rows := read(*arguments)))
        return rows

    monkeypatch.setattr(base_module, "read_rows", weighed)
    monkeypatch.setattr(Manifest, "table", property(lambda manifest: pytest.fail("the table is read")))
    write_parameters(images_per_file=7)
    export.main(name)
    count = 100 if name == "stylegan-zip" else 130
    assert max(sizes) == 7
    assert sum(sizes) == count * (1 if name in ("hf-parquet", "webdataset") else 2)  # once more for tables
    task = pickle.dumps(export_of(name, BALANCED, Export(images_per_file=7)))
    assert b"train-000000" not in task  # what a worker is sent names no image


def test_the_progress_is_in_images(project: Path, capsys: pytest.CaptureFixture) -> None:
    write_parameters(images_per_file=30)
    export.main("hf-parquet")
    assert "export hf-parquet: 130 images in" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["imagefolder", "waterbirds", "celeba"])
def test_the_files_of_a_piece_are_on_disk_before_its_record(project: Path, name: str, monkeypatch) -> None:
    """`os.sync` writes all of them at once."""
    seen, sync = [], os.sync

    def synced() -> None:
        seen.append((len(list(WORK.rglob("*.png"))), len(list(WORK.rglob("records/*.json")))))
        sync()

    monkeypatch.setattr(os, "sync", synced)
    write_parameters(images_per_file=50)
    export.main(name)
    assert seen == [(50, 0), (100, 1), (112, 2), (130, 3)]


# What it refuses


def run_stage(*arguments: str) -> str:
    """What the stage says where it stops."""
    done = run_python("-m", "stages.export", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr.strip().removeprefix("error: ")


def test_a_bad_option_is_one_sentence_of_the_stage(project: Path) -> None:
    assert run_stage("tfrecord") == (
        "params.yaml: export.formats has 'tfrecord'; expected hf-parquet, webdataset, imagefolder, "
        "waterbirds, celeba, stylegan-zip."
    )


@pytest.mark.parametrize("name", EXPORTS)
def test_the_schema_knows_every_format(name: str) -> None:
    assert Export(formats=[name]).formats == [name]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"quality": 500}, "export.quality (it is 500): Input should be less than or equal to 100."),
        ({"quality": 0}, "export.quality (it is 0): Input should be greater than or equal to 1."),
        ({"formats": ["tfrecord"]}, "export.formats.0 (it is 'tfrecord'): Input should be 'hf-parquet', "),
        ({"rows": "dev"}, "export.rows (it is 'dev'): Input should be 'all', 'real', 'synthetic', 'train', "),
        ({"encoding": "gif"}, "export.encoding (it is 'gif'): Input should be 'png' or 'jpeg'."),
        (
            {"images_per_file": 0},
            "export.images_per_file (it is 0): Input should be greater than or equal to",
        ),
        ({"image_per_file": 1}, "export.image_per_file is not a parameter"),
    ],
)
def test_a_bad_parameter_is_one_sentence(project: Path, values: dict, sentence: str) -> None:
    write_parameters(**values)
    with pytest.raises(UserError) as raised:
        read_parameters()
    assert sentence in str(raised.value)


def test_an_empty_split_is_one_sentence(project: Path) -> None:
    manifest = pd.read_parquet("out/balanced/manifest.parquet")
    manifest[manifest["split"] != "test"].to_parquet("out/balanced/manifest.parquet", index=False)
    write_parameters(rows="test")
    with pytest.raises(UserError) as raised:
        export.main("celeba")
    assert str(raised.value) == "export.rows is test, but the balanced manifest has no rows for 'test'."
    assert not EXPORT.exists()


def test_a_store_that_is_gone_is_one_sentence(project: Path) -> None:
    (Path("out/synthetic/z") / INDEX).unlink()
    with pytest.raises(UserError, match="out/synthetic/z is not a store"):
        export.main("webdataset")


def test_classes_keep_their_order_whatever_the_target_is_called(project: Path) -> None:
    """torchvision numbers classes alphabetically."""
    from torchvision.datasets import ImageFolder as Reader

    datasheet = json.loads(Path("out/balanced/datasheet.json").read_text())
    manifest = pd.read_parquet("out/balanced/manifest.parquet")
    for target in ("zebra", "Attractive"):
        renamed = manifest.rename(columns={"Blond_Hair_score": f"{target}_score"})
        renamed.to_parquet("out/balanced/manifest.parquet", index=False)
        datasheet["attributes"]["target"] = target
        Path("out/balanced/datasheet.json").write_text(json.dumps(datasheet))
        export.main("imagefolder")
        loaded = Reader(str(EXPORT / "imagefolder/train"))
        assert loaded.class_to_idx == {f"0_not_{target}": 0, f"1_{target}": 1}
