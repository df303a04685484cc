"""Refits the last layer on real validation images, balanced by group ("deep feature reweighting").

Kirichenko, Izmailov, Wilson, 2022, arXiv 2204.02937: a network that relies on a shortcut has learnt the
other features too, and only its last layer weighs them wrongly.
"""

import numpy as np

from classifiers.finishing.base import Material
from classifiers.finishing.layers import LastLayer, features_of, put_best, standardisation
from classifiers.networks.backbones import Classifier
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C of the logistic regression: the first regularises most
SUBSETS = 10  # balanced subsets, whose fits are averaged


def balanced_fit(
    features: FloatArray, targets: IntArray, groups: IntArray, penalty: float, seed: int
) -> tuple[FloatArray, float]:
    """Fit a linear classifier in which all groups have the same weight.

    It is the mean of `SUBSETS` logistic regressions (ℓ2) on standardised features, each on as many images of
    every group as the smallest group has, drawn without replacement. The standardisation is part of the
    result.

    Args:
        features: [n, d]; constant ones get no weight.
        targets: [n]; both targets occur.
        groups: [n].
        penalty: C, the inverse of the regularisation's strength.
        seed: of the drawn subsets.

    Returns:
        Weights [d] and bias, of a logit.
    """
    from sklearn.linear_model import LogisticRegression  # lazy: slow import

    mean, scale = standardisation(features)
    standardised = (features - mean) / scale
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    smallest = min(len(positions) for positions in members)
    weights, bias = np.zeros(features.shape[1]), 0.0
    for subset in range(SUBSETS):
        random = generator_for(seed, "subset", subset)
        drawn = np.concatenate([random.choice(positions, smallest, replace=False) for positions in members])
        fit = LogisticRegression(C=penalty, max_iter=1000).fit(standardised[drawn], targets[drawn])
        weights += fit.coef_[0] / SUBSETS
        bias += float(fit.intercept_[0]) / SUBSETS
    weights /= scale
    return weights, bias - float(weights @ mean)


def refit_last_layer(network: Classifier, material: Material) -> dict[str, float]:
    """Replace a network's last layer by a `balanced_fit` on the fitting half, with the best C of `PENALTIES`.

    Args:
        network: its last layer is changed in place.
        material: the halves, and what C is chosen by.

    Returns:
        The chosen C; of equally good ones the strongest regularisation.

    Raises:
        UserError: a group has no image to fit on.
    """
    fitting = material.fitting
    missing = np.setdiff1d(material.selecting.groups, fitting.groups)
    if len(missing):
        raise UserError(
            f"last_layer: validation has one image of group {missing[0]}, and two halves need two: take more "
            "validation images, or another finish."
        )
    features = features_of(network, fitting, material)

    def layer_of(penalty: float) -> LastLayer:
        weights, bias = balanced_fit(features, fitting.targets, fitting.groups, penalty, material.seed)
        return LastLayer(weights, bias, {"penalty": penalty})

    return put_best(network, map(layer_of, PENALTIES), material)
