"""load_gan: a file or a function from elsewhere becomes out/generator, as every later stage reads it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from generators.loading import load_generator, save_generator
from generators.networks import Generator
from pipeline.errors import UserError
from pipeline.stores import sha256_of_file
from stages import load_gan
from stages.paths import GENERATOR

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "generators" / "fixtures" / "gan_zoo_pgan_32.pth"
EXPECTED = np.load(FIXTURE.with_name("gan_zoo_pgan_32_expected.npz"))
AVATARS = yaml.safe_load((ROOT / "presets" / "avatars.yaml").read_text())
ZOO = {"kind": "gan_zoo", "path": str(FIXTURE), "sha256": sha256_of_file(FIXTURE)}
FACTORY = '''
def make():
    def generator(z):
        """[n, 4] to images of 8 px, as the latents' own values: not the same for z and 2 z."""
        return z[:, :3, None, None].tanh() * z[:, 3].sigmoid()[:, None, None, None] * ramp

    import torch

    ramp = torch.linspace(0, 1, 64).reshape(8, 8)
    return generator
'''


def write_parameters(section: dict, resolution: int = 32) -> None:
    content = copy.deepcopy(AVATARS) | {"generator": "load_gan", "load_gan": section}
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
    write_parameters({"kind": "factory", "factory": "a_gan_of_ours:make", "latent_dim": 4}, resolution=8)
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
    card = {
        "kind": "pgan",
        "latent_dim": 4,
        "resolution": 8,
        "architecture": architecture,
        "made_by": made_by,
    }
    save_generator(folder, network, card)
    path = folder / "generator.safetensors"
    return {"kind": "zprime", "path": str(path), "sha256": sha256_of_file(path)}


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
    kinds = load_gan.LoadGAN.model_fields["kind"].annotation
    assert set(load_gan.IMPORTERS) == set(kinds.__args__)
