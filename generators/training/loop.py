"""Training of the progressive GAN: one step, the schedule over resolutions, and state that resumes.

Every random number comes from (seed, step number), so that a run that was killed and resumed from a
checkpoint computes the same as an undisturbed one.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.networks.progressive import Discriminator, Generator
from generators.training.augmentation import augment
from generators.training.objectives import LOSSES, wasserstein_penalty, zero_centred_penalty
from generators.training.parameters import TrainGAN
from generators.training.schedule import Step, schedule, shrink
from pipeline.content.resumable import Session, StepDone, refuse_divergence, run_steps
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.tensors import images_to_tensor, reduce_gradients
from pipeline.errors import UserError

ADAM_BETAS = (0.0, 0.99)
REMEDY = "lower train_gan.learning_rate or raise train_gan.gradient_penalty"

ReadImages = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass
class LossHistory:
    """Records the losses of a training, as means over the steps between two records.

    Attributes:
        records: step (from 1), resolution (px) and mean losses of each record.
        sums: of each loss since the last record.
        count: steps since the last record.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, **losses: Tensor) -> None:
        """Add the losses of a step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1

    def record(self, step: Step) -> None:
        """Record the means since the last record, and start anew."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.records.append({"step": step.number + 1, "resolution": step.resolution, **means})
        self.sums, self.count = {}, 0


class GANTraining:
    """Holds the networks, their optimisers and the generator's average, and takes training steps.

    Args:
        parameters: the section `train_gan`.
        read: returns the real images at positions [n]: uint8 [n, H, W, 3], H at least the resolution.
        groups: the group of each of these images, [N]; how often they are drawn depends on it.
        accelerator: the device, the precision and the processes. Each of several processes sees its share of
            every batch, and their gradients are averaged.

    If the processes cannot share a batch evenly, a `UserError` says so.
    """

    def __init__(
        self,
        parameters: TrainGAN,
        read: ReadImages,
        groups: NDArray[np.int64],
        accelerator: Accelerator,
    ) -> None:
        self.parameters = parameters
        self.read = read
        self.cumulated = np.cumsum(sampling_weights(groups, parameters.group_balance))
        self.accelerator = accelerator
        self.device = accelerator.device
        _refuse_uneven_shares(parameters, accelerator.num_processes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(parameters.seed, "networks"))
            generator = new_generator(parameters)
            discriminator = Discriminator(parameters.resolution, parameters.channels)
        place: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        self.generator = generator.to(**place)
        self.discriminator = discriminator.to(**place)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.generator_optimizer = self._optimizer(self.generator)
        self.discriminator_optimizer = self._optimizer(self.discriminator)
        self.loss = LOSSES[parameters.loss]
        self.losses = LossHistory()

    def _optimizer(self, network: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=self.parameters.learning_rate, betas=ADAM_BETAS)

    def step(self, step: Step) -> None:
        """Update the discriminator, the generator and the generator's average once."""
        process = self.accelerator.process_index
        random = torch.Generator().manual_seed(
            derived_seed(self.parameters.seed, "step", step.number, process)
        )
        real = self._real_images(step)
        with self.accelerator.autocast():
            fake = self.generator(self._latents(step, random), step.resolution, step.alpha)
        fake = fake.float()

        self.discriminator.requires_grad_(True)
        with self.accelerator.autocast():
            real_logits = self._criticise(real, step, random)
            fake_logits = self._criticise(fake.detach(), step, random)
        discriminator_loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = self._penalty(real, fake, step, random)
        self._descend(self.discriminator, self.discriminator_optimizer, discriminator_loss + penalty)

        # The same generated images serve both updates: that saves one forward pass of the generator.
        self.discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            fake_logits = self._criticise(fake, step, random)
        generator_loss = self.loss.generator(real_logits.detach(), fake_logits)
        self._descend(self.generator, self.generator_optimizer, generator_loss)
        self._average(step.ema_decay)
        # Reduced at every step, so that the main process's losses are the mean over all processes.
        losses = torch.stack([discriminator_loss.detach(), generator_loss.detach()])
        losses = self.accelerator.reduce(losses, "mean")
        self.losses.add(discriminator=losses[0], generator=losses[1])

    def _descend(self, network: nn.Module, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        reduce_gradients(network, self.accelerator, "mean")
        optimizer.step()

    def _real_images(self, step: Step) -> Tensor:
        random = generator_for(self.parameters.seed, "real", step.number, self.accelerator.process_index)
        count = self._share_of(step)
        drawn = np.searchsorted(self.cumulated, random.random(count) * self.cumulated[-1], side="right")
        images = images_to_tensor(self.read(drawn), self.device)
        if self.parameters.flip:
            mirrored = torch.from_numpy(random.random(count) < 0.5).to(self.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return shrink(images, step.resolution, step.alpha)

    def _latents(self, step: Step, random: torch.Generator) -> Tensor:
        shape = (self._share_of(step), self.parameters.latent_dim)
        return torch.randn(shape, generator=random).to(self.device)

    def _share_of(self, step: Step) -> int:
        return step.batch_size // int(self.accelerator.num_processes)

    def _criticise(self, images: Tensor, step: Step, random: torch.Generator) -> Tensor:
        augmented = augment(images, self.parameters.augment, random)
        logits: Tensor = self.discriminator(augmented, step.alpha)
        return logits

    def _penalty(self, real: Tensor, fake: Tensor, step: Step, random: torch.Generator) -> Tensor:
        """Compute the gradient penalty in float32, weighted to make up for the steps that leave it out."""
        parameters = self.parameters
        zero = torch.zeros((), device=self.device)
        if step.number % parameters.penalty_interval or parameters.gradient_penalty == 0:
            return zero

        def critic(images: Tensor) -> Tensor:
            return self._criticise(images, step, random)

        if parameters.loss == "wgan_gp":
            share = torch.rand(len(real), 1, 1, 1, generator=random).to(self.device)
            return wasserstein_penalty(critic, real, fake, share, parameters.gradient_penalty)
        penalty = zero_centred_penalty(critic, real, parameters.gradient_penalty)
        if parameters.r2:
            penalty = penalty + zero_centred_penalty(critic, fake, parameters.gradient_penalty)
        return penalty * parameters.penalty_interval

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for averaged, current in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
            averaged.lerp_(current, 1.0 - decay)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "losses": vars(self.losses),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a state that `state` returned."""
        for name in ("generator", "discriminator", "averaged"):
            getattr(self, name).load_state_dict(state[name])
            optimizer = getattr(self, f"{name}_optimizer", None)
            if optimizer is not None:
                optimizer.load_state_dict(state[f"{name}_optimizer"])
        self.losses = LossHistory(**state["losses"])


def sampling_weights(groups: NDArray[np.int64], group_balance: float) -> NDArray[np.float64]:
    """Compute how often images of these groups [N] are drawn, relatively: n_g^-group_balance, [N]."""
    sizes = np.bincount(groups)
    weights: NDArray[np.float64] = sizes[groups].astype(np.float64) ** -group_balance
    return weights


def new_generator(parameters: TrainGAN) -> Generator:
    """Create the generator that the parameters describe, with fresh weights."""
    return Generator(
        parameters.latent_dim,
        parameters.resolution,
        parameters.channels,
        parameters.mapping_layers,
        parameters.mapping_width,
    )


def train_gan(
    session: Session, training: GANTraining, on_resolution: Callable[[int], None], records: int = 200
) -> Generator:
    """Run the whole schedule, or the rest of it after an interruption.

    If the losses are no longer finite, a `UserError` says so.

    Args:
        session: name and checkpoint of the training; its accelerator is the training's.
        training: the networks and their state.
        on_resolution: called with the resolution (px) whenever one is finished, in the main process.
        records: how many points of the losses to keep.

    Returns:
        The averaged generator.
    """
    steps = schedule(training.parameters)
    run_steps(session, _Scheduled(session, training, steps, on_resolution, records), len(steps))
    return training.averaged


class _Scheduled:
    """Runs a training over its schedule; arguments as those of `train_gan`."""

    def __init__(
        self,
        session: Session,
        training: GANTraining,
        steps: list[Step],
        on_resolution: Callable[[int], None],
        records: int,
    ) -> None:
        self.session, self.training, self.steps, self.on_resolution = session, training, steps, on_resolution
        self.every = max(1, len(steps) // records)  # steps between two records
        self.state = training.state

    def step(self, number: int) -> StepDone:
        """Take a step, record the losses if that is due, and report a resolution that is finished."""
        step, is_last = self.steps[number], number + 1 == len(self.steps)
        self.training.step(step)
        if (number + 1) % self.every == 0 or is_last:
            self.training.losses.record(step)
            self._refuse_divergence(number, self.training.losses.records[-1])
        is_finished = is_last or self.steps[number + 1].resolution != step.resolution
        if is_finished and self.session.accelerator.is_main_process:
            self.on_resolution(step.resolution)
        return StepDone(note=f"{step.resolution} px")

    def check(self, number: int) -> None:
        """Raise `UserError` if a loss since the last record was not finite."""
        self._refuse_divergence(number, self.training.losses.sums)

    def load_state(self, state: dict[str, Any], done: int) -> None:
        """Take up the state after `done` steps."""
        self.training.load_state(state)

    def _refuse_divergence(self, number: int, losses: Mapping[str, float]) -> None:
        note = f"{self.steps[number].resolution} px"
        refuse_divergence(self.session.name, number, losses.values(), REMEDY, note)


def _refuse_uneven_shares(parameters: TrainGAN, processes: int) -> None:
    for step in schedule(parameters):
        if step.batch_size % processes:
            raise UserError(
                f"train_gan.batch_size is {step.batch_size} at {step.resolution} px, which {processes} "
                "processes cannot share evenly: use a multiple, or another runtime.processes."
            )
