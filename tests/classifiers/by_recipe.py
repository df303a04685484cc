"""Short trainings by a recipe on the toy images."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from classifiers.networks.backbones import Classifier, new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from classifiers.training.loop import Trained, train_classifier
from classifiers.training.method_settings import Recipe
from classifiers.training.recipes import Facts, phases_of
from pipeline.content.resumable import Session
from tests.classifiers.toys import SELECTIONS, TRAINING, VALIDATION, settings_of

PSEUDO_GROUPS = {"name": "pseudo_groups", "share": 0.5}
RECIPES: dict[str, dict[str, Any]] = {
    "fgsm": {"method": {"name": "adversarial_examples"}},
    "pgd": {
        "method": {"name": "adversarial_examples", "steps": 2, "random_start": True},
    },
    "mixup": {"method": {"name": "mixup"}, "sampler": "group_balanced"},
    "cutmix": {"method": {"name": "mixup", "mix": "cutmix"}},
    "lisa": {"method": {"name": "lisa"}},
    "jtt": {"method": {"name": "erm"}, "phases": {"name": "jtt", "share": 0.5}},
    "pseudo_groups_dro": {"method": {"name": "group_dro", "step_size": 0.5}, "phases": PSEUDO_GROUPS},
    "pseudo_groups_balanced": {
        "method": {"name": "erm"},
        "sampler": "group_balanced",
        "phases": PSEUDO_GROUPS,
    },
    "pseudo_groups_lisa": {"method": {"name": "lisa"}, "phases": PSEUDO_GROUPS},
}


def train_by(
    recipe: dict[str, Any],
    accelerator: Accelerator,
    checkpoint: Path,
    training: LabelledImages = TRAINING,
    checkpoint_seconds: float = 3600.0,
    **changes: Any,
) -> tuple[Classifier, Classifier, Trained]:
    """Train by a recipe; return the network twice (see `toys.assert_same_training`) and the outcome."""
    checked = Recipe.model_validate(recipe)
    settings = settings_of(**{"sampler": checked.sampler, **changes})
    network = new_backbone(Backbone(width=8), seed=0)
    session = Session("toy", accelerator, checkpoint, checkpoint_seconds)
    facts = Facts(2, network.last.in_features, session.total)
    phases = phases_of(checked, settings, training, facts)
    return network, network, train_classifier(session, network, phases, VALIDATION, settings, SELECTIONS)
