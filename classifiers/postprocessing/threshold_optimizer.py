"""fairlearn's threshold optimizer: thresholds for each group, mixed where that is better."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from classifiers.postprocessing.base import PostProcessor
from pipeline.content.arrays import FloatArray, IntArray


@dataclass
class ThresholdOptimizer(PostProcessor):
    """Each group is predicted by one or two thresholds of its own, mixed so that a constraint holds.

    Unlike `EqualizedOdds` it uses the scores, not only the predictions at 0.5.

    Source: Hardt, Price and Srebro, 2016 (arXiv 1610.02413), as fairlearn has it.

    Attributes:
        constraint: fairlearn's `constraints`: "equalized_odds", "demographic_parity", ...
        objective: fairlearn's `objective`.
        optimizer: fairlearn's ThresholdOptimizer, as fitted.
    """

    constraint: str = "equalized_odds"
    objective: str = "balanced_accuracy_score"
    optimizer: Any = field(init=False)

    def fit(self, scores: FloatArray, targets: IntArray, protected: IntArray) -> Self:
        """Have fairlearn fit the thresholds; see `PostProcessor.fit`."""
        from fairlearn import postprocessing  # lazy: slow import

        self.optimizer = postprocessing.ThresholdOptimizer(
            estimator=_given_scores(),
            constraints=self.constraint,
            objective=self.objective,
            prefit=True,
            predict_method="predict",
        ).fit(scores[:, None], targets, sensitive_features=protected)
        return self

    def positive_rate(self, scores: FloatArray, protected: IntArray) -> FloatArray:
        """Ask fairlearn for the probabilities; see `PostProcessor.positive_rate`."""
        # Its public `predict` draws random numbers by these probabilities.
        rates: FloatArray = self.optimizer._pmf_predict(scores[:, None], sensitive_features=protected)[:, 1]
        return np.clip(rates, 0, 1)  # rounding


def _given_scores() -> Any:
    """Return an estimator for fairlearn to ask for the scores: it gives those that it is asked with."""
    from sklearn.base import BaseEstimator  # lazy: slow import

    class GivenScores(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
        def fit(self, scores: FloatArray, targets: IntArray) -> Self:
            return self

        def predict(self, scores: FloatArray) -> FloatArray:
            return scores[:, 0]

        def __sklearn_is_fitted__(self) -> bool:
            return True

    return GivenScores()
