"""Turns a recipe of params.yaml and training images into the phases of a training.

Biased real images and balanced synthetic ones teach the shortcut "rendered or photographed" (METHODS 3;
arXiv 2308.04553). Against it a recipe may separate the two in time or in groups, or fix their shares of a
batch.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from classifiers.networks.images import LabelledImages
from classifiers.training.loop import Look, Part, Phase
from classifiers.training.method_settings import Recipe, new_method
from classifiers.training.methods.base import Context, SumOverProcesses
from classifiers.training.parameters import Training
from classifiers.training.samplers import SAMPLERS, Sampler, SourceShareSampler
from pipeline.content.arrays import BoolArray


def grouped_by_source(images: LabelledImages, n_groups: int) -> LabelledImages:
    """Double the number of groups: the groups of synthetic images come after those of real ones."""
    if images.synthetic is None:
        return images
    return replace(images, groups=images.groups + n_groups * images.synthetic.astype(np.int64))


def phases_of(
    recipe: Recipe, settings: Training, training: LabelledImages, n_groups: int, total: SumOverProcesses
) -> list[Phase]:
    """Return the phases of a recipe's training, which together have the steps of the settings.

    If a recipe pretrains, the first phase has the synthetic images alone, the second the real ones alone, and
    each a method of its own: the groups' sizes differ, and q of Group DRO starts anew. Without synthetic
    images all steps are on the real ones, batches are drawn without fixed shares, and groups are not doubled:
    so every recipe has a meaning on every data set.

    Args:
        recipe: the recipe.
        settings: the steps, the batch size and the seed.
        training: the images.
        n_groups: of the data: 2 n_g.
        total: sums a tensor over the processes.

    Returns:
        One phase, or two for a recipe that pretrains.
    """
    if recipe.group_by == "group_and_source":
        training, n_groups = grouped_by_source(training, n_groups), 2 * n_groups
    parts = [(training, settings.steps)]
    synthetic = _of_both_sources(training)
    if recipe.pretrain > 0 and synthetic is not None:
        first = round(recipe.pretrain * settings.steps)
        parts = [
            (training.subset(np.flatnonzero(synthetic)), first),
            (training.subset(np.flatnonzero(~synthetic)), settings.steps - first),
        ]

    def part_of(images: LabelledImages, look: Look) -> Part:
        method = new_method(recipe.method, Context(images.group_counts(n_groups), total))
        return Part(images, method, _sampler(recipe, settings, images))

    return [Phase(steps, partial(part_of, images)) for images, steps in parts]


def _of_both_sources(images: LabelledImages) -> BoolArray | None:
    """Return which images are synthetic, [N]; None if all of them are, or none."""
    synthetic = images.synthetic
    return synthetic if synthetic is not None and 0 < synthetic.sum() < len(images) else None


def _sampler(recipe: Recipe, settings: Training, images: LabelledImages) -> Sampler:
    batch_size, seed, synthetic = settings.batch_size, settings.seed, _of_both_sources(images)
    if recipe.real_share is None or synthetic is None:
        return SAMPLERS[recipe.sampler](images.groups, batch_size, seed)
    return SourceShareSampler(recipe.sampler, images.groups, synthetic, recipe.real_share, batch_size, seed)
