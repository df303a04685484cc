"""Turns a recipe of params.yaml and training images into the phases of a training.

Biased real images and balanced synthetic ones teach the shortcut "rendered or photographed" (METHODS 3;
arXiv 2308.04553). Against it a recipe may separate the two in time or in groups, or fix their shares of a
batch.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from classifiers.networks.images import LabelledImages
from classifiers.training.loop import Look, Part, Phase
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.base import Context, SumOverProcesses, one_process
from classifiers.training.parameters import Training
from classifiers.training.phases import Stretch, of_both_sources
from classifiers.training.samplers import Sampler, SourceShareSampler, new_sampler
from classifiers.training.settings.base import Draws
from classifiers.training.settings.losses import ERMSettings


@dataclass(frozen=True)
class Facts:
    """What a recipe's phases need to know of the data, the network and the processes.

    Attributes:
        n_protected: the number of protected groups.
        feature_size: the number of features that the network's last layer gets.
        total: sums a tensor over the processes.
    """

    n_protected: int
    feature_size: int
    total: SumOverProcesses = one_process


def grouped_by_source(images: LabelledImages, n_groups: int) -> LabelledImages:
    """Double the number of groups: the groups of synthetic images come after those of real ones."""
    if images.synthetic is None and images.memberships is None:
        return images
    # Without synthetic images their groups are empty, but memberships still have a column for each.
    synthetic = np.zeros(len(images), dtype=bool) if images.synthetic is None else images.synthetic
    memberships = images.memberships
    if memberships is not None:
        rendered = synthetic[:, None]
        memberships = np.concatenate([memberships * ~rendered, memberships * rendered], axis=1)
    groups = images.groups + n_groups * synthetic.astype(np.int64)
    return replace(images, groups=groups, memberships=memberships)


def phases_of(recipe: Recipe, settings: Training, training: LabelledImages, facts: Facts) -> list[Phase]:
    """Return the phases of a recipe's training.

    The network that is kept has the steps of the settings; phases that only identify images come on top.
    Each phase has a method of its own: the groups' sizes differ, and q of Group DRO starts anew. Without
    synthetic images batches are drawn without fixed shares of the sources, groups are not doubled, and there
    is no pretraining: so every recipe has a meaning on every data set.

    Args:
        recipe: the recipe.
        settings: the steps, the batch size and the seed.
        training: the images.
        facts: of the data, the network and the processes.

    Returns:
        One phase or more.
    """
    stretches = recipe.phases.stretches(training, settings.steps)
    return [
        Phase(stretch.steps, partial(_part, recipe, settings, facts, stretch), stretch.fresh)
        for stretch in stretches
    ]


def _part(recipe: Recipe, settings: Training, facts: Facts, stretch: Stretch, look: Look) -> Part:
    """Build the images, the method and the sampler of a phase."""
    images, n_protected = stretch.images(look), stretch.n_protected or facts.n_protected
    n_groups = 2 * n_protected
    if stretch.identifies:
        recipe = Recipe(method=ERMSettings())
    if recipe.group_by == "group_and_source":
        images, n_groups = grouped_by_source(images, n_groups), 2 * n_groups
    context = Context(
        group_counts=images.group_sizes(n_groups),
        n_protected=n_protected,
        images=len(images),
        feature_size=facts.feature_size,
        seed=settings.seed,
        total=facts.total,
    )
    sampler = _sampler(recipe, settings, images, n_protected)
    return Part(images, recipe.method.build(context), sampler)


def _sampler(recipe: Recipe, settings: Training, images: LabelledImages, n_protected: int) -> Sampler:
    def of_size(batch_size: int) -> Sampler:
        if recipe.real_share is None or of_both_sources(images) is None:
            return new_sampler(recipe.sampler, images, batch_size, settings.seed)
        return SourceShareSampler(recipe.sampler, images, recipe.real_share, batch_size, settings.seed)

    return recipe.method.sampler(Draws(of_size, settings.batch_size, images, n_protected, settings.seed))
