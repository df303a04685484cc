"""Parameters of exports."""

from typing import Literal

from pydantic import (
    Field,
)

from pipeline.parameters import Parameters


class Export(Parameters):
    formats: list[
        Literal["hf-parquet", "webdataset", "imagefolder", "waterbirds", "celeba", "stylegan-zip"]
    ] = []
    rows: Literal["all", "real", "synthetic", "train", "validation", "test"] = "all"
    encoding: Literal["png", "jpeg"] = "png"
    quality: int = Field(95, ge=1, le=100)  # of jpeg
    images_per_file: int = Field(5000, ge=1)  # or, of formats with a file per image, per task
