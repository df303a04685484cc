"""Trains the last layer on with weight on the images that the network gets wrong, which tell no groups.

Automatic feature reweighting: Qiu, Potapczynski, Izmailov, Wilson, 2023, arXiv 2306.11074. The paper holds
back a part of the training images; here the held-out images are the fitting half of validation, whose
protected labels are not used. The selecting half's are, to choose γ and λ.
"""

import numpy as np
import torch

from classifiers.finishing.base import Material
from classifiers.finishing.layers import LastLayer, features_of, put_best, standardisation
from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import FloatArray, IntArray

GAMMAS = (1.0, 2.0, 4.0, 8.0, 16.0)  # γ: how much weight moves to what is wrong, little first
PENALTIES = (0.1, 0.01, 0.001, 0.0)  # λ: how near the layer stays to the trained one, nearest first


def weights_of(probabilities: FloatArray, gamma: float) -> FloatArray:
    """Compute the weights of images, proportional to exp(-γ p): they sum to 1.

    Args:
        probabilities: p, what the network gives to the true label, [n] in [0, 1].
        gamma: γ, at least 0.

    Returns:
        [n].
    """
    weights: FloatArray = np.exp(-gamma * (probabilities - probabilities.min()))  # no quotient 0 / 0
    weights /= weights.sum()
    return weights


def descended(
    rows: FloatArray, targets: IntArray, weights: FloatArray, start: FloatArray, penalty: float, steps: int
) -> FloatArray:
    """Minimise Σ w_i loss_i + λ‖v - v₀‖² of a logistic regression by gradient descent on all images.

    The length of a step is 1/L with L the largest curvature, 1/4 the largest eigenvalue of Σ w_i x_i x_iᵀ,
    plus 2λ: the sum falls with every step, whatever the scale of the features.

    Args:
        rows: x, [n, d].
        targets: [n] in {0, 1}.
        weights: w, [n], at least 0, with sum 1.
        start: v₀, [d].
        penalty: λ, at least 0.
        steps: how many steps are taken.

    Returns:
        v, [d].
    """
    curvature = np.linalg.eigvalsh(rows.T @ (weights[:, None] * rows))[-1] / 4 + 2 * penalty
    v = start.copy()
    for _ in range(steps):
        errors = weights * (1 / (1 + np.exp(-(rows @ v))) - targets)
        v -= (rows.T @ errors + 2 * penalty * (v - start)) / curvature
    return v


def reweight(network: Classifier, material: Material, steps: int) -> dict[str, float]:
    """Train a network's last layer on with the best γ of `GAMMAS` and λ of `PENALTIES`.

    The layer, its bias too, is trained on standardised features, and ‖v - v₀‖ is measured there: so λ means
    the same for all networks.

    Args:
        network: its last layer is changed in place.
        material: the halves, and what γ and λ are chosen by.
        steps: of gradient descent.

    Returns:
        The chosen γ and λ; of equally good ones the smallest change.
    """
    images = material.fitting
    features = features_of(network, images, material)
    mean, scale = standardisation(features)
    rows = np.column_stack([(features - mean) / scale, np.ones(len(images))])
    trained = _last_weights(network)
    start = np.append(trained[:-1] * scale, trained[:-1] @ mean + trained[-1])
    probabilities = _of_true_label(rows @ start, images)

    def layer_of(gamma: float, penalty: float) -> LastLayer:
        weights = weights_of(probabilities, gamma)
        found = descended(rows, images.targets, weights, start, penalty, steps)
        of_features = found[:-1] / scale
        bias = float(found[-1] - of_features @ mean)
        return LastLayer(of_features, bias, {"gamma": gamma, "penalty": penalty})

    layers = (layer_of(gamma, penalty) for penalty in PENALTIES for gamma in GAMMAS)
    return put_best(network, layers, material)


def _last_weights(network: Classifier) -> FloatArray:
    """Return the weights of the last layer, then its bias: [d + 1]."""
    with torch.no_grad():
        layer = torch.cat([network.last.weight[0], network.last.bias]).double().cpu().numpy()
    values: FloatArray = layer
    return values


def _of_true_label(logits: FloatArray, images: LabelledImages) -> FloatArray:
    """Compute the probability that logits [n] give to the images' targets: [n]."""
    probabilities: FloatArray = 1 / (1 + np.exp(np.where(images.targets == 1, -logits, logits)))
    return probabilities
