"""load_gan: import a pretrained generator; writes weights or program, card, sample grid to out/generator/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from generators.latents import sample_latents
from generators.networks.cards import CARD, GeneratorCard
from generators.networks.loading import import_generator, load_generator
from generators.networks.probing import check_generator
from generators.networks.programs import import_factory, import_file
from generators.synthesis import render
from generators.trust import judge_generator
from generators.zoo import import_checkpoint
from pipeline.content.groups import group_names
from pipeline.content.pictures import save_grid
from pipeline.content.stores import Store
from pipeline.content.trust import settle
from pipeline.errors import UserError
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.inputs import of_known_groups, real_images
from stages.shared.paths import GENERATOR, REAL

GRID = 64  # images in the sample grid
BATCH = 16  # images

# Each importer writes the files of a generator into a folder and returns its card: kind, sizes, source, and
# what `generators/networks/loading.py` needs to load that kind. Its name is that of the section that it takes
# (`generators/networks/parameters.py`).
IMPORTERS: dict[str, Callable[[Any, Path, torch.device], GeneratorCard]] = {
    "zprime": import_generator,
    "gan_zoo": import_checkpoint,
    "torchscript": import_file,
    "exported": import_file,
    "factory": import_factory,
}


def main() -> None:
    """Import the generator, load it as `synthesize` will, and inspect its images."""
    parameters = read_parameters()
    section = parameters.load_gan
    if section is None:
        raise UserError("params.yaml: load_gan is missing: the preset pretrained has one.")
    accelerator = new_accelerator(parameters.runtime)
    device = accelerator.device
    work = work_folder("load_gan")
    output = work.folder / "generator"
    card = IMPORTERS[section.name](section, output, device)
    if card.resolution != parameters.prepare.resolution:
        raise UserError(
            f"load_gan: the generator makes images of {card.resolution} px and prepare.resolution is "
            f"{parameters.prepare.resolution} px: real and synthetic images train one classifier, so set "
            f"prepare.resolution to {card.resolution}."
        )
    card.write(output / CARD)
    generator = load_generator(output, device)
    if (generator.latent_dim, generator.resolution) != (card.latent_dim, card.resolution):
        raise UserError(
            f"load_gan: the card says {card.latent_dim} latent numbers and {card.resolution} px, and "
            f"its architecture {generator.latent_dim} and {generator.resolution} px."
        )
    found = check_generator(generator, generator.latent_dim, device, "load_gan: the generator")
    made_by = card.made_by or f"outside of zprime; brought in by stage load_gan, kind {section.name}"
    inspected = {"made_by": made_by, "normalises_latents": found.normalises_latents}
    card.model_copy(update=inspected).write(output / CARD)
    latents = sample_latents(0, "grid", 0, GRID, generator.latent_dim)
    pictures = render(generator, latents, BATCH, accelerator)
    save_grid(output / "samples" / f"{generator.resolution:04d}.png", pictures, columns=16)
    images = of_known_groups(real_images(parameters, "train", Store(REAL), filled=False))
    judgements = judge_generator(
        images.read,
        images.groups,
        group_names(parameters.target, parameters.protected),
        lambda z: render(generator, z, BATCH, accelerator),
        generator.latent_dim,
        0,
    )
    settle(judgements, output, parameters.on_useless)
    work.publish(GENERATOR, output)


if __name__ == "__main__":
    run_stage(main)
