"""Training on adversarial examples: images moved so that the network gets them wrong."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Losses, SumOverProcesses, one_process
from classifiers.training.methods.erm import ERM
from pipeline.content.seeds import generator_for

UNIT = 2 / 255  # a step of an 8-bit pixel, in the network's [-1, 1]


class AdversarialExamples(ERM):
    """ERM on a mixture of every image x and an adversarial x', at most ε away from it in every pixel.

    The loss is (1 - c) ℓ(x) + c ℓ(x'). One step from x itself is FGSM, x' = x + ε sign ∇ℓ (Goodfellow et
    al., ICLR 2015); several steps of size a are PGD (Madry et al., ICLR 2018): after each, x' goes back to
    where it is at most ε from x, and to [-1, 1]. ε = 0 is ERM.

    Args:
        epsilon: ε, in 1/255 of the range of a pixel.
        steps: of the attack.
        step_size: a, in the same unit.
        random_start: whether x' starts at a random place instead of x.
        share: c, of the adversarial examples in the loss.
        total: sums a tensor over the processes.
    """

    def __init__(
        self,
        epsilon: float,
        steps: int,
        step_size: float,
        random_start: bool,
        share: float,
        total: SumOverProcesses = one_process,
    ) -> None:
        super().__init__(total)
        self.epsilon, self.step_size = epsilon * UNIT, step_size * UNIT
        self.steps, self.random_start, self.share = steps, random_start, share

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the mixture of the losses of the images and of their adversarial examples."""
        clean = super().losses(network, batch)
        if self.epsilon == 0:
            return clean
        adversarial = super().losses(network, replace(batch, images=self.attacked(network, batch)))
        (of_images,), (of_examples,) = clean.values, adversarial.values
        return replace(clean, values=((1 - self.share) * of_images + self.share * of_examples,))

    def attacked(self, network: nn.Module, batch: Batch) -> Tensor:
        """Compute the adversarial examples of a batch.

        The network attacks as it predicts, in evaluation mode: an example then depends on its own image
        alone. It computes in float32, as the signs of gradients that underflow would be 0; none of its
        parameters gets a gradient.

        Args:
            network: images [n, 3, H, W] to logits [n].
            batch: this process's part of the batch.

        Returns:
            [n, 3, H, W] in [-1, 1].
        """
        lowest = (batch.images - self.epsilon).clamp(min=-1)
        highest = (batch.images + self.epsilon).clamp(max=1)
        moved = batch.images
        if self.random_start:
            moved = torch.clamp(moved + self.epsilon * noise_of(batch), lowest, highest)
        was_training = network.training
        network.eval()
        with torch.enable_grad(), torch.autocast(moved.device.type, enabled=False):
            for _ in range(self.steps):
                moved = moved.detach().requires_grad_()
                # The sum: an image's gradient then is that of its own loss, whatever the batch's size.
                loss = F.binary_cross_entropy_with_logits(
                    network(moved).float(), batch.targets.float(), reduction="sum"
                )
                (gradient,) = torch.autograd.grad(loss, moved)
                moved = torch.clamp(moved + self.step_size * gradient.sign(), lowest, highest)
        network.train(was_training)
        return moved.detach()


def noise_of(batch: Batch) -> Tensor:
    """Draw noise for the images of a batch by their places: on any number of processes it is the same.

    Args:
        batch: this process's part of the batch.

    Returns:
        Uniform in [-1, 1), of the images' shape [n, 3, H, W].
    """
    random = generator_for(batch.seed, "noise")
    noise = random.uniform(-1, 1, (batch.size, *batch.images.shape[1:])).astype(np.float32)
    return torch.from_numpy(noise[batch.places.cpu().numpy()]).to(batch.images.device)
