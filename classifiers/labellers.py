"""The classifier that labels synthetic images: several networks, whose scores are averaged and calibrated.

Beside the networks that label there are checkers, each trained on one half of the images. They check a
complement whose target is to stay: a labeller that judges its own work would see only that its own mistake
stayed. So the checkers of one half judge the original, and the checkers of the other half, which have seen
none of the same images, judge the complement.

These measurements chose the defaults: accuracy in the worst group on real test images, networks trained on
group-balanced batches, their weights and threshold chosen by the worst group on validation:

    networks                                  digits in two inks    avatars
    one (mean and deviation over seeds)       0.73 ± 0.02
    one, images moved by a sixteenth          0.82 ± 0.03           0.89 ± 0.01
    two of these, averaged                    0.84                  0.90
    three (avatars) or four (digits)          0.84                  0.90
    one on half of the images, not moved      0.58 ± 0.06
    four on three quarters each, not moved    0.71

So the networks that label see all images, and networks on halves only check. Two networks give 96 % of the
avatars' G(z) the judges' label. With the prior's shift 91 % of the men labelled blond are blond, and 80 % of
the blond men are found; without it 86 % and 90 %.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.networks.backbones import BACKBONES, CPU, Classifier, load_saved
from classifiers.networks.cards import LabellerCard
from classifiers.selection import SATURATED, log_odds
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for

HALVES = 2
LEANING = math.log(4)  # generators lean towards rare groups on purpose, by a factor of two or three


class Labeller(nn.Module):
    """Networks for one attribute, and the calibration that turns their logits into scores.

    Args:
        members: networks of one architecture.
        halves: for each member, the half of the images that it has seen: 0 or 1 for a checker; None for a
            network that has seen all and labels. At least one labels; there is a checker of each half, or
            none at all.

    Attributes:
        roles: the numbers of the members that label, then of each half's checkers if there are any.
        slope: factor of each role's mean logit, [roles]: see `calibration`.
        intercept: added to it, [roles].
    """

    slope: Tensor
    intercept: Tensor

    def __init__(self, members: Sequence[Classifier], halves: Sequence[int | None]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.halves = list(halves)
        # One role for the members that label, and one for the checkers of each half: see `calibration`.
        roles = [half for half in (None, *range(HALVES)) if half in self.halves]
        self.roles = [[k for k, half in enumerate(self.halves) if half == role] for role in roles]
        self.register_buffer("slope", torch.ones(len(roles)))
        self.register_buffer("intercept", torch.zeros(len(roles)))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the calibrated logits [n] of images [n, 3, H, W] in [-1, 1], by the networks that label."""
        labelling = torch.stack([self.members[k](images).float() for k in self.roles[0]], dim=1)
        return self.slope[0] * labelling.mean(dim=1) + self.intercept[0]

    def with_checkers(self, images: Tensor) -> Tensor:
        """Compute the calibrated logits of images: of the networks that label, then of each half's checkers.

        Args:
            images: [n, 3, H, W] in [-1, 1].

        Returns:
            [n, roles]: 3 roles, or 1 if there are no checkers.
        """
        return self.slope * self.mean_logits(images) + self.intercept

    def mean_logits(self, images: Tensor) -> Tensor:
        """Compute each role's mean logit before calibration: images [n, 3, H, W] in [-1, 1] to [n, roles]."""
        logits = torch.stack([member(images).float() for member in self.members], dim=1)
        return torch.stack([logits[:, chosen].mean(dim=1) for chosen in self.roles], dim=1)

    def features(self, images: Tensor) -> Tensor:
        """Join the features of the m networks that label: images [n, 3, H, W] in [-1, 1] to [n, m D]."""
        found: list[Tensor] = [self.members[k].features(images) for k in self.roles[0]]  # type: ignore[operator]
        return torch.cat(found, dim=1)


def half_of_each(groups: IntArray, seed: int) -> IntArray:
    """Assign each image to half 0 or 1, at random; every group is split evenly.

    Args:
        groups: [n].
        seed: of the random numbers.

    Returns:
        [n] in {0, 1}.
    """
    halves = np.zeros(len(groups), dtype=np.int64)
    for group in np.unique(groups).tolist():
        members = generator_for(seed, "halves", group).permutation(np.flatnonzero(groups == group))
        halves[members] = (
            np.arange(len(members)) + group
        ) % HALVES  # the odd image goes to either half in turn
    return halves


def balanced_weights(groups: IntArray) -> FloatArray:
    """Return weights [n] that sum to 1 and give every group that has images the same sum."""
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (counts[which] * len(counts)), dtype=np.float64)


def calibration(logits: FloatArray, targets: IntArray, weights: FloatArray) -> tuple[float, float]:
    """Fit slope and intercept so that σ(slope · logit + intercept) is the probability of target 1.

    The fit is a weighted logistic regression. Targets are smoothed, so that classes that are separated
    perfectly do not make the slope infinite. A slope below zero would reverse the order of the scores: in
    that case, and if a class is missing, the result is slope 1 and intercept 0.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999.

    Args:
        logits: [n].
        targets: [n] in {0, 1}.
        weights: [n].

    Returns:
        Slope and intercept.
    """
    positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression  # lazy: slow import

    smoothed = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.abs(logits).max()), 1.0)  # solvers converge if features are of order 1
    # Each image counts as a positive and as a negative, weighted by its smoothed target.
    features = np.concatenate([logits, logits])[:, None] / scale
    parts = np.concatenate([weights * smoothed, weights * (1 - smoothed)]) * len(weights) / weights.sum()
    fitted = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8).fit(
        features, np.repeat([1, 0], len(logits)), parts
    )
    slope, intercept = float(fitted.coef_[0, 0]) / scale, float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0 else (1.0, 0.0)


def prior_of(scores: FloatArray, prior: float) -> float:
    """Estimate the share of positives among images from their scores by a calibrated classifier.

    Expectation maximisation for a shift of the labels' prior alone (Saerens, Latinne and Decaestecker, 2002):
    the likelihood's only maximum, as it is concave in the share.

    Args:
        scores: probabilities of label 1 under `prior`, [n].
        prior: the share of positives in the data that the scores are calibrated on, in (0, 1).

    Returns:
        A share in (0, 1), at least 1 / (n + 2) and at most 1 - 1 / (n + 2).
    """
    odds = np.clip(scores, SATURATED, 1 - SATURATED)
    likelihood_1, likelihood_0 = odds / prior, (1 - odds) / (1 - prior)
    least = 1 / (len(scores) + 2)
    share = prior
    for _ in range(1000):
        joint = share * likelihood_1
        new = float(np.clip((joint / (joint + (1 - share) * likelihood_0)).mean(), least, 1 - least))
        if abs(new - share) < 1e-6:
            break
        share = new
    return new


def prior_shift(share: float, prior: float, real: float) -> float:
    """Compute what to add to a logit if positives are as frequent as `share` instead of `prior`.

    Images of a generator look a little different to a classifier from those it was calibrated on, and so a
    share may seem to be 0 or 1. It is believed only within `LEANING` of the log odds of real images.

    Args:
        share: of positives among the images, as `prior_of` estimates it, in (0, 1).
        prior: of positives in the data that the scores are calibrated on, in (0, 1).
        real: of positives among real training images, in (0, 1): a generator learns the frequencies of its
            data.

    Returns:
        A difference of log odds.
    """
    believed = np.clip(log_odds(share), log_odds(real) - LEANING, log_odds(real) + LEANING)
    return float(believed - log_odds(prior))


def load_labeller(folder: Path, device: torch.device = CPU) -> tuple[Labeller, LabellerCard]:
    """Read a labeller that `save_network` wrote; a `UserError` says so if the folder holds none.

    Args:
        folder: the folder.
        device: where to load the networks.

    Returns:
        The labeller in evaluation mode, and its card.
    """

    def make(card: LabellerCard) -> Labeller:
        backbone = card.backbone
        return Labeller([BACKBONES[backbone.name](backbone) for _ in card.halves], card.halves)

    return load_saved(folder, LabellerCard, make, device)
