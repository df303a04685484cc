"""Other benchmarks beside the one that docs/results.md is about: docs/results/beside/NAME.json."""

from typing import Any, ClassVar

import pandas as pd

from pipeline.content.typed_files import FilePart, StageFile
from stages.parameters import AllParameters
from stages.report import read_json
from stages.reporting.ablation_records import MeanAndStd
from stages.reporting.made_with import MadeWith
from stages.reporting.measures import overview
from stages.reporting.plateaus import plateau_sentence, read_plateaus
from stages.reporting.recommendation import read_recommendation
from stages.reporting.tables import markdown_headings, markdown_rows
from stages.reporting.words import deviation_note
from stages.shared.paths import BESIDE, EVALUATION, METRICS, RECOMMENDATION


class OnTest(FilePart):
    """A data set and a recipe, and how good it is on test."""

    data: str
    recipe: str
    worst_group_accuracy: MeanAndStd


class Recommended(FilePart):
    """What was recommended, measured on test, as in metrics.json.

    Attributes:
        data, recipe: null if nothing was.
        worst_group_accuracy: of it.
        best_on_test: the best that a user could use.
        regret: how much better that one is.
    """

    data: str | None
    recipe: str | None
    worst_group_accuracy: MeanAndStd | None = None
    best_on_test: OnTest | None = None
    regret: float | None = None


class BesideRecord(StageFile):
    """docs/results/beside/NAME.json: the results of a benchmark, as docs/results.md shows them.

    Attributes:
        name: its place in the page.
        about: what was done, a sentence.
        target, protected: its attributes.
        seeds: what stands behind ±, a sentence.
        headings, rows: the table of its runs.
        plateaus: what was left out, sentences; empty if nothing was.
        verdict: what validation recommends, a sentence.
        recommended: how good that is on test.
        made: its parameters.
    """

    MADE_BY: ClassVar[str] = "zprime results --beside NAME"

    name: str
    about: str
    target: str
    protected: list[str]
    seeds: str
    headings: list[str]
    rows: list[list[str]]
    plateaus: str
    verdict: str
    recommended: Recommended
    made: MadeWith

    def content(self) -> Any:
        """Return what is written: without what is not known of the recommendation."""
        return self.model_dump(exclude_unset=True)


def beside_record(
    name: str, about: str, parameters: AllParameters, runs: pd.DataFrame, made: MadeWith
) -> BesideRecord:
    """Summarise another benchmark for docs/results.md, which shows it beside its own.

    Args:
        name: of its file, and its place in the page.
        about: what was done, a sentence.
        parameters: as params.yaml holds them.
        runs: out/evaluation/runs.parquet.
        made: the parameters that made its outputs.

    Returns:
        the record.
    """
    return BesideRecord(
        name=name,
        about=about,
        target=parameters.target,
        protected=parameters.protected,
        seeds=deviation_note(len(parameters.train.seeds), parameters.evaluate.resamples),
        headings=markdown_headings(overview(runs)),
        rows=markdown_rows(overview(runs)),
        plateaus=plateau_sentence(read_plateaus(EVALUATION)),
        verdict=read_recommendation(RECOMMENDATION).sentence,
        recommended=Recommended.model_validate(read_json(METRICS)["recommendation"]),
        made=made,
    )


def beside_records() -> list[BesideRecord]:
    """Read the benchmarks beside the one that docs/results.md is about, by name."""
    return [BesideRecord.read(path) for path in sorted(BESIDE.glob("*.json"))]
