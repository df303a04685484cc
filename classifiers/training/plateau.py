"""Judges whether a training left the plateau where it began: one that did not has learnt nothing."""

from pipeline.content.trust import Judgement

# A calibrated network that explains a tenth of its labels' variance holds the classes 0.1 apart; where half
# of the labels are 1, its loss is 0.64, beside ln 2 = 0.693 of one that has not begun to learn.
PLATEAU = 0.1


CHECK_LABELS = "check that labels and images belong together"


def training_judgement(name: str, separation: float) -> Judgement:
    """Judge whether a training has left the plateau where it begins: the same score for every image.

    Args:
        name: the training's name, such as "train original erm 0".
        separation: the last one in its history (`classifiers.training.loop.Trained`), in [-1, 1].

    Returns:
        The judgement.
    """
    learned = separation >= PLATEAU
    return Judgement(
        step=name,
        level="fine" if learned else "useless",
        sentence=(
            f"in its last steps it held the two classes {separation:.2f} apart"
            f"{'' if learned else f', which is below {PLATEAU}: it has learned next to nothing'}."
        ),
        remedy="" if learned else f"Give it more steps or another learning rate, or {CHECK_LABELS}.",
        figures={"separation": separation},
    )
