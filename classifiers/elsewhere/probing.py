"""Checks of a classifier from elsewhere: whether zprime can use what it says of images."""

import torch
from torch import Tensor

from classifiers.elsewhere.adapted import Adapted
from classifiers.networks.backbones import Classifier
from pipeline.content.elsewhere import first_line
from pipeline.errors import UserError

WANTED = "logits are float [n], [n, 1] or, of the labels 0 and 1, [n, 2]"
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # how far logits differ by rounding


@torch.inference_mode()
def check_classifier(network: Classifier, images: Tensor, where: str) -> None:
    """Refuse a classifier that zprime cannot use.

    Args:
        network: in evaluation mode.
        images: some real ones, at least two, [n, 3, H, W] in [-1, 1].
        where: the parameter that describes the network, for errors.

    Raises:
        UserError: it fails; its output is not one logit for each image; a logit depends on anything but its
            image; or the layer that it names is not its last one.
    """
    _refuse_strange_outputs(network, images, where)
    logits = network(images)
    if not _alike(network(images), logits):
        raise UserError(f"{where} gives other logits of the same images each time: noise is active in it.")
    if not _alike(network(images[:-1]), logits[:-1]):
        raise UserError(f"{where} gives logits that depend on the other images of their batch.")
    if isinstance(network, Adapted) and network.name_of_last is not None:
        features = network.features(images)
        if features.dim() != 2 or not _alike(network.last(features)[:, 0], logits):
            raise UserError(
                f"{where}.last: what {network.name_of_last!r} gives is not the logit: name the last linear "
                "layer, which nothing follows, or null if there is none."
            )


def _refuse_strange_outputs(network: Classifier, images: Tensor, where: str) -> None:
    shape = list(images.shape)
    try:
        outputs = network.outputs(images) if isinstance(network, Adapted) else network(images)
    except Exception as error:  # whatever a foreign program raises
        raise UserError(f"{where} fails on images {shape} ({first_line(error)}).") from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"{where} gives a {type(outputs).__name__} for images {shape}; {WANTED}.")
    n = len(images)
    if tuple(outputs.shape) not in ((n,), (n, 1), (n, 2)):
        raise UserError(f"{where} gives {list(outputs.shape)} for images {shape}; {WANTED}.")
    if not outputs.is_floating_point():
        raise UserError(f"{where} gives {str(outputs.dtype).removeprefix('torch.')}; {WANTED}.")
    if not outputs.isfinite().all():
        raise UserError(f"{where} gives logits that are NaN or infinite.")


def _alike(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=RELATIVE, atol=ABSOLUTE)
