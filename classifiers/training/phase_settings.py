"""The settings of a training's phases, `train.definitions.NAME.phases` of params.yaml.

A plan of phases is here a class of settings that stands in `AnyPhaseSettings`, which is the registry. Its
`stretches` says how many steps each phase has, and on which images.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.parameters import Parameters

if TYPE_CHECKING:
    from classifiers.networks.images import LabelledImages
    from classifiers.training.phases import Stretch


class PhaseSettings(Parameters):
    """What all plans of phases have."""

    needs: ClassVar[frozenset[str]] = frozenset()  # protected labels: training, validation, prediction
    finds_groups: ClassVar[bool] = False  # groups of its own, instead of the protected ones

    def stretches(self, training: "LabelledImages", steps: int) -> "list[Stretch]":
        """Return the phases of a training.

        Args:
            training: the training images.
            steps: of the network that is kept.

        Returns:
            One after the other.
        """
        raise NotImplementedError


class OnePhase(PhaseSettings):
    """All steps on all training images."""

    name: Literal["one"] = "one"

    def stretches(self, training: "LabelledImages", steps: int) -> "list[Stretch]":
        """Return a single phase."""
        from classifiers.training.phases import Stretch

        return [Stretch(steps, lambda look: training)]


class Pretraining(PhaseSettings):
    """First the synthetic images alone, then the real ones alone; all together if there are not both."""

    name: Literal["pretrain"] = "pretrain"
    share: float = Field(0.5, gt=0, lt=1)  # of the steps, on the synthetic images

    def stretches(self, training: "LabelledImages", steps: int) -> "list[Stretch]":
        """Return two phases, or one."""
        from classifiers.training.phases import pretrained

        return pretrained(training, steps, self.share)


class JTT(PhaseSettings):
    """Just train twice: the images that a first network gets wrong are repeated for a second one."""

    name: Literal["jtt"] = "jtt"
    share: float = Field(0.25, gt=0, le=1)  # steps of the first network, per step of the second
    repeats: int = Field(10, ge=1)  # of every image that the first network gets wrong

    def stretches(self, training: "LabelledImages", steps: int) -> "list[Stretch]":
        """Return two phases, the first of them on top of the steps."""
        from classifiers.training.phases import trained_twice

        return trained_twice(training, steps, self.share, self.repeats)


class PseudoGroups(PhaseSettings):
    """What a first network predicts stands for the protected group of a second one's training images."""

    finds_groups = True
    name: Literal["pseudo_groups"] = "pseudo_groups"
    share: float = Field(0.25, gt=0, le=1)  # steps of the first network, per step of the second

    def stretches(self, training: "LabelledImages", steps: int) -> "list[Stretch]":
        """Return two phases, the first of them on top of the steps."""
        from classifiers.training.phases import grouped_by_predictions

        return grouped_by_predictions(training, steps, self.share)


AnyPhaseSettings = Annotated[OnePhase | Pretraining | JTT | PseudoGroups, Field(discriminator="name")]
