"""What the settings of all training methods have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipeline.parameters import Parameters

if TYPE_CHECKING:
    from classifiers.networks.images import LabelledImages
    from classifiers.training.methods.base import Context, Method
    from classifiers.training.samplers import Sampler


@dataclass(frozen=True)
class Draws:
    """What a phase's sampler is made of.

    Attributes:
        of_size: makes the recipe's sampler for a batch of that many images.
        batch_size: the number of images that a step trains on.
        images: of the phase.
        n_protected: the number of protected groups.
        seed: of the random numbers.
    """

    of_size: "Callable[[int], Sampler]"
    batch_size: int
    images: "LabelledImages"
    n_protected: int
    seed: int


class MethodSettings(Parameters):
    """What the settings of all methods have."""

    needs: ClassVar[frozenset[str]] = frozenset()  # protected labels: training, validation, prediction

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        raise NotImplementedError

    def sampler(self, draws: Draws) -> "Sampler":
        """Make the sampler of a phase; a method that draws more images than it trains on overrides this.

        Args:
            draws: what the sampler is made of.

        Returns:
            A function of the step that returns positions in `draws.images`: [B], or [B, m] where m images go
            together.
        """
        return draws.of_size(draws.batch_size)
