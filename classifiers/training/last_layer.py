"""Refits the last layer on real validation images, balanced by group ("deep feature reweighting").

Kirichenko, Izmailov, Wilson, 2022, arXiv 2204.02937: a network that relies on a shortcut has learnt the
other features too, and only its last layer weighs them wrongly. The images that the layer is fitted on cannot
measure it: validation is halved, one half for the fit, one for every choice and for the reported figures.
"""

import numpy as np
import torch
from accelerate import Accelerator

from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import per_image, predict
from classifiers.training.loop import Selection
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C of the logistic regression: the first regularises most
SUBSETS = 10  # balanced subsets, whose fits are averaged


def validation_halves(validation: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Split the validation images into a half to fit on and a half to select by.

    Each has half of every group. Which half an image is in depends on (seed, the group's ids); of an odd
    number, the half to select by has one more.

    Args:
        validation: the images.
        seed: of the random numbers.

    Returns:
        The images to fit on, and those to select by.

    Raises:
        UserError: a group has a single image.
    """
    chosen: tuple[list[int], list[int]] = ([], [])
    for group in np.unique(validation.groups):
        members = np.flatnonzero(validation.groups == group)
        if len(members) < 2:
            raise UserError(
                f"last_layer: validation has one image of group {group}, and two halves need two: take more "
                "validation images, or recipes with last_layer none."
            )
        members = members[np.argsort(validation.ids[members].astype(str))]
        members = generator_for(seed, "halves", int(group)).permutation(members)
        chosen[0].extend(members[: len(members) // 2].tolist())
        chosen[1].extend(members[len(members) // 2 :].tolist())
    fitting, selecting = (validation.subset(np.sort(np.array(half))) for half in chosen)
    return fitting, selecting


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

    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
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


def refit_last_layer(
    network: Classifier,
    fitting: LabelledImages,
    selecting: LabelledImages,
    select: Selection,
    accelerator: Accelerator,
    seed: int,
) -> float:
    """Replace a network's last layer by a `balanced_fit`, with the best C of `PENALTIES`.

    Args:
        network: its last layer is changed in place.
        fitting: the images to fit on.
        selecting: the images to choose C by.
        select: a figure of (scores, `selecting`): the best C is the one for which it is highest.
        accelerator: the device and the precision.
        seed: of the fits.

    Returns:
        The chosen C; of equally good ones the strongest regularisation.
    """
    features = per_image(network, network.features, fitting.read, len(fitting), accelerator)

    def put(penalty: float) -> None:
        weights, bias = balanced_fit(features, fitting.targets, fitting.groups, penalty, seed)
        with torch.no_grad():
            network.last.weight.copy_(torch.from_numpy(weights)[None])
            network.last.bias.fill_(bias)

    values = []
    for penalty in PENALTIES:
        put(penalty)
        values.append(select(predict(network, selecting.read, len(selecting), accelerator), selecting))
    best = PENALTIES[int(np.argmax(values))]
    put(best)
    return best
