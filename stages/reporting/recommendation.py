"""The schema of out/evaluation/recommendation.json, and how its figures are written as text.

`evaluate` makes it (`stages.reporting.recommending`); the report, an export's data card and
`zprime recommend` read it.
"""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.content.trust import Level
from pipeline.errors import UserError


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Schema):
    """A data set and a recipe.

    Attributes:
        data: the name of the training data.
        recipe: the name of the recipe that is trained on it.
    """

    data: str
    recipe: str


class CellFigures(Choice):
    """The figures of one data set with one recipe, on validation.

    Attributes:
        seeds: of the runs that count; one that ended on its plateau does not.
        images: how many validation images each run predicts, the fewest of any run: a finish, which
            may have been fitted on one half of validation, is measured on the other half.
        validation_worst_group_accuracy: mean over the seeds, in [0, 1].
        std: standard deviation of that mean, by the validation images and by the seeds.
        probability_of_being_best: among all cells here; they sum to 1.
        behind_preferred: how much lower its figure is than that of the cell that validation prefers.
        behind_preferred_std: standard deviation of that difference; None of the preferred cell.
        probability_preferred_is_better: of the preferred cell against this one; None of the preferred cell.
    """

    seeds: list[int]
    images: int
    validation_worst_group_accuracy: float
    std: float
    probability_of_being_best: float
    behind_preferred: float
    behind_preferred_std: float | None
    probability_preferred_is_better: float | None


class Recommendation(_Schema):
    """out/evaluation/recommendation.json: the data and recipe to use, chosen on validation alone.

    Attributes:
        data, recipe: the recommended cell; None if no run can be judged.
        sentence: the verdict in one sentence, with its figures.
        sure: the probability that the recommended cell beats the best cell of the other kind (real images
            alone, or with synthetic ones); below 0.5 if validation prefers synthetic images, but not surely
            enough. None if there is no cell of the other kind.
        probability_asked: `sure` has to be at least this for synthetic images to be recommended.
        preferred_on_validation: the cell with the highest figure, whatever its data.
        synthetic_earn_their_place: whether the best cell with synthetic images beats the best on real images
            alone with `probability_asked`; None if one of them is missing.
        complements_earn_their_place: whether the best cell on `augmented` beats both the best on real images
            alone and the best on `sampled`, each with `probability_asked`; None if a cell is missing that
            decides it.
        trust: the worst level of the steps that made the recommended synthetic images; None for real images,
            or if no step was judged.
        doubts: the steps that are not fine, as "STEP (LEVEL)".
        cells: in the order original, duplicated, sampled, augmented.
        n_images: validation images that any run predicts.
        resamples: of the bootstrap.
        seeds: of all runs that count.
    """

    data: str | None
    recipe: str | None
    sentence: str
    sure: float | None
    probability_asked: float
    preferred_on_validation: Choice | None
    synthetic_earn_their_place: bool | None
    complements_earn_their_place: bool | None
    trust: Level | None
    doubts: list[str]
    cells: list[CellFigures]
    n_images: int
    resamples: int
    seeds: list[int]


def read_recommendation(path: Path) -> Recommendation:
    """Read the recommendation that `evaluate` wrote.

    Args:
        path: of the file.

    Returns:
        its checked content.

    Raises:
        UserError: the file is missing, or is of another version.
    """
    try:
        return Recommendation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` first.") from None
    except ValidationError:
        raise UserError(
            f"{path} is no recommendation as `evaluate` writes it: run `dvc repro evaluate`."
        ) from None


def probability_text(probability: float) -> str:
    """Return '79 %' for 0.797: rounded down, so that a text of 80 % means at least 0.8."""
    if probability < 0.01 or probability > 0.99:
        return "under 1 %" if probability < 0.01 else "over 99 %"
    return f"{math.floor(100 * probability + 1e-9)} %"


def accuracy_text(cell: CellFigures) -> str:
    """Return a cell's figure as '76.2 ± 2.9 %'."""
    return f"{100 * cell.validation_worst_group_accuracy:.1f} ± {100 * cell.std:.1f} %"
