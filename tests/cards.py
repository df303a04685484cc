"""Cards of labellers for tests."""

from classifiers.networks.cards import LabellerCard
from classifiers.networks.parameters import Backbone


def labeller_card(
    backbone: Backbone, thresholds: list[float], halves: list[int | None] | None = None
) -> LabellerCard:
    """The card of a labeller of balanced images, by default of one network."""
    return LabellerCard(
        backbone=backbone,
        attribute="Male",
        threshold=thresholds[0],
        thresholds=thresholds,
        halves=halves or [None],
        prior=0.5,
        real_share=0.5,
    )
