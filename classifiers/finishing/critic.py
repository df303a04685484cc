"""The critic of adversarial fine-tuning, what it estimates, and the batches that it sees."""

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.finishing.objective import BiasName, Goal, bias_of
from pipeline.content.arrays import FloatArray, IntArray

PER_GROUP = 4  # images of each group that every batch has, or all of a smaller group
WIDTHS = (64, 32)  # of the critic's hidden layers


def factor(bias: Tensor, strength: float, goal: Goal) -> Tensor:
    """Compute max(1, λ(|ĉ| - ε + margin) + 1), which multiplies the cross-entropy; any shape."""
    return torch.clamp(strength * (bias.abs() - goal.epsilon + goal.margin) + 1, min=1.0)


def soft_bias(name: BiasName, scores: FloatArray, groups: IntArray, n_protected: int) -> FloatArray:
    """Compute μ of scores: means of scores stand for the rates of positive predictions.

    Args:
        name: the gap.
        scores: of batches, [..., n] in [0, 1].
        groups: t * n_g + g, [..., n].
        n_protected: the number of protected groups, n_g.

    Returns:
        [...], in [-1, 1].
    """
    members = groups[..., None] == np.arange(2 * n_protected)
    negative, positive = (
        (members * shares[..., None]).sum(axis=-2).reshape(*scores.shape[:-1], 2, n_protected)
        for shares in (1 - scores, scores)
    )
    return bias_of(name, np.stack([negative, positive], axis=-1))


def batch_of(groups: IntArray, batch_size: int, random: np.random.Generator) -> IntArray:
    """Draw a batch without repetition: first some images of each group, then any.

    Args:
        groups: of all images, [N].
        batch_size: images; the batch has more if that many groups need it, fewer if there are no more.
        random: draws.

    Returns:
        Positions, [n].
    """
    order = random.permutation(len(groups))
    first = [order[groups[order] == group][:PER_GROUP] for group in np.unique(groups)]
    of_each = np.concatenate(first)
    others = order[~np.isin(order, of_each)]
    return np.concatenate([of_each, others[: max(0, batch_size - len(of_each))]])


class Critic(nn.Module):
    """Estimates the bias of a batch from the mean features of each group.

    Means, because the bias depends neither on the order of the images in a batch nor on the groups' sizes;
    the published critic, which sees the features of one image after another, depends on both.

    Args:
        present: the groups that every batch has, rising.
        mean: of the trained network's features, [D].
        scale: their standard deviation, [D].
        seed: of the first weights.
    """

    present: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, present: IntArray, mean: FloatArray, scale: FloatArray, seed: int) -> None:
        super().__init__()
        self.register_buffer("present", torch.from_numpy(present))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        layers: list[nn.Module] = []
        inputs = len(mean) * len(present)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for width in WIDTHS:
                layers += [nn.Linear(inputs, width), nn.ReLU()]
                inputs = width
            self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def pooled(self, features: Tensor, groups: Tensor) -> Tensor:
        """Average the features of each group, standardised.

        Args:
            features: of batches, [..., n, D].
            groups: [..., n]; all k groups occur.

        Returns:
            [..., k D].
        """
        members = (groups[..., None, :] == self.present[:, None]).to(features.dtype)
        means = (members @ features) / members.sum(dim=-1, keepdim=True)
        return ((means - self.mean) / self.scale).flatten(start_dim=-2)

    def forward(self, pooled: Tensor) -> Tensor:
        """Estimate the biases [...] of batches with pooled features [..., k D]."""
        estimate: Tensor = self.layers(pooled)
        return estimate[..., 0]
