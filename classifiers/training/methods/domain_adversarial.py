"""Domain-adversarial training: features from which a head cannot tell the protected group."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.networks.small import Classifier
from classifiers.training.batches import Batch
from classifiers.training.methods.adversary import AdversaryLoss
from classifiers.training.methods.base import Context, Losses, Method
from classifiers.training.methods.erm import ERM
from pipeline.content.seeds import derived_seed


def reversed_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the values; their gradient is multiplied by -factor on its way back."""
    return values.detach() - factor * (values - values.detach())


def rising(progress: float) -> float:
    """Compute 2 / (1 + exp(-10 p)) - 1, which rises from 0 to 1 with the progress p (Ganin et al.)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class DomainAdversarial(Method):
    """Domain-adversarial training (DANN: Ganin et al., JMLR 2016; conditional: Li et al., ECCV 2018).

    The loss is that of ERM and that of a head which guesses the protected group from the features φ. The head
    descends its loss; what it sends back into the network is multiplied by -λ(p), with the progress p:
    λ(p) = λ (2 / (1 + exp(-10 p)) - 1). The head sees features of mean 0 and deviation 1, as small features
    would fool it without hiding anything.

    Conditional, the head also knows the target y: it sees (φ, y, φ y), and its loss is weighed by 1/P(a|y).
    Features must then say nothing of the group beyond what the target says (equalised odds), where the
    unconditional ones must say nothing at all, not even what a target says that goes with the group
    (demographic parity). Several protected attributes are guessed by their intersections.

    Args:
        context: of the phase. The weights suit batches drawn as the images come.
        penalty: λ.
        conditional: whether the head knows the target.
        hidden: units of the head's hidden layer.
        own_rate: the head's learning rate as a multiple of the network's.
    """

    def __init__(
        self,
        context: Context,
        penalty: float = 1.0,
        conditional: bool = False,
        hidden: int = 64,
        own_rate: float = 5.0,
    ) -> None:
        super().__init__()
        self.penalty, self.conditional, self.own_rate = penalty, conditional, own_rate
        self.prediction = ERM(context.total)
        self.guess = AdversaryLoss(context, "intersections", given_target=conditional, weighted=conditional)
        inputs = 2 * context.feature_size + 1 if conditional else context.feature_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(context.seed, "head"))
            self.head = nn.Sequential(
                nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, self.guess.outputs)
            )

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the sum of both losses; the network's gradient of the second one is reversed."""
        classifier = cast(Classifier, network)
        features = classifier.features(batch.images)
        logits = classifier.last(features)[:, 0]
        with torch.autocast(logits.device.type, enabled=False):
            loss = self.prediction.loss(logits.float(), batch)
            factor = self.penalty * rising(batch.progress)
            guesses = self.head(self._seen(reversed_gradient(features.float(), factor), batch.targets))
            return Losses((loss + self.guess(guesses, batch),), logits)

    def _seen(self, features: Tensor, targets: Tensor) -> Tensor:
        normal = F.layer_norm(features, features.shape[1:])
        if not self.conditional:
            return normal
        positive = targets[:, None].to(normal.dtype)
        return torch.cat([normal, positive, normal * positive], dim=1)

    def figures(self) -> dict[str, float]:
        """Return the head's loss, `adversary_loss`, and what it is without features, `adversary_bound`."""
        return self.guess.figures()
