"""The settings of recipes, `train.definitions.NAME` of params.yaml, and of their training methods.

A new method is a module of `methods`, and here a class of settings that stands in `AnyMethodSettings`,
which is the registry. Its `build` imports the module, and torch with it, when a training begins: reading
parameters needs neither. Its `needs` says which protected labels it needs; `Recipe.needs` joins them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from classifiers.networks.parameters import BackboneName
from classifiers.training.phase_settings import AnyPhaseSettings, OnePhase
from classifiers.training.samplers import SAMPLERS, SamplerName
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


class _OfCandidates(MethodSettings):
    """What the settings of methods that choose among the images of a larger batch have."""

    name: str  # a key of `RANKINGS` in classifiers/training/methods/hard_examples.py
    candidates: int = Field(2, ge=1)  # images that are forwarded, for each one that is trained on; 1: ERM

    def sampler(
        self,
        of_size: "Callable[[int], Sampler]",
        batch_size: int,
        images: "LabelledImages",
        seed: int,
        n_protected: int,
    ) -> "Sampler":
        """Make the recipe's sampler for batches of all candidates."""
        return of_size(self.candidates * batch_size)

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.hard_examples import RANKINGS, HardExamples

        return HardExamples(self.candidates, RANKINGS[self.name], context.total)


class HardestSettings(_OfCandidates):
    """Online hard example mining: the candidates with the highest losses."""

    name: Literal["hardest"] = "hardest"


class HardestInGroupsSettings(_OfCandidates):
    """The candidates of every group with the highest losses: as many of each group."""

    needs = frozenset({"training"})
    name: Literal["hardest_in_groups"] = "hardest_in_groups"


class LossProportionalSettings(_OfCandidates):
    """Candidates that are drawn without replacement in proportion to their losses."""

    name: Literal["loss_proportional"] = "loss_proportional"


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


class AdversarialExamplesSettings(MethodSettings):
    """ERM on images and their adversarial examples: FGSM with one step, PGD with several."""

    name: Literal["adversarial_examples"] = "adversarial_examples"
    epsilon: float = Field(8.0, ge=0)  # how far a pixel may move, in 1/255 of its range
    steps: int = Field(1, ge=1)  # of the attack
    step_size: float | None = Field(None, gt=0)  # in 1/255; null: epsilon / steps
    random_start: bool = False  # start the attack at random within epsilon
    share: float = Field(0.5, gt=0, le=1)  # of the adversarial examples in the loss

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.adversarial_examples import AdversarialExamples

        step_size = self.step_size or self.epsilon / self.steps
        return AdversarialExamples(
            self.epsilon, self.steps, step_size, self.random_start, self.share, context.total
        )


class MixingSettings(MethodSettings):
    """What the settings of methods that mix two images have."""

    alpha: float = Field(2.0, gt=0)  # of λ ~ Beta(α, α), the share of the first image
    mix: Literal["mixup", "cutmix"] = "mixup"  # all pixels in these shares, or a box of the other image

    def build(self, context: "Context") -> "Method":
        """Make the method for a phase of a training."""
        from classifiers.training.methods.mixing import Mixing

        return Mixing(self.alpha, self.mix, context.total)


class MixupSettings(MixingSettings):
    """ERM on mixtures of any two images."""

    name: Literal["mixup"] = "mixup"

    def sampler(
        self,
        of_size: "Callable[[int], Sampler]",
        batch_size: int,
        images: "LabelledImages",
        seed: int,
        n_protected: int,
    ) -> "Sampler":
        """Pair the images of a batch with one another."""
        from classifiers.training.pairs import AnyPairs

        return AnyPairs(of_size(batch_size), seed)


class LISASettings(MixingSettings):
    """LISA: ERM on mixtures of images that share the target or the protected group, and not both."""

    needs = frozenset({"training"})
    name: Literal["lisa"] = "lisa"
    same_target: float = Field(0.5, ge=0, le=1)  # share of pairs of one target and two protected groups

    def sampler(
        self,
        of_size: "Callable[[int], Sampler]",
        batch_size: int,
        images: "LabelledImages",
        seed: int,
        n_protected: int,
    ) -> "Sampler":
        """Pair the images of a batch with others of the same target, or of the same protected group."""
        from classifiers.training.pairs import SelectivePairs

        return SelectivePairs(of_size(batch_size), images, n_protected, self.same_target, seed)


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


AnyMethodSettings = Annotated[
    ERMSettings
    | GroupDROSettings
    | WeightedSettings
    | HardestSettings
    | HardestInGroupsSettings
    | LossProportionalSettings
    | CVaRSettings
    | SpectralDecouplingSettings
    | AdversarialExamplesSettings
    | MixupSettings
    | LISASettings
    | DomainAdversarialSettings
    | AdversarialDebiasingSettings
    | OccamSettings,
    Field(discriminator="name"),
]


class Recipe(Parameters):
    """The method that trains a classifier, and the images that it sees, in which order."""

    method: AnyMethodSettings
    phases: AnyPhaseSettings = OnePhase()
    backbone: BackboneName | None = None  # another one than train.backbone's, of the same width
    sampler: SamplerName = "uniform"
    weight_decay: float = Field(1e-4, ge=0)
    group_by: Literal["group", "group_and_source"] = "group"  # the source: real or synthetic
    real_share: float | None = Field(None, gt=0, lt=1)  # of real images in a batch; null: as they come

    @property
    def needs(self) -> frozenset[str]:
        """Which protected labels it needs: "training", "validation" to fit on, "prediction"."""
        grouped = {"training"} if self.group_by == "group_and_source" else set()
        trained = frozenset(grouped).union(self.method.needs, SAMPLERS[self.sampler].needs)
        return self.phases.needs | (trained - {"training"} if self.phases.finds_groups else trained)

    @model_validator(mode="after")
    def _batches_have_one_meaning(self) -> "Recipe":
        if self.phases.name == "pretrain" and self.real_share is not None:
            raise ValueError("pretrain parts real and synthetic images, real_share mixes them: use one")
        return self
