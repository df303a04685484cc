"""A user's own generator: a TorchScript file, a torch.export file, or a function of their own code.

All three are programs and run with all your rights: **load only those you trust**. A file must have the
sha256 that the parameters name, so that only the file that was inspected runs.

`torch.export.load` is no safer (torch 2.15, tried with a crafted file): it reads sample inputs that are no
tensors with `torch.load(weights_only=False)`, likewise weights that are marked as pickled, and opaque
constants with `pickle.loads`, so that a `.pt2` can run any code while it is opened.
"""

import itertools
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.networks.cards import GeneratorCard
from generators.networks.files import refuse_another_file
from generators.networks.parameters import Exported, Factory, TorchScript
from generators.networks.probing import check_generator
from pipeline.content.elsewhere import first_line, made_by
from pipeline.errors import UserError

Call = Callable[[Tensor], Any]
FILES = {"torchscript": "generator.pt", "exported": "generator.pt2"}  # names in the generator's folder


@dataclass(frozen=True)
class Opened:
    """Holds a program, and the sizes of latents that it may take.

    Attributes:
        call: the program.
        latent_dims: the size D that the program names, or else all sizes in the shapes of its weights.
    """

    call: Call
    latent_dims: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Makes a program a generator: z [n, latent_dim] to images [n, 3, resolution, resolution], in float32."""

    call: Call
    latent_dim: int
    resolution: int

    def __call__(self, z: Tensor) -> Tensor:
        """Render latents in float32."""
        # The program chooses its own precision: many were never run in bfloat16.
        with torch.autocast(z.device.type, enabled=False):
            images: Tensor = self.call(z.float())
        return images


# --- Opening ---------------------------------------------------------------------------------------------


def open_torchscript(path: Path, device: torch.device) -> Opened:
    """Load a TorchScript file, in evaluation mode.

    Args:
        path: the file.
        device: where to put the program.

    Returns:
        The program, and the sizes of latents that it may take.

    Raises:
        UserError: the file is no TorchScript.
    """
    try:
        with warnings.catch_warnings():  # torch recommends another format, which the user may not have
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # torch raises several kinds, all meaning the same
        raise UserError(
            f"load_gan.path: {path} cannot be read as TorchScript ({first_line(error)})."
        ) from error
    return Opened(module, _latent_dims_of(module))


def open_exported(path: Path, device: torch.device) -> Opened:
    """Load a torch.export file; the size of its latents is that of its input.

    Args:
        path: the file.
        device: where to put the program.

    Returns:
        The program, and the one size of latents that it takes.

    Raises:
        UserError: the file is no torch.export file, or takes anything but one batch of any number of latents.
    """
    from torch.export.passes import move_to_device_pass  # lazy: slow import

    try:
        program = move_to_device_pass(torch.export.load(path), device)
    except Exception as error:  # torch raises several kinds, all meaning the same
        raise UserError(
            f"load_gan.path: {path} cannot be read as a torch.export file ({first_line(error)})."
        ) from error
    inputs = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].dim() != 2:
        raise UserError(f"load_gan.path: {path} takes other inputs than one batch of latents [n, D].")
    count, latent_dim = inputs[0].shape
    if isinstance(count, int):
        raise UserError(
            f"load_gan.path: {path} takes exactly {count} latents at a time: export it with a dynamic batch "
            "dimension, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)."
        )
    return Opened(program.module(), (int(latent_dim),))


def open_factory(factory: str, device: torch.device) -> Opened:
    """Call a function of the user's code that returns a generator.

    Args:
        factory: the function, as module:function. It returns a module (which is put into evaluation mode) or
            another callable.
        device: where to put a module.

    Returns:
        The program, and the sizes of latents that it may take.

    Raises:
        UserError: there is no such function, or it fails or returns something else.
    """
    made = made_by(factory, "load_gan.factory")
    if not callable(made):
        raise UserError(
            f"load_gan.factory: {factory} gives {type(made).__name__}, not a module or another callable."
        )
    if isinstance(made, nn.Module):
        made = made.eval().requires_grad_(False).to(device)
    return Opened(made, _latent_dims_of(made))


def _latent_dims_of(program: Any) -> tuple[int, ...]:
    """Return the program's attribute `latent_dim`, or else every size in the shapes of its weights."""
    named = getattr(program, "latent_dim", None)
    if isinstance(named, int):
        return (named,)
    if not isinstance(program, nn.Module):
        return ()
    weights = itertools.chain(program.parameters(), program.buffers())
    return tuple(sorted({size for weight in weights for size in weight.shape}))


# --- Importing -------------------------------------------------------------------------------------------


def import_file(section: TorchScript | Exported, folder: Path, device: torch.device) -> GeneratorCard:
    """Copy a program's file into `folder`.

    If the file is not the expected one, or is no generator that zprime can use, a `UserError` says so.

    Args:
        section: the program's path and sha256.
        folder: where to copy it to.
        device: where to try it.

    Returns:
        Its card, with what loads it again.
    """
    path = section.path
    name = f"load_gan.path: {path}"
    refuse_another_file(path, section.sha256)
    opened = (open_torchscript if section.name == "torchscript" else open_exported)(path, device)
    file = FILES[section.name]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / file)
    latent_dim, resolution = _latent_dim_and_resolution(opened, section.latent_dim, device, name)
    return GeneratorCard(
        kind=section.name,
        file=file,
        latent_dim=latent_dim,
        resolution=resolution,
        source={"file": path.name, "sha256": section.sha256},
    )


def import_factory(section: Factory, folder: Path, device: torch.device) -> GeneratorCard:
    """Try the user's function, and return a card that calls it again; the code is not copied."""
    opened = open_factory(section.factory, device)
    name = f"load_gan.factory: {section.factory}"
    latent_dim, resolution = _latent_dim_and_resolution(opened, section.latent_dim, device, name)
    return GeneratorCard(
        kind="factory",
        factory=section.factory,
        latent_dim=latent_dim,
        resolution=resolution,
        source={"factory": section.factory},
    )


def _latent_dim_and_resolution(
    opened: Opened, asked: int | None, device: torch.device, name: str
) -> tuple[int, int]:
    """Return D and the side of the images in px."""
    latent_dim = asked or latent_dim_of(opened, device, name)
    return latent_dim, check_generator(opened.call, latent_dim, device, name).resolution


@torch.inference_mode()
def latent_dim_of(opened: Opened, device: torch.device, name: str) -> int:
    """Find the size D of the latents [n, D] that a program takes.

    Args:
        opened: the program, and the sizes that it may take.
        device: where to try it.
        name: what error sentences call it.

    Returns:
        D.

    Raises:
        UserError: none of the sizes works, or more than one.
    """
    if len(opened.latent_dims) == 1:
        return opened.latent_dims[0]
    shapes = {}
    for size in opened.latent_dims:
        try:
            shapes[size] = tuple(opened.call(torch.zeros(2, size, device=device)).shape)
        except Exception:  # a wrong size: programs raise anything
            continue
    # If some sizes give one image per latent, the sizes that merely run without error are wrong.
    fitting = [size for size, shape in shapes.items() if len(shape) == 4 and shape[0] == 2] or list(shapes)
    if not fitting:
        raise UserError(
            f"{name} does not say of which size its latents are, and none of the sizes of its weights works: "
            "set load_gan.latent_dim, and check that it is called with z [n, D] alone."
        )
    if len(fitting) > 1:
        sizes = ", ".join(map(str, fitting))
        raise UserError(f"{name} takes latents of several sizes ({sizes}): set load_gan.latent_dim.")
    return fitting[0]
