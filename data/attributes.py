"""The part of out/balanced/datasheet.json that readers of the balanced data need: the attributes' names."""

from pydantic import ConfigDict

from pipeline.content.typed_files import FilePart, StageFile


class Attributes(FilePart):
    """The attributes of a run."""

    target: str
    protected: list[str]


class AttributesOfDatasheet(StageFile):
    """out/balanced/datasheet.json, without all else that it holds (stages/shared/datasheet.py)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    attributes: Attributes
