"""Whether hyperplanes may be trusted: how often each is right, in every group, and the angles between them.

It is a module apart from `generators.trust`, so that a changed threshold here trains no generator again. The
functions are pure: figures in, judgements out.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from generators.hyperplanes import Hyperplane
from pipeline.content.arrays import AnyFloatArray, IntArray
from pipeline.content.trust import Judgement, Level

# Balanced accuracies, where chance is 0.5. A move across a plane that is right 6 times in 10 is noise. At
# 0.8, one complement in five starts on the wrong side, so that the move does not change its attribute.
USELESS_ACCURACY, DOUBTFUL_ACCURACY = 0.6, 0.8
FEWEST = 20  # latents: a share of fewer says nothing
# Angles between normals, in degrees from parallel. A move that keeps one attribute and flips the other is
# 1 / sin(angle) times as long as at a right angle: twice at 30°, and 3.9 times at 15°, which leads to latents
# that the generator was not trained on.
USELESS_ANGLE, DOUBTFUL_ANGLE = 15.0, 30.0
REMEDY = (
    "Look at the labels of G(z) (out/labels/z) and at their labeller first; then more latents (sample.fit) "
    "or a longer training of the generator may help."
)


def plane_group_accuracies(
    plane: Hyperplane, latents: AnyFloatArray, labels: IntArray, groups: IntArray, n_groups: int
) -> tuple[NDArray[np.float64], IntArray]:
    """Compute how often the sign of a plane agrees with the labels, in every group.

    Args:
        plane: the hyperplane.
        latents: [n, D].
        labels: of the plane's attribute, in {0, 1}, [n].
        groups: of the latents, by the labels of all attributes, in 0 ... n_groups - 1, [n].
        n_groups: how many groups there are.

    Returns:
        The accuracies, [n_groups], NaN for groups without latents; and the groups' numbers of latents,
        [n_groups].
    """
    right = (plane.distance(latents) > 0) == (labels == 1)
    counts = np.bincount(groups, minlength=n_groups)
    accuracies = np.full(n_groups, math.nan)
    np.divide(np.bincount(groups, right, minlength=n_groups), counts, out=accuracies, where=counts > 0)
    return accuracies, counts


def plane_judgement(
    name: str,
    balanced_accuracy: float,
    label_counts: Sequence[int],
    accuracies: AnyFloatArray,
    counts: IntArray,
    names: Sequence[str],
    crossed: bool = True,
) -> Judgement:
    """Judge whether a hyperplane separates its attribute, on latents that it was not fitted to.

    A plane whose attribute is only kept, the target's, is never useless as long as both labels occur: even if
    no plane separates the target, a short move keeps it, and the complements show how often.

    Args:
        name: the plane's: an attribute, or the target in a domain.
        balanced_accuracy: in [0, 1]; NaN if only one label occurs.
        label_counts: how many latents are labelled 0 and 1.
        accuracies: of every group, [n_groups]; NaN for groups without latents.
        counts: the groups' numbers of latents, [n_groups].
        names: of the groups, [n_groups].
        crossed: whether complements cross the plane, as they do a protected attribute's.

    Returns:
        The judgement, with the figures it rests on.
    """
    step = f"hyperplane of {name}"
    enough = counts >= FEWEST
    judged = np.where(enough, accuracies, math.nan)
    worst = int(np.nanargmin(judged)) if enough.any() else None
    lowest = math.nan if worst is None else float(accuracies[worst])
    figures = {
        "balanced_accuracy": None if math.isnan(balanced_accuracy) else balanced_accuracy,
        "worst_group_accuracy": None if worst is None else lowest,
        "label_0_n": float(label_counts[0]),
        "label_1_n": float(label_counts[1]),
    }
    if math.isnan(balanced_accuracy):
        total, label = sum(label_counts), int(np.argmax(label_counts))
        sentence = (
            f"all {total:,} latents to validate it with have the label {label}, so that nothing says how "
            "often it is right."
            if total
            else "there is no latent to validate it with."
        )
        return Judgement(step, "useless", sentence, REMEDY, figures)
    sentence = (
        f"it is right for {_percent(balanced_accuracy)} of {sum(label_counts):,} latents that it was not "
        "fitted on, either label counting half, where chance is 50 %"
    )
    level: Level = "fine"
    if balanced_accuracy <= USELESS_ACCURACY:
        level = "useless" if crossed else "doubtful"
    elif balanced_accuracy < DOUBTFUL_ACCURACY or lowest < 0.5 or min(label_counts) < FEWEST:
        level = "doubtful"
    if worst is not None:
        sentence += f", and for {_percent(lowest)} of those labelled {names[worst]}, the worst group"
    if min(label_counts) < FEWEST:
        rarer = int(np.argmin(label_counts))
        sentence += f"; only {label_counts[rarer]} have the label {rarer}"
    return Judgement(step, level, f"{sentence}.", "" if level == "fine" else REMEDY, figures)


def one_label_judgement(name: str, label: int, n: int) -> Judgement:
    """Judge a hyperplane useless because all latents to fit it with have the same label.

    Such a plane lies between lower and higher scores (`hyperplanes.with_both_labels`), so that a run that is
    told to go on has a plane to go on with.

    Args:
        name: the plane's.
        label: the one label that occurs, 0 or 1.
        n: how many latents there are.

    Returns:
        A judgement of the level useless.
    """
    sentence = (
        f"all {n:,} latents to fit it with are labelled {label}: the generator makes none of the other kind, "
        "or the labeller finds none. The plane parts higher from lower scores, which may mean nothing."
    )
    figures: dict[str, float | None] = {
        "balanced_accuracy": None,
        "worst_group_accuracy": None,
        "label_0_n": float(n if label == 0 else 0),
        "label_1_n": float(n if label == 1 else 0),
    }
    return Judgement(f"hyperplane of {name}", "useless", sentence, REMEDY, figures)


def angle_judgement(angles: Mapping[tuple[str, str], float]) -> Judgement:
    """Judge whether hyperplanes are far enough from parallel to flip one attribute and keep the other.

    Args:
        angles: between the normals of two attributes that a move holds apart, in degrees, 0 to 180.

    Returns:
        The judgement of the pair that is nearest to parallel.
    """
    (first, second), angle = min(angles.items(), key=lambda item: min(item[1], 180.0 - item[1]))
    from_parallel = min(angle, 180.0 - angle)
    level: Level = "fine"
    if from_parallel < USELESS_ANGLE:
        level = "useless"
    elif from_parallel < DOUBTFUL_ANGLE:
        level = "doubtful"
    sine = math.sin(math.radians(angle))
    longer = f"{1 / sine:.1f} times as long as at a right angle" if sine > 1e-3 else "without end"
    sentence = (
        f"the normals of {first} and {second} are {angle:.0f}° apart, where 90° is independent: a move that "
        f"keeps one and flips the other is {longer}."
    )
    remedy = (
        "In G(z) the two go together: let the generator see all groups alike (train_gan.group_balance 1), "
        "fit with fit_hyperplanes.group_balanced, and train the labellers on group_balanced batches."
    )
    figures: dict[str, float | None] = {"angle_degrees": angle}
    step = "angles between hyperplanes"
    return Judgement(step, level, sentence, "" if level == "fine" else remedy, figures)


def _percent(share: float) -> str:
    """Write 0.95 as '95 %'."""
    return f"{100 * share:.0f} %"
