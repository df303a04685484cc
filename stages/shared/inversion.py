"""The schema of out/latents/real/metrics.json."""

from pipeline.content.typed_files import FilePart, StageFile


class Errors(FilePart):
    """How far reconstructions are from their images: pixels on the scale 0 to 255, PSNR in dB."""

    error_mean: float
    error_median: float
    psnr_median: float


class ErrorsOfKnown(Errors):
    """The same of images whose latents are known.

    Attributes:
        distance_median: to the true latent, as a share of √(2 D), the distance of two random latents.
    """

    distance_median: float


class InvertedReal(FilePart):
    """The inversion of real images, by the encoder alone and refined."""

    images: int
    encoder: Errors
    refined: Errors


class InvertedGenerated(FilePart):
    """The inversion of the generator's own images, by the encoder alone and refined."""

    images: int
    encoder: ErrorsOfKnown
    refined: ErrorsOfKnown


class InversionMetrics(StageFile):
    """out/latents/real/metrics.json: how closely images are reconstructed from the latents found for them."""

    real: InvertedReal
    generated: InvertedGenerated
