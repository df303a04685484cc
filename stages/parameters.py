"""The schema of params.yaml as a whole: one section per stage, every key known, every value checked."""

from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    ValidationError,
    field_validator,
    model_validator,
)

from classifiers.elsewhere.parameters import LoadClassifier
from classifiers.measures.parameters import Assess
from classifiers.parameters import Label, TrainAttribute
from classifiers.postprocessing.base import PostProcessor
from data.parameters import Balance, Export, Prepare
from generators.inversion.parameters import Invert
from generators.networks.parameters import LoadGAN
from generators.parameters import Complement, FitHyperplanes, Sample, Synthesize
from generators.training.parameters import TrainGAN
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE, Cluster, Parameters, Runtime, content_of, sentence_of
from stages.shared.controls import ELSEWHERE, SEED_ELSEWHERE
from stages.shared.parameters import Evaluate, Finish, Train


class AllParameters(Parameters):
    """params.yaml as a whole."""

    attributes: list[str]  # the target, then the protected attributes
    latent_space: Literal["euclidean", "sphere"] = "euclidean"  # of hyperplanes and complements
    # Whether a run stops if a step's output is useless (pipeline/content/trust.py): no stage depends on it.
    on_useless: Literal["stop", "go_on"] = "stop"
    runtime: Runtime = Runtime()
    cluster: Cluster = Cluster()
    prepare: Prepare
    train_attribute: TrainAttribute
    generator: Literal["train_gan", "load_gan"]  # the stage that makes out/generator
    train_gan: TrainGAN
    load_gan: LoadGAN | None = None
    sample: Sample
    inverted: list[Literal["real"]] = []  # beside the sampled latents, those of real training images
    invert: Invert = Invert()
    synthesize: Synthesize
    label: Label
    fit_hyperplanes: FitHyperplanes
    complement: Complement
    balance: Balance
    train: Train
    load_classifier: LoadClassifier = LoadClassifier()
    finish: Finish
    assess: Assess
    evaluate: Evaluate
    export: Export

    @field_validator("attributes")
    @classmethod
    def _a_target_and_protected_attributes(cls, names: list[str]) -> list[str]:
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError("name different attributes: the target, then one protected attribute or more")
        return names

    @model_validator(mode="after")
    def _finished_networks_are_trained(self) -> "AllParameters":
        unknown = [recipe for recipe in self.finish.recipes if recipe not in self.train.recipes]
        if self.finish.names and unknown:
            raise ValueError(f"finish.recipes has {unknown[0]!r}, which train.recipes does not train")
        return self

    @model_validator(mode="after")
    def _classifiers_from_elsewhere_fit(self) -> "AllParameters":
        section, resolution = self.load_classifier, self.prepare.resolution
        for name in section.names:
            if name in self.train.definitions:
                raise ValueError(
                    f"load_classifier.names has {name!r}, which is a recipe of train.definitions: give the "
                    "classifier another name"
                )
            if section.definitions[name].resolution != resolution:
                raise ValueError(
                    f"load_classifier.definitions.{name}.resolution is "
                    f"{section.definitions[name].resolution} px and prepare.resolution {resolution} px: set "
                    "the latter to what the classifier was trained on"
                )
        return self

    @model_validator(mode="after")
    def _finished_networks_from_elsewhere_have_a_last_layer(self) -> "AllParameters":
        for name in self.finish.loaded if self.finish.names else []:
            if name not in self.load_classifier.names:
                raise ValueError(f"finish.loaded has {name!r}, which load_classifier.names does not load")
            settings = self.load_classifier.definitions[name]
            if settings.name == "factory" and settings.last is None:
                raise ValueError(
                    f"finish.loaded has {name!r}, but load_classifier.definitions.{name}.last names no last "
                    "linear layer, which a finish needs"
                )
        return self

    @model_validator(mode="after")
    def _finished_networks_have_one_last_layer(self) -> "AllParameters":
        for recipe in self.finish.recipes if self.finish.names else []:
            if self.train.backbone_of(recipe).name == "occam":
                raise ValueError(
                    f"finish.recipes has {recipe!r}, whose backbone occam predicts at two exits: a finish "
                    "would change the last one alone, and nothing for the images that leave before; leave "
                    "it out"
                )
        return self

    @model_validator(mode="after")
    def _images_have_one_size(self) -> "AllParameters":
        if self.generator == "train_gan" and self.train_gan.resolution != self.prepare.resolution:
            raise ValueError(
                f"train_gan.resolution is {self.train_gan.resolution} px and prepare.resolution "
                f"{self.prepare.resolution} px: real and synthetic images train one classifier, so make "
                "them equal"
            )
        return self

    @model_validator(mode="after")
    def _a_generator_to_load_is_named(self) -> "AllParameters":
        if self.generator == "load_gan" and self.load_gan is None:
            raise ValueError(
                "generator is load_gan, but there is no section load_gan: the preset pretrained has one"
            )
        return self

    @model_validator(mode="after")
    def _inherited_labels_have_a_meaning(self) -> "AllParameters":
        confirmed = self.balance.gates.agreement in ("protected", "both")
        undecided = self.complement.variant.endswith("on_hyperplane")
        if undecided and self.balance.label == "inherited" and not confirmed:
            raise ValueError(
                f"complement.variant {self.complement.variant} moves z' to where the protected attribute is "
                "undecided, so that balance.label inherited would invent it: use rescored, or keep what the "
                "classifiers confirm, with balance.gates.agreement protected or both"
            )
        if undecided and self.balance.gates.hyperplane in ("protected", "both"):
            raise ValueError(
                f"complement.variant {self.complement.variant} moves z' onto the hyperplane, not across: "
                "balance.gates.hyperplane would keep what rounding decides; set it to none or target"
            )
        return self

    @model_validator(mode="after")
    def _the_metric_fits_the_space(self) -> "AllParameters":
        if self.latent_space == "sphere" and self.complement.metric != "euclidean":
            raise ValueError(
                f"complement.metric {self.complement.metric} is for latent_space euclidean: on the sphere "
                "the nearest complement is meant"
            )
        return self

    @model_validator(mode="after")
    def _real_images_are_inverted(self) -> "AllParameters":
        if "real_prime" in self.balance.sources and "real" not in self.inverted:
            raise ValueError(
                "balance.sources has real_prime, the complements of real images, but no real image is "
                "inverted: set inverted to [real]"
            )
        return self

    @model_validator(mode="after")
    def _there_are_so_many_latents_to_fit(self) -> "AllParameters":
        latents = self.fit_hyperplanes.latents
        if latents is not None and latents > self.sample.fit:
            raise ValueError(
                f"fit_hyperplanes.latents is {latents}, but sample.fit only {self.sample.fit}: it says how "
                "many of those are used"
            )
        return self

    @model_validator(mode="after")
    def _the_targets_hyperplanes_are_used(self) -> "AllParameters":
        if self.fit_hyperplanes.domain_dependent and self.complement.variant.startswith("perpendicular"):
            raise ValueError(
                f"complement.variant {self.complement.variant} does not use the target's hyperplanes, so "
                "that fit_hyperplanes.domain_dependent would be without effect: use complement or "
                "on_hyperplane, or domain_dependent false"
            )
        return self

    @model_validator(mode="after")
    def _what_is_post_processed_is_trained(self) -> "AllParameters":
        known = (*self.recipes, *self.recipes_elsewhere)
        unknown = [name for name in self.evaluate.postprocess_recipes if name not in known]
        if self.evaluate.postprocess and unknown:
            raise ValueError(
                f"evaluate.postprocess_recipes has {unknown[0]!r}, but no such recipe is trained or "
                "finished: name one of train.recipes"
            )
        return self

    @property
    def target(self) -> str:
        """The target attribute."""
        return self.attributes[0]

    @property
    def protected(self) -> list[str]:
        """The protected attributes."""
        return self.attributes[1:]

    @property
    def n_protected(self) -> int:
        """The number of protected groups: 2^k for k binary attributes."""
        return int(2 ** len(self.protected))

    def needs_of(self, recipe: str) -> frozenset[str]:
        """Return which protected labels a recipe needs, with all that is behind a +: see `Recipe.needs`."""
        trained, *steps = recipe.split("+")
        known = self.train.definitions.get(trained)  # None: from elsewhere, and what it took is not known
        needs = frozenset() if known is None else known.needs
        for step in steps:
            finish = self.finish.definitions.get(step)
            needs |= PostProcessor.needs if finish is None else finish.needs
        return needs

    @property
    def recipes(self) -> list[str]:
        """All recipes of the tables: those that are trained, then those that are finished, RECIPE+NAME."""
        finished = [f"{recipe}+{name}" for recipe in self.finish.recipes for name in self.finish.names]
        return [*self.train.recipes, *finished]

    @property
    def recipes_elsewhere(self) -> list[str]:
        """The classifiers from elsewhere, then those of them that are finished, NAME+FINISH."""
        finished = [f"{name}+{finish}" for name in self.finish.loaded for finish in self.finish.names]
        return [*self.load_classifier.names, *finished]

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """All runs of the tables, in their order: data set, recipe and seed."""
        trained = product(self.train.data, self.recipes, self.train.seeds)
        return [*trained, *product([ELSEWHERE], self.recipes_elsewhere, [SEED_ELSEWHERE])]


def read_parameters(path: Path = PARAMETERS_FILE) -> AllParameters:
    """Read and check a parameter file; a `UserError` says what is wrong in it, and where."""
    return checked_parameters(content_of(path), str(path))


def checked_parameters(content: dict[str, Any], where: str) -> AllParameters:
    """Check the content of a parameter file.

    Args:
        content: the sections, as YAML has them.
        where: the file's name in errors.

    Returns:
        the parameters.

    Raises:
        UserError: a key or a value is wrong; the sentence says which, and where.
    """
    try:
        return AllParameters.model_validate(content)
    except ValidationError as error:
        raise UserError(sentence_of(error, where, content)) from error
