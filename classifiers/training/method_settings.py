"""The training methods: their settings, which are `train.definitions.NAME.method` of params.yaml.

A new method is a module of `methods`, and here a class of settings that stands in `AnyMethodSettings`,
which is the registry. Its `build` imports the module, and torch with it, when a training begins: whoever only
reads parameters does without.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.parameters import Parameters

if TYPE_CHECKING:
    from classifiers.training.methods.base import Context, Method


class ERMSettings(Parameters):
    """Empirical risk minimisation: the mean loss of the batch."""

    name: Literal["erm"] = "erm"

    def build(self, context: "Context") -> "Method":
        """Give the method for a phase of a training."""
        from classifiers.training.methods.erm import ERM

        return ERM(context.total)


class GroupDROSettings(Parameters):
    """Group DRO: the loss of the worst group."""

    name: Literal["group_dro"] = "group_dro"
    step_size: float = Field(0.01, gt=0)  # η: how fast weight moves to the groups with the highest losses
    adjustment: float = Field(0.0, ge=0)  # C of C/√n_g, which is added to the loss of a group of n_g images

    def build(self, context: "Context") -> "Method":
        """Give the method for a phase of a training."""
        from classifiers.training.methods.group_dro import GroupDRO

        return GroupDRO(context.group_counts, self.step_size, self.adjustment, context.total)


AnyMethodSettings = Annotated[ERMSettings | GroupDROSettings, Field(discriminator="name")]


def new_method(settings: AnyMethodSettings, context: "Context") -> "Method":
    """Build the method that settings describe, for a phase of a training."""
    return settings.build(context)
