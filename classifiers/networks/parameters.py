"""Parameters of classifier networks."""

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    model_validator,
)

from pipeline.parameters import Parameters

BackboneName = Literal["small", "occam", "resnet18", "resnet50"]


class Backbone(Parameters):
    """A classifier's architecture and its first weights."""

    name: BackboneName = "small"
    # Channels of the small network's first layer. With fewer than 8, a strided convolution of oneDNN 3.13
    # (torch 2.15) writes outside of its memory where the CPU has AVX2 and not AVX-512.
    width: int = Field(32, ge=8)
    weights: Path | None = None  # a state_dict of torchvision's network; null: random
    sha256: str | None = None  # of the file `weights`

    @model_validator(mode="after")
    def _weights_have_a_digest(self) -> "Backbone":
        if self.weights is not None and (self.sha256 is None or self.name in ("small", "occam")):
            raise ValueError("weights go with resnet18 or resnet50, and need their sha256")
        return self
