"""The real-versus-synthetic probe: can a small classifier tell them apart?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifiers.measures.parameters import ProbeTraining
from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from classifiers.training.loop import in_one_phase, train_classifier
from classifiers.training.methods.erm import ERM
from classifiers.training.parameters import Optimizer, Training
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.resumable import Session
from pipeline.content.seeds import derived_seed, generator_for

LAST = "last"  # the weights after the last step


@dataclass(frozen=True)
class Separation:
    """How well a probe separates images that it was not trained on.

    Attributes:
        auc: area under its ROC curve, 0 to 1: 0.5 if synthetic images cannot be told from real ones.
        apart: the mean score of the synthetic images less that of the real ones, in [-1, 1]: near 0 if the
            probe has learned nothing, or there is nothing to learn.
        images: how many of each kind it was measured on.
        group_auc: the area among the images of each group [n_groups]; NaN if a kind has none.
        group_real: how many real images of each group were measured, [n_groups].
        group_synthetic: how many synthetic images of each group were measured, [n_groups].
    """

    auc: float
    apart: float
    images: int
    group_auc: FloatArray
    group_real: IntArray
    group_synthetic: IntArray


def area_under_curve(scores: FloatArray, kinds: IntArray) -> float:
    """Compute P(score of kind 1 > score of kind 0), ties half: scores, kinds [n]; NaN if a kind is absent."""
    from sklearn.metrics import roc_auc_score  # lazy: slow import

    return float(roc_auc_score(kinds, scores)) if 0 < kinds.sum() < len(kinds) else float("nan")


def random_halves(count: int, seed: int) -> tuple[IntArray, IntArray]:
    """Split 0 to count - 1 into two random halves, each sorted; the second has the odd one."""
    order = generator_for(seed, "halves").permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def both_kinds(real: LabelledImages, synthetic: LabelledImages) -> LabelledImages:
    """Join the real images and then the synthetic ones; the target is 1 for synthetic."""
    sets, starts = (real, synthetic), (0, len(real))
    kinds = np.repeat([0, 1], [len(images) for images in sets])

    def read(chosen: IntArray) -> NDArray[np.uint8]:
        parts = [images.read(chosen[kinds[chosen] == k] - starts[k]) for k, images in enumerate(sets)]
        pixels = np.empty((len(chosen), *parts[0].shape[1:]), np.uint8)
        for kind, part in enumerate(parts):
            pixels[kinds[chosen] == kind] = part
        return pixels

    return LabelledImages(
        ids=np.concatenate([images.ids for images in sets]),
        read=read,
        targets=kinds,
        groups=np.concatenate([images.groups for images in sets]),
    )


def probe_training(section: ProbeTraining) -> Training:
    """Return how a probe is trained, alike for all data sets.

    The images are not moved: the repeated edges are alike in both kinds, and hide fine differences.

    Args:
        section: the parameters of the probe.

    Returns:
        The settings of the training.
    """
    return Training(
        backbone=Backbone(name="small", width=16),
        optimizer=Optimizer(name="adamw", learning_rate=2e-3, schedule="cosine", warm_up=0.05),
        weight_decay=1e-4,
        steps=section.steps,
        batch_size=128,
        evaluations=1,
        flip=section.flip,
        shift=0.0,
        average=0.05,
        sampler="uniform",
    )


def probe_separation(
    session: Session,
    real: LabelledImages,
    synthetic: LabelledImages,
    n_groups: int,
    settings: Training,
    seed: int,
) -> Separation:
    """Train a probe on one half of the real and of the synthetic images, and measure it on the other.

    Real and synthetic images go the same way: uint8 from a store, with no file format between. Equal numbers
    of both kinds make guessing give 0.5. Nothing is chosen on the half that the probe is measured on: the
    training ends with the last step.

    Args:
        session: of the training, which goes on after a kill; it has one process.
        real: the real images; their `groups` only break down the result.
        synthetic: as many synthetic images; their `groups` only break down the result.
        n_groups: how many groups there are.
        settings: how the probe is trained (`probe_training`); its seed is not used.
        seed: of the halves, the weights and the training.

    Returns:
        How well the probe separates the two kinds.

    Raises:
        ValueError: there are not as many real images as synthetic ones.
    """
    if len(real) != len(synthetic):
        raise ValueError(f"a probe of {len(real)} real and {len(synthetic)} synthetic images")
    first, second = random_halves(len(real), seed)
    measured = both_kinds(real.subset(second), synthetic.subset(second))
    network = new_backbone(settings.backbone, derived_seed(seed, "weights"))
    training = settings.model_copy(update={"seed": seed})
    phases = in_one_phase(both_kinds(real.subset(first), synthetic.subset(first)), ERM(), training)
    selections = {LAST: lambda scores, images: 0.0}
    trained = train_classifier(session, network, phases, measured, training, selections)
    network.load_state_dict(trained.best[LAST])
    scores = predict(network, measured.read, len(measured), session.accelerator)
    members = [measured.groups == group for group in range(n_groups)]
    return Separation(
        auc=area_under_curve(scores, measured.targets),
        apart=float(scores[measured.targets == 1].mean() - scores[measured.targets == 0].mean()),
        images=len(second),
        group_auc=np.array([area_under_curve(scores[m], measured.targets[m]) for m in members]),
        group_real=np.array([(measured.targets[m] == 0).sum() for m in members]),
        group_synthetic=np.array([(measured.targets[m] == 1).sum() for m in members]),
    )
