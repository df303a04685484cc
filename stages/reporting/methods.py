"""docs/methods.md and docs/results/methods.json: every remedy side by side, with and without synthetic data.

`zprime results --methods` collects the figures of the present outputs, which the preset methods makes; every
`zprime results` writes the page anew. Each sentence of the page is computed from the figures.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifiers.postprocessing import POSTPROCESSORS
from pipeline.content.files import committed
from stages.reporting.choices import BASELINE
from stages.reporting.label_noise_page import noise_section
from stages.reporting.markdown import markdown_environment
from stages.reporting.methods_record import EARLY, WEIGHTED, MethodFigures, MethodsRecord, SeedsSpread
from stages.reporting.tables import markdown_grid
from stages.reporting.text import percent, plus_minus, points
from stages.reporting.tuning import read_sweeps
from stages.shared.controls import TRAINING_DATA
from stages.shared.paths import METHODS, METHODS_PAGE

TEMPLATE = "methods.md.j2"


# --- Judging ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Methods parted by whether a difference is beyond one standard deviation.

    Attributes:
        better, worse, level: the methods, the largest difference first.
        differences: of each method, in [-1, 1], and its deviation.
    """

    better: list[str]
    worse: list[str]
    level: list[str]
    differences: Mapping[str, tuple[float, float]]

    def named(self, methods: Iterable[str]) -> str:
        """Write methods with their differences: "`dann` (+3.1 ± 0.9), ..."; "none" for none."""
        written = [f"`{name}` ({difference_text(*self.differences[name])})" for name in methods]
        return ", ".join(written) or "none"


def difference_text(mean: float, deviation: float) -> str:
    """Write a difference of shares in points with its deviation."""
    number = points(mean).removesuffix(" points")
    return number if math.isnan(deviation) else f"{number} ± {100 * deviation:.1f}"


def compared(
    first: Mapping[str, SeedsSpread], second: Mapping[str, SeedsSpread], names: Iterable[str]
) -> Comparison:
    """Compare two figures of each method: whether the second is beyond one deviation of the difference.

    Args:
        first: method -> figure.
        second: method -> figure.
        names: the methods.

    Returns:
        the methods by how they compare.
    """
    differences = {}
    for name in names:
        (a, of_a), (b, of_b) = first[name].pair, second[name].pair
        differences[name] = (b - a, math.hypot(of_a, of_b))
    ordered = sorted(differences, key=lambda name: -differences[name][0])
    better = [name for name in ordered if differences[name][0] > differences[name][1]]
    worse = [name for name in reversed(ordered) if differences[name][0] < -differences[name][1]]
    return Comparison(better, worse, [n for n in ordered if n not in better + worse], differences)


def worst_groups(figures: Mapping[str, MethodFigures]) -> dict[str, SeedsSpread]:
    """Return the worst-group accuracy of each method."""
    return {name: of.worst_group_accuracy for name, of in figures.items()}


def helped(figures: Mapping[str, MethodFigures]) -> Comparison:
    """Compare each method with ERM on the same data."""
    spreads = worst_groups(figures)
    names = [name for name in spreads if name != BASELINE]
    return compared(dict.fromkeys(names, spreads[BASELINE]), spreads, names)


def synthetic_added(record: MethodsRecord) -> Comparison:
    """Compare each method on the augmented data with itself on the original data."""
    first, second = worst_groups(record.original), worst_groups(record.augmented)
    return compared(first, second, [name for name in first if name in second])


@dataclass(frozen=True)
class Claim:
    """A published claim beside what is found here.

    Attributes:
        text: the claim, a sentence.
        source: who makes it.
        found: sentences with the figures, one for each data set.
    """

    text: str
    source: str
    found: list[str]


def claims(record: MethodsRecord) -> list[Claim]:
    """Hold the published claims against the figures; a claim whose methods did not run is left out."""
    random, *others = (
        f"{BASELINE}+{name}" for name in ("random_perturbation", "layerwise", "adversarial_finetuning")
    )
    pairs = [
        (
            "Methods that change a trained network find better trade-offs than post-processing of scores.",
            "Savani et al., 2020",
            [random, *others],
            [f"{BASELINE}+{name}" for name in POSTPROCESSORS],
            "phi",
        ),
        (
            "Random perturbation is a strong baseline for small networks.",
            "Savani et al., 2020",
            [random],
            others,
            "phi",
        ),
        (
            "Leaving out images of the larger groups does as well as repeating those of the smaller ones.",
            "Idrissi et al., 2022",
            ["undersampled_groups"],
            ["oversampled_groups"],
            "worst_group_accuracy",
        ),
        (
            "Group DRO is ahead of reweighting.",
            "Sagawa et al., 2020",
            ["group_dro", "group_dro_balanced"],
            list(WEIGHTED),
            "worst_group_accuracy",
        ),
    ]
    return [
        Claim(text, source, found)
        for text, source, ours, theirs, figure in pairs
        if (found := side_by_side(record, ours, theirs, figure))
    ] + vanishing(record)


def side_by_side(record: MethodsRecord, ours: Sequence[str], theirs: Sequence[str], figure: str) -> list[str]:
    """Compare the mean of some methods with the mean of others, on each data set: a sentence each.

    Means, not the best of each side: the best on test of more methods would be higher by chance alone. The
    deviation of a side is the mean of its methods' deviations, as the seeds are the same.

    Args:
        record: the figures.
        ours: the methods that the claim is about.
        theirs: those that they are compared with.
        figure: "phi" or "worst_group_accuracy".

    Returns:
        Sentences; none of a data set that lacks one side.
    """
    sentences = []
    for data, figures in record.by_data.items():
        sides = [[name for name in side if name in figures] for side in (ours, theirs)]
        if not all(sides):
            continue
        a, b = (mean_of([getattr(figures[name], figure).pair for name in side]) for side in sides)
        difference, deviation = a[0] - b[0], math.hypot(a[1], b[1])
        verdict = "level, within one deviation, with"
        if abs(difference) > deviation:
            verdict = "ahead of" if difference > 0 else "behind"
        shown = {"phi": "φ", "worst_group_accuracy": "worst group"}[figure]
        first, second = (f"{' and '.join(f'`{name}`' for name in side)}" for side in sides)
        sentences.append(f"on {data}, {first} ({shown} {plus_minus(a)}) {verdict} {second} ({plus_minus(b)})")
    return sentences


def mean_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Average means and deviations."""
    means, deviations = zip(*pairs, strict=True)
    return sum(means) / len(means), sum(deviations) / len(deviations)


def vanishing(record: MethodsRecord) -> list[Claim]:
    """Hold against the figures that the effect of loss weights vanishes as training goes on."""
    found = [
        f"on {data}, `{recipe}` is {points(early)} from ERM on validation after {EARLY:.0%} of the steps and "
        f"{points(late)} at the end".replace("%", " %")
        for recipe, by_data in record.run.gains.items()
        for data, (early, late) in by_data.items()
    ]
    text = "The effect of loss weights vanishes as training goes on."
    return [Claim(text, "Byrd and Lipton, 2019", found)] if found else []


# --- The page --------------------------------------------------------------------------------------------


def rows_of(record: MethodsRecord, data: str) -> list[list[str]]:
    """Return the rows of a data set's table, the best worst group first."""
    return [
        [
            f"`{name}`",
            plus_minus(of.worst_group_accuracy.pair),
            plus_minus(of.accuracy.pair),
            plus_minus(of.balanced_accuracy.pair),
            plus_minus(of.equalized_odds_difference.pair),
            plus_minus(of.average_odds_difference.pair),
            plus_minus(of.phi.pair),
            percent(of.feasible),
            f"{of.cost.forward:.2g} / {of.cost.backward:.2g}",
            ", ".join(of.labels) or "–",
        ]
        for name, of in sorted(
            record.by_data[data].items(), key=lambda item: -item[1].worst_group_accuracy.mean
        )
    ]


HEADINGS = [
    "method", "worst group", "accuracy", "balanced accuracy", "equalised odds difference",
    "average odds difference", "φ", "feasible", "cost", "protected labels",
]  # fmt: skip


def sweep_rows(named: Callable[[str], bool]) -> list[list[str]]:
    """Return the rows of the table of the sweeps, of the recipes that are named."""
    return [
        [
            f"`{recipe}`",
            f"`{sweep.parameter}`",
            *(
                f"{value:g}: {percent(first)} / {percent(second)}"
                for value, first, second in zip(sweep.values, *sweep.validation.values(), strict=True)
            ),
            f"{sweep.chosen:g}",
        ]
        for recipe, sweep in read_sweeps().items()
        if named(recipe)
    ]


def methods_page(record: MethodsRecord) -> str:
    """Write docs/methods.md."""
    template = markdown_environment().get_template(TEMPLATE)
    return template.render(
        run=record.run,
        tables={data: markdown_grid(HEADINGS, rows_of(record, data)) for data in record.by_data},
        sentences={data: TRAINING_DATA[data].sentence for data in record.by_data},
        helped={data: helped(figures) for data, figures in record.by_data.items()},
        added=synthetic_added(record),
        claims=claims(record),
        sweeps=sweep_rows(lambda recipe: recipe in record.original),
        markdown_grid=markdown_grid,
        label_noise=noise_section(),
    )


def write_methods_page() -> bool:
    """Write docs/methods.md if there are figures; returns whether there are."""
    if not METHODS.exists():
        return False
    content: Any = methods_page(MethodsRecord.read(METHODS))
    with committed(METHODS_PAGE) as temporary:
        temporary.write_text(content)
    return True
