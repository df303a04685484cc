"""The scores that the report draws: of the test images by group, and of the pairs of synthetic ones."""

import pandas as pd

from pipeline.content.groups import protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from stages.parameters import AllParameters
from stages.reporting import (
    figures,
    pictures,
)
from stages.reporting.choices import BASELINE, SELECTION, cells_of, seeds_of
from stages.shared.paths import (  # fmt: skip
    LABELS,
    RUNS,
    SYNTHETIC,
)

PREFIXES = {"z": "", "z_prime": "prime_"}  # of the columns of each source in `all_pairs`


def all_pairs(parameters: AllParameters) -> pd.DataFrame:
    """Join every complement with its original.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        one row per complement: id (of its z), prime_id, flips, group (by z's labels), and the labels and
        scores of both, the complement's prefixed with prime_.
    """
    columns = ["id", *parameters.attributes, *(f"{name}_score" for name in parameters.attributes)]
    z, z_prime = (Store(LABELS / source).rows[columns] for source in PREFIXES)
    primes = join_by_id(
        Store(SYNTHETIC / "z_prime").rows[["id", "pair_id", "flips"]], z_prime, "labels of z'"
    )
    renamed = {"pair_id": "id", "flips": "flips"}
    primes = primes.rename(columns=lambda name: renamed.get(name, f"prime_{name}"))
    pairs = join_by_id(primes, z, "out/labels/z")
    return pairs.assign(group=pictures.groups_by_labels(pairs, parameters.attributes))


def shown_recipe(runs: pd.DataFrame) -> str:
    """Return the recipe of the headline: the baseline, or the first recipe with a run."""
    recipes = runs["recipe"].unique().tolist()
    return BASELINE if BASELINE in recipes else str(recipes[0])


def test_scores(runs: pd.DataFrame, recipe: str) -> dict[str, pd.DataFrame]:
    """Read a recipe's predictions on test, of all seeds.

    Args:
        runs: out/evaluation/runs.parquet.
        recipe: the recipe's name.

    Returns:
        the predictions by data set, for each that has a run with this recipe; the oracle is left out.
    """
    scores = {}
    for data in [name for name, of in cells_of(runs) if of == recipe and name != "oracle"]:
        seeds = seeds_of(runs, data, recipe)["seed"]
        folders = [RUNS / data / recipe / str(seed) for seed in seeds]
        rows = pd.concat([read_table(folder / "predictions.parquet") for folder in folders])
        scores[data] = rows[(rows["split"] == "test") & (rows["selection"] == SELECTION)]
    return scores


def target_histograms(
    scores: dict[str, pd.DataFrame], protected: list[str]
) -> dict[tuple[str, int], pd.DataFrame]:
    """Return histograms of each protected group's scores, by (data set, true class)."""
    histograms = {}
    for data, rows in scores.items():
        groups, n_groups = protected_groups(rows[protected].to_numpy(dtype="int64"))
        for truth in (0, 1):
            members = {g: (rows["target"] == truth) & (groups == g) for g in range(n_groups)}
            histograms[data, truth] = figures.binned_shares(
                {f"protected_{g}": rows["score"][chosen] for g, chosen in members.items()}
            )
    return histograms


def synthetic_histograms(pairs: pd.DataFrame, attributes: list[str]) -> dict[str, pd.DataFrame]:
    """Return for each attribute the histograms of its classifier's scores of z and z_prime."""
    halves = {"z": pairs.drop_duplicates("id"), "z_prime": pairs}
    return {
        name: figures.binned_shares({s: rows[f"{PREFIXES[s]}{name}_score"] for s, rows in halves.items()})
        for name in attributes
    }


def score_figure(
    scores: dict[str, pd.DataFrame], parameters: AllParameters, names: list[str], recipe: str
) -> dict[str, bytes]:
    """Draw the scores on test.

    Args:
        scores: as `test_scores` returns.
        parameters: as params.yaml holds them.
        names: of the groups.
        recipe: the recipe whose scores they are.

    Returns:
        the figure as SVG, by its name; empty if no run is shown.
    """
    if not scores:
        return {}
    protected = [name.split(", ", 1)[1] for name in names[: parameters.n_protected]]
    histograms = target_histograms(scores, parameters.protected)
    return {"target_scores": figures.target_scores(histograms, parameters.target, protected, recipe)}
