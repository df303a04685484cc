"""The settings of methods that change the loss."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from classifiers.training.settings.base import MethodSettings

if TYPE_CHECKING:
    from classifiers.training.methods.base import Context, Method


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


class WeightedSettings(MethodSettings):
    """Loss weights by group: rare groups count more."""

    needs = frozenset({"training"})
    name: Literal["weighted"] = "weighted"
    # inverse: of the group's size; effective_number: of its effective number of images (1 - β^n)/(1 - β);
    # reweighing: P(target) P(protected) / P(target, protected)
    weights: Literal["inverse", "effective_number", "reweighing"] = "inverse"
    beta: float = Field(0.999, ge=0, lt=1)  # β of effective_number, near 1 - 1/n of a typical group

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.weighted import Weighted, group_weights

        weights = group_weights(self.weights, self.beta, context)
        return Weighted(weights, context.total)


class CVaRSettings(MethodSettings):
    """Conditional value at risk: the mean loss of the worst images of the batch."""

    name: Literal["cvar"] = "cvar"
    share: float = Field(0.3, gt=0, le=1)  # α: of the batch's images; 1: ERM

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.cvar import CVaR

        return CVaR(self.share, context.total)


class SpectralDecouplingSettings(MethodSettings):
    """Spectral decoupling: a penalty on logits away from a target of each class, instead of weight decay."""

    name: Literal["spectral_decoupling"] = "spectral_decoupling"
    strength: float = Field(0.025, ge=0)  # λ: of the mean of each class; (λ'/2) mean z² has λ' = 4 λ; 0: ERM
    # γ: the logits of classes 0 and 1 that are free of penalty
    targets: list[float] = Field([0.0, 0.0], min_length=2, max_length=2)

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.spectral_decoupling import SpectralDecoupling

        return SpectralDecoupling(self.strength, self.targets, context.total)


class OccamSettings(MethodSettings):
    """The losses of the backbone occam: its exits, their gates and their maps."""

    name: Literal["occam"] = "occam"
    # Accuracy above chance (0: guessing, 1: perfect) from which each exit's gate no longer learns anew.
    thresholds: list[float] = Field([0.5, 0.6, 0.7], min_length=3, max_length=3)
    suppression: float = Field(0.1, ge=0)  # weight of the loss of places that should say nothing

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.occam import Occam

        return Occam(context, self.thresholds, self.suppression)
