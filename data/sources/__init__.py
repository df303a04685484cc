"""The sources by `name`. A new one is a module here and a line in `SOURCES`."""

from typing import Any, get_args

from pydantic import ValidationError

from data.sources.avatars import Avatars
from data.sources.base import BadImage, Measure, Source, check_groups
from data.sources.celeba import CelebA
from data.sources.digits import Digits
from data.sources.table import TableSource
from data.sources.waterbirds import Waterbirds
from pipeline.errors import UserError
from pipeline.parameters import sentence_of

SOURCES: dict[str, type[Source]] = {
    get_args(source.model_fields["name"].annotation)[0]: source
    for source in (
        Avatars,
        CelebA,
        Waterbirds,
        TableSource,
        Digits,
    )
}

__all__ = ["SOURCES", "BadImage", "Measure", "Source", "check_groups", "source_of"]


def source_of(parameters: dict[str, Any]) -> Source:
    """Create the source that `prepare.source` of params.yaml describes; a `UserError` names a bad key."""
    name = parameters.get("name")
    if name not in SOURCES:
        raise UserError(f"params.yaml: prepare.source.name is {name!r}; expected {', '.join(SOURCES)}.")
    try:
        return SOURCES[name].model_validate(parameters)
    except ValidationError as error:
        raise UserError(sentence_of(error, "params.yaml: prepare.source")) from error
