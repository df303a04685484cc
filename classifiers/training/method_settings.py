"""The settings of recipes, `train.definitions.NAME` of params.yaml, and of their training methods.

A new method is a module of `methods`, a class of `settings`, and a line in `AnyMethodSettings`, which is the
registry. The class's `build` imports the module, and torch with it, when a training begins: reading
parameters needs neither. Its `needs` says which protected labels it needs; `Recipe.needs` joins them.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from classifiers.networks.parameters import BackboneName
from classifiers.training.phase_settings import AnyPhaseSettings, OnePhase
from classifiers.training.samplers import SAMPLERS, SamplerName
from classifiers.training.settings.adversaries import AdversarialDebiasingSettings, DomainAdversarialSettings
from classifiers.training.settings.examples import (
    AdversarialExamplesSettings,
    HardestInGroupsSettings,
    HardestSettings,
    LISASettings,
    LossProportionalSettings,
    MixupSettings,
)
from classifiers.training.settings.losses import (
    CVaRSettings,
    ERMSettings,
    GroupDROSettings,
    OccamSettings,
    SpectralDecouplingSettings,
    WeightedSettings,
)
from pipeline.parameters import Parameters

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
    phases: AnyPhaseSettings = OnePhase()  # which images the training sees when
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
