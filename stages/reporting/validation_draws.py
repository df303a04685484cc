"""What runs answer on validation images, and how it varies: by the images and by the seeds.

A cell is a data set with a recipe; its figure is the worst-group accuracy on validation at the threshold 0.5,
mean over the seeds. The uncertainty of the difference of two cells has two independent sources:

- the validation images: a bootstrap that resamples the ids once for all runs (Efron, 1979), within every
  group as often as the group has images, so that none vanishes. A cell's resamples are shifted to have its
  figure as their mean: the minimum over the groups of a resample is biased downwards, the more so the closer
  the groups are.
- the seeds: the mean of k seeds has the variance s²/k. Two or three seeds estimate s² poorly, so each cell's
  own, of k - 1 degrees of freedom, is averaged with `POOLED_DEGREES` of the variance pooled over all cells
  whose seeds differ (moderated variances: Smyth, 2004, doi 10.2202/1544-6115.1027). A normal number of that
  variance is added to each resample. If each cell has a single seed, s is taken to be `ASSUMED_DEVIATION`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.counts import BLOCK_BYTES, ratio
from classifiers.measures.bootstrap import bootstrap_weights
from classifiers.selection import HALF
from pipeline.content.arrays import FloatArray
from pipeline.content.groups import protected_groups
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError
from stages.shared.controls import USABLE

POOLED_DEGREES = 2  # degrees of freedom: a cell's own variance of three seeds counts as much
ASSUMED_DEVIATION = 0.03  # of worst-group accuracy from seed to seed, if there is only one

MatrixCell = tuple[str, str]  # data set, recipe


@dataclass(frozen=True)
class Run:
    """One trained network's predictions on the validation images.

    Attributes:
        data, recipe, seed: identify the run.
        predictions: id, target (0 or 1), score (of target 1, in [0, 1]) and a column of 0 and 1 for each
            protected attribute; rows of other images must not be given.
    """

    data: str
    recipe: str
    seed: int
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Answers:
    """Which validation images each run classifies correctly; joined by id, so all runs are resampled alike.

    Attributes:
        cells: the data sets and recipes, in the order of `USABLE`.
        cell_of: the place in `cells` of each run, [r].
        seeds: of each run.
        right: [r, n]; False if the run did not predict the image.
        predicted: whether the run predicted the image, [r, n].
        groups: t * n_g + g of each image, [n].
    """

    cells: list[MatrixCell]
    cell_of: NDArray[np.int64]
    seeds: list[int]
    right: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    groups: NDArray[np.int64]


def answers_of(runs: Sequence[Run], protected: Sequence[str]) -> Answers:
    """Join the answers of the runs on data that a user has.

    Args:
        runs: on validation; those on other data are passed over.
        protected: the names of the protected attributes.

    Returns:
        the answers.

    Raises:
        UserError: two runs have different labels for an image.
    """
    usable = sorted((run for run in runs if run.data in USABLE), key=lambda run: USABLE.index(run.data))
    cells = list(dict.fromkeys((run.data, run.recipe) for run in usable))
    columns = ["id", "target", *protected]
    tables = [run.predictions[columns] for run in usable] or [pd.DataFrame(columns=columns)]
    images = pd.concat(tables, ignore_index=True).drop_duplicates().sort_values("id", ignore_index=True)
    twice = images["id"][images["id"].duplicated()]
    if len(twice):
        raise UserError(
            f"out/runs: runs have different labels for the validation image {twice.iloc[0]}, so they are of "
            "different data: run `dvc repro`."
        )
    values = images[list(protected)].to_numpy(dtype=np.int64).reshape(len(images), len(protected))
    groups, n_groups = protected_groups(values)
    right = np.zeros((len(usable), len(images)), dtype=bool)
    predicted = np.zeros_like(right)
    index = pd.Index(images["id"])
    for k, run in enumerate(usable):
        places = index.get_indexer(pd.Index(run.predictions["id"]))
        is_positive = run.predictions["score"].to_numpy() >= HALF
        right[k, places] = is_positive == (run.predictions["target"].to_numpy() == 1)
        predicted[k, places] = True
    return Answers(
        cells,
        np.array([cells.index((run.data, run.recipe)) for run in usable], dtype=np.int64),
        [run.seed for run in usable],
        right,
        predicted,
        images["target"].to_numpy(dtype=np.int64) * n_groups + groups,
    )


def worst_group_accuracies(answers: Answers, resamples: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Compute the worst-group accuracy of every run, on the images and on their resamples.

    Every resample draws as many images of each group as there are, with replacement, the same for all runs.
    A run that predicts only some of the images is measured on those that are drawn among them; if none of a
    group is, its accuracy on all its images of that group is taken: no group vanishes.

    Args:
        answers: of the runs.
        resamples: how many are drawn.
        seed: of the bootstrap.

    Returns:
        in [0, 1]: on the images [r], and on their resamples [r, resamples].
    """
    observed = np.full(len(answers.right), np.nan)
    resampled = np.full((len(answers.right), resamples), np.nan)
    for group in np.unique(answers.groups):
        members = answers.groups == group
        n = int(members.sum())
        # Whole numbers stay exact in float32, up to 16 million of them.
        right, predicted = (of[:, members].astype(np.float32) for of in (answers.right, answers.predicted))
        accuracies = ratio(right.sum(axis=1).astype(np.float64), predicted.sum(axis=1).astype(np.float64))
        drawn = np.empty_like(resampled)
        generator = generator_for(seed, "recommendation", int(group))
        block = max(1, BLOCK_BYTES // (4 * n))
        for start in range(0, resamples, block):
            part = slice(start, min(start + block, resamples))
            weights = bootstrap_weights(n, part.stop - part.start, generator)
            hits, draws = (of @ weights.T for of in (right, predicted))
            drawn[:, part] = ratio(hits.astype(np.float64), draws.astype(np.float64))
        drawn = np.where(np.isnan(drawn), accuracies[:, None], drawn)
        observed, resampled = np.fmin(observed, accuracies), np.fmin(resampled, drawn)
    return observed, resampled


def seed_variances(values: FloatArray, cell_of: NDArray[np.int64], n_cells: int) -> FloatArray:
    """Estimate the variance of a cell's figure from seed to seed: its own averaged with the pooled one.

    The module's docstring has the formula and its source.

    Args:
        values: the figure of each run, [r].
        cell_of: the cell of each run, in 0 ... n_cells - 1: [r].
        n_cells: c.

    Returns:
        [c]; `ASSUMED_DEVIATION`² if no cell has two seeds; 0 if some have, and none of them differ.
    """
    members = [values[cell_of == cell] for cell in range(n_cells)]
    degrees = np.array([len(of) - 1 for of in members], dtype=np.float64)
    own = np.array([of.var(ddof=1) if len(of) > 1 else 0.0 for of in members])
    if not degrees.any():
        return np.full(n_cells, ASSUMED_DEVIATION**2)
    differ = own > 0
    if not differ.any():
        return np.zeros(n_cells)
    pooled = float((degrees * own)[differ].sum() / degrees[differ].sum())
    shrunk: FloatArray = (degrees * own + POOLED_DEGREES * pooled) / (degrees + POOLED_DEGREES)
    return shrunk


@dataclass(frozen=True)
class Draws:
    """The plausible figures of each cell.

    Attributes:
        figures: worst-group accuracies on validation, means over the seeds: [c].
        draws: plausible values of them, the same draw of images for all cells: [c, resamples].
    """

    figures: FloatArray
    draws: FloatArray

    def probability(self, cell: int, other: int) -> float:
        """Return the probability that a cell is better than another; draws with equal values count half."""
        first, second = self.draws[cell], self.draws[other]
        return float((first > second).mean() + 0.5 * (first == second).mean())

    def probabilities_of_being_best(self) -> FloatArray:
        """Return the probability of each cell to be the best, [c]; cells that tie for best share the draw."""
        is_best = self.draws == self.draws.max(axis=0)
        shares: FloatArray = (is_best / is_best.sum(axis=0)).mean(axis=1)
        return shares


def draws_of(answers: Answers, resamples: int, seed: int) -> Draws:
    """Draw plausible figures of each cell, by the validation images and the seeds.

    The module's docstring has the formulas.

    Args:
        answers: of the runs.
        resamples: how many are drawn.
        seed: of the bootstrap.

    Returns:
        the figures and their draws.
    """
    observed, resampled = worst_group_accuracies(answers, resamples, seed)
    variances = seed_variances(observed, answers.cell_of, len(answers.cells))
    figures, draws = [], []
    for cell, (data, recipe) in enumerate(answers.cells):
        runs = answers.cell_of == cell
        figure = round(float(observed[runs].mean()), 12)  # equal figures must compare equal
        of_images = resampled[runs].mean(axis=0)
        noise = generator_for(seed, "recommendation", "seeds", data, recipe).standard_normal(resamples)
        of_seeds = math.sqrt(variances[cell] / runs.sum()) * noise
        figures.append(figure)
        draws.append(of_images - of_images.mean() + figure + of_seeds)
    return Draws(np.array(figures), np.array(draws))
