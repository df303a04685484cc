"""Layer-wise optimisation: the weights of one of the last layers are searched for the highest φ.

Savani, White, Govindarajulu, 2020, algorithm 2: for each of the last tensors of parameters on its own, a
search with gradient-boosted trees in a box around the trained values. Ten guided evaluations in hundreds or
thousands of dimensions are close to random search: trees that grow on ten to twenty examples look at a few
coordinates each. It is here because it is published, with the box and the number of evaluations of its code,
and without that code's mistake of sign, by which the last tensor wins whatever it is worth.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from classifiers.finishing.base import Material
from classifiers.finishing.choosing import Version, cut_on_fitting, put_best_version, put_version
from classifiers.finishing.layers import features_of
from classifiers.finishing.objective import Cut, Goal
from classifiers.finishing.tree_search import search
from classifiers.networks.backbones import Classifier
from classifiers.networks.weights import copy_of_weights
from pipeline.content.arrays import FloatArray
from pipeline.content.seeds import derived_seed, generator_for

HALF_WIDTH = 2.2  # of the box, in standard deviations of the tensor's values


def searched_names(network: Classifier, tensors: int) -> list[str]:
    """Name the parameters to search, from the last one back.

    They are the last `tensors` ones, weights and biases alike, but without the last layer's bias, which the
    threshold moves, and those whose values are all the same: the box around them has no width.

    Args:
        network: the network.
        tensors: how many are looked at.

    Returns:
        Names of parameters, at most `tensors`.
    """
    last = list(network.named_parameters())[-tensors:] if tensors else []
    return [
        name
        for name, parameter in reversed(last)
        if parameter is not network.last.bias and float(parameter.detach().std(correction=0)) > 0
    ]


class _Box:
    """The box that a tensor is searched in: at most `max_coordinates` of its values, drawn at random."""

    def __init__(self, tensor: Tensor, max_coordinates: int, seed: int) -> None:
        self.tensor = tensor
        count = min(max_coordinates, tensor.numel())
        random = generator_for(seed, "coordinates")
        self.positions = np.sort(random.choice(tensor.numel(), count, replace=False))
        self.half_width = HALF_WIDTH * float(tensor.std(correction=0))

    def at(self, point: FloatArray) -> Tensor:
        """Return the tensor with the values at a point [d] of [-1, 1]^d."""
        moved = self.tensor.clone()
        moved.view(-1)[self.positions] += torch.as_tensor(self.half_width * point, dtype=moved.dtype)
        return moved


def optimise_layers(
    network: Classifier, material: Material, goal: Goal, tensors: int, max_coordinates: int, evaluations: int
) -> dict[str, float]:
    """Search the last tensors of a network, each on its own, and keep the best result of all.

    The fitting half is searched on; the best of each tensor and the trained network are compared on the
    selecting half, where the threshold is chosen, too. For the weights of the last layer an evaluation is a
    matrix product with features that are computed once; for all others it is a pass through the network.

    Args:
        network: changed in place.
        material: the halves.
        goal: what is searched for.
        tensors: how many of the last tensors are looked at, see `searched_names`; with 0 only the threshold
            changes.
        max_coordinates: of a tensor, that are searched; the others keep their values.
        evaluations: for each tensor.

    Returns:
        Which tensor was changed, 1 for the last that was searched, 2 for the one before, 0 for none; and the
        facts of `put_best_version`.
    """
    trained = copy_of_weights(network)
    versions: list[Version] = [{}]
    for name in searched_names(network, tensors):
        seed = derived_seed(material.seed, "layerwise", name)
        box = _Box(trained[name], max_coordinates, seed)
        cut_of = _evaluation(network, trained, name, goal, material)
        versions.append({name: _best_in(box, cut_of, goal, evaluations, seed)})
        put_version(network, trained, {})
    chosen, facts = put_best_version(network, versions, goal, material)
    return {"tensor": float(chosen), **facts}


def _best_in(box: _Box, cut_of: Callable[[Tensor], Cut], goal: Goal, evaluations: int, seed: int) -> Tensor:
    """Search a tensor's box; return the best tensor that was evaluated."""
    cuts: list[Cut] = []

    def evaluate(point: FloatArray) -> float:
        cuts.append(cut_of(box.at(point)))
        return goal.value(cuts[-1])

    points = search(evaluate, len(box.positions), evaluations, seed)
    return box.at(points[goal.order(cuts)[0]])


def _evaluation(
    network: Classifier, trained: Version, name: str, goal: Goal, material: Material
) -> Callable[[Tensor], Cut]:
    """Return the function that finds the best cut on the fitting half for a value of one tensor."""
    if network.get_parameter(name) is not network.last.weight:

        def cut_of(tensor: Tensor) -> Cut:
            put_version(network, trained, {name: tensor})
            return cut_on_fitting(network, goal, material)

        return cut_of
    features, bias = features_of(network, material.fitting, material), network.last.bias.item()

    def cut_of_features(tensor: Tensor) -> Cut:
        logits = features @ tensor[0].double().numpy() + bias
        return goal.best_cut(logits, material.fitting, material.n_protected)

    return cut_of_features
