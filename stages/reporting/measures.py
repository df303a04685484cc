"""The tables of the runs, shared by the report and docs/results.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from classifiers.measures.parities import EPSILON
from pipeline.content.groups import group_names
from stages.reporting.choices import BASELINE, SELECTION, candidates_of, cells_of, chosen_recipes
from stages.reporting.columns import (
    ACCURACIES,
    AT_HALF,
    FAIRNESS,
    PAPER,
    WORST,
    WORST_MATCHED,
    WORST_ON_VALIDATION,
    RunColumn,
    calibration_metrics,
    columns_beside,
    feasible_column,
    gap_column,
    group_columns,
    metric_column,
    metrics_alone,
    takes_columns,
    worst_group_column,
)
from stages.reporting.tables import Cell, Table
from stages.reporting.text import PERCENT
from stages.shared.controls import ELSEWHERE, TRAINING_DATA

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
        columns: to the right of data set and recipe; what a recipe takes stands to the right of them.
        parts: as `Table` has them.
        shown: whether a data set and recipe has a row.
        stacked: as `Table` has it.

    Returns:
        the table.
    """
    chosen, candidates = chosen_recipes(runs), cells_of(candidates_of(runs))
    columns = [*columns, *takes_columns()]
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
    return runs_table("All runs", "on test; worst-group accuracy on validation chooses.", runs, columns)


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
        if ELSEWHERE in set(runs["data"]):
            self.parts[ELSEWHERE] = TRAINING_DATA[ELSEWHERE].sentence

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
        beside = len(self.names) + len(takes_columns())
        published: list[list[Cell | str]] = [
            ["published", kind, *(Cell(value, look="published") for value in values), *[""] * beside]
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

    def at_half(self) -> list[Table]:
        """Show the parities of predictions at 0.5, and φ; of several protected attributes also of each."""
        groups = {"": "" if len(self.protected) == 1 else " of the intersections"}
        if len(self.protected) > 1:
            groups |= {f"_{name}": f" of {name} alone" for name in self.protected}
        balanced = next(metric for metric in ACCURACIES if metric.name == "balanced_accuracy")
        joined = f"φ = ρ if |μ| < {EPSILON}"
        shown = {"average_odds_difference_at_half": joined, "phi": joined}
        return [
            self._table(
                f"Parities at 0.5, and φ{of}",
                "of predictions at a score of 0.5, between protected groups. Equalised odds difference: the "
                "largest gap in true or in false positive rates, which, unlike those of AOD, cannot cancel; "
                "demographic parity: the largest gap in rates of predicted positives, and the lowest rate "
                f"over the highest (all as fairlearn has them). φ is the balanced accuracy ρ of a seed with "
                f"|μ| < {EPSILON}, and 0 of any other; μ is AOD. It jumps there, so that its mean over the "
                "seeds mixes zeros with accuracies: how many seeds are feasible stands beside it.",
                [
                    *(metric_column(replace(m, name=f"{m.name}{ending}"), shown.get(m.name, ""))
                      for m in AT_HALF[:-1]),
                    metric_column(replace(balanced, heading=f"ρ: {balanced.heading.lower()}"), joined),
                    metric_column(replace(AT_HALF[-1], name=f"{AT_HALF[-1].name}{ending}"), joined),
                    feasible_column(joined, ending),
                ],
            )
            for ending, of in groups.items()
        ]  # fmt: skip

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
