"""What the schemas of the JSON files have in common that one stage writes and another reads.

They stand in datasheet.py, planes.py and quality.py beside this, so that what changes one file's schema
runs no stage again that knows nothing of it.

A writer makes the model and calls `write`, a reader calls `read`: what one of them renames, the other cannot
misread. A share is in [0, 1]; null stands for one that cannot be told, as nobody is in the group.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.content.files import write_json
from pipeline.errors import UserError

Share = float | None


class Part(BaseModel):
    """A part of a file: its keys are known, and it is not changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageFile(Part):
    """A file as a whole."""

    def write(self, path: Path) -> None:
        """Commit the file."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that another stage wrote.

        Raises:
            UserError: it is missing, or no such file.
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
