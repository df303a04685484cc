"""What the stage complement refines complements with: the generator and the attributes' classifiers."""

from collections.abc import Callable
from threading import Lock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.cluster import Advancing
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from stages.parameters import AllParameters
from stages.shared.paths import ATTRIBUTES, GENERATOR, LABELS, REAL

# Linear complements [n, D], their originals' labels [n, attributes], the mask of what is flipped, and what
# counts latents that are done: to where they end.
Refine = Callable[[NDArray[np.float32], NDArray[np.int64], int, Advancing], NDArray[np.float32]]


def original_labels(
    latents: str, ids: pd.Series, attributes: list[str], start: int, stop: int
) -> NDArray[np.int64]:
    """The attributes' values of originals, [n, attributes]: of z as classified, of real images the truth.

    Args:
        start, stop: between which positions the originals' latents stand, and so the labels of z.
    """
    if latents == "real":
        labels = read_table(REAL / "labels.parquet", ("id", *attributes))
    else:
        labels = Store(LABELS / latents).rows_between(start, stop)
    joined = join_by_id(pd.DataFrame({"id": ids}), labels[["id", *attributes]], f"labels of {latents}")
    return joined[attributes].to_numpy(np.int64)


def wanted_labels(labels: NDArray[np.int64], mask: int) -> NDArray[np.int64]:
    """What complements are to show, [n, 1 + k]: the labels of their originals, the mask's attributes flipped.

    Args:
        labels: the originals': the target, then k protected attributes, [n, 1 + k].
        mask: what is flipped; the first protected attribute is the highest of its k bits.
    """
    groups, _ = protected_groups(labels[:, 1:])
    return np.column_stack([labels[:, 0], protected_columns(groups ^ mask, labels.shape[1] - 1)])


def new_refiner(parameters: AllParameters) -> Refine:
    """What refines linear complements, on the device."""
    from classifiers.labellers import load_labeller
    from generators.networks.loading import load_generator
    from generators.refinement import refine_complements
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(parameters.runtime)
    generator = load_generator(GENERATOR, accelerator.device)
    classifiers = [
        _classifier(*load_labeller(ATTRIBUTES / name), accelerator.device) for name in parameters.attributes
    ]
    settings, on_sphere, device = parameters.complement.refine, parameters.latent_space == "sphere", Lock()

    def refined(
        z_prime: NDArray[np.float32], labels: NDArray[np.int64], mask: int, advance: Advancing
    ) -> NDArray[np.float32]:
        wanted = wanted_labels(labels, mask)
        with device:
            return refine_complements(
                generator, classifiers, z_prime, wanted, settings, accelerator, on_sphere, advance
            )

    return refined


def _classifier(
    network: torch.nn.Module, card: dict[str, float], device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network's logits, shifted so that they are positive where its card says that the label is 1."""
    network.to(device).eval().requires_grad_(False)
    cut = float(torch.logit(torch.tensor(card["threshold"], dtype=torch.float64), eps=1e-6))
    return lambda images: network(images) - cut
