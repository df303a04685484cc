"""The settings of methods with an adversary that guesses the protected group."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from classifiers.training.settings.base import MethodSettings

if TYPE_CHECKING:
    from classifiers.training.methods.base import Context, Method


class DomainAdversarialSettings(MethodSettings):
    """DANN: features from which a head cannot tell the protected group."""

    needs = frozenset({"training"})
    name: Literal["domain_adversarial"] = "domain_adversarial"
    penalty: float = Field(1.0, ge=0)  # λ: how much of the head's gradient, reversed, reaches the network
    conditional: bool = False  # the head knows the target: what follows from it need not be hidden
    hidden: int = Field(64, ge=1)  # units of the head
    own_rate: float = Field(5.0, gt=0)  # learning rate of the head, relative to the network's

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.domain_adversarial import DomainAdversarial

        return DomainAdversarial(context, self.penalty, self.conditional, self.hidden, self.own_rate)


class AdversarialDebiasingSettings(MethodSettings):
    """Adversarial de-biasing: steps that an adversary of the prediction does not profit from."""

    needs = frozenset({"training"})
    name: Literal["adversarial_debiasing"] = "adversarial_debiasing"
    # The adversary sees the logit; with equalized_odds the target too.
    constraint: Literal["demographic_parity", "equalized_odds"] = "equalized_odds"
    heads: Literal["attributes", "intersections"] = "attributes"  # what the adversary guesses
    alpha: float = Field(1.0, ge=0)  # α: how much of its gradient is subtracted
    rising: bool = False  # α rises from 0, with the root of the step
    projection: bool = True  # subtract what of the step would help the adversary
    own_rate: float = Field(10.0, gt=0)  # learning rate of the adversary, relative to the network's

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.adversarial_debiasing import AdversarialDebiasing

        return AdversarialDebiasing(
            context,
            self.constraint,
            self.heads,
            self.alpha,
            self.rising,
            self.projection,
            self.own_rate,
        )
