"""Parameters of code that only measures."""

from pathlib import Path

from pydantic import (
    Field,
)

from classifiers.training.parameters import Training
from pipeline.parameters import Parameters


class InceptionWeights(Parameters):
    """The file that holds the state_dict of pytorch-fid's Inception."""

    path: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # of that file


class ProbeTraining(Parameters):
    """How the classifier that tells real from synthetic images is trained; see `measures/probe.py`."""

    steps: int = Field(600, ge=1)
    flip: bool  # as of `Budget`


class Assess(Parameters):
    """How the quality of the synthetic images is measured."""

    images: int = Field(5000, ge=4)  # of every set that is compared, at most
    inception_weights: InceptionWeights | None = None  # null: no FID
    probe: ProbeTraining
    judge: Training  # where the source has a split for judges
