"""Random perturbation: of many networks with slightly different weights the one with the highest φ.

Savani, White, Govindarajulu, 2020, algorithm 1. Every parameter is multiplied, element by element, by
random numbers of N(1, σ²). The trained network itself is among the candidates, which it is not in the
published code.
"""

import numpy as np
import torch

from classifiers.finishing.base import Material
from classifiers.finishing.choosing import Version, cut_on_fitting, put_best_version, put_version
from classifiers.finishing.objective import Goal
from classifiers.networks.backbones import Classifier
from classifiers.networks.weights import copy_of_weights
from pipeline.content.seeds import generator_for


def perturbed(network: Classifier, trained: Version, deviation: float, seed: int, trial: int) -> Version:
    """Multiply every parameter elementwise by numbers of N(1, deviation²).

    Args:
        network: its parameters are perturbed; buffers, such as the statistics of batch norm, are not.
        trained: their values.
        deviation: of the factors.
        seed: of the random numbers, with the trial and the parameter's name.
        trial: its number.

    Returns:
        The parameters by name.
    """
    version = {}
    for name, parameter in network.named_parameters():
        random = generator_for(seed, "perturbation", trial, name)
        factors = 1 + deviation * random.standard_normal(tuple(parameter.shape), dtype=np.float32)
        version[name] = trained[name] * torch.as_tensor(factors)
    return version


def perturb(
    network: Classifier, material: Material, goal: Goal, trials: int, deviation: float, kept: int
) -> dict[str, float]:
    """Perturb a network at random, and keep the best result.

    The trials with the highest φ on the fitting half and the trained network are compared on the selecting
    half, where the threshold is chosen, too.

    Args:
        network: changed in place.
        material: the halves.
        goal: what the networks are compared by.
        trials: how many are drawn; with 0 only the threshold changes.
        deviation: of the factors.
        kept: how many of them are compared on the selecting half.

    Returns:
        The chosen trial, 1 to `trials`, 0 for the trained network; and the facts of `put_best_version`.
    """
    trained = copy_of_weights(network)
    cuts = []
    for trial in range(1, trials + 1):
        put_version(network, trained, perturbed(network, trained, deviation, material.seed, trial))
        cuts.append(cut_on_fitting(network, goal, material))
    put_version(network, trained, {})
    best = [number + 1 for number in goal.order(cuts)[:kept].tolist()]
    versions = [perturbed(network, trained, deviation, material.seed, trial) for trial in best]
    chosen, facts = put_best_version(network, [{}, *versions], goal, material)
    return {"trial": float([0, *best][chosen]), **facts}
