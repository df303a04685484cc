"""What every post-processor is: a rule that turns scores and protected groups into predictions."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from classifiers.selection import HALF
from pipeline.content.arrays import BoolArray, FloatArray, IntArray


class PostProcessor(ABC):
    """A rule from a score and a protected group to the probability that the prediction is 1.

    A rule that predicts at random is given as these probabilities, so that no random number is drawn: metrics
    are computed from expected counts. `classifiers.postprocessing.applying` checks the rows before a rule is
    fitted: each protected group has rows of both classes, and there are at least two groups.

    Attributes:
        needs: where the protected labels have to be known: to fit the rule, and for every prediction.
        most_groups: how many protected groups the method can take; None for any number.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation", "prediction"})
    most_groups: ClassVar[int | None] = None

    @abstractmethod
    def fit(self, scores: FloatArray, targets: IntArray, protected: IntArray) -> Self:
        """Fit the rule.

        Args:
            scores: P(y=1), [n] in [0, 1].
            targets: true labels, [n] in {0, 1}.
            protected: ids of the protected groups, [n].

        Returns:
            The post-processor itself.
        """

    @abstractmethod
    def positive_rate(self, scores: FloatArray, protected: IntArray) -> FloatArray:
        """Apply the rule to rows of the groups that it was fitted on.

        Args:
            scores: P(y=1), [n] in [0, 1].
            protected: ids of the protected groups, [n].

        Returns:
            P(ŷ=1) of each row, [n] in [0, 1].
        """


def is_positive(scores: FloatArray) -> BoolArray:
    """Tell which scores [n] are predicted 1 without a post-processor."""
    positive: BoolArray = scores >= HALF
    return positive
