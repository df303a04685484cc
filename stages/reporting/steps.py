"""The report's tables of each step of the augmentation: hyperplanes, moves, gates, quality, inversion.

Pure functions of the files that the stages wrote; each returns tables of text.
"""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from stages.reporting.columns import takes_columns
from stages.reporting.recommendation import Recommendation, accuracy_text, probability_text
from stages.reporting.tables import Heading, Table
from stages.reporting.text import group_headings, percent
from stages.shared.datasheet import Datasheet
from stages.shared.inversion import ErrorsOfKnown, InversionMetrics
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.moves import Moves
from stages.shared.planes import HyperplaneMetrics

NAMES_OF_SETS = {
    "train": "real training images",
    "oracle": "oracle’s real images",
    "z": "G(z)",
    "z_prime": "G(z′)",
    "real_prime": "G(z′) of inverted real images",
    "augmented": "augmented, as trained on",
    "sampled": "sampled, as trained on",
}


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with this many decimals; '–' if undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(n: int) -> str:
    """Return a whole number as '10,000'."""
    return f"{n:,}"


def set_name(name: str) -> str:
    """Return the description of a set of images in words."""
    return NAMES_OF_SETS.get(name, name)


# --- The verdict -----------------------------------------------------------------------------------------


def recommendation(verdict: Recommendation, runs: pd.DataFrame) -> Table:
    """Show the figures on validation of every data set and recipe that a user could use.

    Args:
        verdict: out/evaluation/recommendation.json.
        runs: out/evaluation/runs.parquet.

    Returns:
        the table.
    """
    takes = takes_columns()
    return Table(
        "What stands behind the verdict",
        "worst-group accuracy on validation, mean over the seeds ± its standard deviation, by "
        f"{verdict.resamples:,} resamples of the {verdict.n_images:,} validation images and by the seeds; "
        "how probable it is that a row is the best of all, how far it is behind the one with the highest "
        "figure, and how probable it is that the latter is the better one. The oracle’s data, which no user "
        "has, are not among them.",
        ["Trained on", "Recipe", "Seeds", "Images", "Worst group (%)", "The best of all", "Points behind",
         "The highest is better", *(column.heading for column in takes)],
        [
            [
                of.data,
                of.recipe,
                count(len(of.seeds)),
                count(of.images),
                accuracy_text(of).removesuffix(" %"),
                probability_text(of.probability_of_being_best),
                "–"
                if of.behind_preferred_std is None
                else f"{100 * of.behind_preferred:.1f} ± {100 * of.behind_preferred_std:.1f}",
                "–"
                if of.probability_preferred_is_better is None
                else probability_text(of.probability_preferred_is_better),
                *(column.cell(runs, of.data, of.recipe) for column in takes),
            ]
            for of in verdict.cells
        ],
        labels=2,
    )  # fmt: skip


# --- Latent space ----------------------------------------------------------------------------------------


def hyperplanes(metrics: HyperplaneMetrics, attributes: Sequence[str]) -> Table:
    """Show how well each hyperplane separates latents that it was not fitted on.

    Args:
        metrics: out/hyperplanes/metrics.json.
        attributes: the target, then the protected ones.

    Returns:
        the table.
    """
    target = attributes[0]
    of_domains = [name for name in metrics.planes if name not in attributes]
    planes = {name: metrics.planes[name] for name in (*attributes, *of_domains)}
    return Table(
        "Hyperplanes in the latent space",
        "on latents that they were not fitted on. “On the sphere”: where the generator normalises its "
        "latents, what it renders. A plane “in” a group was fitted on the latents of that protected group. "
        "Angle: between the normals, 90° where attributes are independent.",
        ["Hyperplane", "Balanced accuracy (%)", "On the sphere (%)", "Positives among G(z) (%)",
         "Fitted on: 0", "Fitted on: 1", f"Angle with {target}’s (°)"],
        [
            [
                name,
                percent(of.balanced_accuracy),
                percent(of.balanced_accuracy_on_sphere),
                percent(of.positives),
                count(of.latents["0"]),
                count(of.latents["1"]),
                number(metrics.angles_degrees.get(f"{target} x {name}"), 1),
            ]
            for name, of in planes.items()
        ],
    )  # fmt: skip


def angles(metrics: HyperplaneMetrics, protected: Sequence[str]) -> str:
    """Say the angles between the normals of several protected attributes; empty for one attribute."""
    pairs = [f"{a} x {b}" for a, b in itertools.combinations(protected, 2)]
    named = [f"{pair.replace(' x ', ' and ')} {metrics.angles_degrees[pair]:.1f}°" for pair in pairs]
    return f"Angles between the normals of the protected attributes: {'; '.join(named)}." if pairs else ""


def moves(metrics: Mapping[str, Moves]) -> Table:
    """Show how far the complements of each source moved, and whether they lie where they should.

    Args:
        metrics: source -> the metrics that `complement` wrote.

    Returns:
        the table.
    """
    rows = []
    for source, of_source in metrics.items():
        for flips, of in of_source.by_flips.items():
            rows.append(
                [
                    set_name(source),
                    flips.replace("+", " + "),
                    count(of.complements),
                    number(of.move_length_median),
                    number(of.move_length_95th_percentile),
                    percent(of.flipped_on_sphere),
                    number(of.angle_degrees, 1),
                    number(of.condition_number),
                ]
            )
    return Table(
        "Moves from z to z′",
        "lengths in units of the latent space. “Flipped”: the complements that lie where they were moved to, "
        "measured on the sphere. Angle: the smallest between what is kept and what is flipped; the smaller "
        "it is, and the larger the condition number, the longer the moves.",
        ["Complements", "Flipped attributes", "n", "Median move", "95th percentile", "Flipped (%)",
         "Angle (°)", "Condition number"],
        rows,
        labels=2,
    )  # fmt: skip


def inversion(metrics: InversionMetrics) -> Table:
    """Show how well latents were found for real images, and for the generator's own (known latents)."""
    rows = []
    for inverted, name in ((metrics.real, "real training images"), (metrics.generated, "G’s own samples")):
        for by, of in (("encoder", inverted.encoder), ("encoder, then refined", inverted.refined)):
            rows.append(
                [
                    name,
                    by,
                    count(inverted.images),
                    number(of.error_mean),
                    number(of.error_median),
                    number(of.psnr_median, 1),
                    percent(of.distance_median if isinstance(of, ErrorsOfKnown) else None),
                ]
            )
    return Table(
        "Inversion: the latents found for images",
        "the error is a pixel's mean absolute difference from the reconstruction, of 255. Distance: from the "
        "true latent, in percent of how far two random latents lie apart.",
        ["Images", "By", "n", "Mean error", "Median error", "Median PSNR (dB)", "Median distance (%)"],
        rows,
        labels=2,
    )  # fmt: skip


def classifiers(
    metrics: Mapping[str, LabellerMetrics], names: Sequence[str], target: str, selection: str
) -> Table:
    """Show how good each attribute classifier is.

    Args:
        metrics: of each attribute, as `train_attribute` wrote them.
        names: of the groups, [2 n_g].
        target: the target attribute, whose groups' sizes are shown.
        selection: train_attribute.selection.

    Returns:
        the table.
    """
    groups = [
        Heading(heading, f"group_{k}, n = {metrics[target].group_n[k]:,}", names[k])
        for k, heading in enumerate(group_headings(names))
    ]
    return Table(
        "Attribute classifiers on the real validation set",
        "the weights and the threshold are those with the best worst-group accuracy."
        if selection == "worst_group_accuracy"
        else "the threshold is the one with the best F1.",
        ["Attribute", "Average precision (%)", "Threshold", "Accuracy (%)", *groups],
        [
            [
                name,
                percent(of.average_precision),
                number(of.threshold, 3),
                percent(of.accuracy),
                *map(percent, of.group_accuracies),
            ]
            for name, of in metrics.items()
        ],
    )


# --- Gates -----------------------------------------------------------------------------------------------


def complements(datasheet: Datasheet) -> Table:
    """Show the complements as the attribute classifiers and the hyperplanes see them."""
    protected = datasheet.attributes.protected
    several = len(protected) > 1
    headings = ["Complements", "n", f"{datasheet.attributes.target} kept (%)", "Flipped as asked (%)"]
    if several:
        headings += [f"{name} {done} (%)" for name in protected for done in ("flipped", "kept")]
    rows = []
    for source, of in datasheet.complements.items():
        row = [
            set_name(source),
            count(of.images),
            percent(of.target_kept),
            percent(of.protected_flipped),
        ]
        if several:
            row += [
                percent(getattr(of.attributes[name], done))
                for name in protected
                for done in ("flipped", "kept")
            ]
        by_planes = (percent(of.hyperplane_target_kept), percent(of.hyperplane_flipped))
        rows.append([*row, *by_planes, count(of.kept)])
    return Table(
        "Complements, as the attribute classifiers see them",
        "the hyperplanes’ view is that on the sphere. The last column is how many passed every gate.",
        [*headings, "Kept by the hyperplanes (%)", "Flipped by the hyperplanes (%)", "Passed"],
        rows,
    )


def gates(datasheet: Datasheet, names: Sequence[str]) -> Table:
    """Show how many complements each active gate dropped, in all and of each inherited group.

    Args:
        datasheet: out/balanced/datasheet.json.
        names: of the groups, [2 n_g].

    Returns:
        the table.
    """
    rows = [
        [set_name(source), gate.replace("_", " "), *(count(n) for n in _all_and_groups(dropped, len(names)))]
        for source, of in datasheet.complements.items()
        for gate, dropped in of.dropped.items()
    ]
    return Table(
        "What the gates dropped",
        "complements by their inherited group; one may fail several gates.",
        ["Complements", "Gate", "All", *group_headings(names)],
        rows,
        labels=2,
    )


def _all_and_groups(dropped: Mapping[str, int], n_groups: int) -> list[int]:
    return [dropped["all"], *(dropped[f"group_{k}"] for k in range(n_groups))]
