"""What the settings of all training methods have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pipeline.parameters import Parameters

if TYPE_CHECKING:
    from classifiers.networks.images import LabelledImages
    from classifiers.training.methods.base import Context, Method
    from classifiers.training.samplers import Sampler


class MethodSettings(Parameters):
    """What the settings of all methods have."""

    needs: ClassVar[frozenset[str]] = frozenset()  # protected labels: training, validation, prediction

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        raise NotImplementedError

    def sampler(
        self,
        of_size: "Callable[[int], Sampler]",
        batch_size: int,
        images: "LabelledImages",
        seed: int,
        n_protected: int,
    ) -> "Sampler":
        """Make the sampler of a phase; a method that draws more images than it trains on overrides this.

        Args:
            of_size: makes the recipe's sampler for a batch of that many images.
            batch_size: the number of images that a step trains on.
            images: of the phase.
            seed: of the random numbers.
            n_protected: the number of protected groups.

        Returns:
            A function of the step that returns positions in `images`: [B], or [B, m] where m images go
            together.
        """
        return of_size(batch_size)
