"""The schema of out/runs/DATA/RECIPE/SEED/cost.json."""

from pydantic import Field

from pipeline.content.typed_files import StageFile


class Cost(StageFile):
    """out/runs/DATA/RECIPE/SEED/cost.json: what the training of a run cost, whatever the machine.

    Attributes:
        forward: images that went forward through the network, with or without a graph; those of evaluations
            on validation do not count.
        backward: images that gradients went through back to the first layer, once for every time.
    """

    forward: int = Field(ge=0)
    backward: int = Field(ge=0)
