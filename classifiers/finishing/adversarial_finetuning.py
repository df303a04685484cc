"""Adversarial fine-tuning: a network learns on, against a critic that estimates its bias.

Savani, White, Govindarajulu, 2020, algorithm 3. The critic regresses the soft bias μ of a batch, a gap
between means of scores, on the batch's features. The network descends on the
cross-entropy times max(1, λ(|ĉ| - ε + margin) + 1): as ĉ depends on the features, the factor is a weight and
a penalty at once, and it is 1 where the bias is small enough.

What differs from the published code:

- It starts from the trained network; theirs for images starts from ImageNet's weights, a training anew.
- The critic sees the mean features of each group, not those of one image after another: see `Critic`.
- A batch has some images of every group, so that its μ exists.
- The images are the fitting half of validation, as in the paper, not the training images: the network fits
  these so well that their scores show less bias than new images do, and the method is to need no more than a
  trained network and held-out images. As the half is small, few steps are taken; and the networks after each
  round are compared on the selecting half with the trained one.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from classifiers.finishing.base import Material
from classifiers.finishing.choosing import Version, put_best_version
from classifiers.finishing.critic import Critic, batch_of, factor, soft_bias
from classifiers.finishing.layers import features_of, standardisation
from classifiers.finishing.objective import Goal
from classifiers.networks.backbones import Classifier
from classifiers.networks.weights import copy_of_weights
from pipeline.content.arrays import IntArray
from pipeline.content.resumable import refuse_divergence
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.tensors import images_to_tensor

BATCHES = 8  # whose biases the critic regresses in one step: their features are computed once a round
CRITIC_LEARNING_RATE = 1e-3  # by Adam


@dataclass(frozen=True)
class Schedule:
    """How much is learnt.

    Attributes:
        rounds: in each, the critic learns first, then the network.
        critic_steps: of a round.
        network_steps: of a round.
        batch_size: images.
        learning_rate: of the network, by Adam.
        strength: λ.
    """

    rounds: int
    critic_steps: int
    network_steps: int
    batch_size: int
    learning_rate: float
    strength: float


class _Tuning:
    """A network that learns, its critic, and their optimizers."""

    def __init__(self, network: Classifier, material: Material, goal: Goal, schedule: Schedule) -> None:
        self.network, self.material, self.goal, self.schedule = network, material, goal, schedule
        self.images, self.device = material.fitting, material.accelerator.device
        self.groups = torch.from_numpy(self.images.groups).to(self.device)
        self.targets = torch.from_numpy(self.images.targets).float().to(self.device)
        moments = standardisation(features_of(network, self.images, material))
        seed = derived_seed(material.seed, "critic")
        self.critic = Critic(np.unique(self.images.groups), *moments, seed).to(self.device)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), lr=CRITIC_LEARNING_RATE)
        self.of_network = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)

    def _positions(self, *number: int | str) -> IntArray:
        random = generator_for(self.material.seed, "batch", *number)
        return batch_of(self.images.groups, self.schedule.batch_size, random)

    def teach_critic(self, number: int) -> None:
        """Regress the biases of batches, in a round, on their features: the network stays as it is."""
        values = features_of(self.network, self.images, self.material)
        with torch.no_grad():
            features = torch.from_numpy(values).float().to(self.device)
            scores = torch.sigmoid(self.network.last(features)[:, 0]).double().cpu().numpy()
        for step in range(self.schedule.critic_steps):
            batches = np.stack([self._positions("critic", number, step, batch) for batch in range(BATCHES)])
            groups, n_protected = self.images.groups[batches], self.material.n_protected
            biases = soft_bias(self.goal.bias, scores[batches], groups, n_protected)
            estimates = self.critic(self.critic.pooled(features[batches], self.groups[batches]))
            loss = F.mse_loss(estimates, torch.from_numpy(biases).float().to(self.device))
            self.of_critic.zero_grad()
            loss.backward()
            self.of_critic.step()

    def teach_network(self, number: int) -> None:
        """Descend, in a round, on the cross-entropy times the factor: the critic stays as it is."""
        for step in range(self.schedule.network_steps):
            positions = self._positions("network", number, step)
            pixels = images_to_tensor(self.images.read(positions), self.device)
            with self.material.accelerator.autocast():
                features = self.network.features(pixels)
                logits = self.network.last(features)[:, 0].float()
            estimate = self.critic(self.critic.pooled(features.float(), self.groups[positions]))
            entropy = F.binary_cross_entropy_with_logits(logits, self.targets[positions])
            loss = factor(estimate, self.schedule.strength, self.goal) * entropy
            refuse_divergence("adversarial_finetuning", step, [loss.item()], "lower its learning_rate")
            self.of_network.zero_grad()
            self.material.accelerator.backward(loss)
            self.of_network.step()


def finetune(network: Classifier, material: Material, goal: Goal, schedule: Schedule) -> dict[str, float]:
    """Fine-tune a network against a critic of its bias, and keep its best state of all rounds.

    Args:
        network: changed in place.
        material: the halves.
        goal: the bias, its limit, and what the rounds are compared by.
        schedule: how much is learnt. Without rounds, or with λ = 0, which would leave plain training, only
            the threshold changes.

    Returns:
        The round whose weights are kept, 0 for the trained network; and the facts of `put_best_version`.
    """
    versions: list[Version] = [copy_of_weights(network)]
    if schedule.strength > 0:
        network.requires_grad_(True)  # but in evaluation mode: statistics of batch norm stay
        tuning = _Tuning(network, material, goal, schedule)
        for number in range(schedule.rounds):
            tuning.teach_critic(number)
            tuning.teach_network(number)
            versions.append(copy_of_weights(network))
        network.requires_grad_(False)
    chosen, facts = put_best_version(network, versions, goal, material)
    return {"round": float(chosen), **facts}
