"""train_gan: train a generator on real images; writes weights, card, losses and grids to out/generator/."""

from functools import partial

import numpy as np
import pandas as pd
import torch

from generators.latents import sample_latents
from generators.networks.cards import GeneratorCard
from generators.networks.loading import load_generator, save_generator
from generators.synthesis import render
from generators.training.loop import GANTraining, train_gan
from generators.trust import judge_generator
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.groups import group_names
from pipeline.content.pictures import save_grid
from pipeline.content.resumable import Session
from pipeline.content.stores import Store
from pipeline.content.trust import settle
from pipeline.launch import in_processes
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.inputs import of_known_groups, real_images
from stages.shared.paths import GENERATOR, REAL

GRID = 64  # images in a sample grid


def main() -> None:
    """Train the progressive GAN; an interrupted run of the same training goes on where it was."""
    parameters = read_parameters()
    section = parameters.train_gan
    store = Store(REAL)
    images = real_images(parameters, "train", store, filled=False)
    accelerator = new_accelerator(parameters.runtime)
    work = work_folder("train_gan", writes=accelerator.is_main_process)
    output = work.folder / "generator"
    groups = images.groups
    if images.known is not None:  # a group of their own: how rare theirs is cannot be told
        groups = np.where(images.known, groups, 2 * parameters.n_protected)
    training = GANTraining(section, images.read, groups, accelerator)
    latents = sample_latents(section.seed, "grid", 0, GRID, section.latent_dim)

    def save_samples(resolution: int) -> None:
        averaged = partial(training.averaged, resolution=resolution)
        pictures = render(averaged, latents, GRID, accelerator)
        save_grid(output / "samples" / f"{resolution:04d}.png", pictures, columns=16)

    session = Session(
        "train_gan", accelerator, work.folder / CHECKPOINT, parameters.runtime.checkpoint_seconds
    )
    generator = train_gan(session, training, save_samples)
    if not accelerator.is_main_process:
        return
    card = GeneratorCard(  # values that vary from run to run would rerun its readers
        kind="pgan",
        latent_dim=section.latent_dim,
        resolution=section.resolution,
        architecture=section.model_dump(
            include={"latent_dim", "resolution", "channels", "mapping_layers", "mapping_width"}
        ),
        made_by="zprime, stage train_gan: the average (EMA) of the generator's weights",
        parameters=section.model_dump(),
        torch=torch.__version__,
        trained_on={
            "images": len(images),
            "attributes": parameters.attributes,
            "source": parameters.prepare.source["name"],
        },
        normalises_latents=True,
    )
    save_generator(output, generator, card)
    pd.DataFrame(training.losses.records).to_csv(output / "losses.csv", index=False)
    saved = load_generator(output, accelerator.device)  # as `synthesize` will load it
    known = of_known_groups(images)
    judgements = judge_generator(
        known.read,
        known.groups,
        group_names(parameters.target, parameters.protected),
        lambda z: render(saved, z, GRID, accelerator),
        section.latent_dim,
        section.seed,
    )
    settle(judgements, output, parameters.on_useless)
    work.publish(GENERATOR, output)


if __name__ == "__main__":
    run_stage(in_processes(main))
