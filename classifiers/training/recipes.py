"""What a recipe of params.yaml makes of training images: the phases of its training.

Against the shortcut "rendered or photographed", which biased real images and balanced synthetic ones teach
(METHODS 3; arXiv 2308.04553), a recipe may part the two in time, in groups, or fix their shares of a batch.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from classifiers.networks.images import LabelledImages
from classifiers.training.loop import Look, Part, Phase
from classifiers.training.method_settings import new_method
from classifiers.training.methods.base import Context, SumOverProcesses
from classifiers.training.parameters import Recipe, Training
from classifiers.training.samplers import SAMPLERS, Sampler, SourceShareSampler


def grouped_by_source(images: LabelledImages, n_groups: int) -> LabelledImages:
    """The same images in twice as many groups: those of synthetic images come after those of real ones."""
    if images.synthetic is None:
        return images
    return replace(images, groups=images.groups + n_groups * images.synthetic.astype(np.int64))


def phases_of(
    recipe: Recipe, settings: Training, training: LabelledImages, n_groups: int, total: SumOverProcesses
) -> list[Phase]:
    """The phases of a recipe's training, which have the steps of the settings together.

    Where a recipe pretrains, the first phase has synthetic images alone, the second real ones alone, and
    each a method of its own: the groups' sizes are others, and q of Group DRO starts anew. Without
    synthetic images all steps are on the real ones, batches are drawn as they come, and groups are what
    they are: so every recipe has a meaning on every data set.

    Args:
        n_groups: of the data: 2 n_g.
        total: the sum of a tensor over the processes.
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


def _of_both_sources(images: LabelledImages) -> NDArray[np.bool_] | None:
    """Which images are synthetic, [N]; None where all of them are, or none."""
    synthetic = images.synthetic
    return synthetic if synthetic is not None and 0 < synthetic.sum() < len(images) else None


def _sampler(recipe: Recipe, settings: Training, images: LabelledImages) -> Sampler:
    batch_size, seed, synthetic = settings.batch_size, settings.seed, _of_both_sources(images)
    if recipe.real_share is None or synthetic is None:
        return SAMPLERS[recipe.sampler](images.groups, batch_size, seed)
    return SourceShareSampler(recipe.sampler, images.groups, synthetic, recipe.real_share, batch_size, seed)
