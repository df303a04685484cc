"""The base of the schemas of JSON files that one stage writes and another reads.

Each file's schema is a module of its own, most of them in stages/shared: a change to one file's schema then
reruns only the stages that use that file.

A writer makes the model and calls `write`, a reader calls `read`: neither can misspell a name of the other. A
share is in [0, 1]; null stands for a share that is undefined because the group is empty.
"""

from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from pipeline.content.files import write_json
from pipeline.errors import UserError

Share = float | None
Content = TypeVar("Content")


class FilePart(BaseModel):
    """A part of a file: its keys are known, and it is not changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Stored(BaseModel):
    """What is a file of its own.

    Attributes:
        MADE_BY: the command that makes it, for the sentence of an error.
    """

    MADE_BY: ClassVar[str] = "dvc repro"

    def content(self) -> Any:
        """Return what is written, as JSON."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.content())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that another stage wrote.

        Args:
            path: of the file.

        Returns:
            its checked content.

        Raises:
            UserError: the file is missing, or does not follow the schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: run `{cls.MADE_BY}` to make it.") from error
        except ValidationError as error:
            raise UserError(
                f"{path} is not what this version of zprime writes: {first_fault(error)}. Run "
                f"`{cls.MADE_BY}` to make it again."
            ) from error


class StageFile(_Stored, FilePart):
    """A file as a whole, with known keys."""


class FileOf(_Stored, RootModel[Content], Generic[Content]):
    """A file as a whole that is a list, or a map with names of the run's own as keys: `FileOf[list[int]]`."""

    model_config = ConfigDict(frozen=True)

    def content(self) -> Any:
        """Return what is written: the entries that were given, those of inner parts too."""
        return self.model_dump(exclude_unset=True)


def first_fault(error: ValidationError) -> str:
    """Say in half a sentence what is wrong first, and where: "judged.pairs: Field required"."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    return " ".join(f"{place}: {first['msg']}".split())
