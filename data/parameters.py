"""Parameters of the real images, of the gates, of the balancing and of exports."""

from typing import Any, Literal

from pydantic import (
    Field,
    field_validator,
)

from pipeline.parameters import Parameters


class ProtectedLabels(Parameters):
    """Makes the protected labels of the training images worse, to see what that costs each method."""

    hidden: float = Field(0.0, ge=0, lt=1)  # share of the labels that are taken away
    flipped: float = Field(0.0, ge=0, le=0.5)  # share of the labels that are turned over
    seed: int = 0


class Prepare(Parameters):
    """Says which images are prepared, and how they are stored."""

    resolution: int = Field(32, ge=4, le=1024)  # px, of the square images in the store
    on_bad_image: Literal["stop", "skip"] = "stop"
    shard_size: int = Field(2048, ge=1)  # images
    protected_labels: ProtectedLabels = ProtectedLabels()
    source: dict[str, Any]  # `name`, and the parameters of that source: data/sources/NAME.py


class Gates(Parameters):
    """Says what a complement must pass to be used; see data/gates.py."""

    agreement: Literal["none", "protected", "target", "both"] = "both"  # what f must confirm of the promise
    hyperplane: Literal["none", "protected", "target", "both"] = "none"  # what h must confirm of it
    move_length: float | None = Field(None, gt=0)  # at most, as out/latents/z_prime has it; null: any
    confidence: float | None = Field(None, ge=0, le=1)  # at least, of every f in the label given; null: any
    # Of the target's f on real validation images of the original's group, at least, as the target is
    # inherited from what it says there; null: any.
    labeller_accuracy: float | None = Field(None, ge=0, le=1)


class Balance(Parameters):
    """Says which synthetic images join the real ones."""

    policy: Literal["pairs", "fill"] = "pairs"
    sources: list[Literal["z", "z_prime", "real_prime"]] = ["z", "z_prime"]  # of the synthetic images
    label: Literal["inherited", "rescored"] = "inherited"  # of complements
    gates: Gates = Gates()
    dropped: Literal["pair", "complement"] = "pair"  # by a gate; pair: z goes with its last complement
    # Synthetic images per real training image, at most; null: any number, as long as no marginal gets worse.
    synthetic_per_real: float | None = Field(2.0, gt=0)
    seed: int = 0

    @property
    def complements(self) -> list[str]:
        """The sources that are complements."""
        return [source for source in self.sources if source != "z"]

    @field_validator("sources")
    @classmethod
    def _they_have_complements(cls, sources: list[str]) -> list[str]:
        if len(set(sources)) < len(sources) or not sources:
            raise ValueError("name each source once, and at least one")
        if "z" in sources and "z_prime" not in sources:
            raise ValueError("z goes with z_prime: z alone, without complements, is the control `sampled`")
        return sources


class Export(Parameters):
    """Says which rows are exported, and in which formats."""

    formats: list[
        Literal["hf-parquet", "webdataset", "imagefolder", "waterbirds", "celeba", "stylegan-zip"]
    ] = []
    rows: Literal["all", "real", "synthetic", "train", "validation", "test"] = "all"
    encoding: Literal["png", "jpeg"] = "png"
    quality: int = Field(95, ge=1, le=100)  # of jpeg
    images_per_file: int = Field(5000, ge=1)  # or, of formats with a file per image, per task
