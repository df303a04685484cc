"""load_gan: a file or a function from elsewhere becomes out/generator, as every later stage reads it."""

import copy
import json
import runpy
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from data.names import UNKNOWN
from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import load_generator, save_generator
from generators.networks.parameters import LoadGAN
from generators.networks.progressive import Generator
from generators.training.loop import GANTraining
from generators.trust import judge_generator
from pipeline.content.files import sha256_of_file, write_json
from pipeline.content.stores import commit_shard, finish_store
from pipeline.content.tables import write_table
from pipeline.content.trust import read_judgements
from pipeline.errors import UserError
from stages import load_gan, train_gan
from stages.parameters import checked_parameters
from stages.shared.paths import GENERATOR, PRESETS, REAL
from stages.shared.presets import preset_values

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "generators" / "fixtures" / "gan_zoo_pgan_32.pth"
EXPECTED = np.load(FIXTURE.with_name("gan_zoo_pgan_32_expected.npz"))
AVATARS = preset_values("avatars", ROOT / PRESETS)
ZOO = {"name": "gan_zoo", "path": str(FIXTURE), "sha256": sha256_of_file(FIXTURE)}
FACTORY = '''
def make():
    def generator(z):
        """[n, 4] to images of 8 px, as the latents' own values: not the same for z and 2 z."""
        return z[:, :3, None, None].tanh() * z[:, 3].sigmoid()[:, None, None, None] * ramp

    import torch

    ramp = torch.linspace(0, 1, 64).reshape(8, 8)
    return generator
'''


def write_real(resolution: int, count: int = 40) -> None:
    """out/real: training images of noise, as many of every group."""
    ids = [f"train-{k}" for k in range(count)]
    pixels = np.random.default_rng(0).integers(0, 255, (count, resolution, resolution, 3), dtype=np.uint8)
    commit_shard(REAL, 0, pd.DataFrame({"id": ids}), "images", pixels)
    finish_store(REAL, 1, "images", (resolution, resolution, 3), "uint8")
    groups = np.arange(count) % 4
    labels = {"id": ids, "split": "train", "Blond_Hair": groups // 2, "Male": groups % 2}
    write_table(REAL / "labels.parquet", pd.DataFrame(labels))


def write_parameters(section: dict, resolution: int = 32, on_useless: str = "go_on") -> None:
    """params.yaml, and real images for the generator to be judged by."""
    write_real(resolution)
    content = copy.deepcopy(AVATARS) | {"generator": "load_gan", "load_gan": section}
    content["on_useless"] = on_useless
    content["prepare"]["resolution"] = resolution
    content["runtime"] |= {"device": "cpu", "precision": "fp32"}
    Path("params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(autouse=True)
def in_a_project_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_checkpoint_becomes_a_generator_with_card_and_samples():
    write_parameters(ZOO)
    load_gan.main()
    card = json.loads((GENERATOR / "card.json").read_text())
    assert {key: card[key] for key in ("kind", "latent_dim", "resolution", "normalises_latents")} == {
        "kind": "pgan",
        "latent_dim": 64,
        "resolution": 32,
        "normalises_latents": True,
    }
    assert card["source"] == {"file": FIXTURE.name, "sha256": ZOO["sha256"], "network": "avgG"}
    images = load_generator(GENERATOR, torch.device("cpu"))(torch.from_numpy(EXPECTED["z"])).numpy()
    assert np.abs(images - EXPECTED["avgG"]).max() < 1e-4
    samples = np.asarray(Image.open(GENERATOR / "samples" / "0032.png"))
    assert samples.shape == (4 * 64, 16 * 64, 3)  # 64 latents in rows of 16, each image enlarged to 64 px
    assert samples.std() > 10


def test_the_network_that_is_asked_for_is_taken():
    write_parameters(ZOO | {"network": "netG"})
    load_gan.main()
    images = load_generator(GENERATOR, torch.device("cpu"))(torch.from_numpy(EXPECTED["z"])).numpy()
    assert np.abs(images - EXPECTED["netG"]).max() < 1e-4


def test_a_function_of_the_projects_folder_becomes_a_generator(monkeypatch):
    Path("a_gan_of_ours.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(Path.cwd())  # as `python -m` does
    write_parameters({"name": "factory", "factory": "a_gan_of_ours:make", "latent_dim": 4}, resolution=8)
    load_gan.main()
    card = json.loads((GENERATOR / "card.json").read_text())
    assert (card["kind"], card["latent_dim"], card["resolution"]) == ("factory", 4, 8)
    assert card["normalises_latents"] is False
    assert (GENERATOR / "samples" / "0008.png").is_file()
    assert load_generator(GENERATOR, torch.device("cpu"))(torch.zeros(2, 4)).shape == (2, 3, 8, 8)


def zprime_section(folder: Path) -> dict:
    """A small network as train_gan leaves it in `folder`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Generator(latent_dim=4, resolution=8, channels={4: 4, 8: 4})
    architecture = {"latent_dim": 4, "resolution": 8, "channels": {4: 4, 8: 4}}
    made_by = "zprime, stage train_gan: the average (EMA) of the generator's weights"
    card = GeneratorCard(kind="pgan", latent_dim=4, resolution=8, architecture=architecture, made_by=made_by)
    save_generator(folder, network, card)
    path = folder / "generator.safetensors"
    return {"name": "zprime", "path": str(path), "sha256": sha256_of_file(path)}


def test_weights_made_beforehand_come_in_with_their_card(tmp_path):
    write_parameters(zprime_section(tmp_path / "made"), resolution=8)
    load_gan.main()
    card = json.loads((GENERATOR / "card.json").read_text())
    assert card["made_by"] == "zprime, stage train_gan: the average (EMA) of the generator's weights"
    assert card["normalises_latents"]
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    made = load_generator(tmp_path / "made", torch.device("cpu"))(z)
    assert torch.equal(load_generator(GENERATOR, torch.device("cpu"))(z), made)


def test_weights_made_beforehand_need_their_digest_and_their_card(tmp_path):
    section = zprime_section(tmp_path / "made")
    write_parameters(section | {"sha256": "0" * 64}, resolution=8)
    with pytest.raises(UserError, match=r"has sha256 \w+, expected 0000"):
        load_gan.main()
    write_parameters(section, resolution=8)
    (tmp_path / "made" / "card.json").unlink()
    with pytest.raises(UserError, match="made holds no generator that zprime wrote"):
        load_gan.main()


# Weights from elsewhere: their card is data, and nothing in it runs


def with_card(tmp_path: Path, **changes: Any) -> str:
    """What load_gan says where the card beside good weights is changed; a key of None is left out."""
    section = zprime_section(tmp_path / "made")
    path = tmp_path / "made" / CARD
    card = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in card.items() if value is not None})
    write_parameters(section, resolution=8)
    with pytest.raises(UserError) as raised:
        load_gan.main()
    assert "\n" not in str(raised.value)
    assert not GENERATOR.exists()
    return str(raised.value)


@pytest.mark.parametrize("kind", ["factory", "torchscript", "exported", "stylegan9", None, ["pgan"]])
def test_a_card_that_asks_for_a_program_runs_nothing(kind, tmp_path, monkeypatch):
    made, trace = tmp_path / "made", tmp_path / "trace"
    made.mkdir()
    (made / "evil.py").write_text(f"open({str(trace)!r}, 'w')\ndef run(): return None\n")
    monkeypatch.syspath_prepend(made)
    message = with_card(tmp_path, kind=kind, factory="evil:run", file="../evil.pt")
    assert (
        message == f"{made / CARD} is of kind {kind!r}; weights alone come in with their card: pgan, dcgan."
    )
    assert not trace.exists()
    runpy.run_path(str(made / "evil.py"))  # it does what it is said to do where it runs
    assert trace.exists()


@pytest.mark.parametrize("key", ["factory", "file", "command"])
def test_a_card_of_weights_with_another_key_is_refused_by_name(key, tmp_path):
    message = with_card(tmp_path, **{key: "../evil"})
    assert f"has {key!r}, which is no key of a card; these are: kind, latent_dim, " in message


@pytest.mark.parametrize("key", ["latent_dim", "resolution", "architecture"])
def test_a_card_without_what_is_needed_is_refused_by_name(key, tmp_path):
    assert with_card(tmp_path, **{key: None}) == f"{tmp_path / 'made' / CARD} has no {key}."


@pytest.mark.parametrize(
    ("key", "value", "types"),
    [
        ("resolution", "8", "str, expected int"),
        ("latent_dim", True, "bool, expected int"),
        ("architecture", [], "list, expected dict"),
        ("made_by", {}, "dict, expected str"),
    ],
)
def test_a_card_of_other_types_is_refused_by_name(key, value, types, tmp_path):
    assert with_card(tmp_path, **{key: value}).endswith(f"has a {key} of type {types}.")


def test_a_card_of_other_weights_is_refused(tmp_path):
    assert "and the card beside it is of weights with sha256 0000" in with_card(tmp_path, sha256="0" * 64)


def test_a_card_whose_sizes_are_not_the_architectures_is_refused(tmp_path):
    message = with_card(tmp_path, latent_dim=5)
    assert message.endswith("says 5 latent numbers and 8 px, and its architecture 4 and 8 px.")


@pytest.mark.parametrize(
    "architecture",
    [
        {"latent_dim": 4, "resolution": 8, "channels": {"4": 4}},
        {"latent_dim": 4, "resolution": 8, "channels": {"4": 4, "8": 5}},
        {"latent_dim": 4, "resolution": 8, "channels": [4, 4]},
        {"latent_dim": 4, "resolution": 8, "channels": {"4": 4, "8": 4}, "run": "evil"},
        {"latent_dim": 4, "resolution": 8, "channels": {"4": -4, "8": 4}},
    ],
)
def test_a_card_with_an_architecture_that_the_weights_have_not_is_one_sentence(architecture, tmp_path):
    assert "generator holds no generator that zprime wrote: " in with_card(
        tmp_path, architecture=architecture
    )


def write_training(on_useless: str) -> None:
    """Parameters of a training of two steps, and the images to train on."""
    write_real(8)
    content = copy.deepcopy(AVATARS) | {"generator": "train_gan", "on_useless": on_useless}
    content["prepare"]["resolution"] = 8
    sizes = {4: 1, 8: 1}
    content["train_gan"] = {
        "resolution": 8,
        "channels": {4: 4, 8: 4},
        "batch_size": {4: 4, 8: 4},
        "steps": sizes,
        "learning_rate": 1.5e-3,
        "group_balance": 0.0,
        "flip": False,
    }
    content["runtime"] |= {"device": "cpu", "precision": "fp32"}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def test_what_train_gan_leaves_is_brought_in_as_it_is(tmp_path):
    """The card of the default preset's generator is such a file too."""
    write_training("go_on")
    train_gan.main()
    trained = (GENERATOR / CARD).read_bytes()
    card = json.loads(trained)
    assert card["sha256"] == sha256_of_file(GENERATOR / "generator.safetensors")
    assert card["torch"] == torch.__version__
    assert card["trained_on"] == {"images": 40, "attributes": ["Blond_Hair", "Male"], "source": "avatars"}
    train_gan.main()
    assert (GENERATOR / CARD).read_bytes() == trained  # nothing in it varies from run to run
    shutil.copytree(GENERATOR, "made")
    write_parameters(
        {"name": "zprime", "path": "made/generator.safetensors", "sha256": card["sha256"]}, resolution=8
    )
    load_gan.main()
    assert json.loads((GENERATOR / CARD).read_text()) == card
    default = ROOT / "presets/weights/avatars" / CARD
    assert json.loads(default.read_text()).keys() == card.keys()


def test_images_without_a_protected_label_are_one_more_group(monkeypatch):
    """Of ten images of each group every third lacks the label; groups are drawn alike, and judged without."""
    write_training("go_on")
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["train_gan"]["group_balance"] = 1.0
    Path("params.yaml").write_text(yaml.safe_dump(content))
    labels = pd.read_parquet(REAL / "labels.parquet")
    gaps = np.arange(40) % 3 == 0
    write_table(REAL / "labels.parquet", labels.assign(Male=labels["Male"].mask(gaps, UNKNOWN)))
    trainings, judged = [], []

    def new_training(*arguments: Any) -> GANTraining:
        trainings.append(GANTraining(*arguments))
        return trainings[-1]

    def judge(read: Any, groups: np.ndarray, *others: Any) -> Any:
        judged.append(groups)
        return judge_generator(read, groups, *others)

    monkeypatch.setattr(train_gan, "GANTraining", new_training)
    monkeypatch.setattr(train_gan, "judge_generator", judge)
    train_gan.main()
    known = (np.arange(40) % 4)[~gaps]
    np.testing.assert_array_equal(judged[0], known)
    sizes = np.bincount(known)
    weights = np.where(gaps, 1 / gaps.sum(), 1 / sizes[np.arange(40) % 4])
    np.testing.assert_allclose(trainings[0].cumulated, np.cumsum(weights))
    assert json.loads((GENERATOR / CARD).read_text())["trained_on"]["images"] == 40


def test_a_generator_that_has_learned_nothing_stops_the_run_and_its_training_is_kept():
    write_training("stop")
    with pytest.raises(UserError, match=r"^variety of the generator is useless: .*train_gan\.steps"):
        train_gan.main()
    assert not GENERATOR.exists()
    (state,) = Path(".work/train_gan").glob("*/state.pt")
    saved = state.stat().st_mtime_ns
    with pytest.raises(UserError, match="is useless"):
        train_gan.main()
    assert state.stat().st_mtime_ns == saved  # no step was made again
    write_training("go_on")
    train_gan.main()
    variety, _ = read_judgements(GENERATOR)
    assert variety.level == "useless"


def test_a_generator_of_something_else_stops_the_run():
    write_parameters(ZOO, on_useless="stop")  # the real images are noise
    with pytest.raises(UserError, match=r"^variety of the generator is useless: only 0 % of"):
        load_gan.main()
    assert not GENERATOR.exists()


def test_the_default_presets_generator_comes_in_with_its_card(tmp_path):
    content = copy.deepcopy(AVATARS)
    section = content["load_gan"]
    made = ROOT / section["path"]
    scratch = preset_values("scratch", ROOT / PRESETS)
    write_parameters(section | {"path": str(made)})
    load_gan.main()
    card = json.loads((GENERATOR / CARD).read_text())
    assert card == json.loads(made.with_name(CARD).read_text())
    assert card["sha256"] == section["sha256"] == sha256_of_file(GENERATOR / made.name)
    trained = checked_parameters(scratch, "scratch").train_gan
    assert card["parameters"] == json.loads(json.dumps(trained.model_dump()))
    assert card["trained_on"]["source"] == scratch["prepare"]["source"]["name"]


def test_another_resolution_than_the_real_images_is_refused():
    write_parameters(ZOO, resolution=64)
    with pytest.raises(UserError, match=r"images of 32 px and prepare\.resolution is 64 px.* to 32\.$"):
        load_gan.main()
    assert not GENERATOR.exists()


def test_a_wrong_digest_is_refused_and_both_are_named():
    write_parameters(ZOO | {"sha256": "0" * 64})
    with pytest.raises(UserError) as raised:
        load_gan.main()
    assert f"has sha256 {ZOO['sha256']}, expected {'0' * 64}." in str(raised.value)
    assert not GENERATOR.exists()


def test_without_a_section_there_is_nothing_to_load():
    content = {name: section for name, section in AVATARS.items() if name != "load_gan"}
    Path("params.yaml").write_text(yaml.safe_dump(content | {"generator": "train_gan"}))
    with pytest.raises(UserError, match="load_gan is missing"):
        load_gan.main()


def test_every_kind_of_the_schema_can_be_brought_in():
    sections = get_args(get_args(LoadGAN)[0])
    names = [get_args(section.model_fields["name"].annotation) for section in sections]
    assert [(name,) for name in load_gan.IMPORTERS] == names
