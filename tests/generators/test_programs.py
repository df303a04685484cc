"""A user's own generator: it is found usable, or refused in a sentence that says what is wrong with it."""

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import load_generator
from generators.networks.parameters import Exported, Factory, TorchScript
from generators.networks.probing import check_generator
from generators.networks.programs import Opened, import_factory, import_file, latent_dim_of, open_factory
from pipeline.content.files import sha256_of_file, write_json
from pipeline.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")

CPU = torch.device("cpu")
Z = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """Maps z [n, 6] to images of 8 px over 10 features, with a norm and dropout for training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(6, 10)
        self.norm = nn.BatchNorm1d(10)
        self.dropout = nn.Dropout(0.5)
        self.pixels = nn.Linear(10, 192)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dropout(self.norm(self.hidden(z)))
        return torch.tanh(self.pixels(x).reshape(z.shape[0], 3, 8, 8))


class Named(Small):
    latent_dim: int = 6


class Normalising(Small):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z / z.norm(dim=1, keepdim=True))


def scripted(path: Path, network: nn.Module) -> Path:
    torch.jit.save(torch.jit.script(network), path)
    return path


def exported(path: Path, network: nn.Module, dynamic: bool = True, inputs: tuple[Tensor, ...] = (Z,)) -> Path:
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic else None
    torch.export.save(torch.export.export(network, inputs, dynamic_shapes=shapes), path)
    return path


@pytest.fixture
def factory(monkeypatch) -> Callable[[Any], str]:
    """Make `my_gan:make` return an object; return the name that the parameters would have."""

    def offer(made: Any) -> str:
        module = types.ModuleType("my_gan")
        module.make = made if isinstance(made, types.FunctionType) else lambda: made  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_gan", module)
        return "my_gan:make"

    return offer


FILES = {"torchscript": TorchScript, "exported": Exported}
Section = TorchScript | Exported | Factory


def section_of(name: str, source: Path | str, latent_dim: int | None = None) -> Section:
    if isinstance(source, str):
        return Factory(factory=source, latent_dim=latent_dim)
    return FILES[name](path=source, sha256=sha256_of_file(source), latent_dim=latent_dim)


def imported(section: Section, folder: Path) -> tuple[Any, GeneratorCard]:
    """Import a program as the pipeline does: into a folder, from which it is loaded."""
    card = (import_factory if section.name == "factory" else import_file)(section, folder, CPU)
    card.write(folder / CARD)
    return load_generator(folder, CPU), card


def complaint(section: Section, folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        imported(section, folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# What is usable


def test_a_torchscript_file_makes_its_images_wherever_its_original_is(tmp_path):
    path = scripted(tmp_path / "a.pt", Small())  # written in training mode
    section = section_of("torchscript", path)
    generator, card = imported(section, tmp_path / "out")
    path.unlink()
    generator = load_generator(tmp_path / "out", CPU)
    torch.testing.assert_close(generator(Z), Small().eval()(Z))
    assert (generator.latent_dim, generator.resolution) == (6, 8)
    assert card.content() == {
        "kind": "torchscript",
        "file": "generator.pt",
        "latent_dim": 6,
        "resolution": 8,
        "source": {"file": "a.pt", "sha256": section.sha256},
    }


def test_an_exported_file_makes_its_images_in_batches_of_any_size(tmp_path):
    path = exported(tmp_path / "a.pt2", Small().eval())
    generator, card = imported(section_of("exported", path), tmp_path / "out")
    with torch.inference_mode():
        torch.testing.assert_close(generator(Z[:3]), Small().eval()(Z[:3]))
        assert generator(torch.zeros(11, 6)).shape == (11, 3, 8, 8)
    assert (generator.latent_dim, generator.resolution, card.kind) == (6, 8, "exported")


def test_a_factory_gives_a_module_in_evaluation_mode(factory, tmp_path):
    generator, card = imported(section_of("factory", factory(lambda: Small())), tmp_path / "out")
    torch.testing.assert_close(generator(Z), Small().eval()(Z))
    assert (generator.latent_dim, generator.resolution) == (6, 8)
    assert card.factory == "my_gan:make"
    assert not generator(Z).requires_grad


def test_a_factory_may_give_a_function(factory, tmp_path):
    network = Small().eval()
    name = factory(lambda: lambda z: network(z))
    generator, _ = imported(section_of("factory", name, latent_dim=6), tmp_path / "out")
    torch.testing.assert_close(generator(Z), network(Z))


def test_a_module_of_the_projects_folder_is_found(monkeypatch, tmp_path):
    (tmp_path / "their_gan.py").write_text(
        "def make():\n    return lambda z: z[:, :3, None, None] * z[:, 3:5, None].unsqueeze(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert callable(open_factory("their_gan:make", CPU).call)


def test_programs_compute_in_float32_under_autocast(factory, tmp_path):
    generator, _ = imported(section_of("factory", factory(lambda: Small())), tmp_path / "out")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(Z)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, generator(Z), rtol=0, atol=0)


# The size of the latents


@pytest.mark.parametrize("network", [Named, Small])
def test_the_size_is_the_one_that_is_named_or_the_only_one_that_works(network, factory, tmp_path):
    assert imported(section_of("factory", factory(lambda: network())), tmp_path)[1].latent_dim == 6
    path = scripted(tmp_path / "a.pt", network())
    assert imported(section_of("torchscript", path), tmp_path)[1].latent_dim == 6


def test_a_size_that_runs_but_gives_other_images_than_latents_is_not_taken(factory):
    class Reshaping(Small):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z.reshape(-1, 6))

    network = Reshaping().eval()
    opened = Opened(network, (3, 6, 12))  # two latents of 3 or 12 are one or four of 6
    assert latent_dim_of(opened, CPU, "it") == 6


def test_several_sizes_that_work_are_listed(factory, tmp_path):
    class Padding(Small):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(nn.functional.pad(z, (0, 10))[:, :6])

    name = factory(lambda: Padding())
    message = complaint(section_of("factory", name), tmp_path)
    assert "takes latents of several sizes (6, 10, 192): set load_gan.latent_dim." in message
    assert imported(section_of("factory", name, latent_dim=10), tmp_path)[0].latent_dim == 10


def test_a_program_that_says_nothing_of_its_latents_is_refused(factory, tmp_path):
    network = Small().eval()
    message = complaint(section_of("factory", factory(lambda: lambda z: network(z))), tmp_path)
    assert "does not say of which size its latents are" in message


def test_a_latent_dim_that_does_not_fit_is_named(factory, tmp_path):
    message = complaint(section_of("factory", factory(lambda: Small()), latent_dim=7), tmp_path)
    assert "fails on latents [4, 7] (RuntimeError: " in message
    assert "check load_gan.latent_dim" in message
    path = exported(tmp_path / "a.pt2", Small().eval())
    assert "fails on latents [4, 7]" in complaint(section_of("exported", path, latent_dim=7), tmp_path)


# What is not


def images_of(z: Tensor) -> Tensor:
    """Make images that depend on every latent, and on nothing else: [n, 3, 8, 8] in [-1, 1]."""
    return torch.sin(z.sum(1)[:, None, None, None] + torch.arange(192.0).reshape(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda z: images_of(z)[:, :1], "gives [4, 1, 8, 8] for latents [4, 6]; images are float [4, 3, R"),
        (lambda z: images_of(z)[:, :, :4], "gives [4, 3, 4, 8] for latents [4, 6]"),
        (lambda z: images_of(z)[:1], "gives [1, 3, 8, 8] for latents [4, 6]"),
        (lambda z: images_of(z).permute(0, 2, 3, 1), "gives [4, 8, 8, 3] for latents [4, 6]"),
        (lambda z: images_of(z).flatten(1), "gives [4, 192] for latents [4, 6]"),
        (lambda z: (images_of(z), None), "gives a tuple for latents [4, 6]"),
        (lambda z: (images_of(z) * 127).to(torch.uint8), "gives uint8; images are float"),
        (lambda z: images_of(z) / 0, "gives images with NaN or infinite values."),
        (lambda z: images_of(z) * float("nan"), "gives images with NaN or infinite values."),
        (lambda z: (images_of(z) + 1) * 127.5, "scale them to [-1, 1]"),
        (lambda z: images_of(z * 0), "gives the same image for every latent."),
        (lambda z: images_of(z)[:, :, :1, :1].expand(-1, 3, 8, 8), "gives images of one colour only."),
        (lambda z: images_of(z + torch.rand(1)), "gives other images of the same latents each time"),
        (lambda z: images_of(z - z.mean(0)), "depend on the other latents of their batch"),
        (lambda z: 1 / 0, "fails on latents [4, 6] (ZeroDivisionError: division by zero)"),
    ],
)  # fmt: skip
def test_what_gives_no_images_is_told_what_it_gives(call, sentence, factory, tmp_path):
    message = complaint(section_of("factory", factory(lambda: call), latent_dim=6), tmp_path)
    assert message.startswith("load_gan.factory: my_gan:make ")
    assert sentence in message


def test_the_names_of_the_values_are_those_that_were_there():
    with pytest.raises(UserError, match=r"^it gives values from 0\.\d+ to 25[45]\.?\d*: scale them"):
        check_generator(lambda z: (images_of(z) + 1) * 127.5, 6, CPU, "it")


def test_images_without_a_tanh_may_leave_the_range_a_little():
    assert check_generator(lambda z: images_of(z) * 4, 6, CPU, "it").resolution == 8


@pytest.mark.parametrize(("network", "normalises"), [(Small, False), (Normalising, True)])
def test_it_is_measured_whether_latents_are_normalised(network, normalises):
    assert check_generator(network().eval(), 6, CPU, "it").normalises_latents == normalises


def test_dropout_and_batch_norm_that_were_exported_for_training_are_noticed(tmp_path):
    class WithoutNorm(Small):
        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.pixels(self.dropout(self.hidden(z))).reshape(z.shape[0], 3, 8, 8))

    path = exported(tmp_path / "a.pt2", WithoutNorm().train())
    assert "other images of the same latents each time" in complaint(section_of("exported", path), tmp_path)
    with pytest.raises(UserError, match="depend on the other latents of their batch"):
        network = Small().train()
        network.dropout.eval()
        check_generator(network, 6, CPU, "it")


def test_an_exported_file_of_one_batch_size_is_told_how_to_export(tmp_path):
    path = exported(tmp_path / "a.pt2", Small().eval(), dynamic=False)
    message = complaint(section_of("exported", path), tmp_path)
    assert "takes exactly 5 latents at a time: export it with a dynamic batch dimension" in message


def test_an_exported_file_of_other_inputs_is_refused(tmp_path):
    class Two(Small):
        def forward(self, z: Tensor, noise: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(z + noise)

    path = exported(tmp_path / "a.pt2", Two().eval(), dynamic=False, inputs=(Z, Z))
    assert "takes other inputs than one batch of latents [n, D]" in complaint(
        section_of("exported", path), tmp_path
    )


@pytest.mark.parametrize(
    ("kind", "sentence"), [("torchscript", "as TorchScript"), ("exported", "torch.export")]
)
def test_a_file_of_another_kind_or_a_broken_one_is_refused(kind, sentence, tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    assert sentence in complaint(section_of(kind, path), tmp_path / "out")
    os.truncate(path, 1000)
    assert sentence in complaint(section_of(kind, path), tmp_path / "out")
    path.write_bytes(b"")
    assert sentence in complaint(section_of(kind, path), tmp_path / "out")


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_a_file_runs_only_with_the_sha256_that_was_named(kind, tmp_path):
    path = scripted(tmp_path / "a.pt", Small())
    section = FILES[kind](path=path, sha256="0" * 64)
    message = complaint(section, tmp_path / "out")
    assert message == f"load_gan.path: {path} has sha256 {sha256_of_file(path)}, expected {'0' * 64}."


@pytest.mark.parametrize(
    ("name", "made", "sentence"),
    [
        ("no_such:make", None, "cannot be called (ModuleNotFoundError: No module named 'no_such')"),
        ("my_gan:build", None, "cannot be called (AttributeError: "),
        ("my_gan:make", 3, "gives int, not a module or another callable"),
    ],
)  # fmt: skip
def test_a_factory_that_is_none_is_refused(name, made, sentence, factory, tmp_path):
    factory(made)
    message = complaint(section_of("factory", name), tmp_path)
    assert message.startswith(f"load_gan.factory: {name} {sentence}")


# The folder


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_a_card_cannot_name_a_file_outside_its_folder(kind, tmp_path):
    """The imported program is opened, whatever the card says."""
    write = scripted if kind == "torchscript" else exported
    path = write(tmp_path / "a.pt", Small().eval())
    card = imported(section_of(kind, path), tmp_path / "out")[1]
    card.model_copy(update={"file": "../other.pt"}).write(tmp_path / "out" / CARD)
    (tmp_path / "other.pt").write_bytes(b"none of ours")
    torch.testing.assert_close(load_generator(tmp_path / "out", CPU)(Z), Small().eval()(Z))


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000])
def test_a_card_that_is_none_is_one_sentence(content, tmp_path):
    (tmp_path / CARD).write_text(content)
    with pytest.raises(UserError, match=r"holds no generator that zprime wrote: .*\.$"):
        load_generator(tmp_path, CPU)


@pytest.mark.parametrize("architecture", [None, [], {}, {"channels": 3}, {"latent_dim": -1, "channels": {}}])
@pytest.mark.parametrize("kind", ["pgan", "dcgan"])
def test_an_architecture_that_is_none_is_one_sentence(kind, architecture, tmp_path):
    write_json(
        tmp_path / CARD, {"kind": kind, "latent_dim": 3, "resolution": 4, "architecture": architecture}
    )
    with pytest.raises(UserError, match=r"holds no generator that zprime wrote: .*\.$"):
        load_generator(tmp_path, CPU)


def test_a_kind_that_nobody_knows_is_refused(tmp_path):
    GeneratorCard(kind="stylegan9", latent_dim=3, resolution=4).write(tmp_path / CARD)
    with pytest.raises(UserError, match="stylegan9"):
        load_generator(tmp_path, CPU)


def test_a_card_without_a_kind_is_one_of_zprimes_own_gans(tmp_path):
    write_json(tmp_path / CARD, {"architecture": {"latent_dim": 3, "resolution": 4, "channels": {"4": 2}}})
    with pytest.raises(UserError, match=r"generator\.safetensors"):
        load_generator(tmp_path, CPU)
