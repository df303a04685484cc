"""The settings of finishes, `finish.definitions.NAME` of params.yaml.

A new finish is a module of `classifiers/finishing`, and here a class of settings that stands in
`AnyFinishSettings`, which is the registry. Its `finish` imports the module, and torch with it, when the stage
runs: reading parameters needs neither.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from classifiers.finishing.base import FinishSettings, Material

if TYPE_CHECKING:
    from classifiers.finishing.objective import Goal
    from classifiers.networks.backbones import Classifier


class LastLayerSettings(FinishSettings):
    """Deep feature reweighting: the last layer refitted on validation images, balanced by group."""

    name: Literal["last_layer"]

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Refit the last layer; the card says with which strength of regularisation."""
        from classifiers.finishing.last_layer import refit_last_layer

        return refit_last_layer(network, material)


class SmoteSettings(FinishSettings):
    """The last layer refitted on embeddings of the training images, evened out by interpolation."""

    needs = frozenset({"training"})
    name: Literal["smote"]

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Refit the last layer; the card says with which strength of regularisation."""
        from classifiers.finishing.smote import refit_evened_out

        return refit_evened_out(network, material)


class AFRSettings(FinishSettings):
    """Automatic feature reweighting: the last layer trained on, with weight on what it gets wrong."""

    needs = frozenset()
    name: Literal["afr"]
    steps: int = Field(500, ge=1)  # of gradient descent, each on all held-out images

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Train the last layer; the card says with which γ and λ."""
        from classifiers.finishing.afr import reweight

        return reweight(network, material, self.steps)


class PhiSettings(FinishSettings):
    """The parameters of a finish that maximises φ: balanced accuracy where the bias is small, elsewhere 0."""

    bias: Literal["spd", "eod", "aod"] = "aod"  # μ: a gap between protected groups
    epsilon: float = Field(0.05, gt=0)  # ε: the limit of |μ|
    margin: float = Field(0.01, ge=0)  # by how much |μ| should stay below it where a choice is made

    @model_validator(mode="after")
    def _the_margin_leaves_something(self) -> Self:
        if self.margin >= self.epsilon:
            raise ValueError(
                f"margin {self.margin} leaves no bias that is small enough: make it less than epsilon "
                f"{self.epsilon}"
            )
        return self

    def goal(self) -> "Goal":
        """Return what is to be reached."""
        from classifiers.finishing.objective import Goal

        return Goal(self.bias, self.epsilon, self.margin)


class RandomPerturbationSettings(PhiSettings):
    """Random perturbation: the best of many networks with slightly different weights."""

    name: Literal["random_perturbation"]
    trials: int = Field(101, ge=0)  # networks that are tried
    deviation: float = Field(0.1, gt=0)  # of the random factors of all weights
    kept: int = Field(5, ge=1)  # trials that are compared on the selecting half

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Perturb the network; the card says which trial was the best, and with which threshold."""
        from classifiers.finishing.random_perturbation import perturb

        return perturb(network, material, self.goal(), self.trials, self.deviation, self.kept)


class LayerwiseSettings(PhiSettings):
    """Layer-wise optimisation: one of the last tensors of weights, searched with gradient-boosted trees."""

    name: Literal["layerwise"]
    tensors: int = Field(5, ge=0)  # of weights and biases that are looked at, from the last one back
    max_coordinates: int = Field(500, ge=1)  # of a tensor that are searched
    evaluations: int = Field(20, ge=1)  # for each tensor; the first ten are at random

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Search the network's weights; the card says in which tensor, and with which threshold."""
        from classifiers.finishing.layerwise import optimise_layers

        return optimise_layers(
            network, material, self.goal(), self.tensors, self.max_coordinates, self.evaluations
        )


class AdversarialFinetuningSettings(PhiSettings):
    """Adversarial fine-tuning: the network learns on, against a critic that estimates a batch's bias."""

    name: Literal["adversarial_finetuning"]
    strength: float = Field(20.0, ge=0)  # λ: how much the loss grows with the estimated bias
    rounds: int = Field(10, ge=0)  # in each the critic learns, then the network
    critic_steps: int = Field(100, ge=1)  # of a round
    network_steps: int = Field(20, ge=1)  # of a round
    batch_size: int = Field(64, ge=1)  # images
    learning_rate: float = Field(1e-4, gt=0)  # of the network, by Adam

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Fine-tune the network; the card says after which round it was best, and with which threshold."""
        from classifiers.finishing.adversarial_finetuning import Schedule, finetune

        names = ("rounds", "critic_steps", "network_steps", "batch_size", "learning_rate", "strength")
        schedule = Schedule(**{name: getattr(self, name) for name in names})
        return finetune(network, material, self.goal(), schedule)


AnyFinishSettings = Annotated[
    LastLayerSettings
    | SmoteSettings
    | AFRSettings
    | RandomPerturbationSettings
    | LayerwiseSettings
    | AdversarialFinetuningSettings,
    Field(discriminator="name"),
]


def finish_network(
    settings: AnyFinishSettings, network: "Classifier", material: Material
) -> dict[str, float]:
    """Change a network in place by the finish that settings describe; return facts for its card."""
    return settings.finish(network, material)
