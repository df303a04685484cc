"""The post-processors by name. A new one is a module here and a line in `POSTPROCESSORS`.

A line makes a post-processor that is not fitted yet; another setting of the same method, such as
``partial(ThresholdOptimizer, constraint="demographic_parity")``, is another line.
"""

from collections.abc import Callable

from classifiers.postprocessing.base import PostProcessor
from classifiers.postprocessing.calibrated_equalized_odds import CalibratedEqualizedOdds
from classifiers.postprocessing.equalized_odds import EqualizedOdds
from classifiers.postprocessing.reject_option import RejectOption
from classifiers.postprocessing.threshold_optimizer import ThresholdOptimizer

POSTPROCESSORS: dict[str, Callable[[], PostProcessor]] = {
    "reject_option": RejectOption,
    "equalized_odds": EqualizedOdds,
    "calibrated_equalized_odds": CalibratedEqualizedOdds,
    "threshold_optimizer": ThresholdOptimizer,
}
