"""The stages that are made in shards: the same from one process and from two, in batches of any size."""

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
from accelerate.state import AcceleratorState

from classifiers.labellers import Labeller, prior_of, prior_shift
from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from generators.latents import sample_latents
from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import load_generator, save_generator
from generators.networks.progressive import Generator
from generators.synthesis import render
from pipeline.content.index import INDEX
from pipeline.content.stores import Store
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages import complement, fit_hyperplanes, label, sample, synthesize
from stages.shared.paths import ATTRIBUTES, GENERATOR, HYPERPLANES, LABELS, LATENTS, PRESETS, SYNTHETIC
from stages.shared.presets import preset_values
from tests.cards import labeller_card
from tests.real_labels import write_real_labels

PROJECT = Path(__file__).parents[2]
NAMES = ("Blond_Hair", "Male")
ARCHITECTURE = {
    "latent_dim": 16, "resolution": 8, "channels": {4: 16, 8: 8}, "mapping_layers": 0, "mapping_width": 8,
}  # fmt: skip
FIT, VALIDATION, PAIR = 900, 300, 800
COUNT = FIT + VALIDATION + PAIR
# Latents: two shards to fit with, one of which a part is paired, one to pair.
SHARD = 500
IMAGES = 768  # of a shard: three batches of 256; the last shards have batches that are not full
FP32 = Runtime(device="cpu", precision="fp32")


def write_parameters(**sections: dict | str) -> None:
    parameters = preset_values("smoke", PROJECT / PRESETS)
    sections = {
        "runtime": {"device": "cpu", "precision": "fp32"},
        "label": {"prior_shift": False},
        "sample": {"fit": FIT, "validation": VALIDATION, "pair": PAIR},
        **sections,
    }
    for name, values in sections.items():
        parameters[name] = parameters[name] | values if isinstance(values, dict) else values
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """out/generator and out/attributes, with random weights; each threshold is the score of an image of z."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    card = GeneratorCard(
        kind="pgan", latent_dim=16, resolution=8, architecture=ARCHITECTURE, normalises_latents=True
    )
    save_generator(folder / GENERATOR, Generator(**ARCHITECTURE), card)
    accelerator = new_accelerator(FP32)
    generator = load_generator(folder / GENERATOR, accelerator.device)
    images = render(generator, sample_latents(0, "z", 0, COUNT, 16), 256, accelerator)
    for seed, name in enumerate(NAMES):
        parameters = Backbone(name="small", width=8)
        labeller = Labeller([new_backbone(parameters, 3 * seed + k) for k in range(3)], [None, 0, 1])
        scores = predict(labeller, images.__getitem__, len(images), accelerator)
        middle = float(np.sort(scores)[COUNT // 2])
        card_of_labeller = labeller_card(parameters, [middle, 0.5, 0.5], labeller.halves)
        save_network(folder / ATTRIBUTES / name, labeller, card_of_labeller)
    labels = {"id": ["a", "b"], "split": "train", **{name: [0, 1] for name in NAMES}}
    write_real_labels(pd.DataFrame(labels), folder)
    AcceleratorState._reset_state(True)  # the first test may want another precision
    return folder


@pytest.fixture
def project(networks, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(shutil.copytree(networks, tmp_path / "project"))
    write_parameters()
    return Path()


@pytest.fixture(scope="module")
def chain(networks, tmp_path_factory) -> Callable[..., Path]:
    """Runs the stages from sample to the labels of z' in a folder of their own, and gives that."""

    def run(name: str, **sections: dict | str) -> Path:
        before, folder = Path.cwd(), tmp_path_factory.mktemp(name) / "project"
        os.chdir(shutil.copytree(networks, folder))
        patch = pytest.MonkeyPatch()
        patch.setattr(sample, "SHARD", SHARD)
        try:
            write_parameters()
            sample.main()  # in this process, where the shard's size was changed
            write_parameters(**{**batches_of(64, 64), **sections})
            synthesize.main("z")
            label.main("z")
            fit_hyperplanes.main()
            complement.main("z")
            synthesize.main("z_prime")
            label.main("z_prime")
        finally:
            patch.undo()
            os.chdir(before)
        return folder

    return run


@pytest.fixture(scope="module")
def inline(chain) -> Path:
    return chain("inline")


def index_of(folder: Path) -> dict:
    return json.loads((folder / INDEX).read_text())


def assert_same(one: Path, other: Path) -> None:
    """Same ids, latents and labels; pixels within 1, and to the bit the same scores of the same pixels."""
    assert index_of(one / LATENTS / "z") == index_of(other / LATENTS / "z")
    for name in ("z", "z_prime"):
        first, second = Store(one / SYNTHETIC / name), Store(other / SYNTHETIC / name)
        assert first.rows.equals(second.rows)
        assert first.items_per_shard == second.items_per_shard
        images, others = (store.read_between(0, len(store)).astype(int) for store in (first, second))
        differences = np.abs(images - others).max(axis=(1, 2, 3))
        assert differences.max() <= 1
        labels, others = (Store(folder / LABELS / name).rows for folder in (one, other))
        assert labels["id"].tolist() == others["id"].tolist()
        for attribute in NAMES:
            scores, other_scores = (of[f"{attribute}_score"].to_numpy() for of in (labels, others))
            assert (scores == other_scores)[differences == 0].all()
            np.testing.assert_allclose(scores, other_scores, rtol=0, atol=1e-2)
            assert labels[attribute].tolist() == others[attribute].tolist()
    z_prime, others = Store(one / LATENTS / "z_prime"), Store(other / LATENTS / "z_prime")
    assert z_prime.rows["id"].tolist() == others.rows["id"].tolist()
    np.testing.assert_array_equal(z_prime.read_between(0, PAIR), others.read_between(0, PAIR))


def batches_of(rendered: int, labelled: int) -> dict[str, dict]:
    """The sections that say in batches of how many."""
    return {
        "synthesize": {"shard_size": IMAGES, "batch_size": rendered},
        "label": {"batch_size": labelled, "prior_shift": False},
    }


TWO_WORKERS = {"cluster": {"mode": "local", "workers": 2}}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_two_workers_make_what_one_process_makes(inline, chain):
    """In batches of another size, too."""
    assert_same(inline, chain("local", **batches_of(256, 256), **TWO_WORKERS))


@pytest.mark.parametrize(("rendered", "labelled"), [(256, 256), (64, 50), (64, 1000)])
def test_the_batch_size_changes_nothing(rendered, labelled, inline, chain):
    assert_same(inline, chain("batches", **batches_of(rendered, labelled)))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_neither_batches_nor_workers_change_anything_in_bf16(chain):
    bf16 = {"runtime": {"device": "cpu", "precision": "bf16"}}
    one = chain("bf16", **bf16)
    assert_same(one, chain("bf16-batches", **bf16, **batches_of(256, 256)))
    assert_same(one, chain("bf16-local", **bf16, **batches_of(256, 256), **TWO_WORKERS))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_batches_nor_workers_change_anything_on_a_gpu(precision, chain):
    on_gpu = {"runtime": {"device": "cuda", "precision": precision}}
    one = chain("gpu", **on_gpu)
    assert_same(one, chain("gpu-batches", **on_gpu, **batches_of(256, 256)))
    assert_same(one, chain("gpu-local", **on_gpu, **batches_of(256, 256), cluster={"mode": "local"}))


def test_the_progress_of_labels_is_in_images(inline, tmp_path, monkeypatch, capsys):
    """Whatever the number of attributes, and the size of the last batch."""
    monkeypatch.chdir(shutil.copytree(inline, tmp_path / "project"))
    label.main("z")
    assert f"label z: {COUNT:,} images in" in capsys.readouterr().out


def test_other_shards_have_the_same_items(inline, chain):
    other = chain("shards", synthesize={"shard_size": 190, "batch_size": 64})
    for name in ("z", "z_prime"):
        first, second = Store(inline / SYNTHETIC / name), Store(other / SYNTHETIC / name)
        assert first.items_per_shard != second.items_per_shard
        assert first.rows["id"].tolist() == second.rows["id"].tolist()
        images, others = (store.read_between(0, len(store)).astype(int) for store in (first, second))
        assert np.abs(images - others).max() <= 1


def test_every_output_is_whole_and_nothing_is_left_under_work(inline):
    outputs = [path.parent for path in (inline / "out").rglob(INDEX)]
    assert len(outputs) == 7
    assert [faulty_files(output) for output in outputs] == [{}] * 7
    assert [path for path in (inline / ".work").rglob("*") if path.is_file()] == []


def test_latents_are_those_of_their_numbers_and_parts(inline):
    store = Store(inline / LATENTS / "z")
    assert store.items_per_shard == [500] * 4
    np.testing.assert_array_equal(store.read_between(0, COUNT), sample_latents(0, "z", 0, COUNT, 16))
    assert store.rows["id"].tolist() == [f"z-{number:08d}" for number in range(COUNT)]
    assert store.rows["part"].tolist() == ["fit"] * FIT + ["validation"] * VALIDATION + ["pair"] * PAIR


def test_images_and_labels_belong_to_their_latents(inline):
    accelerator = new_accelerator(FP32)
    generator = load_generator(inline / GENERATOR, accelerator.device)
    for name in ("z", "z_prime"):
        latents, images = Store(inline / LATENTS / name), Store(inline / SYNTHETIC / name)
        ids = latents.rows["id"].sample(40, random_state=0)
        expected = render(generator, latents.read(latents.positions(ids)), 40, accelerator)
        made = images.read(images.positions(ids))
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert len(np.unique(made.reshape(40, -1), axis=0)) > 30
        labels = Store(inline / LABELS / name)
        for attribute in NAMES:
            rows = labels.rows
            threshold = json.loads((inline / ATTRIBUTES / attribute / CARD).read_text())["threshold"]
            assert (rows[attribute] == (rows[f"{attribute}_score"] >= threshold)).all()
            assert set(rows[f"{attribute}_0"]) | set(rows[f"{attribute}_1"]) <= {0, 1}
            if name == "z":
                assert 0.3 < rows[attribute].mean() < 0.7


def test_scores_move_with_how_frequent_an_attribute_is(inline, tmp_path, monkeypatch, capsys):
    """By one shift for the whole store, in logits; the checkers' labels stay."""
    monkeypatch.chdir(shutil.copytree(inline, tmp_path / "moved"))
    shutil.rmtree(LABELS / "z")
    write_parameters(label={"prior_shift": True})
    label.main("z")
    moved, before = (Store(folder / LABELS / "z").rows for folder in (Path(), inline))
    for name in NAMES:
        card = json.loads((ATTRIBUTES / name / CARD).read_text())
        scores = before[f"{name}_score"].to_numpy()
        shift = prior_shift(prior_of(scores, card["prior"]), card["prior"], card["real_share"])
        assert abs(shift) > 0.1
        logits = np.log(scores / (1 - scores)) + shift
        np.testing.assert_allclose(moved[f"{name}_score"], 1 / (1 + np.exp(-logits)), rtol=1e-5)
        assert (moved[name] == (moved[f"{name}_score"] >= card["threshold"])).all()
        for half in (0, 1):
            assert (moved[f"{name}_{half}"] == before[f"{name}_{half}"]).all()
    assert "scores move by" in capsys.readouterr().out


def test_only_latents_to_pair_have_complements_in_shards_of_the_same_numbers(inline):
    store = Store(inline / LATENTS / "z_prime")
    assert store.items_per_shard == [0, 0, 300, 500]
    rows = store.rows
    assert rows["pair_id"].tolist() == [f"z-{number:08d}" for number in range(COUNT - PAIR, COUNT)]
    assert rows["id"].tolist() == [f"z_prime-{number:08d}" for number in range(COUNT - PAIR, COUNT)]
    assert (rows["flips"] == "Male").all()
    assert Store(inline / SYNTHETIC / "z_prime").items_per_shard == [768, 32]


def test_move_lengths_and_metrics_are_those_of_the_latents(inline):
    z = Store(inline / LATENTS / "z").read_between(COUNT - PAIR, COUNT)
    store = Store(inline / LATENTS / "z_prime")
    lengths = np.linalg.norm(store.read_between(0, PAIR) - z, axis=1)
    np.testing.assert_allclose(store.rows["move_length"], lengths, atol=1e-5)
    metrics = json.loads((inline / LATENTS / "z_prime/metrics.json").read_text())
    assert metrics["move_length_median"] == pytest.approx(np.median(lengths), abs=0.05)
    assert metrics["move_length_95th_percentile"] == pytest.approx(np.quantile(lengths, 0.95), abs=0.1)
    assert metrics["flipped_on_sphere"] == store.rows["flipped"].mean()


def test_two_workers_draw_the_very_latents_that_one_process_draws(project):
    """More than a shard of them."""
    made = []
    for mode in ("inline", "local"):
        sections = {"sample": {"fit": 65536, "validation": 10, "pair": 100}, "cluster": {"mode": mode}}
        write_parameters(**sections)
        sample.main()
        assert Store(LATENTS / "z").items_per_shard == [65536, 110]
        made.append((LATENTS / "z" / INDEX).read_bytes())
        assert faulty_files(LATENTS / "z") == {}
    assert made[0] == made[1]


# On the sphere


@pytest.fixture(scope="module")
def on_sphere(chain) -> Path:
    return chain("sphere", latent_space="sphere")


def test_complements_on_the_sphere_lie_on_it_and_all_flip(on_sphere):
    store = Store(on_sphere / LATENTS / "z_prime")
    moved = store.read_between(0, PAIR).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 4.0, atol=1e-5)
    planes = json.loads((on_sphere / HYPERPLANES / "hyperplanes.json").read_text())
    z = Store(on_sphere / LATENTS / "z").read_between(COUNT - PAIR, COUNT).astype(np.float64)
    z *= 4.0 / np.linalg.norm(z, axis=1, keepdims=True)
    before, after = (
        {name: points @ np.array(plane["normal"]) + plane["offset"] for name, plane in planes.items()}
        for points in (z, moved)
    )
    # The sphere reaches where both hyperplanes are to be unless that is farther off than its radius.
    normals = np.array([planes[name]["normal"] for name in NAMES])
    wanted = np.stack([before["Blond_Hair"], -before["Male"]])
    offsets = np.array([[planes[name]["offset"]] for name in NAMES])
    reached = np.linalg.norm(np.linalg.pinv(normals) @ (wanted - offsets), axis=0) < 4.0
    assert reached.mean() > 0.95
    for name, distances in zip(NAMES, wanted, strict=True):
        np.testing.assert_allclose(after[name][reached], distances[reached], atol=1e-4)
    clear = reached & (np.abs(before["Male"]) > 1e-4)
    assert clear.mean() > 0.9
    assert store.rows["flipped"][clear].all()
    np.testing.assert_allclose(store.rows["move_length"], np.linalg.norm(moved - z, axis=1), atol=1e-4)


def test_the_latent_space_changes_hyperplanes_and_complements_and_not_what_is_before(inline, on_sphere):
    for folder in (LATENTS / "z", LABELS / "z"):
        assert index_of(inline / folder) == index_of(on_sphere / folder)
    for folder in (HYPERPLANES, LATENTS / "z_prime"):
        assert index_of(inline / folder)["work"] != index_of(on_sphere / folder)["work"]


def test_the_sphere_is_refused_for_a_generator_that_does_not_normalise(inline, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(inline, tmp_path / "project"))
    card = json.loads((GENERATOR / CARD).read_text())
    (GENERATOR / CARD).write_text(json.dumps({**card, "normalises_latents": False}))
    write_parameters(latent_space="sphere")
    before = (HYPERPLANES / INDEX).read_bytes()
    with pytest.raises(UserError) as raised:
        fit_hyperplanes.main()
    assert str(raised.value) == (
        "latent_space is sphere, but the generator in out/generator does not normalise its latents: two "
        "latents of one direction are two images. Use euclidean."
    )
    assert (HYPERPLANES / INDEX).read_bytes() == before
    write_parameters()
    fit_hyperplanes.main()
