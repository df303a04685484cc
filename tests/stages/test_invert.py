"""invert: real training images get latents of their own, whatever number of workers and batches."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from generators.inversion.latents import pixel_errors
from generators.latents import sample_latents
from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import load_generator, save_generator
from generators.networks.progressive import Generator
from generators.synthesis import render
from pipeline.content.index import INDEX
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages import invert
from stages.parameters import read_parameters
from stages.shared.paths import GENERATOR, LATENTS, PRESETS, REAL
from stages.shared.presets import preset_values
from tests.real_labels import write_real_labels

PROJECT = Path(__file__).parents[2]
ARCHITECTURE = {
    "latent_dim": 8, "resolution": 8, "channels": {4: 16, 8: 16}, "mapping_layers": 0, "mapping_width": 8,
}  # fmt: skip
FP32 = Runtime(device="cpu", precision="fp32")
TRAIN = 40  # of 60 images; in groups of 4, 16, 10, 10
PER_GROUP = 12
OUTPUT = LATENTS / "real"


def write_parameters(**sections: dict) -> None:
    parameters = preset_values("smoke", PROJECT / PRESETS)
    sections = {"runtime": {"device": "cpu", "precision": "fp32"}, **sections}
    section = {
        "per_group": PER_GROUP,
        "encoder": {"width": 8, "steps": 60, "batch_size": 16, "learning_rate": 3e-3},
        "refine": {"steps": 40, "learning_rate": 0.1, "prior_weight": 0.0},
        "shard_size": 15,
    }
    parameters["invert"] = section | sections.pop("invert", {})
    for name, values in sections.items():
        parameters[name] |= values
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """out/generator, and out/real with images that the generator makes, so that there are latents of them."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    card = GeneratorCard(
        kind="pgan", latent_dim=8, resolution=8, architecture=ARCHITECTURE, normalises_latents=True
    )
    save_generator(folder / GENERATOR, Generator(**ARCHITECTURE), card)
    accelerator = new_accelerator(FP32)
    generator = load_generator(folder / GENERATOR, accelerator.device)
    images = render(generator, sample_latents(0, "real", 0, 60, 8), 60, accelerator)
    ids = [f"image-{number:02d}" for number in range(60)]
    for shard, start in enumerate((0, 25)):
        stop = (25, 60)[shard]
        rows = pd.DataFrame({"id": ids[start:stop]})
        commit_shard(folder / REAL, shard, rows, "images", images[start:stop])
    groups = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [4, 16, 10, 10]))
    labels = pd.DataFrame({"id": ids, "split": ["train"] * TRAIN + ["validation"] * 20})
    labels["Blond_Hair"] = [*(groups // 2), *[0, 1] * 10]
    labels["Male"] = [*(groups % 2), *[0, 0, 1, 1] * 5]
    labels = labels.sample(frac=1, random_state=0)
    write_real_labels(labels, folder)
    finish_store(folder / REAL, 2, "images", (8, 8, 3), "uint8")
    return folder


@pytest.fixture
def project(inputs, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(shutil.copytree(inputs, tmp_path / "project"))
    write_parameters()
    return Path()


@pytest.fixture(scope="module")
def inverting(inputs, tmp_path_factory) -> Callable[..., Path]:
    """Runs the stage in a folder of its own, and gives that."""

    def run(name: str, **sections: dict) -> Path:
        before, folder = Path.cwd(), tmp_path_factory.mktemp(name) / "project"
        os.chdir(shutil.copytree(inputs, folder))
        try:
            write_parameters(**sections)
            invert.main("real")
        finally:
            os.chdir(before)
        return folder

    return run


@pytest.fixture(scope="module")
def inverted(inverting) -> Path:
    return inverting("inverted")


def test_only_training_images_have_latents_and_no_group_more_than_it_may(inverted):
    store = Store(inverted / OUTPUT)
    labels = pd.read_parquet(inverted / REAL / "labels.parquet").set_index("id")
    rows = store.rows
    assert (rows["id"] == "inverted-" + rows["real_id"]).all()
    assert rows["real_id"].is_unique
    of_rows = labels.loc[rows["real_id"]]
    assert (of_rows["split"] == "train").all()
    assert of_rows.groupby(["Blond_Hair", "Male"]).size().tolist() == [4, PER_GROUP, 10, 10]
    assert store.items_per_shard == [15, 15, 6]
    assert store.item_shape == (8,)


def test_errors_are_those_of_the_latents_images(inverted):
    store, real = Store(inverted / OUTPUT), Store(inverted / REAL)
    rows, latents = store.rows, store.read_between(0, len(store))
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 8**0.5, rtol=1e-5)
    accelerator = new_accelerator(FP32)
    generator = load_generator(inverted / GENERATOR, accelerator.device)
    images = render(generator, latents, 64, accelerator)
    own = pixel_errors(real.read(real.positions(rows["real_id"])), images)
    np.testing.assert_allclose(rows["error"], own, atol=0.05)
    assert rows["error"].median() < 0.5 * rows["encoder_error"].median()
    others = pixel_errors(real.read(real.positions(rows["real_id"]))[::-1], images)
    assert np.median(others) > 5 * np.median(own)  # each latent is of its own image


def test_metrics_are_those_of_the_rows_and_of_generated_images(inverted):
    metrics = json.loads((inverted / OUTPUT / "metrics.json").read_text())
    rows = Store(inverted / OUTPUT).rows
    assert metrics["real"] == {
        "images": 36,
        "encoder": {
            "error_mean": pytest.approx(rows["encoder_error"].mean()),
            "error_median": pytest.approx(rows["encoder_error"].median()),
            "psnr_median": pytest.approx(rows["encoder_psnr"].median()),
        },
        "refined": {
            "error_mean": pytest.approx(rows["error"].mean()),
            "error_median": pytest.approx(rows["error"].median()),
            "psnr_median": pytest.approx(rows["psnr"].median()),
        },
    }
    generated = metrics["generated"]
    assert generated["images"] == 256
    assert generated["refined"]["error_median"] < 0.5 * generated["encoder"]["error_median"]
    assert generated["refined"]["distance_median"] < 0.5 * generated["encoder"]["distance_median"] < 0.5


def test_pictures_show_images_above_their_reconstructions(inverted):
    with Image.open(inverted / OUTPUT / "samples.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (8 * 64, 16 * 64, 3)  # two rows for each of four groups
    cells = pixels[::8, ::8].reshape(8, 8, 16, 8, 3).swapaxes(1, 2).astype(int)  # [row, column, H, W, 3]
    labels = pd.read_parquet(inverted / REAL / "labels.parquet").set_index("id")
    store, real = Store(inverted / OUTPUT), Store(inverted / REAL)
    for group, count in enumerate((4, PER_GROUP, 10, 10)):
        of_rows = labels.loc[store.rows["real_id"]]
        members = store.rows[(of_rows["Blond_Hair"] * 2 + of_rows["Male"] == group).to_numpy()]
        images = real.read(real.positions(members["real_id"]))
        np.testing.assert_array_equal(cells[2 * group, :count], images)
        error = np.abs(cells[2 * group + 1, :count] - images).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(error, members["error"], atol=0.05)
        assert (cells[2 * group : 2 * group + 2, count:] == 255).all()


def test_batches_and_shards_change_no_latent(inverted, inverting):
    other = inverting("other", invert={"batch_size": 7, "shard_size": 36})
    one, two = Store(inverted / OUTPUT), Store(other / OUTPUT)
    assert one.rows["id"].tolist() == two.rows["id"].tolist()
    np.testing.assert_allclose(one.read_between(0, 36), two.read_between(0, 36), atol=2e-3)


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds(inverted, inverting):
    other = inverting("workers", cluster={"mode": "local", "workers": 2})
    one, two = Store(inverted / OUTPUT), Store(other / OUTPUT)
    assert one.rows["id"].tolist() == two.rows["id"].tolist()
    np.testing.assert_allclose(one.read_between(0, 36), two.read_between(0, 36), atol=2e-3)


def test_fewer_images_are_among_those_of_more():
    groups = np.random.default_rng(0).integers(4, size=500)
    few, more, all_of_them = (invert.chosen_images(groups, n, 0) for n in (5, 50, None))
    assert len(few) == 20
    assert len(more) == 200
    assert set(few) < set(more)
    np.testing.assert_array_equal(all_of_them, np.arange(500))
    assert (np.diff(more) > 0).all()
    assert not np.array_equal(few, invert.chosen_images(groups, 5, 1))


def test_the_output_is_whole_and_nothing_is_left_under_work(inverted):
    assert faulty_files(inverted / OUTPUT) == {}
    index = json.loads((inverted / OUTPUT / INDEX).read_text())
    assert index["made_by"] == "invert real"
    assert set(index["files"]) == {"metrics.json", "samples.png"}
    assert [path for path in (inverted / ".work").rglob("*") if path.is_file()] == []


def test_an_interrupted_run_goes_on_with_its_encoder_and_shards(inverted, project, monkeypatch):
    made = []

    def failing(work: Path, shard: int, *arguments: object) -> dict:
        if shard == 1 and len(made) == 1:
            made.append("failed")
            raise OSError(28, "No space left on device")
        made.append(shard)
        return commit_shard(work, shard, *arguments)

    monkeypatch.setattr(invert, "commit_shard", failing)
    with pytest.raises(UserError, match="shard 1 failed: No space left"):
        invert.main("real")
    assert made == [0, "failed", 2]
    trained = next(Path(".work").rglob("state.pt")).read_bytes()
    seen = []
    monkeypatch.setattr(
        invert, "load_encoder", lambda path, *rest: (seen.append(path.read_bytes()), load(path, *rest))[1]
    )
    invert.main("real")
    assert made == [0, "failed", 2, 1]
    assert seen == [trained]
    one, two = Store(inverted / OUTPUT), Store(OUTPUT)
    np.testing.assert_allclose(one.read_between(0, 36), two.read_between(0, 36), atol=2e-3)


load = invert.load_encoder


def test_another_store_and_other_sizes_are_refused(project):
    with pytest.raises(UserError, match="'z' cannot be inverted"):
        invert.main("z")
    card = json.loads((GENERATOR / CARD).read_text())
    card["architecture"] |= {"resolution": 16, "channels": {4: 16, 8: 16, 16: 16}}
    save_generator(GENERATOR, Generator(**card["architecture"]), GeneratorCard(**card))
    with pytest.raises(UserError) as raised:
        invert.main("real")
    assert str(raised.value) == (
        "real images have 8 px and the generator's 16 px: to invert real images, make prepare.resolution the "
        "generator's."
    )
    assert not OUTPUT.exists()


def test_complements_of_real_images_need_their_latents(project):
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["balance"]["sources"] = ["z", "z_prime", "real_prime"]
    for inverted, is_refused in (([], True), (["real"], False)):
        Path("params.yaml").write_text(yaml.safe_dump({**parameters, "inverted": inverted}))
        if is_refused:
            with pytest.raises(UserError, match=r"no real image is inverted: set inverted to \[real\]"):
                read_parameters()
        else:
            assert read_parameters().inverted == ["real"]
