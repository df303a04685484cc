"""Chooses between versions of a network by φ on the selecting half, together with a threshold for each."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from classifiers.finishing.base import Material
from classifiers.finishing.layers import fold_threshold
from classifiers.finishing.objective import Cut, Goal
from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import per_image
from classifiers.networks.weights import copy_of_weights
from pipeline.content.arrays import FloatArray

FOLDS = 3  # of a threshold, the second and third of which correct what was rounded in the one before

Version = Mapping[str, Tensor]  # parameters by name; those that it lacks are as in the trained network


def put_version(network: Classifier, trained: Version, version: Version) -> None:
    """Give a network the weights of a version of it, and the trained ones where the version has none."""
    network.load_state_dict({**trained, **version})


def logits_of(network: Classifier, images: LabelledImages, material: Material) -> FloatArray:
    """Compute the logits of images: [N]."""
    return per_image(network, network, images.read, len(images), material.accelerator)


def cut_on_fitting(network: Classifier, goal: Goal, material: Material) -> Cut:
    """Find the best threshold of a network on the fitting half."""
    logits = logits_of(network, material.fitting, material)
    return goal.best_cut(logits, material.fitting, material.n_protected)


def put_best_version(
    network: Classifier, versions: Sequence[Version], goal: Goal, material: Material
) -> tuple[int, dict[str, float]]:
    """Give a network the best of several versions, with its threshold folded into the last layer's bias.

    Version and threshold are chosen on the selecting half, which nothing was fitted on.

    Args:
        network: with the trained weights, which the versions change; changed in place.
        versions: at least one; {} is the trained network.
        goal: what they are compared by.
        material: the selecting half.

    Returns:
        The number of the version; and facts for the card: the logit that the last layer's bias has lost, and
        ρ, μ and φ of the finished network on the selecting half.
    """
    trained, images = copy_of_weights(network), material.selecting
    cuts = []
    for version in versions:
        put_version(network, trained, version)
        cuts.append(goal.best_cut(logits_of(network, images, material), images, material.n_protected))
    best = int(goal.order(cuts)[0])
    put_version(network, trained, versions[best])
    bias = network.last.bias.item()
    finished = _fold_best_cut(network, goal, material)
    return best, {
        "threshold": bias - network.last.bias.item(),
        "balanced_accuracy": finished.accuracy,
        "bias": finished.bias,
        "phi": goal.phi(finished),
    }


def _fold_best_cut(network: Classifier, goal: Goal, material: Material) -> Cut:
    """Fold the best threshold into the last layer's bias.

    In bfloat16 a layer rounds its bias, so that some images near the threshold change their side when it is
    folded. So the best cut of what came out is folded once more, and the best of all these is kept.

    Args:
        network: changed in place.
        goal: what thresholds are compared by.
        material: the selecting half.

    Returns:
        What the network is worth on the selecting half at the threshold 0.5.
    """
    images, biases, finished = material.selecting, [], []
    logits = logits_of(network, images, material)
    for _ in range(FOLDS):
        fold_threshold(network, goal.best_cut(logits, images, material.n_protected).logit)
        logits = logits_of(network, images, material)
        biases.append(network.last.bias.detach().clone())
        finished.append(goal.cut_at(0.0, logits, images, material.n_protected))
    best = int(goal.order(finished)[0])
    with torch.no_grad():
        network.last.bias.copy_(biases[best])
    return finished[best]
