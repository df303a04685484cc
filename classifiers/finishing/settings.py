"""The settings of finishes, `finish.definitions.NAME` of params.yaml.

A new finish is a module of `classifiers/finishing`, and here a class of settings that stands in
`AnyFinishSettings`, which is the registry. Its `finish` imports the module, and torch with it, when the stage
runs: reading parameters needs neither.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from classifiers.finishing.base import FinishSettings, Material

if TYPE_CHECKING:
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

    needs = frozenset({"training", "validation"})
    name: Literal["smote"]

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Refit the last layer; the card says with which strength of regularisation."""
        from classifiers.finishing.smote import refit_evened_out

        return refit_evened_out(network, material)


class AFRSettings(FinishSettings):
    """Automatic feature reweighting: the last layer trained on, with weight on what it gets wrong."""

    name: Literal["afr"]
    steps: int = Field(500, ge=1)  # of gradient descent, each on all held-out images

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Train the last layer; the card says with which γ and λ."""
        from classifiers.finishing.afr import reweight

        return reweight(network, material, self.steps)


AnyFinishSettings = Annotated[LastLayerSettings | SmoteSettings | AFRSettings, Field(discriminator="name")]


def finish_network(
    settings: AnyFinishSettings, network: "Classifier", material: Material
) -> dict[str, float]:
    """Change a network in place by the finish that settings describe; return facts for its card."""
    return settings.finish(network, material)
