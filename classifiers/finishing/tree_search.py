"""Searches a box for a high value with gradient-boosted trees, as scikit-optimize's `gbrt_minimize` does.

After random points, three ensembles of trees estimate quantiles of the value at further random points; the
one with the highest expected improvement is evaluated next.
"""

from collections.abc import Callable

import numpy as np

from pipeline.content.arrays import FloatArray
from pipeline.content.seeds import generator_for

RANDOM_STARTS = 10  # evaluations before the trees guide
CANDIDATES = 1000  # random points, of which the trees choose one
TREES = 30  # of each quantile
QUANTILES = (0.16, 0.5, 0.84)  # of a normal distribution: mean less, and plus, its deviation
IMPROVEMENT = 0.01  # ξ: how much higher than the best φ so far is an improvement


def expected_improvement(mean: FloatArray, deviation: FloatArray, best: float) -> FloatArray:
    """Compute the expectation of max(v - best - ξ, 0) for v of N(mean, deviation²).

    Source: Jones, Schonlau, Welch, 1998, for maximisation.

    Args:
        mean: [n].
        deviation: [n], at least 0.
        best: the highest value so far.

    Returns:
        [n], at least 0.
    """
    from scipy.special import ndtr  # lazy: slow import

    gain = mean - best - IMPROVEMENT
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = gain / deviation
        density = np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
        improvement = gain * ndtr(ratio) + deviation * density
    return np.where(deviation > 0, improvement, np.maximum(gain, 0.0))


def proposal(points: FloatArray, values: FloatArray, candidates: FloatArray, seed: int) -> FloatArray:
    """Choose the candidate with the highest expected improvement, by gradient-boosted trees.

    Args:
        points: evaluated so far, [k, d].
        values: theirs, to be high, [k].
        candidates: [n, d].
        seed: of the trees, which try coordinates in a random order.

    Returns:
        One of the candidates, [d].
    """
    from sklearn.ensemble import GradientBoostingRegressor  # lazy: slow import

    low, middle, high = (
        GradientBoostingRegressor(loss="quantile", alpha=quantile, n_estimators=TREES, random_state=seed)
        .fit(points, values)
        .predict(candidates)
        for quantile in QUANTILES
    )
    deviation = np.maximum(high - low, 0.0) / 2  # quantiles fitted on their own may cross
    chosen = int(np.argmax(expected_improvement(middle, deviation, float(values.max()))))
    point: FloatArray = candidates[chosen]
    return point


def search(
    evaluate: Callable[[FloatArray], float], dimensions: int, evaluations: int, seed: int
) -> FloatArray:
    """Search the box [-1, 1]^d for a high value: at random at first, then guided by trees.

    Args:
        evaluate: computes the value of a point [d].
        dimensions: d.
        evaluations: how many points are evaluated.
        seed: of the random numbers.

    Returns:
        The points in the order of their evaluation: [evaluations, d].
    """
    points, values = np.empty((0, dimensions)), np.empty(0)
    for number in range(evaluations):
        random = generator_for(seed, "point", number)
        if number < RANDOM_STARTS:
            point = random.uniform(-1, 1, dimensions)
        else:
            candidates = random.uniform(-1, 1, (CANDIDATES, dimensions))
            point = proposal(points, values, candidates, number)
        points, values = np.vstack([points, point]), np.append(values, evaluate(point))
    return points
