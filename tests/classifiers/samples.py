"""Samples that the metrics' tests share: some counted by hand, some drawn at random."""

import numpy as np

# The case that is counted by hand, [t, g, p]:   predicted 0, 1
BY_HAND = np.array([[[6.0, 2.0],  # t = 0, g = 0:   8 samples, accuracy 6/8
                     [1.0, 3.0]],  # t = 0, g = 1:  4 samples, accuracy 1/4
                    [[1.0, 1.0],  # t = 1, g = 0:   2 samples, accuracy 1/2
                     [1.0, 5.0]]])  # t = 1, g = 1: 6 samples, accuracy 5/6   # fmt: skip


def labels_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples that have these counts: targets, protected, predictions."""
    cells = np.argwhere(counts >= 0).repeat(counts.ravel().astype(int), axis=0)
    targets, protected, predictions = np.random.default_rng(0).permutation(cells).T
    return targets, protected, predictions


TARGETS, PROTECTED, PREDICTIONS = labels_of(BY_HAND)


def random_sample(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, protected groups, and scores with ties that correlate with the targets."""
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, (2, n))
    scores = np.round(np.clip(0.3 * targets + 0.1 * protected + random.random(n) * 0.6, 0, 1), 2)
    return targets, protected, scores
