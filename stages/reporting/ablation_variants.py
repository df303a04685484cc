"""The variants of the ablations: sets of changes to the present params.yaml, each one step from another."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE


@dataclass(frozen=True)
class Variant:
    """A set of changes to params.yaml.

    Attributes:
        about: what it does, as the end of a sentence.
        against: the variant that it differs from by one step; None for the first; its own name if it tries
            recipes: these are compared with the first of them.
        changes: dotted names in params.yaml -> values.
    """

    about: str
    against: str | None
    changes: Mapping[str, Any]


PRESENT = "gated"  # params.yaml as it is
NO_GATES = {"balance.gates.agreement": "none"}
ALL = {**NO_GATES, "complement.per_group": None}
VARIANTS = {
    "paper": Variant(
        "the paper's: complements of 10,000 latents as they come, all of them used",
        None,
        {**ALL, "sample.pair": 10000},
    ),
    "more_latents": Variant("as many latents as params.yaml has", "paper", ALL),
    "per_group": Variant(
        "of these latents no more from any group that f sees than from another", "more_latents", NO_GATES
    ),
    PRESENT: Variant("only pairs that pass the gates: params.yaml as it is", "per_group", {}),
    "recipes": Variant(
        "params.yaml as it is, with recipes that keep “synthetic” from being a cue", "recipes", {}
    ),
    "protected_agrees": Variant(
        "complements of which f need confirm the protected attribute alone",
        PRESENT,
        {"balance.gates.agreement": "protected"},
    ),
    "refined": Variant(
        "complements refined by gradient steps through G and f", PRESENT, {"complement.refine.steps": 10}
    ),
    "refined_ungated": Variant(
        "the same without gates", "refined", {**NO_GATES, "complement.refine.steps": 10}
    ),
    "domain_dependent": Variant(
        "a hyperplane of the target in every protected group",
        PRESENT,
        {"fit_hyperplanes.domain_dependent": True},
    ),
    "mahalanobis": Variant(
        "the smallest move in the latents' own metric", PRESENT, {"complement.metric": "mahalanobis"}
    ),
    "sphere": Variant(
        "hyperplanes and complements on the sphere, where G's normalised input lies",
        PRESENT,
        {"latent_space": "sphere"},
    ),
    "perpendicular": Variant(
        "moves perpendicular to the protected attribute's hyperplane, whatever becomes of the target",
        PRESENT,
        {"complement.variant": "perpendicular"},
    ),
    "confident": Variant(
        "hyperplanes fitted on what f is sure of, 0.9 or more", PRESENT, {"fit_hyperplanes.confidence": 0.9}
    ),
    "rare_share": Variant(
        "hyperplanes fitted on as many latents with an attribute as without",
        PRESENT,
        {"fit_hyperplanes.rare_share": 0.5},
    ),
    "fewer_latents": Variant(
        "hyperplanes fitted on 1,000 latents", PRESENT, {"fit_hyperplanes.latents": 1000}
    ),
    "biased_labellers": Variant(
        "the paper's labellers: one network for each attribute, trained on the images as they come, its "
        "threshold that of the best F1",
        PRESENT,
        {
            "train_attribute.sampler": "uniform",
            "train_attribute.selection": "average_precision",
            "train_attribute.networks": 1,
            "label.prior_shift": False,
        },
    ),
    "no_prior_shift": Variant(
        "scores that do not follow how frequent an attribute is among synthetic images",
        PRESENT,
        {"label.prior_shift": False},
    ),
    "unlimited": Variant(
        "any number of synthetic images that makes nothing less balanced",
        PRESENT,
        {"balance.synthetic_per_real": None},
    ),
    "fill": Variant(
        "only as many synthetic images as make the groups equal", PRESENT, {"balance.policy": "fill"}
    ),
    "rescored": Variant(
        "complements labelled by f, not as their originals", PRESENT, {"balance.label": "rescored"}
    ),
    "inverted": Variant(
        "complements of inverted real images too",
        PRESENT,
        {"inverted": ["real"], "balance.sources": ["z", "z_prime", "real_prime"]},
    ),
    "plain_gan": Variant(
        "a generator trained on images as they come, not leaning towards rare groups",
        PRESENT,
        {"generator": "train_gan", "train_gan.group_balance": 0.0},
    ),
}


def changed(content: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of params.yaml with other values.

    Args:
        content: of params.yaml; it stays as it is.
        changes: dotted name -> value.

    Returns:
        the changed content.

    Raises:
        UserError: params.yaml has no such section.
    """
    content = copy.deepcopy(content)
    for name, value in changes.items():
        *sections, key = name.split(".")
        place: Any = content
        for section in sections:
            if not isinstance(place.get(section), dict):
                raise UserError(
                    f"{PARAMETERS_FILE}: {name} cannot be changed: there is no section {section}."
                )
            place = place[section]
        place[key] = value
    return content
