"""Measures how near synthetic images are to real ones: Fréchet distances between features of networks.

With Inception's features, by pytorch-fid's network and its usual weights, it is the Fréchet Inception
distance, FID (Heusel et al., 2017). With another network's features it is not an FID, and has another name:
`classifier_frechet_distance`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.networks.inference import EVALUATION_BATCH, per_image
from pipeline.content.arrays import AnyFloatArray, FloatArray, IntArray
from pipeline.content.files import sha256_of_file
from pipeline.errors import UserError

INCEPTION_DIM = 2048  # dimension of the features of an FID
INCEPTION_BATCH = 50  # images, of 299 px


def frechet_distance(features_a: AnyFloatArray, features_b: AnyFloatArray) -> float:
    """Compute the Fréchet distance between normal distributions with the mean and covariance of two samples.

    |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½). Few samples make it too large: only distances of equally
    large samples can be compared.

    With a sample's centred features X / √(n - 1) = Q R, Σ = RᵀR. The eigenvalues of Σ_a Σ_b are the squares
    of the singular values of R_a R_bᵀ, so that the trace of the root is the sum of these. So no root of a
    product of covariances is computed, which would lose half the digits, and all of them if one is singular.

    Args:
        features_a: [n, D], at least two samples.
        features_b: [m, D], at least two samples.

    Returns:
        The distance, 0 or more, in squared units of the features.
    """
    (mean_a, root_a), (mean_b, root_b) = _mean_and_root(features_a), _mean_and_root(features_b)
    trace_of_root = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    difference = mean_a - mean_b
    distance = difference @ difference + (root_a**2).sum() + (root_b**2).sum() - 2.0 * trace_of_root
    return max(float(distance), 0.0)  # rounding may give -1e-12 for two equal samples


def _mean_and_root(features: AnyFloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean [D] of features [n, D], and R [min(n, D), D] with RᵀR their covariance, unbiased."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two samples or more, not {len(features)}")
    exact = features.astype(np.float64)
    mean = exact.mean(axis=0)
    scaled = (exact - mean) / np.sqrt(len(exact) - 1)
    root: FloatArray = np.linalg.qr(scaled, mode="r")  # type: ignore[assignment]  # a stub's mistake
    return mean, root


def features_of(
    network: nn.Module,
    extract: Callable[[Tensor], Tensor],
    read: Callable[[IntArray], NDArray[np.uint8]],
    count: int,
    accelerator: Accelerator,
    batch_size: int = EVALUATION_BATCH,
    on_batch: Callable[[int], object] = lambda images: None,
) -> FloatArray:
    """Compute the features of images 0 to count - 1.

    In float32 whatever the runtime's precision is: a covariance is made of small differences.

    Args:
        network: put into evaluation mode meanwhile.
        extract: maps images [n, 3, H, W] in [-1, 1] on the network's device to features [n, D].
        read: maps positions [n] to uint8 [n, H, W, 3].
        count: the number of images.
        accelerator: the device.
        batch_size: the number of images in a batch; it is halved if memory does not suffice.
        on_batch: called after each batch with the number of its images.

    Returns:
        [count, D].
    """

    def extract_exactly(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return extract(images)

    return per_image(network, extract_exactly, read, count, accelerator, batch_size, on_batch)


class Inception(nn.Module):
    """pytorch-fid's Inception: maps images [n, 3, H, W] in [-1, 1] to features [n, dim].

    A `UserError` says so if the file of weights is missing, has another sha256, or is no such state_dict.

    Args:
        weights: the file of its state_dict, which pytorch-fid would download.
        sha256: of that file.
        dim: which features: 2048, the last, are those of an FID; 64, 192 and 768 are cheaper.
    """

    def __init__(self, weights: Path, sha256: str, dim: int = INCEPTION_DIM) -> None:
        super().__init__()
        from pytorch_fid import inception  # lazy: slow import

        state = _tensors_of(weights, sha256)
        block = inception.InceptionV3.BLOCK_INDEX_BY_DIM[dim]
        try:
            # Its constructor takes weights from this function only.
            with patch.object(inception, "load_state_dict_from_url", lambda url, progress: state):
                self.network = inception.InceptionV3([block])
        except (AttributeError, RuntimeError, TypeError) as error:
            raise UserError(
                f"assess.inception_weights: {weights} is not the state_dict of pytorch-fid's Inception."
            ) from error
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features [n, dim] of images [n, 3, H, W] in [-1, 1]."""
        maps: Tensor = self.network((images + 1) / 2)[0]
        return maps.mean(dim=(2, 3))


def _tensors_of(path: Path, sha256: str) -> Any:
    """Read what `torch.save` wrote into a file with a known sha256, as tensors only."""
    if not path.is_file():
        raise UserError(f"assess.inception_weights: there is no file {path}.")
    digest = sha256_of_file(path)
    if digest != sha256:
        raise UserError(f"assess.inception_weights: {path} has sha256 {digest}, expected {sha256}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, which all mean that the file is no state_dict
        # Not torch's own message: it has many lines, and says how to run an unsafe file after all.
        raise UserError(
            f"assess.inception_weights: {path} is no state_dict that can be read as tensors only "
            f"({type(error).__name__})."
        ) from error
