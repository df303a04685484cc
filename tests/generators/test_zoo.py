"""Checkpoints of pytorch_GAN_zoo: the same images as the published networks; nothing but tensors is read."""

import hashlib
import io
import itertools
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import load_generator
from generators.networks.parameters import GANZoo
from generators.zoo import import_checkpoint, read_checkpoint
from pipeline.content.files import sha256_of_file
from pipeline.errors import UserError

CPU = torch.device("cpu")
FIXTURE = Path(__file__).parent / "fixtures" / "gan_zoo_pgan_32.pth"
EXPECTED = np.load(FIXTURE.with_name("gan_zoo_pgan_32_expected.npz"))
Z = torch.from_numpy(EXPECTED["z"])
CONFIG = {
    "depthScale0": 6,
    "depthOtherScales": [5],
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "equalizedlR": True,
    "alpha": 0,
    "dimOutput": 3,
    "latentVectorDim": 7,
    "lossCriterion": "WGANGP",
}


@pytest.fixture(autouse=True)
def base_config(monkeypatch) -> type:
    """Provide the class that checkpoints pickle, under its name in pytorch_GAN_zoo."""
    modules = {name: types.ModuleType(name) for name in ("models", "models.utils", "models.utils.config")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    created = type("BaseConfig", (), {"__module__": "models.utils.config"})
    modules["models.utils.config"].BaseConfig = created  # type: ignore[attr-defined]
    return created


def saved(path: Path, config: dict[str, Any], zipped: bool = True, **networks: Any) -> Path:
    """Write a checkpoint as pytorch_GAN_zoo does."""
    record = sys.modules["models.utils.config"].BaseConfig()  # type: ignore[attr-defined]
    vars(record).update(config)
    content = {"config": record, "netD": {}, **networks, "tmp": record}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def imported(path: Path, folder: Path, network: str = "netG") -> tuple[Any, GeneratorCard]:
    """Import the generator of a checkpoint as the pipeline does: into a folder, from which it is loaded."""
    section = GANZoo(path=path, sha256=sha256_of_file(path), network=network)
    card = import_checkpoint(section, folder, CPU)
    card.write(folder / CARD)
    return load_generator(folder, CPU), card


def complaint(path: Path, folder: Path, network: str = "netG") -> str:
    with pytest.raises(UserError) as raised:
        imported(path, folder, network)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# PGAN: an independent writing of the published forward pass


def published_pgan(z: Tensor, state: dict[str, Tensor], config: dict[str, Any]) -> Tensor:
    """Compute `GNet.forward` of networks/progressive_conv_net.py, in the precision of z."""

    def normalised(x: Tensor) -> Tensor:
        return x * ((x**2).mean(1, keepdim=True) + 1e-8).rsqrt()

    def layer(name: str, x: Tensor) -> Tensor:
        weight, bias = (state[f"{name}.module.{part}"].to(x.dtype) for part in ("weight", "bias"))
        y = (
            F.linear(x, weight, bias)
            if weight.dim() == 2
            else F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        )
        return y * (2 / weight[0].numel()) ** 0.5 if config["equalizedlR"] else y

    x = F.leaky_relu(layer("formatLayer", normalised(z)), 0.2).view(len(z), -1, 4, 4)
    x = normalised(F.leaky_relu(layer("groupScale0.0", normalised(x)), 0.2))
    for k in range(len(config["depthOtherScales"])):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for j in range(2):
            x = normalised(F.leaky_relu(layer(f"scaleLayers.{k}.{j}", x), 0.2))
    return layer(f"toRGBLayers.{len(config['depthOtherScales'])}", x)


def random_pgan(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Draw a state dict with the names of pytorch_GAN_zoo; biases too, as they are scaled differently."""
    generator = torch.Generator().manual_seed(seed)
    widths = [config["depthScale0"], *config["depthOtherScales"]]
    shapes = {"formatLayer": (16 * widths[0], config["latentVectorDim"])}
    shapes["groupScale0.0"] = (widths[0], widths[0], 3, 3)
    for k, (below, width) in enumerate(itertools.pairwise(widths)):
        shapes[f"scaleLayers.{k}.0"] = (width, below, 3, 3)
        shapes[f"scaleLayers.{k}.1"] = (width, width, 3, 3)
    shapes |= {f"toRGBLayers.{k}": (3, width, 1, 1) for k, width in enumerate(widths)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.module.weight"] = torch.randn(shape, generator=generator)
        state[f"{name}.module.bias"] = torch.randn(shape[0], generator=generator)
    return state


@pytest.mark.parametrize("network", ["netG", "avgG"])
def test_the_fixtures_images_are_those_of_the_original_networks(network, tmp_path):
    generator, card = imported(FIXTURE, tmp_path, network)
    images = generator(Z).numpy()
    state = torch.load(FIXTURE, weights_only=False)[network]
    config = {"equalizedlR": True, "depthOtherScales": [32, 16, 8]}
    published, exact = (published_pgan(z, state, config).numpy() for z in (Z, Z.double()))
    # The expected images differ from exact ones by 1.7e-5. Only the same formula in the same order comes
    # closer, on a machine that sums as theirs did; on other machines it is nearly as close.
    of_this_machine = np.abs(published - EXPECTED[network]).max()
    assert of_this_machine < 4e-5
    np.testing.assert_allclose(images, EXPECTED[network], rtol=0, atol=1e-5 + of_this_machine)
    np.testing.assert_allclose(images, published, rtol=0, atol=1e-5)
    np.testing.assert_allclose(exact, EXPECTED[network], rtol=0, atol=2e-5)
    np.testing.assert_allclose(generator.double()(Z.double()).numpy(), exact, rtol=0, atol=1e-6)
    assert card.content() == {
        "kind": "pgan",
        "architecture": {
            "latent_dim": 64,
            "resolution": 32,
            "channels": {4: 32, 8: 32, 16: 16, 32: 8},
            "scales_bias": True,
        },
        "latent_dim": 64,
        "resolution": 32,
        "source": {"file": FIXTURE.name, "sha256": sha256_of_file(FIXTURE), "network": network},
    }


def test_netg_and_avgg_are_two_networks():
    assert np.abs(EXPECTED["netG"] - EXPECTED["avgG"]).max() > 0.1


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("equalized", [True, False], ids=["equalized", "plain"])
@pytest.mark.parametrize("widths", [[], [5], [5, 4, 4, 3]], ids=["4px", "8px", "64px"])
def test_any_depth_makes_the_published_images(widths, equalized, zipped, tmp_path):
    config = CONFIG | {"depthOtherScales": widths, "equalizedlR": equalized}
    state = random_pgan(config)
    path = saved(tmp_path / "a.pth", config, zipped, netG=state)
    generator, card = imported(path, tmp_path / "out")
    z = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    images = generator.double()(z.double())
    assert images.shape == (5, 3, card.resolution, card.resolution)
    assert card.resolution == 4 * 2 ** len(widths)
    # Weights are rounded to float32; if all of the few channels are near zero, pixel norm enlarges the error.
    error = (images - published_pgan(z.double(), state, config)).abs()
    assert error.mean() < 1e-6
    assert error.max() < 1e-3


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"module.{name}",
        lambda name: name.replace(".module", ""),
        lambda name: f"module.{name.replace('.module', '')}",
    ],
    ids=["data_parallel", "plain", "data_parallel_plain"],
)
def test_names_may_have_a_wrappers_part_or_not(renamed, tmp_path):
    state = random_pgan(CONFIG)
    path = saved(tmp_path / "a.pth", CONFIG, netG={renamed(name): t for name, t in state.items()})
    z = torch.randn(3, 7)
    images = imported(path, tmp_path / "out")[0](z)
    torch.testing.assert_close(images, published_pgan(z, state, CONFIG), rtol=1e-4, atol=1e-4)


def test_a_state_on_the_gpu_or_in_half_precision_is_read_as_float32(tmp_path):
    half = {name: tensor.half() for name, tensor in random_pgan(CONFIG).items()}
    generator, _ = imported(saved(tmp_path / "a.pth", CONFIG, netG=half), tmp_path / "out")
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.float32}


# DCGAN


def published_dcgan(width: int, depth: int, latent_dim: int) -> nn.Module:
    """Build networks/DCGAN_nets.py without the tanh, with statistics that a training might leave."""
    channels = width * 2**depth
    layers: dict[str, nn.Module] = {"batchNorm0": nn.BatchNorm2d(channels), "relu0": nn.ReLU()}
    for k in range(1, depth + 1):
        layers[f"convTranspose{k}"] = nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)
        layers[f"batchNorm{k}"] = nn.BatchNorm2d(channels // 2)
        layers[f"relu{k}"] = nn.ReLU()
        channels //= 2
    layers["outlayer"] = nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False)
    network = nn.Sequential(
        OrderedDict(
            formatLayer=nn.ConvTranspose2d(latent_dim, width * 2**depth, 4, 1, 0, bias=False),
            main=nn.Sequential(OrderedDict(layers)),
        )
    )
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor))
    return network.eval()


@pytest.mark.parametrize("counted", [True, False], ids=["", "before_torch_0.4.1"])
@pytest.mark.parametrize(("loss", "tanh"), [("DCGAN", True), ("MSE", True), ("WGANGP", False)])
@pytest.mark.parametrize("depth", [0, 2])
def test_a_dcgan_makes_the_published_images(depth, loss, tanh, counted, tmp_path):
    torch.manual_seed(0)
    network = published_dcgan(4, depth, 7)
    config = {"dimG": 4, "depth": depth, "latentVectorDim": 7, "dimOutput": 3, "lossCriterion": loss}
    state = {k: v for k, v in network.state_dict().items() if counted or "num_batches" not in k}
    generator, card = imported(saved(tmp_path / "a.pth", config, netG=state), tmp_path / "out")
    z = torch.randn(5, 7)
    expected = network(z[:, :, None, None])
    expected = expected.tanh() if tanh else expected
    torch.testing.assert_close(generator(z), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape[-1] == card.resolution == generator.resolution == 2 ** (depth + 3)
    assert card.kind == "dcgan"
    assert card.latent_dim == generator.latent_dim == 7
    assert card.architecture == {"latent_dim": 7, "width": 4, "depth": depth, "tanh": tanh}


# What is refused


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"alpha": 0.5}, ["alpha 0.5", "alpha 0"]),
        ({"leakyReluLeak": 0.1}, ["leakyReluLeak 0.1", "leakyReluLeak 0.2"]),
        ({"perChannelNormalization": False}, ["perChannelNormalization False", "True"]),
        ({"dimOutput": 1}, ["dimOutput 1", "dimOutput 3"]),
        ({"lossCriterion": "DCGAN"}, ["lossCriterion 'DCGAN'", "lossCriterion 'WGANGP'"]),
        ({"alpha": torch.zeros(300)}, ["alpha tensor("]),
        ({"latentVectorDim": None}, ["its config: latentVectorDim (it is None)"]),
        ({"latentVectorDim": ...}, ["its config has no latentVectorDim"]),
        ({"depthScale0": 10**12}, ["its config: depthScale0 (it is 1000000000000)"]),
        ({"depthOtherScales": [4] * 9}, ["depthOtherScales", "at most 8"]),
        ({"depthScale0": ...}, ["neither a PGAN nor a DCGAN"]),
        ({"depthScale0": 60000}, ["formatLayer.weight of shape [96, 7]", "implies [960000, 7]"]),
        ({"depthOtherScales": [5, 5]}, ["no tensor scaleLayers.1.0.weight"]),
        ({"depthOtherScales": []}, ["a tensor that its config does not imply: scaleLayers.0.0.weight"]),
        ({"latentVectorDim": 8}, ["formatLayer.weight of shape [96, 7]", "implies [96, 8]"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_network_that_zprime_has_not_is_named(change, parts, tmp_path):
    config = {name: value for name, value in (CONFIG | change).items() if value is not ...}
    message = complaint(saved(tmp_path / "a.pth", config, netG=random_pgan(CONFIG)), tmp_path / "out")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lossCriterion": "Hinge"}, "a DCGAN of lossCriterion 'Hinge'; zprime can read those of DCGAN, MSE"),
        ({"lossCriterion": [1]}, "a DCGAN of lossCriterion [1]"),
        ({"dimOutput": 1}, "a DCGAN of dimOutput 1; zprime can read those of 3."),
        ({"depth": 60}, "its config: depth (it is 60)"),
        ({"depth": 1}, "formatLayer.weight of shape [7, 16, 4, 4]; its config implies [7, 8, 4, 4]"),
    ],
)
def test_a_dcgan_that_zprime_has_not_is_named(change, sentence, tmp_path):
    config = {"dimG": 4, "depth": 2, "latentVectorDim": 7, "dimOutput": 3, "lossCriterion": "DCGAN"} | change
    path = saved(tmp_path / "a.pth", config, netG=published_dcgan(4, 2, 7).state_dict())
    assert sentence in complaint(path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["pgan", "dcgan"])
def test_a_conditional_network_is_refused_as_its_latents_are_not_all_noise(kind, tmp_path):
    """Its latents are noise and one-hot codes: of 7 numbers, 3 would be drawn from a wrong distribution."""
    if kind == "pgan":
        config, state = CONFIG, random_pgan(CONFIG)
    else:
        config = {"dimG": 4, "depth": 2, "latentVectorDim": 7, "dimOutput": 3, "lossCriterion": "DCGAN"}
        state = published_dcgan(4, 2, 7).state_dict()
    imported(saved(tmp_path / "a.pth", config | {"categoryVectorDim": 0}, netG=state), tmp_path / "out")
    path = saved(tmp_path / "b.pth", config | {"noiseVectorDim": 4, "categoryVectorDim": 3}, netG=state)
    assert complaint(path, tmp_path / "out") == (
        f"load_gan.path: netG of {path} is conditional: 3 of its 7 latent numbers are codes of categories "
        "(categoryVectorDim), and zprime draws all of them as normal noise."
    )
    path = saved(tmp_path / "c.pth", config | {"categoryVectorDim": None}, netG=state)
    assert "its config: categoryVectorDim (it is None)" in complaint(path, tmp_path / "out")


@pytest.mark.parametrize("held", ["netG", "avgG"])
def test_a_network_that_the_checkpoint_has_not_is_named_beside_the_one_it_has(held, tmp_path):
    path = saved(tmp_path / "a.pth", CONFIG, **{held: random_pgan(CONFIG)})
    wanted = "avgG" if held == "netG" else "netG"
    assert f"has no {wanted}; it has {held}." in complaint(path, tmp_path / "out", wanted)


def test_a_checkpoint_of_other_things_is_refused(tmp_path):
    torch.save({"netG": random_pgan(CONFIG)}, tmp_path / "a.pth")
    assert "no checkpoint of pytorch_GAN_zoo: it has no config" in complaint(tmp_path / "a.pth", tmp_path)
    torch.save([1, 2], tmp_path / "b.pth")
    assert "it has no config" in complaint(tmp_path / "b.pth", tmp_path)


def test_a_tensor_without_data_or_of_integers_is_refused(tmp_path):
    for odd in (torch.empty(96, 7, device="meta"), torch.ones(96, 7, dtype=torch.int64)):
        state = random_pgan(CONFIG) | {"formatLayer.module.weight": odd}
        message = complaint(saved(tmp_path / "a.pth", CONFIG, netG=state), tmp_path / "out")
        assert "no tensor formatLayer.weight of floats" in message


def test_the_digest_is_checked_before_anything_is_read(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"anything")
    section = GANZoo(path=path, sha256="0" * 64)
    with pytest.raises(UserError) as raised:
        import_checkpoint(section, tmp_path, CPU)
    digest = hashlib.sha256(b"anything").hexdigest()
    assert str(raised.value) == f"load_gan.path: {path} has sha256 {digest}, expected {'0' * 64}."
    path.unlink()
    with pytest.raises(UserError, match="there is no file"):
        import_checkpoint(section, tmp_path, CPU)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_one_sentence(zipped, tmp_path):
    path = saved(tmp_path / "a.pth", CONFIG, zipped, netG=random_pgan(CONFIG))
    size = path.stat().st_size
    for kept in (size - 1 if not zipped else size - 30, size // 2, size // 10, 100, 3, 0):
        os.truncate(path, kept)
        message = complaint(path, tmp_path / "out")
        assert "can be read as tensors only" in message or "declares tensors of" in message


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_flipped_bit_raises_no_other_error_than_a_users(zipped, tmp_path):
    whole = saved(tmp_path / "a.pth", CONFIG, zipped, netG=random_pgan(CONFIG)).read_bytes()
    random = np.random.default_rng(0)
    path, refused = tmp_path / "b.pth", 0
    for place in random.integers(0, min(len(whole), 2500), 60):  # where the pickle is
        broken = bytearray(whole)
        broken[place] ^= 1 << random.integers(8)
        path.write_bytes(broken)
        try:
            imported(path, tmp_path / "out")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


# What runs no code


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["config", "netG", "netD", "tmp"])
def test_a_malicious_pickle_runs_nothing(place, zipped, tmp_path):
    marker = tmp_path / "marker"
    config = sys.modules["models.utils.config"].BaseConfig()  # type: ignore[attr-defined]
    content = {"config": config, "netG": {}, "netD": {}, "tmp": None} | {place: Malicious(f"touch {marker}")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "can be read as tensors only (UnpicklingError)" in complaint(tmp_path / "a.pth", tmp_path)
    assert not marker.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # the file is as bad as it is meant to be
    assert marker.exists()


class Reduced:
    """Pickles as whatever it is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_config_class_can_be_abused_for_nothing(base_config, zipped, tmp_path):
    """Pickle can call a class (REDUCE), give it a state (BUILD), attributes and items."""
    marker = tmp_path / "marker"
    evil = Malicious(f"touch {marker}")
    abuses: list[Callable[[], Any]] = [
        lambda: Reduced(base_config, ("argument",)),
        lambda: Reduced(base_config, (), {"__setstate__": evil}),
        lambda: Reduced(base_config, (), ({}, {"__class__": evil})),
        lambda: Reduced(base_config, (), ({}, {"__class__": 3})),
        lambda: Reduced(base_config, (), None, iter([1, 2])),
        lambda: Reduced(base_config, (), None, None, iter([("key", "value")])),
    ]
    for abuse in abuses:
        torch.save({"config": abuse()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert "can be read as tensors only" in complaint(tmp_path / "a.pth", tmp_path)
    assert not marker.exists()


def test_attributes_of_the_config_are_plain_values_and_change_no_class(base_config, tmp_path):
    record = base_config()
    vars(record).update({"__init__": 1, "__class__": "x", "depthScale0": 3})
    torch.save({"config": record}, tmp_path / "a.pth")
    config = read_checkpoint(tmp_path / "a.pth")["config"]
    assert vars(config)["__init__"] == 1
    assert type(config)() is not config


def test_the_name_of_the_config_class_means_nothing_afterwards(tmp_path):
    path = saved(tmp_path / "a.pth", CONFIG, netG=random_pgan(CONFIG))
    read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


# What fills no memory and leaves no folder


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> None:
    """Write a zip's members again, each with its record changed."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            fresh = zipfile.ZipInfo(member.filename)
            change(fresh)
            archive.writestr(fresh, content)


def compress(member: zipfile.ZipInfo) -> None:
    member.compress_type = zipfile.ZIP_DEFLATED


def climb(member: zipfile.ZipInfo) -> None:
    member.filename = f"a/../../{member.filename}"


def root(member: zipfile.ZipInfo) -> None:
    member.filename = f"/{member.filename}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (compress, "compressed member"),
        (climb, "member outside its folder"),
        (root, "member outside its folder"),
    ],
)
def test_an_archive_that_torch_does_not_write_is_refused(change, sentence, tmp_path):
    path = saved(tmp_path / "a.pth", CONFIG, netG=random_pgan(CONFIG))
    rewritten(path, lambda member: None)
    imported(path, tmp_path / "out")  # written again without a change, it is read
    rewritten(path, change)
    assert sentence in complaint(path, tmp_path / "out")


def test_a_legacy_file_that_declares_more_than_it_has_is_refused(tmp_path):
    """The size of a storage stands in the pickle: a small file can claim any."""
    state = {"formatLayer.module.weight": torch.zeros(1000)}
    path = saved(tmp_path / "a.pth", CONFIG, zipped=False, netG=state)
    whole = path.read_bytes()
    number = pickle.dumps(1000, 2)[2:-1]  # BININT2 1000: the storage's elements, then the tensor's
    assert whole.count(number) >= 2
    large = pickle.dumps(2**31 - 1, 2)[2:-1]
    path.write_bytes(whole.replace(number, large, 1))
    assert "declares tensors of 8,589,934,588 bytes, but has" in complaint(path, tmp_path / "out")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_tensor_that_repeats_one_number_is_refused(zipped, tmp_path):
    state = random_pgan(CONFIG) | {"formatLayer.module.weight": torch.zeros(1).expand(10**6, 10**6)}
    path = saved(tmp_path / "a.pth", CONFIG, zipped, netG=state)
    assert path.stat().st_size < 10**5
    assert "a tensor that is larger than its storage" in complaint(path, tmp_path / "out")


def test_weights_that_two_networks_share_are_counted_once(tmp_path):
    state = random_pgan(CONFIG | {"depthScale0": 64})
    path = saved(tmp_path / "a.pth", CONFIG | {"depthScale0": 64}, netG=state, avgG=state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    assert path.stat().st_size < 1.5 * buffer.getbuffer().nbytes
    assert imported(path, tmp_path / "out")[0].resolution == 8
