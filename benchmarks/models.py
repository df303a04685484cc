"""Subjects of the benchmarks: networks of the presets' sizes with random weights, as stages read them."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from classifiers.labellers import Labeller
from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.cards import LabellerCard
from classifiers.networks.parameters import Backbone
from generators.networks.cards import GeneratorCard
from generators.networks.loading import save_generator
from generators.networks.progressive import Generator
from generators.parameters import Sample
from pipeline.cluster import make_shards
from pipeline.content.stores import finish_store, shard_sizes
from pipeline.parameters import Cluster, Runtime
from pipeline.runtime import resolve_device
from stages.sample import SHARD, new_sampler
from stages.shared.paths import ATTRIBUTES, GENERATOR, LATENTS

ATTRIBUTE = "target"  # one is enough to measure the labelling by


@dataclass(frozen=True)
class Subject:
    """A generator and a classifier, and an amount of work that takes a machine seconds.

    Attributes:
        latent_dim: of the generator.
        channels: of the generator, by px.
        backbone: of the classifier.
        images: of a run.
        shard_size: images.
        batch_size: images.
    """

    latent_dim: int
    channels: dict[int, int]
    backbone: str
    images: int
    shard_size: int
    batch_size: int

    @property
    def resolution(self) -> int:
        """The images' height and width in px."""
        return max(self.channels)


# For two cores the default benchmark's networks; for a GPU CelebA's at 128 px (23 M parameters), and as many
# images as took 45 minutes in the practice that zprime replaces.
AVATARS = Subject(64, {4: 128, 8: 128, 16: 64, 32: 32}, "small", 16384, 4096, 256)
CELEBA = Subject(512, {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128}, "resnet50", 175000, 8192, 256)


def subject_for(runtime: Runtime) -> Subject:
    """Return the subject that suits this machine's device."""
    return CELEBA if resolve_device(runtime).type == "cuda" else AVATARS


@contextlib.contextmanager
def project_of(subject: Subject) -> Iterator[Path]:
    """Change into a temporary project with the subject's networks and latents in out/."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        torch.manual_seed(0)
        generator = Generator(subject.latent_dim, subject.resolution, subject.channels)
        card = GeneratorCard(
            latent_dim=subject.latent_dim,
            resolution=subject.resolution,
            architecture={
                "latent_dim": subject.latent_dim,
                "resolution": subject.resolution,
                "channels": subject.channels,
            },
        )
        save_generator(GENERATOR, generator, card)
        backbone = Backbone.model_validate({"name": subject.backbone})
        labeller = Labeller([new_backbone(backbone, 0)], [None])
        labels = LabellerCard(
            backbone=backbone,
            attribute=ATTRIBUTE,
            threshold=0.5,
            thresholds=[0.5],
            halves=labeller.halves,
            prior=0.5,
            real_share=0.5,
        )
        save_network(ATTRIBUTES / ATTRIBUTE, labeller, labels)
        work, sizes = LATENTS / "z", shard_sizes(subject.images, SHARD)
        section = Sample(fit=2, validation=1, pair=subject.images - 3)
        set_up = partial(new_sampler, section, subject.latent_dim, sizes, work)
        make_shards("sample", work, sizes, set_up, Cluster(mode="inline"), "latents")
        finish_store(work, len(sizes), "latents", (subject.latent_dim,), "float32")
        yield Path(folder)
