"""Parameters of the labellers, and of the labels that they give."""

from typing import Literal

from pydantic import (
    Field,
)

from classifiers.training.parameters import Training
from classifiers.training.samplers import SamplerName
from pipeline.parameters import Parameters


class TrainAttribute(Training):
    """How the labeller of an attribute is trained."""

    sampler: SamplerName = "group_balanced"
    # The figure on validation that the weights and the threshold are chosen by; the threshold of
    # average_precision is that of the best F1.
    selection: Literal["average_precision", "worst_group_accuracy"] = "worst_group_accuracy"
    networks: int = Field(2, ge=1)  # whose logits are averaged
    # One more network on each half of the images: one half's judges an original, the other's checks its
    # complement. They label nothing.
    checkers: bool = True


class Label(Parameters):
    """How synthetic images are labelled."""

    # Correct scores for how much rarer or more frequent an attribute is among synthetic images than the
    # labeller assumes, as estimated from the scores (classifiers.labellers.prior_of).
    prior_shift: bool = True
    batch_size: int = Field(512, ge=1)  # images; changes no result
