"""Parameters of the training of classifiers."""

from typing import Literal

from pydantic import (
    Field,
    model_validator,
)

from classifiers.networks.parameters import Backbone
from classifiers.training.method_settings import AnyMethodSettings
from classifiers.training.samplers import SamplerName
from pipeline.parameters import Parameters


class Optimizer(Parameters):
    # sgd: with momentum 0.9; adam adds weight decay to the gradient, adamw takes it off the weights.
    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)  # share of the steps in which the rate rises from 0, linearly


class Budget(Parameters):
    """What all classifiers that are compared have in common."""

    backbone: Backbone = Backbone()
    optimizer: Optimizer = Optimizer()
    steps: int = Field(400, ge=1)
    batch_size: int = Field(128, ge=1)  # images
    evaluations: int = Field(5, ge=1)  # on validation, evenly over the steps; the best is kept
    flip: bool = False  # mirror every other image at random: right for faces, wrong for digits and text
    # Move every image at random by up to this share of its side, down or up and to the left or right; what
    # comes in at an edge repeats the edge.
    shift: float = Field(0.0, ge=0, le=0.5)
    # What is evaluated and kept: the exponential average of the weights, in which a step counts half after
    # this share of the steps; 0: the weights as they are.
    average: float = Field(0.05, ge=0, lt=1)


class Training(Budget):
    """How one classifier is trained."""

    weight_decay: float = Field(1e-4, ge=0)
    sampler: SamplerName = "uniform"
    seed: int = 0


class Recipe(Parameters):
    """What a classifier is trained by, and on which of the images when."""

    method: AnyMethodSettings
    sampler: SamplerName = "uniform"
    weight_decay: float = Field(1e-4, ge=0)
    pretrain: float = Field(0.0, ge=0, lt=1)  # share of the steps, on synthetic images; then on real ones
    group_by: Literal["group", "group_and_source"] = "group"  # the source: real or synthetic
    real_share: float | None = Field(None, gt=0, lt=1)  # of real images in a batch; null: as they come
    last_layer: Literal["none", "validation"] = "none"  # refitted on one half of real validation images

    @model_validator(mode="after")
    def _batches_have_one_meaning(self) -> "Recipe":
        if self.pretrain > 0 and self.real_share is not None:
            raise ValueError("pretrain parts real and synthetic images, real_share mixes them: use one")
        return self
