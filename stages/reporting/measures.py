"""The tables of the runs, shared by the report and docs/results.md: figures of runs.parquet as text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from classifiers.measures.evaluation import MATCHED, METRICS, Metric, Shown
from pipeline.content.groups import group_names
from stages.reporting.choices import (
    BASELINE,
    CHOICE,
    SELECTION,
    candidates_of,
    cells_of,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
)
from stages.reporting.tables import FIGURE_SPACE, Cell, Heading, Table
from stages.reporting.text import PERCENT, group_headings, group_values, spread_text
from stages.shared.controls import TRAINING_DATA
from stages.shared.datasheet import Summary

TWO_GROUPS = 4  # groups of one protected attribute; tables of more have less room

# METHODS 2, of CelebA: AP, DEO, BA (%) and KL by the kind of target, baseline → augmented, each ± two
# deviations of the bootstrap. One BA: CelebA's test groups are about as frequent as its training groups.
PUBLISHED = {
    "inconsistently labelled": (
        "66.3±1.8 → 65.2±1.9", "21.5±4.4 → 16.5±4.2", "2.1±0.6 → 0.5±0.6", "–", "1.7±0.3 → 1.3±0.4",
    ),
    "gender-dependent": (
        "78.6±1.4 → 77.8±1.4", "25.7±3.5 → 23.4±3.6", "2.3±0.5 → 1.6±0.5", "–", "1.3±0.2 → 1.2±0.2",
    ),
    "gender-independent": (
        "83.9±1.5 → 83.0±1.6", "16.7±5.0 → 13.9±5.2", "0.3±0.6 → 0.0±0.5", "–", "1.1±0.5 → 0.9±0.6",
    ),
}  # fmt: skip
# METHODS 3, of CelebA, Blond_Hair with Male: the recipe, worst-group and average accuracy (%).
PUBLISHED_ACCURACIES = (
    ("ERM", 41.1, 94.8),
    ("Group DRO", 41.1, 94.7),
    ("ERM, strong ℓ2", 37.8, 95.8),
    ("Group DRO, strong ℓ2", 86.7, 93.5),
)
# METHODS 3: figures that the study that zprime follows reports for its own method.
STUDY = (
    "In the study that zprime follows (10,000 images, 20 epochs, batches of 4), worst-group accuracy was "
    f"0{PERCENT} to 12{PERCENT}, an epoch of Group DRO took 1.5 times one of ERM, and it ran out of memory."
)


# --- Columns ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunColumn:
    """A column of a table of the runs.

    Attributes:
        heading: what stands above it.
        cell: returns the text for a data set and a recipe, from out/evaluation/runs.parquet.
    """

    heading: Heading
    cell: Callable[[pd.DataFrame, str, str], Cell | str]


def columns_of(table: str) -> tuple[Metric, ...]:
    """List the metrics that a table shows, in the order of their registration."""
    return tuple(metric for metric in METRICS if metric.table == table)


ACCURACIES, PAPER, FAIRNESS = (columns_of(table) for table in ("accuracies", "paper", "fairness"))
(WORST_MATCHED,) = columns_of("matched")
(WORST,) = (metric for metric in ACCURACIES if metric.name == SELECTION)
WORST_ON_VALIDATION = Shown(CHOICE, WORST.heading, percent=True)


def calibration_metrics(attribute: str = "") -> tuple[Shown, ...]:
    """Return the calibration errors of the two groups of the protected attribute, or of one of several."""
    return tuple(
        Shown(f"protected_{g}_calibration_error{attribute}", f"ECE, group {g}", True, "lowest")
        for g in (0, 1)
    )


def metrics_alone(attribute: str) -> tuple[Shown, ...]:
    """Return the metrics of one of several protected attributes, measured without the others."""
    alone = [metric for metric in (*ACCURACIES, *PAPER, *FAIRNESS) if metric.of_groups]
    renamed = (Shown(f"{m.name}_{attribute}", m.heading, m.percent, m.best) for m in alone)
    return (*renamed, *calibration_metrics(f"_{attribute}"))


def metric_column(
    metric: Shown, over: str = "", selection: str = SELECTION, look: str = "", named: bool = True
) -> RunColumn:
    """Show a metric's mean and deviation over the seeds.

    Args:
        metric: the name, heading and unit of a column of `runs`.
        over: what stands above the column and its neighbours.
        selection: the metric that chose the weights on validation.
        look: of the cells.
        named: whether the metric's name stands below its heading.

    Returns:
        the column.
    """
    heading = f"{metric.heading} (%)" if metric.percent else metric.heading
    code = metric.name.replace("_", "_\u200b") if named else ""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
        values = mean_and_deviation(seeds_of(runs, data, recipe, selection), metric.name)
        return Cell(spread_text(*values, metric.percent), look=look)

    return RunColumn(Heading(heading, code, f"best: {metric.best}", over), cell)


def gap_column(over: str = "") -> RunColumn:
    """Show the share of the gap that is closed."""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> str:
        worst = mean_and_deviation(seeds_of(runs, data, recipe), SELECTION)
        return spread_text(*gap_of(runs).closed(*worst), percent=True)

    return RunColumn(Heading("Gap closed (%)", "gap_\u200bclosed", "best: highest", over), cell)


def worst_group_of(seeds: pd.DataFrame, n_groups: int) -> int:
    """Return the group with the lowest accuracy, mean over the seeds."""
    return int(np.nanargmin([seeds[f"group_{group}_accuracy"].mean() for group in range(n_groups)]))


def worst_group_column(names: Sequence[str], over: str = "") -> RunColumn:
    """Show which group is the worst one."""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> str:
        return group_headings(names)[worst_group_of(seeds_of(runs, data, recipe), len(names))]

    return RunColumn(Heading("Its worst group", over=over, is_number=False), cell)


def group_columns(names: Sequence[str], sizes: Sequence[int] = ()) -> list[RunColumn]:
    """Show every group's accuracy at 0.5, each row's lowest marked.

    Args:
        names: of the groups, [2 n_g].
        sizes: test images of each group, shown in the headings; empty: not shown.

    Returns:
        a column for each group.
    """

    def column(group: int, heading: str) -> RunColumn:
        note = f", n = {sizes[group]:,}" if sizes else ""

        def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
            seeds = seeds_of(runs, data, recipe)
            text = spread_text(*mean_and_deviation(seeds, f"group_{group}_accuracy"), percent=True)
            return Cell(text, look="worst" if worst_group_of(seeds, len(names)) == group else "")

        return RunColumn(Heading(heading, f"group_{group}{note}", names[group]), cell)

    return [column(group, heading) for group, heading in enumerate(group_headings(names))]


def columns_beside(names: Sequence[str], over: str, ending: str = "") -> list[RunColumn]:
    """Show each group's accuracy at the gaps' threshold, mean over the seeds (%), each row's lowest marked.

    These columns reveal a gap that closed only because every group got worse.

    Args:
        names: of the groups.
        over: what stands above the columns.
        ending: "_NAME" for the groups of one of several protected attributes.

    Returns:
        a column for each group.
    """

    def column(group: int, heading: str) -> RunColumn:
        def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
            seeds = seeds_of(runs, data, recipe)
            means = [seeds[f"group_{g}_accuracy{MATCHED}{ending}"].mean() for g in range(len(names))]
            mean = means[group]
            text = "–" if math.isnan(mean) else f"{mean * 100:.1f}"
            return Cell(text, look="worst" if mean == np.fmin.reduce(means) else "")

        return RunColumn(Heading(heading, f"group_{group}", names[group], over), cell)

    return [column(group, heading) for group, heading in enumerate(group_values(names))]


# --- Tables ----------------------------------------------------------------------------------------------


def runs_table(
    title: str,
    caption: str,
    runs: pd.DataFrame,
    columns: Sequence[RunColumn],
    parts: Mapping[str, str] | None = None,
    shown: Callable[[str, str], bool] = lambda data, recipe: True,
    stacked: bool = False,
) -> Table:
    """Show a row for each data set and recipe; the rows that validation chose are marked.

    Args:
        title: of the table.
        caption: in Markdown.
        runs: out/evaluation/runs.parquet.
        columns: to the right of data set and recipe.
        parts: as `Table` has them.
        shown: whether a data set and recipe has a row.
        stacked: as `Table` has it.

    Returns:
        the table.
    """
    chosen, candidates = chosen_recipes(runs), cells_of(candidates_of(runs))
    cells = [cell for cell in cells_of(runs) if shown(*cell)]
    post_processed = list(dict.fromkeys(cell[1] for cell in cells if cell not in candidates))
    return Table(
        title,
        f"{caption}{post_processing_note(post_processed)}",
        ["Trained on", "Recipe", *(column.heading for column in columns)],
        [[d, Cell(r, look="code"), *(column.cell(runs, d, r) for column in columns)] for d, r in cells],
        labels=2,
        chosen=[k for k, (data, recipe) in enumerate(cells) if chosen[data] == recipe],
        parts=parts,
        stacked=stacked,
    )


def post_processing_note(recipes: Sequence[str]) -> str:
    """Say what recipes with post-processed scores need; "" if there are none."""
    if not recipes:
        return ""
    names = ", ".join(f"`{recipe}`" for recipe in recipes)
    return (
        f" Not comparable with the others: {names}, scores that a post-processor turned into expected "
        "predictions, needs the protected attribute of every image that it predicts. It is fitted on "
        "validation and never chosen."
    )


def overview(runs: pd.DataFrame) -> Table:
    """Show the figures that the targets are about."""
    accuracy = next(metric for metric in ACCURACIES if metric.name == "accuracy")
    columns = [
        metric_column(WORST),
        metric_column(accuracy),
        gap_column(),
        metric_column(WORST_ON_VALIDATION, "validation"),
    ]
    return runs_table("All runs", "on test; the last column chooses.", runs, columns)


class RunTables:
    """Builds every table of the runs, for the groups and data sets of a run of the pipeline."""

    def __init__(
        self, runs: pd.DataFrame, target: str, protected: Sequence[str], names: Sequence[str],
        images: Mapping[str, int],
    ) -> None:  # fmt: skip
        """Keep what the tables are made of.

        Args:
            runs: out/evaluation/runs.parquet.
            target: the target attribute.
            protected: the protected attributes.
            names: of the groups, [2 n_g].
            images: how many images each data set that is trained on has, in the order of the tables.
        """
        self.runs, self.target, self.protected, self.names = runs, target, protected, names
        self.sizes = [int(runs[f"group_{group}_n"].iloc[0]) for group in range(len(names))]
        self.stacked = len(names) > TWO_GROUPS
        self.parts = {data: f"{n:,} images; {TRAINING_DATA[data].sentence}" for data, n in images.items()}

    def _table(
        self, title: str, caption: str, columns: Sequence[RunColumn],
        shown: Callable[[str, str], bool] = lambda data, recipe: True,
    ) -> Table:  # fmt: skip
        return runs_table(title, caption, self.runs, columns, self.parts, shown, self.stacked)

    def _beside(self, attributes: Sequence[str], names: Sequence[str], ending: str = "") -> list[RunColumn]:
        over = f"accuracy of ({', '.join((self.target, *attributes))})"
        return columns_beside(names, over, ending)

    def chosen(self) -> Table:
        """Show the best recipe of each data set."""
        columns = [
            metric_column(WORST_ON_VALIDATION, "validation", named=False),
            metric_column(WORST, "test", look="strong", named=False),
            worst_group_column(self.names, "test"),
            *(metric_column(m, "test", named=False) for m in ACCURACIES if m is not WORST),
            gap_column("test"),
        ]
        chosen = chosen_recipes(self.runs)
        table = runs_table(
            "The best recipe of each data set, chosen on validation",
            "in percent, of predictions at a score of 0.5. The gap is the oracle’s worst-group accuracy less "
            f"the original data’s, both with `{BASELINE}`: 0 % of it is closed by what does no better than "
            "the latter, 100 % by what does as well as the former.",
            self.runs,
            columns,
            shown=lambda data, recipe: chosen[data] == recipe,
        )
        rows = [
            [Cell(data, TRAINING_DATA[data].sentence, "strong"), *row[1:]]
            for data, row in ((str(row[0]), row) for row in table.rows)
        ]
        return Table(table.title, table.caption, table.headings, rows, labels=2, wide=True)

    def accuracies(self) -> Table:
        """Show every recipe's accuracies."""
        by_accuracy = [metric for metric in ACCURACIES if metric.name in (SELECTION, "accuracy")][::-1]
        return self._table(
            "Accuracies of every recipe",
            "in percent. On test, of predictions at a score of 0.5; “matched threshold” is the one that "
            "predicts as many positives on validation as there are true ones. The last two columns are of "
            "the weights that average accuracy on validation selects instead.",
            [
                metric_column(WORST_ON_VALIDATION, "validation", named=False),
                *(metric_column(m, "test", look="strong" if m is WORST else "") for m in ACCURACIES),
                worst_group_column(self.names, "test"),
                gap_column("test"),
                metric_column(WORST_MATCHED, "matched threshold"),
                *(metric_column(m, "selected by average accuracy", "accuracy", named=False)
                  for m in by_accuracy),
            ],
        )  # fmt: skip

    def paper(self) -> Table:
        """Show the paper's measures, its published figures, and each group's accuracy beside them."""
        several = len(self.protected) > 1
        first = self.protected[0]
        between = "the protected groups, the largest of any two" if several else f"{first}=0 and {first}=1"
        balanced = (
            " Here all test groups are of one size, so that BA is 0 by construction; what compares with the "
            "published BA is the one at the training proportions, as CelebA’s test groups are about as "
            "frequent as its training groups."
        )
        over = "at the matched threshold"
        table = self._table(
            "The paper’s measures (Ramaswamy et al., 2021), and what stands behind them",
            "AP: average precision; DEO: the difference between the false negative rates of "
            f"{between}; BA: bias amplification, relative to the correlation in the test set; BA at the "
            "training proportions: the same with the test images weighted so that their groups are as "
            "frequent as the original training data’s; all in percent; KL: with each score histogram over "
            "its own range, as published (the next table has the sound one). On the right, the accuracy of "
            "each group at the same matched threshold, in percent, each row’s lowest marked: where a gap "
            "closes because every group got worse, it shows here."
            + (balanced if len(set(self.sizes)) == 1 else ""),
            [*(metric_column(m, over) for m in PAPER), *self._beside(self.protected, self.names)],
        )
        published: list[list[Cell | str]] = [
            ["published", kind, *(Cell(value, look="published") for value in values), *[""] * len(self.names)]
            for kind, values in PUBLISHED.items()
        ]
        note = (
            "CelebA, ERM on the original → on the augmented data, means over kinds of targets, ± two "
            "deviations of the bootstrap; group accuracies were not published"
        )
        return replace(table, rows=[*table.rows, *published], parts={**self.parts, "published": note})

    def fairness(self) -> Table:
        """Show the study's measures of fairness, and each group's accuracy beside them."""
        several = len(self.protected) > 1
        first = self.protected[0]
        metrics = [*FAIRNESS, *(() if several else calibration_metrics())]
        over = "at the matched threshold"
        return self._table(
            "The study’s measures of fairness",
            "KL of scores: the divergence between the score distributions of "
            + ("the protected groups, of all pairs," if several else f"{first}=0 and {first}=1")
            + " within each true class, over one shared range. SPD, EOD, AOD: statistical parity, equal "
            "opportunity and average odds difference, "
            + ("the largest of any two protected groups," if several else "group 0 minus group 1,")
            + " in percent, and disparate impact, "
            + (
                "the lowest rate of predicted positives over the highest,"
                if several
                else "their ratio of predicted positives,"
            )
            + " at the matched threshold. "
            + ("" if several else "ECE: expected calibration error of each protected group, in percent. ")
            + "A classifier that treats all groups alike has a disparate impact of 1 and else 0. On the "
            "right, the accuracies of the table above.",
            [*(metric_column(m, over) for m in metrics), *self._beside(self.protected, self.names)],
        )

    def alone(self) -> list[Table]:
        """Show, for several protected attributes, every measure of each without the others."""
        if len(self.protected) == 1:
            return []
        over = "at the matched threshold"
        return [
            self._table(
                f"Every measure of {name} alone",
                f"the protected groups are {name}=0 and {name}=1, whatever the other attributes are; gaps "
                "are those of group 0 minus group 1, in percent but KL and the ratio.",
                [
                    *(metric_column(m, over, named=False) for m in metrics_alone(name)),
                    *self._beside([name], group_names(self.target, [name]), f"_{name}"),
                ],
            )
            for name in self.protected
        ]

    def groups(self, shown: Callable[[str, str], bool] = lambda data, recipe: True) -> Table:
        """Show every group's accuracy at 0.5."""
        return self._table(
            "Group accuracies on test, in percent",
            "of predictions at a score of 0.5. n is the number of test images. Each row’s lowest is marked.",
            group_columns(self.names, self.sizes),
            shown,
        )


def counts_table(
    summaries: Mapping[str, Summary], synthetic: Summary, names: Sequence[str],
    target: str, protected: Sequence[str],
) -> Table:  # fmt: skip
    """Show how many images of each group are trained on, and how far the labels are from balance.

    Args:
        summaries: by data set.
        synthetic: the summary of the augmented data's synthetic images.
        names: of the groups.
        target: the target attribute.
        protected: the protected attributes.

    Returns:
        the table.
    """
    described: list[tuple[str, Summary]] = []
    for data, summary in summaries.items():
        described.append((data, summary))
        if data == "augmented":
            described.append(("of that, synthetic", synthetic))
    rows: list[list[Cell | str]] = []
    for name, summary in described:
        counts = [summary.group_counts[f"group_{group}"] for group in range(len(names))]
        shares = [f"{100 * n / max(summary.images, 1):.1f}".rjust(5, FIGURE_SPACE) + " %" for n in counts]
        rows.append(
            [name, f"{summary.images:,}",
             *(Cell(f"{n:,}", share) for n, share in zip(counts, shares, strict=True)),
             f"{summary.kl_joint:.4f}", f"{summary.kl_uniform:.4f}"]
        )  # fmt: skip
    groups = [
        Heading(heading, f"group_{group}", names[group])
        for group, heading in enumerate(group_headings(names))
    ]
    return Table(
        "Group counts and KL divergence of the training labels",
        f"`kl_joint` is D(p(t,g) ‖ p(t) p(g)), 0 where {target} is independent "
        f"of {' and '.join(protected)}; `kl_uniform` is D(p(t,g) ‖ uniform), 0 where all groups are of "
        "one size; in nats.",
        ["Data", "Images", *groups, "kl_joint", "kl_uniform"],
        rows,
        wide=True,
        stacked=len(names) > TWO_GROUPS,
    )
