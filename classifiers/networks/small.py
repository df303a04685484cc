"""What classifiers have in common, and the residual network for small images."""

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every pixel: x [n, C, H, W].

    Not batch norm: an image's score must depend neither on the groups of its neighbours nor on how a
    batch is split over processes. In channels_last it is as fast; group norm takes twice the time.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, C, H, W] over C."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with `ChannelNorm` beside a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = ChannelNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = ChannelNorm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), ChannelNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute maps [n, outputs, h, w] of maps [n, inputs, H, W]."""
        residual = F.relu(self.first_norm(self.first(x)))
        residual = self.second_norm(self.second(residual))
        return F.relu(residual + self.shortcut(x))


class Classifier(nn.Module):
    """A network whose last layer is linear: images [n, 3, H, W] in [-1, 1] to one logit [n]."""

    @property
    def last(self) -> nn.Linear:
        """The last layer, from features [n, D] to [n, 1]."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the last layer, [n, D], for images [n, 3, H, W] in [-1, 1]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [n] of images [n, 3, H, W] in [-1, 1]."""
        logits: Tensor = self.last(self.features(images))
        return logits[:, 0]


class SmallTrunk(Classifier):
    """The residual stages that networks for small images have in common.

    Args:
        width: channels of the first stage; the others have two and four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.stem_norm = ChannelNorm(width)
        self.stages = nn.Sequential(
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        )

    def maps(self, images: Tensor) -> list[Tensor]:
        """Compute the maps [n, C, h, w] of each of the three stages for images [n, 3, H, W]."""
        maps = [F.relu(self.stem_norm(self.stem(images)))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


class SmallResNet(SmallTrunk):
    """A residual network of three stages for small images.

    Args:
        width: channels of the first stage; the others have two and four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.logit = nn.Linear(4 * width, 1)

    @property
    def last(self) -> nn.Linear:
        """The last layer, from features [n, 4 width] to [n, 1]."""
        return self.logit

    def features(self, images: Tensor) -> Tensor:
        """Compute features [n, 4 width] of images [n, 3, H, W] in [-1, 1]."""
        return self.maps(images)[-1].mean(dim=(2, 3))
