"""The sections of params.yaml that say which networks are trained, finished and measured."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from classifiers.finishing.settings import AnyFinishSettings
from classifiers.networks.parameters import Backbone
from classifiers.postprocessing import POSTPROCESSORS
from classifiers.training.method_settings import Recipe
from classifiers.training.parameters import Budget
from classifiers.training.samplers import SAMPLERS
from pipeline.parameters import Parameters
from stages.shared.controls import MANIFESTS, REAL, TRAINING_DATA

if TYPE_CHECKING:
    RealData: TypeAlias = str
    SyntheticData: TypeAlias = str
    PostProcessorName: TypeAlias = str
else:  # at run time the registries supply the names
    RealData, SyntheticData = Literal[REAL], Literal[tuple(MANIFESTS)]
    PostProcessorName = Literal[tuple(POSTPROCESSORS)]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

Value = TypeVar("Value", str, int)


def named_once(values: list[Value]) -> list[Value]:
    """Return the values if they differ: one that is there twice would count as two trainings."""
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"{value!r} is named twice")
    return values


def check_names(names: Iterable[str]) -> None:
    """Check names that become folders, stages of DVC and parts of RECIPE+NAME."""
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"the name {name!r}: use letters, digits, _ and -, such as group_dro")


class Train(Budget):
    """Defines the training matrix: every recipe on every data set with every seed, all with the same budget.

    Attributes:
        real_data: the data sets of real images alone.
        balanced_data: the data sets with synthetic images.
        recipes: the recipes to train, keys of `definitions`.
        missing_labels: what becomes of training images whose protected label is missing: predicted (the most
            likely group is taken for the truth), left_out (of all that a recipe does with groups), soft (an
            image counts for each group as likely as it is of it; samplers, partners, hard examples and what
            repeats images need one group, and take the most likely).
        seeds: each recipe is trained once with each seed, which draws weights and batches.
        definitions: all recipes by name.
    """

    real_data: list[RealData]
    balanced_data: list[SyntheticData] = ["sampled", "augmented"]  # augmented is one of them
    recipes: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)
    definitions: dict[str, Recipe]
    missing_labels: Literal["predicted", "left_out", "soft"] = "predicted"

    @property
    def budget(self) -> Budget:
        """The settings that all runs share."""
        return Budget(**{name: getattr(self, name) for name in Budget.model_fields})

    def backbone_of(self, recipe: str) -> Backbone:
        """Return the backbone of a recipe: all have the same but for those that name another one."""
        name = self.definitions[recipe].backbone
        if name in (None, self.backbone.name):  # by its name too it keeps its pretrained weights
            return self.backbone
        return Backbone(name=name, width=self.backbone.width)

    @property
    def data(self) -> list[str]:
        """The names of all training data, in the order of the report's tables."""
        return [name for name in TRAINING_DATA if name in (*self.real_data, *self.balanced_data)]

    @field_validator("real_data", "balanced_data", "recipes", "seeds")
    @classmethod
    def _each_is_named_once(cls, values: list[Value]) -> list[Value]:
        return named_once(values)

    @field_validator("definitions")
    @classmethod
    def _names_are_plain(cls, definitions: dict[str, Recipe]) -> dict[str, Recipe]:
        check_names(definitions)
        return definitions

    @field_validator("balanced_data")
    @classmethod
    def _the_augmented_data_is_trained_on(cls, names: list[str]) -> list[str]:
        if "augmented" not in names:
            raise ValueError("augmented has to be one of them: it is what all others are compared with")
        return names

    @model_validator(mode="after")
    def _recipes_are_defined(self) -> "Train":
        unknown = [recipe for recipe in self.recipes if recipe not in self.definitions]
        if unknown:
            raise ValueError(f"recipe {unknown[0]!r} is not defined: train.definitions has no such key")
        return self

    @model_validator(mode="after")
    def _gates_have_exits(self) -> "Train":
        for name, recipe in self.definitions.items():
            backbone = self.backbone_of(name).name
            if recipe.method.name == "occam" and backbone != "occam":
                raise ValueError(
                    f"definitions.{name}: the method occam trains exits, and the backbone {backbone} has "
                    "none: give the recipe backbone: occam"
                )
        return self

    @model_validator(mode="after")
    def _groups_have_a_use(self) -> "Train":
        for name, recipe in self.definitions.items():
            groups_of = {
                "group_by group_and_source": recipe.group_by == "group_and_source",
                f"phases {recipe.phases.name}": recipe.phases.finds_groups,
            }
            used = recipe.method.needs | SAMPLERS[recipe.sampler].needs
            for what, makes_groups in groups_of.items():
                if makes_groups and "training" not in used:
                    raise ValueError(
                        f"definitions.{name}: {what} is without effect, as neither the method "
                        f"{recipe.method.name} nor the sampler {recipe.sampler} looks at groups: give it "
                        "sampler: group_balanced, or the method group_dro"
                    )
            if recipe.method.name == "weighted" and recipe.sampler != "uniform":
                raise ValueError(
                    f"definitions.{name}: the method weighted weighs images by how rare their group is, and "
                    f"the sampler {recipe.sampler} draws rare ones more often: use one"
                )
        return self

    @model_validator(mode="after")
    def _shares_of_a_batch_are_images(self) -> "Train":
        for name, recipe in self.definitions.items():
            share = recipe.real_share
            if share is not None and not 0 < round(share * self.batch_size) < self.batch_size:
                raise ValueError(
                    f"definitions.{name}.real_share {share} of a batch of {self.batch_size} leaves no real, "
                    "or no synthetic, image in it"
                )
        return self


class Finish(Parameters):
    """Says which trained networks are finished, and how: nothing is trained again for it.

    Attributes:
        recipes: those whose networks are finished, on every data set and with every seed.
        loaded: the classifiers from elsewhere that are finished, of load_classifier.names.
        names: the finishes, keys of `definitions`.
        definitions: all finishes by name.
    """

    recipes: list[str]
    loaded: list[str] = []
    names: list[str] = []
    definitions: dict[str, AnyFinishSettings]

    @field_validator("recipes", "names")
    @classmethod
    def _each_is_named_once(cls, values: list[str]) -> list[str]:
        return named_once(values)

    @field_validator("definitions")
    @classmethod
    def _names_are_plain(cls, definitions: dict[str, AnyFinishSettings]) -> dict[str, AnyFinishSettings]:
        check_names(definitions)
        for name in definitions:
            if name in POSTPROCESSORS:
                raise ValueError(f"{name} is a post-processor's name, and RECIPE+{name} would be both")
        return definitions

    @model_validator(mode="after")
    def _finishes_are_defined(self) -> "Finish":
        unknown = [name for name in self.names if name not in self.definitions]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not defined: finish.definitions has no such key")
        return self


class Evaluate(Parameters):
    """How the test set is measured."""

    resamples: int = Field(500, ge=1)  # of the bootstrap
    # Fitted on validation and applied to the scores on test, as RECIPE+NAME; they need the protected
    # attribute of each image whose label is predicted.
    postprocess: list[PostProcessorName] = []
    postprocess_recipes: list[str] = ["erm"]  # whose scores are post-processed

    @field_validator("postprocess", "postprocess_recipes")
    @classmethod
    def _each_is_named_once(cls, values: list[str]) -> list[str]:
        return named_once(values)
