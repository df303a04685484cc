"""The interface of finishes: what a finish may use, and the settings that run it.

A finish changes a trained network in place. The images that it fits on cannot measure it: validation is
halved, one half for the fit, one for every choice and for the reported figures.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from classifiers.networks.images import LabelledImages
from pipeline.parameters import Parameters

if TYPE_CHECKING:
    from accelerate import Accelerator

    from classifiers.networks.backbones import Classifier
    from classifiers.training.loop import Selection
    from pipeline.content.resumable import Session

Labels = Literal["training", "validation", "prediction"]


@dataclass(frozen=True)
class Material:
    """The images that a finish may use, and what it chooses by.

    Attributes:
        training: the images that the network was trained on.
        fitting: one half of the real validation images, to fit on.
        selecting: the other half, to choose by.
        select: a figure of (scores [n] of the selecting images, these images) that is to be high, such as
            the worst-group accuracy.
        n_protected: the number of protected groups: an image's protected group is `groups % n_protected`.
        session: the device and the processes, and a file for the state of a finish that takes long.
        seed: of all random numbers.
    """

    training: LabelledImages
    fitting: LabelledImages
    selecting: LabelledImages
    select: "Selection"
    n_protected: int
    session: "Session"
    seed: int

    @property
    def accelerator(self) -> "Accelerator":
        """The device and the precision."""
        return self.session.accelerator


class FinishSettings(Parameters):
    """The parameters of a finish: a subclass has a `name` of its own, and implements `finish`.

    Attributes:
        needs: where the finish needs protected labels: those of training images, those of validation images
            to fit on. The labels that all finishes choose by do not count, as those of trainings do not.
    """

    needs: ClassVar[frozenset[Labels]] = frozenset({"validation"})

    def finish(self, network: "Classifier", material: Material) -> dict[str, float]:
        """Change a network in place.

        It comes in evaluation mode, without gradients, and goes so. A threshold other than 0.5 is folded into
        the last layer (`classifiers.finishing.layers.fold_threshold`).

        Args:
            network: the trained network.
            material: the images, and what is chosen by.

        Returns:
            Facts for the network's card, such as the chosen strength.
        """
        raise NotImplementedError
