"""The classifier that labels synthetic images: several networks, whose scores are averaged and calibrated.

Beside the networks that label there are checkers, trained on a half of the images each. Of a complement
whose target "stayed", a labeller that judges itself would see only that its own mistake stayed; what one half
says of the original, the other half, which has seen none of the same images, checks on the complement.

What was measured to choose the defaults: accuracy in the worst group on real test images, networks trained on
group-balanced batches, their weights and threshold chosen by the worst group on validation:

    networks                                  digits in two inks    avatars
    one (mean and deviation over seeds)       0.73 ± 0.02
    one, images moved by a sixteenth          0.82 ± 0.03           0.89 ± 0.01
    two of these, averaged                    0.84                  0.90
    three (avatars) or four (digits)          0.84                  0.90
    one on half of the images, not moved      0.58 ± 0.06
    four on three quarters each, not moved    0.71

So all images label, and halves only check. Of the avatars' G(z), two networks give 96 % the judges' label.
With the prior's shift 91 % of the men labelled blond are blond, and 80 % of the blond men are found;
without it 86 % and 90 %.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.networks.backbones import BACKBONES, CPU, Classifier, load_saved, save_network
from classifiers.networks.parameters import Backbone
from classifiers.selection import SATURATED, log_odds
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for

HALVES = 2
LEANING = math.log(4)  # generators lean towards rare groups on purpose, by a factor of two or three


class Labeller(nn.Module):
    """Networks for one attribute, and how their logits become scores.

    Args:
        members: networks of one architecture.
        halves: of which half of the images each one has seen: 0 or 1, a checker; None: all, it labels. At
            least one labels; there is a checker of each half, or none at all.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(self, members: Sequence[Classifier], halves: Sequence[int | None]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.halves = list(halves)
        # A row for what labels, and one for the checkers of each half: see `calibration`.
        roles = [half for half in (None, *range(HALVES)) if half in self.halves]
        self.roles = [[k for k, half in enumerate(self.halves) if half == role] for role in roles]
        self.register_buffer("slope", torch.ones(len(roles)))
        self.register_buffer("intercept", torch.zeros(len(roles)))

    def forward(self, images: Tensor) -> Tensor:
        """The calibrated logits [n] of images [n, 3, H, W] in [-1, 1], by the networks that label."""
        labelling = torch.stack([self.members[k](images).float() for k in self.roles[0]], dim=1)
        return self.slope[0] * labelling.mean(dim=1) + self.intercept[0]

    def with_checkers(self, images: Tensor) -> Tensor:
        """Calibrated logits of images [n, 3, H, W] in [-1, 1]: what labels, then each half's checkers.

        Returns:
            [n, roles]: 3 roles, or 1 where there are no checkers.
        """
        return self.slope * self.mean_logits(images) + self.intercept

    def mean_logits(self, images: Tensor) -> Tensor:
        """The same before they are calibrated: [n, roles]."""
        logits = torch.stack([member(images).float() for member in self.members], dim=1)
        return torch.stack([logits[:, chosen].mean(dim=1) for chosen in self.roles], dim=1)

    def features(self, images: Tensor) -> Tensor:
        """What the last layers of the networks that label see of images [n, 3, H, W] in [-1, 1]: [n, m D]."""
        found: list[Tensor] = [self.members[k].features(images) for k in self.roles[0]]  # type: ignore[operator]
        return torch.cat(found, dim=1)


def half_of_each(groups: IntArray, seed: int) -> IntArray:
    """Which half, 0 or 1, each image is in: [n]. Every group is split evenly, at random.

    Args:
        groups: [n].
    """
    halves = np.zeros(len(groups), dtype=np.int64)
    for group in np.unique(groups).tolist():
        members = generator_for(seed, "halves", group).permutation(np.flatnonzero(groups == group))
        halves[members] = (np.arange(len(members)) + group) % HALVES  # odd ones to one half and to the other
    return halves


def balanced_weights(groups: IntArray) -> FloatArray:
    """Weights [n] that sum to 1 and give every group that has images the same sum."""
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (counts[which] * len(counts)), dtype=np.float64)


def calibration(logits: FloatArray, targets: IntArray, weights: FloatArray) -> tuple[float, float]:
    """Slope and intercept for σ(slope · logit + intercept) to be the probability of target 1.

    Logistic regression on logits [n] and targets [n] in {0, 1} with weights [n]. Targets are smoothed, so
    that classes that are parted perfectly do not make the slope infinite. A slope below zero would turn
    scores around: then, and where a class is missing, slope 1 and intercept 0. Source: Platt,
    "Probabilistic outputs for support vector machines", 1999.
    """
    positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression  # a second to import, and most stages do without

    smoothed = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.abs(logits).max()), 1.0)  # solvers converge where features are of order 1
    # Each image stands there as a positive and as a negative, weighted by its smoothed target.
    features = np.concatenate([logits, logits])[:, None] / scale
    parts = np.concatenate([weights * smoothed, weights * (1 - smoothed)]) * len(weights) / weights.sum()
    fitted = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8).fit(
        features, np.repeat([1, 0], len(logits)), parts
    )
    slope, intercept = float(fitted.coef_[0, 0]) / scale, float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0 else (1.0, 0.0)


def prior_of(scores: FloatArray, prior: float) -> float:
    """The share of positives among images that a calibrated classifier gives these scores [n].

    Expectation maximisation for a shift of the labels' prior alone (Saerens, Latinne and Decaestecker, 2002):
    the likelihood's only maximum, as it is concave in the share.

    Args:
        prior: the share of positives where the scores are probabilities, in (0, 1).

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
    """What is added to a logit where positives are as frequent as `share`, and not as `prior`.

    Images of a generator look a little different to a classifier from those it was calibrated on, and so a
    share may seem to be 0 or 1. It is believed as far as the log odds of real images, more or less `LEANING`.

    Args:
        share: of positives among the images, as `prior_of` estimates it, in (0, 1).
        prior: of positives where scores are probabilities, in (0, 1).
        real: of positives among real training images, in (0, 1): a generator learns what is frequent.
    """
    believed = np.clip(log_odds(share), log_odds(real) - LEANING, log_odds(real) + LEANING)
    return float(believed - log_odds(prior))


def save_labeller(folder: Path, labeller: Labeller, parameters: Backbone, card: dict[str, Any]) -> None:
    """Commit a labeller's weights, and a card: the backbone's parameters, `halves`, and what else."""
    save_network(folder, labeller, parameters, {"halves": labeller.halves, **card})


def load_labeller(folder: Path, device: torch.device = CPU) -> tuple[Labeller, dict[str, Any]]:
    """Read a labeller that `save_labeller` wrote, in evaluation mode, and its card.

    Raises:
        UserError: the folder holds none.
    """

    def make(backbone: Backbone, card: dict[str, Any]) -> Labeller:
        return Labeller([BACKBONES[backbone.name](backbone) for _ in card["halves"]], card["halves"])

    return load_saved(folder, make, device)
