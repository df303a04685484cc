"""OccamNet: a network that leaves an image at the first exit whose gate says that this is enough.

Shrestha, Kafle, Kanan, "OccamNets: Mitigating Dataset Bias by Favoring Simpler Hypotheses" (ECCV 2022,
arXiv 2204.02426). An exit's logit is the mean of a map of logits, so that few places of an image may decide.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.networks.small import ChannelNorm, SmallTrunk

GATE_WIDTH = 16
LEAST_CHANNELS = 8  # that are normalised: of two, only the sign of their difference would be left
CLOSED = -1.0  # the logit of a gate at first


class Exit(NamedTuple):
    """What an exit says of images.

    Attributes:
        logits: [n], the means of the maps.
        maps: the class activation maps, the logit of every place, [n, h, w].
        gates: logits of the gates, [n]: from 0 on, the image may leave here.
    """

    logits: Tensor
    maps: Tensor
    gates: Tensor


class _ExitLayers(nn.Module):
    """The layers of an exit.

    Args:
        channels: d, of the stage's maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(LEAST_CHANNELS, channels // 4)
        self.squeeze = nn.Conv2d(channels, inner, 3, 1, 1)
        self.norm = ChannelNorm(inner)
        self.widen = nn.Conv2d(inner, channels, 3, 1, 1)
        self.logit = nn.Linear(channels, 1)  # as a 1 x 1 convolution
        self.gate = nn.Sequential(
            nn.Linear(channels, GATE_WIDTH), nn.LayerNorm(GATE_WIDTH), nn.ReLU(), nn.Linear(GATE_WIDTH, 1)
        )
        # A gate begins closed: a network whose gates nothing trains is its last exit's alone.
        opening = self.gate[-1]
        assert isinstance(opening, nn.Linear)
        nn.init.zeros_(opening.weight)
        nn.init.constant_(opening.bias, CLOSED)

    def places(self, maps: Tensor) -> Tensor:
        """Compute the features of every place, [n, d, h, w], from the stage's maps."""
        return F.relu(self.widen(F.relu(self.norm(self.squeeze(maps)))))

    def forward(self, maps: Tensor) -> Exit:
        """Compute what the exit says; its gate learns nothing to the features."""
        places = self.places(maps)
        means = places.mean(dim=(2, 3))
        activation = F.conv2d(places, self.logit.weight[:, :, None, None], self.logit.bias)
        logits, gates = self.logit(means), self.gate(means.detach())
        return Exit(logits[:, 0], activation[:, 0], gates[:, 0])


class OccamNet(SmallTrunk):
    """The small residual network with an exit after each of its three stages.

    The first exit finds out which images are easy, and predicts nothing. Training changes nothing in how an
    image is scored, and no image's score depends on another's.

    Args:
        width: channels of the first stage; the others have two and four times as many.
    """

    n_exits = 3

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.outlets = nn.ModuleList(_ExitLayers(width * 2**k) for k in range(self.n_exits))

    @property
    def last(self) -> nn.Linear:
        """The last layer of the last exit, from features [n, 4 width] to [n, 1]."""
        return self._outlet(-1).logit

    def features(self, images: Tensor) -> Tensor:
        """Compute the features [n, 4 width] of the last exit for images [n, 3, H, W] in [-1, 1]."""
        return self._outlet(-1).places(self.maps(images)[-1]).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [n] of the exits at which images [n, 3, H, W] in [-1, 1] leave."""
        maps = self.maps(images)
        return self.chosen([outlet(of) for outlet, of in zip(self.outlets[1:], maps[1:], strict=True)])

    def exits(self, images: Tensor) -> list[Exit]:
        """Compute what each exit says of images [n, 3, H, W]; the first one does not train the stages."""
        first, *others = self.maps(images)
        return [outlet(of) for outlet, of in zip(self.outlets, [first.detach(), *others], strict=True)]

    @staticmethod
    def chosen(exits: list[Exit]) -> Tensor:
        """Choose each image's logit, [n]: the first exit's whose gate is open, or else the last one's.

        Args:
            exits: those that predict, the first of `exits` left out.

        Returns:
            The logits.
        """
        logits = exits[-1].logits
        for place in reversed(exits[:-1]):
            logits = torch.where(place.gates >= 0, place.logits, logits)
        return logits

    def _outlet(self, number: int) -> _ExitLayers:
        outlet = self.outlets[number]
        assert isinstance(outlet, _ExitLayers)
        return outlet
