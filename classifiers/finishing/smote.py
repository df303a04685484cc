"""Refits the last layer on the features of training images, with the groups evened out by interpolation.

SMOTE (Chawla et al., 2002, arXiv 1106.1813) makes new examples between an example and one of its nearest
neighbours; here both are of one group. It is the control for synthetic images: interpolation of features
costs nothing.
"""

import numpy as np

from classifiers.finishing.base import Material
from classifiers.finishing.layers import LastLayer, features_of, put_best, standardisation
from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for

NEIGHBOURS = 5
PER_GROUP = 10_000  # images of a group that take part: the search for neighbours takes their square
# C of the logistic regression: the first regularises most. The network has fitted these very images, so that
# almost any layer separates them.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def neighbours_of(rows: FloatArray) -> IntArray:
    """Find each row's nearest others, by Euclidean distance.

    Args:
        rows: [n, d], n at least 2.

    Returns:
        Their positions, [n, k] with k = min(`NEIGHBOURS`, n - 1), the nearest first. A row is none of its own
        neighbours, even if others equal it.
    """
    from sklearn.neighbors import NearestNeighbors  # lazy: slow import

    count = min(NEIGHBOURS, len(rows) - 1)
    found = NearestNeighbors(n_neighbors=count + 1).fit(rows).kneighbors(rows, return_distance=False)
    # A row is found itself, but not always first; among many equal ones perhaps not at all.
    is_self = found == np.arange(len(rows))[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others: IntArray = found[~is_self].reshape(len(rows), count)
    return others


def interpolated(rows: FloatArray, count: int, random: np.random.Generator) -> FloatArray:
    """Make new rows x + u (x' - x) of random rows x, random neighbours x' of theirs, and u uniform in [0, 1).

    Args:
        rows: [n, d]; of a single row, copies are made.
        count: how many to make.
        random: draws first all pairs, then all u.

    Returns:
        [count, d].
    """
    if len(rows) == 1:
        return np.repeat(rows, count, axis=0)
    neighbours = neighbours_of(rows)
    pairs = random.integers(neighbours.size, size=count)
    first = pairs // neighbours.shape[1]
    shares = random.random(count)[:, None]
    made: FloatArray = rows[first] + shares * (rows[neighbours.ravel()[pairs]] - rows[first])
    return made


def evened_out(features: FloatArray, groups: IntArray, seed: int) -> tuple[FloatArray, IntArray]:
    """Add interpolated rows to all groups that occur, up to the size of the largest.

    Args:
        features: [n, d].
        groups: [n].
        seed: of the random numbers.

    Returns:
        The features, first the given ones, [m, d], and their groups [m].
    """
    names, counts = np.unique(groups, return_counts=True)
    rows, of_rows = [features], [groups]
    for group, missing in zip(names.tolist(), (counts.max() - counts).tolist(), strict=True):
        if missing:
            random = generator_for(seed, "smote", group)
            rows.append(interpolated(features[groups == group], missing, random))
            of_rows.append(np.full(missing, group))
    return np.concatenate(rows), np.concatenate(of_rows)


def images_taking_part(images: LabelledImages, seed: int) -> LabelledImages:
    """Select at most `PER_GROUP` images of each group at random, repeated images once.

    Images that are left out of the groups, as theirs is not known, do not take part. A copy of an image would
    be its nearest neighbour, and what is between the two the image again.

    Args:
        images: the images.
        seed: of the random numbers.

    Returns:
        The selected images, in their order.
    """
    _, once = np.unique(images.ids.astype(str), return_index=True)
    chosen = []
    once = once[images.has_group[once]]
    for group in np.unique(images.groups[once]).tolist():
        members = once[images.groups[once] == group]
        chosen.append(generator_for(seed, "taking part", group).permutation(members)[:PER_GROUP])
    return images.subset(np.sort(np.concatenate(chosen)))


def refit_evened_out(network: Classifier, material: Material) -> dict[str, float]:
    """Replace a network's last layer by a logistic regression on evened out features of training images.

    The features are those of the images as they are, not mirrored or moved; they are standardised before
    rows are added, which would change their deviation. C is chosen on the selecting half.

    Args:
        network: its last layer is changed in place.
        material: the training images, and what C is chosen by.

    Returns:
        The chosen C; of equally good ones the strongest regularisation.
    """
    from sklearn.linear_model import LogisticRegression  # lazy: slow import

    images = images_taking_part(material.training, material.seed)
    features = features_of(network, images, material)
    mean, scale = standardisation(features)
    rows, groups = evened_out((features - mean) / scale, images.groups, material.seed)
    targets = groups // material.n_protected

    def layer_of(penalty: float) -> LastLayer:
        fit = LogisticRegression(C=penalty, max_iter=1000).fit(rows, targets)
        weights = fit.coef_[0] / scale
        return LastLayer(weights, float(fit.intercept_[0] - weights @ mean), {"penalty": penalty})

    return put_best(network, map(layer_of, PENALTIES), material)
