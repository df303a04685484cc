"""Parameters of the training of classifiers."""

from typing import Literal

from pydantic import (
    Field,
)

from classifiers.networks.parameters import Backbone
from classifiers.training.samplers import SamplerName
from pipeline.parameters import Parameters


class Optimizer(Parameters):
    """The optimizer and the schedule of its learning rate."""

    # sgd: with momentum 0.9; adam adds weight decay to the gradient, adamw takes it off the weights.
    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)  # share of the steps in which the rate rises from 0, linearly


class Budget(Parameters):
    """The parameters that all classifiers that are compared have in common."""

    backbone: Backbone = Backbone()
    optimizer: Optimizer = Optimizer()
    steps: int = Field(ge=1)
    batch_size: int = Field(128, ge=1)  # images
    evaluations: int = Field(ge=1)  # on validation, evenly over the steps; the best is kept
    flip: bool  # mirror every other image at random: right for faces, wrong for digits and text
    # Move every image at random by up to this share of its side, down or up and to the left or right;
    # the edges are repeated.
    shift: float = Field(ge=0, le=0.5)
    # Evaluate and keep the exponential average of the weights, in which a step counts half after this share
    # of the steps; 0: the weights as they are.
    average: float = Field(0.05, ge=0, lt=1)


class Training(Budget):
    """How one classifier is trained."""

    weight_decay: float = Field(1e-4, ge=0)
    sampler: SamplerName = "uniform"
    seed: int = 0
