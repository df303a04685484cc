"""label LATENTS: label the images of out/synthetic/LATENTS with the labellers; writes out/labels/LATENTS/.

The columns for each attribute NAME are: `NAME_score`, the labeller's score, adjusted to the attribute's
frequency among these images (`label.prior_shift`); `NAME`, that score cut at the labeller's threshold; and
`NAME_0` and `NAME_1`, the labels by the checkers, which were trained on either half of the real images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from classifiers.labeller_trust import share_judgement
from classifiers.parameters import Label
from classifiers.selection import log_odds
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.arrays import FloatArray
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tables import read_table
from pipeline.content.trust import Judgement, settle
from pipeline.parameters import Runtime
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import AllParameters, read_parameters
from stages.shared.paths import ATTRIBUTES, LABELS, REAL_LABELS, SYNTHETIC

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


PILOT = 4096  # images of a store that an attribute's frequency in it is estimated from

# Images. Kernels compute the same logits to the last bit only in batches of this size and its multiples. A
# score on the threshold can flip with the last bit, so batch sizes must be such multiples.
BATCH_UNIT = 64


@dataclass(frozen=True)
class Labellers:
    """Holds the labellers of all attributes as one function.

    Attributes:
        network: all labellers, on the device.
        logits: maps images [n, 3, H, W] in [-1, 1] to calibrated logits [n, columns].
        columns: for each attribute, its columns of the logits: the labeller's, then its two checkers'.
        cuts: the logit from which on a column's label is 1, [columns].
        priors: for each attribute, the share of positives for which its scores are calibrated probabilities.
        real_shares: for each attribute, the share of positives among the real training images.
    """

    network: "torch.nn.Module"
    logits: "Callable[[torch.Tensor], torch.Tensor]"
    columns: dict[str, list[int]]
    cuts: FloatArray
    priors: dict[str, float]
    real_shares: dict[str, float]

    def table(self, logits: FloatArray, shifts: Mapping[str, float]) -> dict[str, NDArray[Any]]:
        """Return the columns of the label store.

        Args:
            logits: of n images, [n, columns].
            shifts: for each attribute, the number added to its labeller's logits.

        Returns:
            by column name: scores in [0, 1] and labels in {0, 1}, each [n].
        """
        content: dict[str, NDArray[Any]] = {}
        for name, (first, *checkers) in self.columns.items():
            moved = logits[:, first] + shifts[name]
            content[f"{name}_score"] = 1 / (1 + np.exp(-moved))
            content[name] = (moved >= self.cuts[first]).astype(np.int64)
            for half, column in enumerate(checkers):
                content[f"{name}_{half}"] = (logits[:, column] >= self.cuts[column]).astype(np.int64)
        return content


def load_labellers(attributes: list[str], device: "torch.device") -> Labellers:
    """Load the labellers of these attributes onto the device."""
    import torch

    from classifiers.labellers import load_labeller

    loaded = {name: load_labeller(ATTRIBUTES / name, device) for name in attributes}
    network = torch.nn.ModuleList([labeller for labeller, _ in loaded.values()]).eval()
    columns: dict[str, list[int]] = {}
    thresholds: list[float] = []
    for name, (_, card) in loaded.items():
        columns[name] = [len(thresholds) + k for k in range(len(card.thresholds))]
        thresholds += card.thresholds

    def logits(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([labeller.with_checkers(images) for labeller, _ in loaded.values()], dim=1)

    priors = {name: card.prior for name, (_, card) in loaded.items()}
    real = {name: card.real_share for name, (_, card) in loaded.items()}
    return Labellers(network, logits, columns, log_odds(np.array(thresholds)), priors, real)


def logits_of(
    labellers: Labellers,
    images: NDArray[np.uint8],
    section: Label,
    accelerator: "Accelerator",
    advance: Advancing,
) -> FloatArray:
    """Compute the logits of a shard's images: equal to the last bit for every batch size.

    Args:
        labellers: of all attributes.
        images: uint8 [n, H, W, 3].
        section: `label` of params.yaml.
        accelerator: runs the networks.
        advance: counts finished images.

    Returns:
        calibrated logits, [n, columns].
    """
    from classifiers.networks.inference import per_image

    batch_size = max(section.batch_size // BATCH_UNIT, 1) * BATCH_UNIT

    def read(positions: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the images at these positions; past the end, the last image repeats to fill a batch."""
        if positions[-1] < len(images):
            return images[positions[0] : positions[-1] + 1]  # a view, not a copy
        chosen: NDArray[np.uint8] = images[np.minimum(positions, len(images) - 1)]
        return chosen

    count = -(-len(images) // BATCH_UNIT) * BATCH_UNIT
    found = per_image(labellers.network, labellers.logits, read, count, accelerator, batch_size, advance)
    return found[: len(images)]


def pilot_shifts(latents: str, attributes: list[str], section: Label, runtime: Runtime) -> dict[str, float]:
    """Estimate from the first images of the store how far to shift each attribute's logits.

    Args:
        latents: the store's name.
        attributes: the target, then the protected ones.
        section: `label` of params.yaml.
        runtime: the device and its precision.

    Returns:
        by attribute; 0 for all without `prior_shift`.
    """
    if not section.prior_shift:
        return dict.fromkeys(attributes, 0.0)
    from classifiers.labellers import prior_of, prior_shift
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    labellers = load_labellers(attributes, accelerator.device)
    store = Store(SYNTHETIC / latents)
    images = store.read_between(0, min(PILOT, len(store)))
    logits = logits_of(labellers, images, section, accelerator, lambda count: None)
    shifts = {}
    for name in attributes:
        prior = labellers.priors[name]
        share = prior_of(1 / (1 + np.exp(-logits[:, labellers.columns[name][0]])), prior)
        shifts[name] = prior_shift(share, prior, labellers.real_shares[name])
        print(f"label {latents}: {100 * share:.1f} % seem to be {name}; scores move by {shifts[name]:+.2f}")
    return shifts


def new_labeller(
    latents: str,
    attributes: list[str],
    section: Label,
    runtime: Runtime,
    shifts: Mapping[str, float],
    work: Path,
) -> MakeShard:
    """Return the function that labels a shard of images, with every attribute's labeller on the device.

    Args:
        latents: the store's name.
        attributes: the target, then the protected ones.
        section: `label` of params.yaml.
        runtime: the device and its precision.
        shifts: as `pilot_shifts` returns.
        work: the folder of the shards.

    Returns:
        makes a shard, by its number.
    """
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    labellers = load_labellers(attributes, accelerator.device)
    store = Store(SYNTHETIC / latents)
    device = Lock()

    def make(shard: int, advance: Advancing) -> Record:
        start, stop = store.bounds(shard)
        images = store.read_between(start, stop)
        with device:
            logits = logits_of(labellers, images, section, accelerator, advance)
        table = store.rows_between(start, stop)[["id"]].copy()
        return commit_shard(work, shard, table.assign(**labellers.table(logits, shifts)))

    return make


def judgements_of(parameters: AllParameters, rows: pd.DataFrame) -> list[Judgement]:
    """Judge for each attribute whether it is about as frequent in G(z) as in the real training images."""
    real = read_table(REAL_LABELS, ("split", *parameters.attributes))
    real = real[real["split"] == "train"]
    return [
        share_judgement(name, float(real[name].mean()), int(rows[name].sum()), len(rows))
        for name in parameters.attributes
    ]


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Score every synthetic image for every attribute; the label is the score cut at the threshold."""
    parameters = read_parameters()
    attributes, section = parameters.attributes, parameters.label
    images = SYNTHETIC / latents
    sizes = Store(images).items_per_shard
    work = work_folder(f"label {latents}")
    shifts = pilot_shifts(latents, attributes, section, parameters.runtime)
    set_up = partial(new_labeller, latents, attributes, section, parameters.runtime, shifts, work.folder)
    records = make_shards(
        f"label {latents}", work.folder, sizes, set_up, parameters.cluster, runtime=parameters.runtime
    )
    finish_store(work.folder, len(sizes), records=records)
    if latents == "z":  # complements flip attributes of z, so no frequency is expected
        settle(judgements_of(parameters, Store(work.folder).rows), work.folder, parameters.on_useless)
    work.publish(LABELS / latents)


if __name__ == "__main__":
    run_stage(main)
