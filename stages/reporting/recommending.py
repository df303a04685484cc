"""The verdict: which data and recipe validation recommends, how surely, and whether synthetic images help.

Pure functions of predictions on the real validation images. No test image is used, and the oracle's data,
which no user has, are never recommended.

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
from collections.abc import Mapping, Sequence
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
from pipeline.content.trust import Judgement, worst_level
from pipeline.errors import UserError
from stages.reporting.recommendation import (
    CellFigures,
    Choice,
    Recommendation,
    accuracy_text,
    probability_text,
)
from stages.shared.controls import MANIFESTS, REAL, USABLE

RESAMPLES = 2000  # a probability of 0.8 is known to one point: √(0.8 · 0.2 / 2000) = 0.009
POOLED_DEGREES = 2  # degrees of freedom: a cell's own variance of three seeds counts as much
ASSUMED_DEVIATION = 0.03  # of worst-group accuracy from seed to seed, if there is only one
# The probability that synthetic images help has to reach this for them to be recommended. With three
# recipes and seeds, 150 validation images per group and a deviation of 3 points from seed to seed, by
# simulation, 0.8 recommends synthetic images one time in ten if they bring nothing, one in 25 if they cost 3
# points, and misses a gain of 6 points one time in eight; 0.95 would miss such a gain six times in ten.
PROBABILITY_ASKED = 0.8
MOST_DOUBTS = 3  # steps that the sentence names at most

MatrixCell = tuple[str, str]  # data set, recipe


# --- Answers on validation -------------------------------------------------------------------------------


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


# --- The verdict -----------------------------------------------------------------------------------------


def recommend(
    runs: Sequence[Run],
    protected: Sequence[str],
    judgements: Mapping[str, Sequence[Judgement]],
    seed: int,
    resamples: int = RESAMPLES,
) -> Recommendation:
    """Recommend the best cell on real images alone, unless synthetic images earn their place.

    They do if the best cell with them beats the best without them with `PROBABILITY_ASKED`; then the best
    cell with them is recommended. Of equal cells the first is the best.

    Args:
        runs: on validation, of the weights that are reported; those of the oracle are passed over.
        protected: the names of the protected attributes.
        judgements: of the steps that made a data set, by its name.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        the recommendation.
    """
    answers = answers_of(runs, protected)
    n_images, seeds = len(answers.groups), sorted(set(answers.seeds))
    if not n_images:
        return Recommendation(
            data=None, recipe=None, sentence=NOTHING, sure=None, probability_asked=PROBABILITY_ASKED,
            preferred_on_validation=None, synthetic_earn_their_place=None, complements_earn_their_place=None,
            trust=None, doubts=[], cells=[], n_images=0, resamples=resamples, seeds=[],
        )  # fmt: skip
    drawn = draws_of(answers, resamples, seed)
    cells = _cell_figures(answers, drawn)

    def best_of(data: Sequence[str]) -> int | None:
        """Return the first cell with the highest figure on these data; None if there is none."""
        places = [k for k, cell in enumerate(cells) if cell.data in data]
        return max(places, key=lambda k: drawn.figures[k], default=None)

    def probability(first: int | None, second: int | None) -> float | None:
        return None if first is None or second is None else drawn.probability(first, second)

    real, synthetic = best_of([name for name in USABLE if name in REAL]), best_of(list(MANIFESTS))
    sampled, augmented = best_of(("sampled",)), best_of(("augmented",))
    gain = probability(synthetic, real)
    earned = None if gain is None else gain >= PROBABILITY_ASKED
    over_sampled = probability(augmented, sampled)
    complements = _all_reach([probability(augmented, real), over_sampled])
    chosen, other = (synthetic, real) if earned or real is None else (real, synthetic)
    assert chosen is not None  # every run is of one of the two kinds
    judged = judgements.get(cells[chosen].data, ()) if cells[chosen].data in MANIFESTS else ()
    doubts = [f"{of.step} ({of.level})" for of in judged if of.level != "fine"]
    preferred = best_of(USABLE)
    assert preferred is not None
    return Recommendation(
        data=cells[chosen].data,
        recipe=cells[chosen].recipe,
        sentence=_sentence(
            cells[chosen],
            None if other is None else cells[other],
            gain,
            _complements_clause(cells, chosen, sampled, augmented, over_sampled) if earned else "",
            doubts,
            assumed=all(len(cell.seeds) == 1 for cell in cells),
        ),
        sure=_rounded(probability(chosen, other)),
        probability_asked=PROBABILITY_ASKED,
        preferred_on_validation=Choice(data=cells[preferred].data, recipe=cells[preferred].recipe),
        synthetic_earn_their_place=earned,
        complements_earn_their_place=complements,
        trust=worst_level(judged) if judged else None,
        doubts=doubts,
        cells=cells,
        n_images=n_images,
        resamples=resamples,
        seeds=seeds,
    )


def _all_reach(probabilities: Sequence[float | None]) -> bool | None:
    """Return whether all reach `PROBABILITY_ASKED`; None if that depends on an unknown one."""
    known = [probability >= PROBABILITY_ASKED for probability in probabilities if probability is not None]
    if not all(known):
        return False
    return True if len(known) == len(probabilities) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def _cell_figures(answers: Answers, drawn: Draws) -> list[CellFigures]:
    preferred = int(np.argmax(drawn.figures))  # of equal ones the first
    best = drawn.probabilities_of_being_best()
    figures = []
    for k, (data, recipe) in enumerate(answers.cells):
        runs = np.flatnonzero(answers.cell_of == k)
        difference = drawn.draws[preferred] - drawn.draws[k]
        is_preferred = k == preferred
        figures.append(
            CellFigures(
                data=data,
                recipe=recipe,
                seeds=[answers.seeds[run] for run in runs],
                images=int(answers.predicted[runs].sum(axis=1).min()),
                validation_worst_group_accuracy=round(float(drawn.figures[k]), 6),
                std=round(float(drawn.draws[k].std()), 6),
                probability_of_being_best=round(float(best[k]), 6),
                behind_preferred=round(float(drawn.figures[preferred] - drawn.figures[k]), 6),
                behind_preferred_std=None if is_preferred else round(float(difference.std()), 6),
                probability_preferred_is_better=(
                    None if is_preferred else round(drawn.probability(preferred, k), 6)
                ),
            )
        )
    return figures


# --- In words --------------------------------------------------------------------------------------------

NOTHING = "Nothing can be recommended: no run on data that a user has can be judged on validation."


def _seeds_text(cell: CellFigures, assumed: bool) -> str:
    if len(cell.seeds) > 1:
        return f"mean of {len(cell.seeds)} seeds"
    points = f", assumed to deviate by {100 * ASSUMED_DEVIATION:.0f} points from another"
    return f"one seed{points if assumed else ''}"


def _named(cell: CellFigures) -> str:
    return f"{cell.recipe} on {cell.data}, {accuracy_text(cell)}"


def _sentence(
    chosen: CellFigures,
    other: CellFigures | None,
    gain: float | None,
    complements: str,
    doubts: Sequence[str],
    assumed: bool,
) -> str:
    """Say the verdict in one sentence.

    Args:
        chosen: the recommended cell.
        other: the best cell of the other kind.
        gain: the probability that the best cell with synthetic images beats the best without.
        complements: the clause about complements.
        doubts: steps that are not fine.
        assumed: whether the deviation from seed to seed is assumed instead of measured.

    Returns:
        the sentence.
    """
    figure = f"worst-group accuracy on validation is {accuracy_text(chosen)} ({_seeds_text(chosen, assumed)})"
    text = f"Train {chosen.recipe} on the {chosen.data} data"
    if other is None or gain is None:
        missing = "on real images alone" if chosen.data in MANIFESTS else "with synthetic images"
        text += f": {figure}, and no run {missing} stands against it"
    elif chosen.data in MANIFESTS:
        text += (
            f": {figure}, and synthetic images earn their place, as it beats the best without them "
            f"({_named(other)}) with a probability of {probability_text(gain)}{complements}"
        )
    else:
        text += (
            f", without synthetic images: {figure}, and the best with them ({_named(other)}) beats it with a "
            f"probability of {probability_text(gain)}, where {probability_text(PROBABILITY_ASKED)} are "
            "asked for"
        )
    if doubts:
        more = [f"{len(doubts) - MOST_DOUBTS} more"] if len(doubts) > MOST_DOUBTS else []
        named = ", ".join([*doubts[:MOST_DOUBTS], *more])
        text += f"; not every step that made the synthetic images can be trusted: {named}"
    return f"{text}."


def _complements_clause(
    cells: Sequence[CellFigures],
    chosen: int,
    sampled: int | None,
    augmented: int | None,
    probability: float | None,
) -> str:
    """Say whether complements add to plain samples, if synthetic images earn their place.

    Args:
        cells: all of them.
        chosen: the recommended cell, the best of those with synthetic images.
        sampled: the best cell on `sampled`.
        augmented: the best cell on `augmented`.
        probability: that `augmented` beats `sampled`.

    Returns:
        the clause; empty if it cannot be told.
    """
    if sampled is None or augmented is None or probability is None:
        return ""
    earned = probability >= PROBABILITY_ASKED
    beginning = "so do the complements" if earned else "the complements do not"
    if chosen == augmented:
        rest = f"as it beats the best with plain generated images ({_named(cells[sampled])})"
    else:
        rest = f"as the best with them ({_named(cells[augmented])}) beats it"
    return f"; {beginning}, {rest} with {probability_text(probability)}"
