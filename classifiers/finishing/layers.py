"""Last layers of trained networks: their inputs for images, the best of several, thresholds folded in."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from classifiers.finishing.base import Material
from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import per_image
from pipeline.content.arrays import FloatArray


@dataclass(frozen=True)
class LastLayer:
    """A linear layer that may become a network's last one.

    Attributes:
        weights: [d].
        bias: of the logit.
        facts: how it was made, for the network's card.
    """

    weights: FloatArray
    bias: float
    facts: dict[str, float]


def features_of(network: Classifier, images: LabelledImages, material: Material) -> FloatArray:
    """Compute the input of a network's last layer for images: [n, d]."""
    return per_image(network, network.features, images.read, len(images), material.accelerator)


def standardisation(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean [d] and the standard deviation [d] of features [n, d], 1 for constant ones."""
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def put(network: Classifier, layer: LastLayer) -> None:
    """Make a linear layer the last one of a network, in place."""
    with torch.no_grad():
        network.last.weight.copy_(torch.from_numpy(layer.weights)[None])
        network.last.bias.fill_(layer.bias)


def put_best(network: Classifier, layers: Iterable[LastLayer], material: Material) -> dict[str, float]:
    """Make the best of several layers the last one of a network, by the figure on the selecting half.

    Args:
        network: changed in place.
        layers: they differ in the last layer alone, so that features are computed once.
        material: the selecting half and its figure.

    Returns:
        The best one's facts; of equally good ones the first's.
    """
    features = features_of(network, material.selecting, material)
    best, best_value = None, -math.inf
    for layer in layers:
        logits = features @ layer.weights + layer.bias
        value = material.select(1 / (1 + np.exp(-logits)), material.selecting)
        if value > best_value:
            best, best_value = layer, value
    assert best is not None
    put(network, best)
    return best.facts


def fold_threshold(network: Classifier, logit: float) -> None:
    """Subtract a threshold's logit from the last layer's bias: what was predicted 1 there is so at 0.5."""
    with torch.no_grad():
        network.last.bias.sub_(logit)
