"""Parameters of the training of generators."""

from typing import Literal

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from pipeline.parameters import Parameters


class DiffAugment(Parameters):
    """Says which distortions of DiffAugment real and generated images get."""

    translation: float = Field(0.0, ge=0, le=0.5)  # share of the image's side
    cutout: float = Field(0.0, ge=0, le=1)  # share of the image's side
    color: bool = False  # never where colour is an attribute


class TrainGAN(Parameters):
    """Says how the GAN is built and trained."""

    resolution: int = Field(32, ge=4, le=256)  # px, a power of two
    growing: bool = True  # from 4 px up; false: at `resolution` from the start
    latent_dim: int = Field(64, ge=1)
    mapping_layers: int = Field(0, ge=0)  # 0: no mapping network
    mapping_width: int = Field(128, ge=1)
    channels: dict[int, PositiveInt]  # by resolution
    loss: Literal["wgan_gp", "non_saturating", "relativistic"] = "non_saturating"
    gradient_penalty: float = Field(0.5, ge=0)  # λ of WGAN-GP, γ of R1 and R2
    penalty_interval: int = Field(16, ge=1)  # steps; WGAN-GP: 1
    r2: bool = False  # penalise the gradient at generated images too
    learning_rate: float = Field(gt=0)
    batch_size: dict[int, PositiveInt]  # images, by resolution
    steps: dict[int, PositiveInt]  # by resolution
    fade_in: float = Field(0.35, ge=0, le=1)  # share of a resolution's steps
    ema_share: float = Field(0.05, gt=0)  # half-life, as a share of the images seen at the resolution
    ema_images: float = Field(5000.0, gt=0)  # half-life in images, at most
    # Images are drawn with weights n_g^-x, n_g the size of their group: 0 as they come, 1 every group alike.
    group_balance: float = Field(ge=0, le=1)
    flip: bool  # as of `Budget`
    augment: DiffAugment = DiffAugment()
    seed: int = 0

    @model_validator(mode="after")
    def _resolutions_are_complete(self) -> "TrainGAN":
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution {self.resolution} is not a power of two")
        needed = [4 * 2**k for k in range(self.resolution.bit_length() - 2)]
        trained = needed if self.growing else [self.resolution]
        for name, wanted in (("channels", needed), ("batch_size", trained), ("steps", trained)):
            missing = [r for r in wanted if r not in getattr(self, name)]
            if missing:
                raise ValueError(f"{name} has no entry for {missing[0]} px")
        if self.loss == "wgan_gp" and (self.penalty_interval != 1 or self.r2):
            raise ValueError("wgan_gp takes its penalty every step: penalty_interval 1, r2 false")
        return self
