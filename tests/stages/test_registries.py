"""What params.yaml may name is what there is: the names in a schema are those of the registry behind it."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from classifiers.networks.backbones import BACKBONES
from classifiers.networks.parameters import Backbone
from classifiers.parameters import TrainAttribute
from classifiers.training.parameters import Training
from classifiers.training.samplers import SAMPLERS
from data.balancing import POLICIES
from data.exports import EXPORTS
from data.names import SYNTHETIC_SOURCES
from data.parameters import Balance, Export
from data.sources import SOURCES
from generators.complements import VARIANTS
from generators.parameters import Complement
from generators.training.objectives import LOSSES
from generators.training.parameters import TrainGAN
from stages.parameters import AllParameters
from stages.shared.controls import ELSEWHERE, MANIFESTS, TRAINING_DATA
from stages.shared.parameters import Train
from stages.shared.presets import PRESETS
from stages.train_attribute import SELECTIONS

ROOT = Path(__file__).parents[2]
BASE_LINES = (ROOT / PRESETS / "base.yaml").read_text().splitlines()
REGISTRIES: list[tuple[type[BaseModel], str, Any]] = [
    (Backbone, "name", BACKBONES),
    (Balance, "policy", POLICIES),
    (Balance, "sources", SYNTHETIC_SOURCES),
    (Complement, "variant", VARIANTS),
    (Export, "formats", EXPORTS),
    (Train, "balanced_data", MANIFESTS),
    (Training, "sampler", SAMPLERS),
    (TrainAttribute, "sampler", SAMPLERS),
    (TrainAttribute, "selection", SELECTIONS),
    (TrainGAN, "loss", LOSSES),
]


def names_in(annotation: Any) -> list[str]:
    """The words that a type allows, those within lists too."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for of in get_args(annotation) for name in names_in(of)]


def sections(schema: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """A schema and those of its sections, with their places; not the unions, of which the base has one."""
    yield place, schema
    for name, field in schema.model_fields.items():
        of = field.annotation
        if get_origin(of) not in (Union, UnionType) and isinstance(of, type) and issubclass(of, BaseModel):
            yield from sections(of, (*place, name))


@pytest.mark.parametrize(
    ("schema", "field", "registry"), REGISTRIES, ids=[f"{s.__name__}.{f}" for s, f, _ in REGISTRIES]
)
def test_a_schema_names_what_its_registry_has(schema, field, registry):
    assert sorted(names_in(schema.model_fields[field].annotation)) == sorted(registry)


def test_all_training_data_are_in_the_tables_order():
    fields = Train.model_fields
    names = [name for of in ("real_data", "balanced_data") for name in names_in(fields[of].annotation)]
    assert sorted([*names, ELSEWHERE]) == sorted(TRAINING_DATA)


def test_a_source_is_registered_by_its_own_name():
    assert list(SOURCES) == ["avatars", "celeba", "waterbirds", "table", "digits"]
    for name, source in SOURCES.items():
        assert names_in(source.model_fields["name"].annotation) == [name]


def test_the_base_tells_every_choice():
    """Beside a word that may be another, presets/base.yaml has all of them: where it is first explained."""
    unexplained = []
    for place, schema in sections(AllParameters):
        for name, field in schema.model_fields.items():
            words = names_in(field.annotation)
            lines = [line for line in BASE_LINES if re.search(rf"\b{name}:", line)]
            if lines and not any(all(word in line for word in words) for line in lines):
                unexplained.append(".".join((*place, name)))
    assert unexplained == []
