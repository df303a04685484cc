"""An encoder that maps images to the latents of a generator, learnt from the generator's own samples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.inversion.parameters import TrainEncoder
from generators.latents import project
from generators.networks.loading import LoadedGenerator
from generators.networks.progressive import SLOPE, resolutions_up_to
from pipeline.content.batches import evened, in_batches
from pipeline.content.checkpoints import load_checkpoint
from pipeline.content.resumable import Session, StepDone, cosine, refuse_divergence, run_steps
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError

ADAM_BETAS = (0.9, 0.99)
REMEDY = "lower invert.encoder.learning_rate"
HIDDEN = 256  # features between the convolutions and the latents
LARGEST_WIDTH = 4  # times `width`: no convolution has more channels


class Encoder(nn.Module):
    """Maps images [n, 3, R, R] in [-1, 1] to latents [n, latent_dim], float32; each image by itself.

    Args:
        resolution: R, a power of two, 4 px or more; convolutions halve it down to 4 px.
        latent_dim: D of the latents.
        width: channels after the first halving; twice, then four times as many after the next ones.

    Raises:
        UserError: the resolution is no power of two, or below 4 px.
    """

    def __init__(self, resolution: int, latent_dim: int, width: int) -> None:
        super().__init__()
        if resolution < 4 or resolution & (resolution - 1):
            raise UserError(
                f"the generator's images have {resolution} px, and inverting real images needs a power of "
                "two, 4 px or more: set inverted to []."
            )
        halvings = len(resolutions_up_to(resolution)) - 1
        widths = [3, *(width * min(2**k, LARGEST_WIDTH) for k in range(halvings))]
        self.halving = nn.ModuleList(
            nn.Conv2d(widths[k], widths[k + 1], 3, 2, padding=1) for k in range(halvings)
        )
        self.following = nn.ModuleList(nn.Conv2d(size, size, 3, padding=1) for size in widths[1:])
        self.hidden = nn.Linear(widths[-1] * 16, HIDDEN)
        self.latents = nn.Linear(HIDDEN, latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the latents of images."""
        x = images
        for halving, following in zip(self.halving, self.following, strict=True):
            x = F.leaky_relu(halving(x), SLOPE, inplace=True)
            x = F.leaky_relu(following(x), SLOPE, inplace=True)
        latents: Tensor = self.latents(F.leaky_relu(self.hidden(x.flatten(1)), SLOPE, inplace=True))
        return latents.float()


def new_encoder(generator: LoadedGenerator, settings: TrainEncoder, seed: int) -> Encoder:
    """Create the encoder for a generator, with random weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "encoder"))
        return Encoder(generator.resolution, generator.latent_dim, settings.width)


def train_encoder(
    session: Session, generator: LoadedGenerator, normalises: bool, settings: TrainEncoder, seed: int
) -> Encoder:
    """Train an encoder to recover the latents of a generator's samples, or finish an interrupted training.

    The loss is the squared error of the latents: no gradient goes through the generator. The samples of a
    step are drawn from (seed, step number). If the loss is not finite, a `UserError` says so.

    Args:
        session: name, checkpoint and accelerator of the training.
        generator: its samples are learnt from.
        normalises: whether the generator normalises its latents; then their projections are learnt.
        settings: width, steps, batch size and learning rate.
        seed: of the weights and the samples.

    Returns:
        The encoder, in evaluation mode, without gradients.
    """
    training = _EncoderTraining(session, generator, normalises, settings, seed)
    run_steps(session, training, settings.steps)
    return training.encoder.eval().requires_grad_(False)


class _EncoderTraining:
    """Holds the state of an encoder's training and takes its steps; arguments as those of `train_encoder`."""

    def __init__(
        self,
        session: Session,
        generator: LoadedGenerator,
        normalises: bool,
        settings: TrainEncoder,
        seed: int,
    ) -> None:
        self.session, self.generator, self.normalises = session, generator, normalises
        self.settings, self.seed = settings, seed
        self.encoder = new_encoder(generator, settings, seed)
        self.encoder.to(session.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            self.encoder.parameters(), lr=settings.learning_rate, betas=ADAM_BETAS
        )
        self.loss = torch.zeros(())

    def step(self, number: int) -> StepDone:
        """Take a step on new samples of the generator."""
        settings, accelerator = self.settings, self.session.accelerator
        random = generator_for(self.seed, "encoder step", number)
        drawn = random.standard_normal((settings.batch_size, self.generator.latent_dim), dtype=np.float32)
        z = torch.from_numpy(drawn).to(accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            images = self.generator(z)
        with accelerator.autocast():
            guessed = self.encoder(images)
        loss = (guessed - (project(z) if self.normalises else z)).square().mean()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * cosine(number, settings.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()
        return StepDone()

    def check(self, number: int) -> None:
        """Raise `UserError` if the step's loss was not finite."""
        refuse_divergence(self.session.name, number, [float(self.loss)], REMEDY)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {"encoder": self.encoder.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any], done: int) -> None:
        """Take up the state after `done` steps."""
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])


def load_encoder(
    checkpoint: Path, generator: LoadedGenerator, settings: TrainEncoder, accelerator: Accelerator
) -> Encoder:
    """Load the encoder that `train_encoder` left in a checkpoint.

    Args:
        checkpoint: the file.
        generator: that the encoder was trained for.
        settings: of the training.
        accelerator: the device.

    Returns:
        The encoder, in evaluation mode, without gradients.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(f"{checkpoint} is missing: train_encoder writes it")
    encoder = new_encoder(generator, settings, seed=0)
    encoder.load_state_dict(state["encoder"])
    encoder.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder.eval().requires_grad_(False)


def encode(
    encoder: Encoder,
    images: NDArray[np.uint8],
    normalises: bool,
    batch_size: int,
    accelerator: Accelerator,
) -> NDArray[np.float32]:
    """Compute the encoder's latents of images.

    A batch for which the memory does not suffice is halved.

    Args:
        encoder: the trained encoder.
        images: uint8 [n, R, R, 3].
        normalises: whether the generator normalises its latents; then these are projected to the sphere.
        batch_size: images to encode at once, at most.
        accelerator: the device and the precision.

    Returns:
        The latents, float32 [n, D].
    """
    latents = np.empty((len(images), encoder.latents.out_features), dtype=np.float32)

    def encode_batch(start: int, stop: int) -> None:
        batch = evened(images_to_tensor(images[start:stop], accelerator.device))
        with accelerator.autocast():
            guessed = encoder(batch)[: stop - start]
        latents[start:stop] = (project(guessed) if normalises else guessed).cpu().numpy()

    with torch.inference_mode():
        in_batches(encode_batch, len(images), batch_size)
    return latents
