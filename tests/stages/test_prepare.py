"""The stage prepare on real files: bad images stop it or are listed, and the same seed gives the same."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.content.index import INDEX
from pipeline.content.stores import Store, committed_shards
from pipeline.integrity import faulty_files
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_values
from tests.support import PROJECT, run_python


def run_prepare(
    folder: Path, source: dict, cluster: dict | None = None, **changes: object
) -> subprocess.CompletedProcess[str]:
    parameters = preset_values("smoke", PROJECT / PRESETS)
    parameters["cluster"] |= cluster or {}
    parameters["prepare"] |= {"source": source, "resolution": 8, **changes}
    parameters["train_gan"]["resolution"] = 8
    if source["name"] == "table":
        parameters["attributes"] = ["blond", "male"]
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    return run_python("-m", "stages.prepare", cwd=folder)


@pytest.fixture
def pictures(tmp_path: Path) -> dict:
    """A folder of 24 pictures, two per group and split, coloured by number; and its source."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = []
    for number in range(24):
        Image.new("RGB", (12, 12), (number * 10, 0, 255 - number * 10)).save(folder / f"{number}.png")
        split = ("train", "validation", "test")[number // 8]
        rows.append({"path": f"{number}.png", "blond": number % 2, "male": number // 2 % 2, "split": split})
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(folder / "labels.csv", index=False)
    return {
        "name": "table", "folder": str(folder), "table": "labels.csv", "path_column": "path",
        "attribute_columns": ["blond", "male"], "split_column": "split",
    }  # fmt: skip


def test_labels_stay_with_their_pictures(tmp_path: Path, pictures: dict) -> None:
    done = run_prepare(tmp_path, pictures, shard_size=5)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "out/real")
    labels = pd.read_parquet(tmp_path / "out/real/labels.parquet").sample(frac=1, random_state=1)
    images = store.read(store.positions(labels["id"]))
    for row, image in zip(labels.to_dict("records"), images, strict=True):
        number = int(row["id"].removesuffix(".png"))
        assert image[4, 4].tolist() == [number * 10, 0, 255 - number * 10]
        assert (row["blond"], row["male"]) == (number % 2, number // 2 % 2)
    assert faulty_files(tmp_path / "out/real") == {}


def test_a_truncated_picture_stops_with_one_sentence(tmp_path: Path, pictures: dict) -> None:
    broken = Path(pictures["folder"]) / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    done = run_prepare(tmp_path, pictures)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "3.png" in done.stderr
    assert "of labels.csv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out/real").exists()


def test_what_was_made_before_a_truncated_picture_is_kept_for_the_next_run(
    tmp_path: Path, pictures: dict
) -> None:
    (Path(pictures["folder"]) / "3.png").rename(tmp_path / "whole.png")
    (Path(pictures["folder"]) / "3.png").write_bytes(b"not a picture")
    stopped = run_prepare(tmp_path, pictures, shard_size=5)
    assert "4 of 5 were made and are kept." in stopped.stderr
    (work,) = (path for path in (tmp_path / ".work/prepare").iterdir() if path.is_dir())
    assert len(committed_shards(work)) == 4
    kept = {path.name: path.stat() for path in work.glob("*.h5")}
    (tmp_path / "whole.png").rename(Path(pictures["folder"]) / "3.png")
    done = run_prepare(tmp_path, pictures, shard_size=5)
    assert done.returncode == 0, done.stderr
    for name, stat in kept.items():
        now = (tmp_path / "out/real" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert len(Store(tmp_path / "out/real")) == 24
    assert not work.exists()


def test_bad_pictures_are_left_out_listed_and_counted(tmp_path: Path, pictures: dict) -> None:
    (Path(pictures["folder"]) / "3.png").write_bytes(b"not a picture")
    (Path(pictures["folder"]) / "12.png").unlink()
    done = run_prepare(tmp_path, pictures, on_bad_image="skip", shard_size=5)
    assert done.returncode == 0, done.stderr
    assert "2 bad images" in done.stdout
    bad = pd.read_parquet(tmp_path / "out/real/bad_images.parquet")
    assert sorted(bad["id"]) == ["12.png", "3.png"]
    labels = pd.read_parquet(tmp_path / "out/real/labels.parquet")
    store = Store(tmp_path / "out/real")
    assert len(labels) == len(store) == 22
    for row in labels.to_dict("records"):
        (image,) = store.read(store.positions([row["id"]]))
        assert image[0, 0, 0] == int(row["id"].removesuffix(".png")) * 10


def test_a_group_that_bad_pictures_empty_is_named(tmp_path: Path, pictures: dict) -> None:
    for number in (1, 5):  # of train, blond=1 and male=0
        (Path(pictures["folder"]) / f"{number}.png").unlink()
    done = run_prepare(tmp_path, pictures, on_bad_image="skip")
    assert done.returncode == 1
    assert "the train split has no image of the group blond=1, male=0" in done.stderr


AVATARS = {
    "name": "avatars", "train": 60, "validation": 20, "validation_minimum": 2, "test_per_group": 4,
    "oracle": 20, "seed": 1,
}  # fmt: skip


def test_avatars_drawn_twice_in_shards_of_other_sizes_are_the_same(tmp_path: Path) -> None:
    stores = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        done = run_prepare(folder, AVATARS, shard_size=30 if name == "one" else 7)
        assert done.returncode == 0, done.stderr
        stores.append(Store(folder / "out/real"))
    ids = stores[0].rows["id"]
    np.testing.assert_array_equal(
        stores[0].read(stores[0].positions(ids)), stores[1].read(stores[1].positions(ids))
    )


def test_two_workers_draw_the_very_files_that_one_process_draws(tmp_path: Path) -> None:
    made = []
    for mode in ("inline", "local"):
        folder = tmp_path / mode
        folder.mkdir()
        done = run_prepare(folder, AVATARS, shard_size=20, cluster={"mode": mode, "workers": 2})
        assert done.returncode == 0, done.stderr
        files = [path for path in (folder / "out/real").rglob("*") if path.is_file()]
        made.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert f"out/real/{INDEX}" in made[0]
