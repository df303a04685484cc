"""Judges by the probe whether synthetic images look real enough to be trusted."""

from classifiers.training.plateau import PLATEAU
from pipeline.content.trust import Judgement

TOLD_APART = 0.95  # area under the ROC curve; no generator of this pipeline's size gets to 0.5


def probe_judgement(source: str, auc: float, apart: float) -> Judgement:
    """Judge whether a network can tell a source's images from real ones: then another may use that as a cue.

    Args:
        source: the name of the synthetic images' source.
        auc: area under the probe's ROC curve: 0.5 if they cannot be told apart.
        apart: the mean score of synthetic images less that of real ones, in [-1, 1].

    Returns:
        The judgement.
    """
    if apart < PLATEAU:
        return Judgement(
            step=f"probe of {source}",
            level="doubtful",
            sentence=f"its AUC is {auc:.3f}, and it holds the two kinds {apart:.2f} apart: either nothing "
            "tells its images from real ones, or the probe has learned next to nothing.",
            remedy="Give the probe more steps to know (assess.probe.steps).",
            figures={"auc": auc, "apart": apart},
        )
    told = auc > TOLD_APART
    return Judgement(
        step=f"probe of {source}",
        level="doubtful" if told else "fine",
        sentence=f"a network tells its images from real ones with an AUC of {auc:.3f}; 0.5 is chance.",
        remedy="Prefer recipes that do not reward “synthetic” as a cue, such as source_balanced, or train "
        "the generator for longer.",
        figures={"auc": auc, "apart": apart},
    )
