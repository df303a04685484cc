"""The base of the schemas of JSON files that one stage writes and another reads.

Each file's schema is a module of its own, most of them in stages/shared: a change to one file's schema then
reruns only the stages that use that file.

A writer makes the model and calls `write`, a reader calls `read`: neither can misspell a name of the other. A
share is in [0, 1]; null stands for a share that is undefined because the group is empty.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.content.files import write_json
from pipeline.errors import UserError

Share = float | None


class FilePart(BaseModel):
    """A part of a file: its keys are known, and it is not changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageFile(FilePart):
    """A file as a whole."""

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.model_dump(mode="json"))

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
            raise UserError(f"{path} is missing: run `dvc repro` to make it.") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(
                f"{path} is not what this version of zprime writes: {place}: {first['msg']}. Run `dvc repro` "
                "to make it again."
            ) from error
