"""Parameters of the inversion of real images."""

from pydantic import (
    Field,
)

from pipeline.parameters import Parameters


class TrainEncoder(Parameters):
    """Says how the encoder is trained that gives the start of the inversion of a real image."""

    width: int = Field(32, ge=1)  # channels of its first convolution
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(32, ge=1)  # images that the generator makes
    learning_rate: float = Field(3e-3, gt=0)


class InversionRefinement(Parameters):
    """Says how the encoder's latent of a real image is improved."""

    steps: int = Field(60, ge=0)
    learning_rate: float = Field(0.2, gt=0)
    prior_weight: float = Field(1e-3, ge=0)  # of |z|²/D, where the generator does not normalise z


class Invert(Parameters):
    """Says how the latents of real training images are found, if `inverted` asks for them."""

    per_group: int | None = Field(500, ge=1)  # real training images of each group, at most; null: all
    encoder: TrainEncoder = TrainEncoder()
    refine: InversionRefinement = InversionRefinement()
    batch_size: int = Field(256, ge=1)  # images; not in the result
    shard_size: int = Field(512, ge=1)  # images
    seed: int = 0
