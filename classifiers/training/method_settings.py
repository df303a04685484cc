"""The settings of recipes, `train.definitions.NAME` of params.yaml, and of their training methods.

A new method is a module of `methods`, and here a class of settings that stands in `AnyMethodSettings`,
which is the registry. Its `build` imports the module, and torch with it, when a training begins: reading
parameters needs neither.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from classifiers.networks.parameters import BackboneName
from classifiers.training.phase_settings import AnyPhaseSettings, OnePhase
from classifiers.training.samplers import SamplerName
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
    ) -> "Sampler":
        """Make the sampler of a phase; a method that draws more images than it trains on overrides this.

        Args:
            of_size: makes the recipe's sampler for a batch of that many images.
            batch_size: the number of images that a step trains on.
            images: of the phase.
            seed: of the random numbers.

        Returns:
            A function of the step that returns positions in `images`: [B], or [B, m] where m images go
            together.
        """
        return of_size(batch_size)


class ERMSettings(MethodSettings):
    """Empirical risk minimisation: the mean loss of the batch."""

    name: Literal["erm"] = "erm"

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.erm import ERM

        return ERM(context.total)


class GroupDROSettings(MethodSettings):
    """Group DRO: the loss of the worst group."""

    needs = frozenset({"training"})
    name: Literal["group_dro"] = "group_dro"
    step_size: float = Field(0.01, gt=0)  # η: how fast weight moves to the groups with the highest losses
    adjustment: float = Field(0.0, ge=0)  # C of C/√n_g, which is added to the loss of a group of n_g images

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.group_dro import GroupDRO

        return GroupDRO(context.group_counts, self.step_size, self.adjustment, context.total)


AnyMethodSettings = Annotated[ERMSettings | GroupDROSettings, Field(discriminator="name")]


class Recipe(Parameters):
    """The method that trains a classifier, and the images that it sees, in which order."""

    method: AnyMethodSettings
    phases: AnyPhaseSettings = OnePhase()
    backbone: BackboneName | None = None  # another one than train.backbone's, of the same width
    sampler: SamplerName = "uniform"
    weight_decay: float = Field(1e-4, ge=0)
    group_by: Literal["group", "group_and_source"] = "group"  # the source: real or synthetic
    real_share: float | None = Field(None, gt=0, lt=1)  # of real images in a batch; null: as they come

    @model_validator(mode="after")
    def _batches_have_one_meaning(self) -> "Recipe":
        if self.phases.name == "pretrain" and self.real_share is not None:
            raise ValueError("pretrain parts real and synthetic images, real_share mixes them: use one")
        return self
