"""The losses of an OccamNet: easy images leave early, and places that show nothing say nothing."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.networks.occam import Exit, OccamNet
from classifiers.training.batches import Batch
from classifiers.training.methods.base import Context, Losses, Method, gathered
from classifiers.training.methods.occam_memory import Correctness

EPSILON = 1e-5


class Occam(Method):
    """The training of an OccamNet (Shrestha, Kafle, Kanan, ECCV 2022).

    The loss is Σ_j main_j + gate_j + 0.1 suppression_j over the exits j:

    - main_j is the mean of (w / (M_j + 1e-5) + 0.1) times the cross-entropy of the exit's logit. w is p(y)³
      at exit 0, the probability of the true label: it learns what is easy. At the others w is 1 - g, with g
      the gate of the exit before: they learn what did not leave. M_j is the highest w so far in the window.
    - gate_j is the cross-entropy of "the exit is right" by the gate's logit, its two classes weighed by the
      root of their inverse frequency in the batch. Once the exit's accuracy (the mean of both classes', in
      this window) has passed its threshold, "right" is what it was when last recorded for the image, and no
      longer changes: the gate remembers what the exit found easy.
    - suppression_j is the mean over all places of KL(uniform, map) where the map speaks for the true label no
      more than it does on average.

    An epoch of the paper is a window of ⌈N/B⌉ steps here, of N images in batches of B. The memory matters
    from the third window on: a training of one or two, such as 400 steps of 128 of 50,000 images, does
    without.

    Args:
        context: of the phase.
        thresholds: of the exits, above chance: 0 is what guessing reaches (an accuracy of ½), 1 is perfect.
            The paper's 0.5, 0.6, 0.7 are of many classes; as plain accuracies of two classes they would be
            passed at once.
        suppression: the weight of the suppression.

    Attributes:
        memory: what the exits got right.
        highest: M_j, [exits].
        steps: how many steps there were.
    """

    highest: Tensor
    steps: Tensor

    def __init__(
        self, context: Context, thresholds: Sequence[float] = (0.5, 0.6, 0.7), suppression: float = 0.1
    ) -> None:
        super().__init__()
        self.images, self.total, self.suppression = context.images, context.total, suppression
        self.memory = Correctness(context.images, thresholds)
        self.register_buffer("highest", torch.zeros(len(thresholds), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute this process's share of the loss; remember what the exits got right."""
        occam = cast(OccamNet, network)
        exits = [Exit(*(values.float() for values in of)) for of in occam.exits(batch.images)]
        with torch.autocast(batch.images.device.type, enabled=False):
            of_main, right, of_gates = self._of_whole_batch(exits, batch)
            positive, loss = batch.targets.float(), torch.zeros((), device=batch.images.device)
            for j, of in enumerate(exits):
                main = F.binary_cross_entropy_with_logits(of.logits, positive, reduction="none")
                gate = F.binary_cross_entropy_with_logits(of.gates, right[j], reduction="none")
                silence = self.suppression * suppression(of.maps, positive)
                loss = loss + (of_main[j] * main + of_gates[j] * gate + silence).sum()
        return Losses((loss / batch.size,), occam.chosen(exits[1:]))

    @torch.no_grad()
    def _of_whole_batch(self, exits: list[Exit], batch: Batch) -> list[Tensor]:
        """Compute what depends on the batch of all processes: it is gathered, and the same for all.

        Args:
            exits: of this process's images.
            batch: this process's part.

        Returns:
            Of its images, [exits, n] each: weights of main, targets of the gates, and their weights.
        """
        columns = [*(of.logits for of in exits), *(of.gates for of in exits), batch.targets, batch.positions]
        table = gathered(torch.stack([c.double() for c in columns], dim=1), batch, self.total).T
        logits, gates = table[: len(exits)], table[len(exits) : -2]
        positive, positions = table[-2], table[-1].long()
        window, within = divmod(int(self.steps), -(-self.images // batch.size))
        self.steps += 1
        if within == 0:
            self.memory.begin_window()
            self.highest.zero_()
        likely = torch.sigmoid(logits[:1] * (2 * positive - 1))
        raw = torch.cat([likely**3, torch.sigmoid(-gates[:-1])])
        self.highest.copy_(torch.maximum(self.highest, raw.amax(dim=1)))
        right = self.memory.remembered((logits >= 0) == (positive == 1), positive, positions, window)
        of_all = (main_weights(raw, self.highest[:, None]), right, gate_weights(right))
        return [values[:, batch.places].float() for values in of_all]

    def figures(self) -> dict[str, float]:
        """Return the accuracy of every exit on the images of the window, as exit_0_accuracy ..."""
        return {f"exit_{j}_accuracy": float(value) for j, value in enumerate(self.memory.accuracies())}


def main_weights(raw: Tensor, highest: Tensor) -> Tensor:
    """Compute w / (M + 1e-5) + 0.1."""
    return raw / (highest + EPSILON) + 0.1


def gate_weights(right: Tensor) -> Tensor:
    """Compute the weights (n_t / max(n_0, n_1) + 1e-5)^-½ of targets t, [exits, n] in {0, 1}."""
    counts = torch.stack([(1 - right).sum(dim=1), right.sum(dim=1)], dim=1)
    by_class = (counts / counts.amax(dim=1, keepdim=True) + EPSILON) ** -0.5
    return by_class.gather(1, right.long())


def suppression(maps: Tensor, positive: Tensor) -> Tensor:
    """Compute the mean over each image's places of KL(uniform, map), of the places that say little for y.

    Args:
        maps: logits of class 1, [n, h, w].
        positive: y, [n].

    Returns:
        [n]; KL(uniform, (1 - p, p)) = -½ log(4 p (1 - p)) with p = σ(map).
    """
    support = (2 * positive[:, None, None] - 1) * maps
    silent = support <= support.mean(dim=(1, 2), keepdim=True)
    divergence = (F.softplus(maps) + F.softplus(-maps)) / 2 - math.log(2)
    return (silent * divergence).mean(dim=(1, 2))
