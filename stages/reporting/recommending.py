"""The verdict: which data and recipe validation recommends, how surely, and whether synthetic images help.

Pure functions of predictions on the real validation images. No test image is used, and the oracle's data,
which no user has, are never recommended. A cell
is a data set with a recipe; `stages.reporting.validation_draws` says how its figure varies.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.content.trust import Judgement, worst_level
from stages.reporting.recommendation import (
    CellFigures,
    Choice,
    Recommendation,
    accuracy_text,
    probability_text,
)
from stages.reporting.validation_draws import ASSUMED_DEVIATION, Answers, Draws, Run, answers_of, draws_of
from stages.shared.controls import MANIFESTS, REAL, USABLE

RESAMPLES = 2000  # a probability of 0.8 is known to one point: √(0.8 · 0.2 / 2000) = 0.009
# The probability that synthetic images help has to reach this for them to be recommended. With three
# recipes and seeds, 150 validation images per group and a deviation of 3 points from seed to seed, by
# simulation, 0.8 recommends synthetic images one time in ten if they bring nothing, one in 25 if they cost 3
# points, and misses a gain of 6 points one time in eight; 0.95 would miss such a gain six times in ten.
PROBABILITY_ASKED = 0.8
MOST_DOUBTS = 3  # steps that the sentence names at most

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
        sentence=_verdict_sentence(
            cells[chosen],
            None if other is None else cells[other],
            gain,
            _complements_clause(cells, chosen, sampled, augmented, over_sampled) if earned else "",
            doubts,
            assumed=all(len(cell.seeds) == 1 for cell in cells),
        ),
        sure=_rounded_or_none(probability(chosen, other)),
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


def _rounded_or_none(value: float | None) -> float | None:
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


def _verdict_sentence(
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
