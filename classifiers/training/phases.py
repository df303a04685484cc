"""Plans of phases: which images a training sees when, and what it learns from its own network so far."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from classifiers.networks.images import LabelledImages
from classifiers.selection import HALF
from classifiers.training.loop import Look
from pipeline.content.arrays import BoolArray, IntArray


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


def trained_twice(training: LabelledImages, steps: int, share: float, repeats: int) -> list[Stretch]:
    """Train once to find the images that a network gets wrong, and anew with these repeated.

    Source: "Just Train Twice", Liu et al., ICML 2021.

    Args:
        training: the images.
        steps: of the second network.
        share: of these steps, for the first network on top of them.
        repeats: λ_up, how often an image occurs in an epoch that the first network gets wrong.

    Returns:
        Two phases.
    """

    def upweighted(look: Look) -> LabelledImages:
        wrong = _predictions(look, training) != training.targets
        return training.subset(np.repeat(np.arange(len(training)), np.where(wrong, repeats, 1)))

    return [_identifying(training, steps, share), Stretch(steps, upweighted, fresh=True)]


def grouped_by_predictions(training: LabelledImages, steps: int, share: float) -> list[Stretch]:
    """Train once to part the images by a network's predictions, and anew on the groups (target, prediction).

    A network that is trained briefly predicts by the shortcut: what it says stands for the protected group,
    and no protected label is used. This is the partition that EIIL looks for (Creager et al., ICML 2021): for
    logits z, targets y and shares q in [0, 1] of the images in one environment it maximises
    (mean q g)² + (mean (1 - q) g)² with g = (σ(z) - y) z. That is convex in q, and highest where q = 1 for
    g > 0 and 0 for g < 0, or the reverse; and g > 0 where the prediction is wrong.

    Args:
        training: the images.
        steps: of the second network.
        share: of these steps, for the first network on top of them.

    Returns:
        Two phases, the second with two protected groups.
    """

    def grouped(look: Look) -> LabelledImages:
        groups = 2 * training.targets + _predictions(look, training)
        return replace(training, groups=groups, known=None, memberships=None)

    return [_identifying(training, steps, share), Stretch(steps, grouped, fresh=True, n_protected=2)]


def _identifying(training: LabelledImages, steps: int, share: float) -> Stretch:
    return Stretch(max(1, round(share * steps)), lambda look: training, identifies=True)


def _predictions(look: Look, images: LabelledImages) -> IntArray:
    """Predict the targets of images, [N] in {0, 1}, by the network so far."""
    return (look(images) >= HALF).astype(np.int64)
