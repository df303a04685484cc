"""Refinement of complements for the stage complement, by the generator and the attribute classifiers."""

from collections.abc import Callable
from threading import Lock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from classifiers.networks.cards import LabellerCard
from pipeline.cluster import Advancing
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from stages.parameters import AllParameters
from stages.shared.paths import ATTRIBUTES, GENERATOR, LABELS, REAL_LABELS

# Refines linear complements: maps them, [n, D], their originals' labels, [n, attributes], the mask of the
# flipped attributes and a callback that counts finished latents to refined complements, [n, D].
RefineComplements = Callable[[NDArray[np.float32], NDArray[np.int64], int, Advancing], NDArray[np.float32]]


def original_labels(
    latents: str, ids: pd.Series, attributes: list[str], start: int, stop: int
) -> NDArray[np.int64]:
    """Return the attributes of the originals: of z as classified, of real images the true labels.

    Args:
        latents: "z" or "real": what the originals are.
        ids: of the originals, [n].
        attributes: the target, then the protected attributes.
        start: the position of the first original, and so of its labels.
        stop: the position after the last one.

    Returns:
        labels in {0, 1}, [n, attributes].
    """
    if latents == "real":
        labels = read_table(REAL_LABELS, ("id", *attributes))
    else:
        labels = Store(LABELS / latents).rows_between(start, stop)
    joined = join_by_id(pd.DataFrame({"id": ids}), labels[["id", *attributes]], f"labels of {latents}")
    return joined[attributes].to_numpy(np.int64)


def wanted_labels(labels: NDArray[np.int64], mask: int) -> NDArray[np.int64]:
    """Return the labels that complements should show: those of their originals, with some attributes flipped.

    Args:
        labels: of the originals: the target, then k protected attributes, [n, 1 + k].
        mask: the attributes to flip; the first protected attribute is the highest of its k bits.

    Returns:
        labels in {0, 1}, [n, 1 + k].
    """
    groups, _ = protected_groups(labels[:, 1:])
    return np.column_stack([labels[:, 0], protected_columns(groups ^ mask, labels.shape[1] - 1)])


def new_refiner(parameters: AllParameters) -> RefineComplements:
    """Return the function that refines linear complements, on the device."""
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
    network: torch.nn.Module, card: LabellerCard, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network's logits, shifted to be positive where its card's threshold gives label 1."""
    network.to(device).eval().requires_grad_(False)
    cut = float(torch.logit(torch.tensor(card.threshold, dtype=torch.float64), eps=1e-6))
    return lambda images: network(images) - cut
