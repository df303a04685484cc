"""Plans of phases: which images a training sees when, and what it learns from its own network so far."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from classifiers.networks.images import LabelledImages
from classifiers.training.loop import Look
from pipeline.content.arrays import BoolArray


@dataclass(frozen=True)
class Stretch:
    """A phase of a recipe's training, before its method and its sampler are built.

    Attributes:
        steps: how many steps there are.
        images: chooses the training images; its argument computes the scores of the network so far.
        fresh: whether the network starts anew: see `classifiers.training.loop.Phase`.
        identifies: whether the phase only serves to tell images apart for the next one: it is then trained by
            ERM on uniform batches, whatever the recipe says.
        n_protected: the number of protected groups that the images are parted into; None for the data's own.
    """

    steps: int
    images: Callable[[Look], LabelledImages]
    fresh: bool = False
    identifies: bool = False
    n_protected: int | None = None


def of_both_sources(images: LabelledImages) -> BoolArray | None:
    """Return which images are synthetic, [N]; None if all of them are, or none."""
    synthetic = images.synthetic
    return synthetic if synthetic is not None and 0 < synthetic.sum() < len(images) else None


def pretrained(training: LabelledImages, steps: int, share: float) -> list[Stretch]:
    """Part the steps: a share on the synthetic images alone, then the real ones alone.

    Source: "From Fake to Real", arXiv 2308.04553.

    Args:
        training: the images.
        steps: of both phases together.
        share: of the steps, on the synthetic images.

    Returns:
        Two phases; a single one if the images are not of both sources.
    """
    synthetic = of_both_sources(training)
    if synthetic is None:
        return [Stretch(steps, lambda look: training)]
    first = round(share * steps)
    rendered, real = (training.subset(np.flatnonzero(chosen)) for chosen in (synthetic, ~synthetic))
    return [Stretch(first, lambda look: rendered), Stretch(steps - first, lambda look: real)]
