"""The settings of methods that choose, change or mix the images of a batch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from classifiers.training.settings.base import Draws, MethodSettings

if TYPE_CHECKING:
    from classifiers.training.methods.base import Context, Method
    from classifiers.training.samplers import Sampler


class _OfCandidates(MethodSettings):
    """What the settings of methods that choose among the images of a larger batch have."""

    name: str  # a key of `RANKINGS` in classifiers/training/methods/hard_examples.py
    candidates: int = Field(2, ge=1)  # images that are forwarded, for each one that is trained on; 1: ERM

    def sampler(self, draws: Draws) -> "Sampler":
        """Make the recipe's sampler for batches of all candidates."""
        return draws.of_size(self.candidates * draws.batch_size)

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

    def sampler(self, draws: Draws) -> "Sampler":
        """Pair the images of a batch with one another."""
        from classifiers.training.pairs import AnyPairs

        return AnyPairs(super().sampler(draws), draws.seed)


class LISASettings(MixingSettings):
    """LISA: ERM on mixtures of images that share the target or the protected group, and not both."""

    needs = frozenset({"training"})
    name: Literal["lisa"] = "lisa"
    same_target: float = Field(0.5, ge=0, le=1)  # share of pairs of one target and two protected groups

    def sampler(self, draws: Draws) -> "Sampler":
        """Pair the images of a batch with others of the same target, or of the same protected group."""
        from classifiers.training.pairs import SelectivePairs

        return SelectivePairs(
            super().sampler(draws), draws.images, draws.n_protected, self.same_target, draws.seed
        )
