"""The metrics of a binary classifier over protected groups, for other people's code.

Most are functions of a table of counts, `count_table(...)[..., t, g, p]`: how many samples have target t,
protected group g and prediction p. `help(metrics.NAME)` says how each is defined, and its source.
"""

from zprime.packages.classifiers.counts import count_table, group_counts
from zprime.packages.classifiers.measures.bootstrap import bootstrap_weights, median_and_deviation
from zprime.packages.classifiers.measures.divergences import (
    kl_joint,
    kl_scores,
    kl_scores_published,
    kl_uniform,
)
from zprime.packages.classifiers.measures.fidelity import frechet_distance
from zprime.packages.classifiers.measures.metrics import (
    average_odds_difference,
    balanced_accuracy,
    bias_amplification,
    bias_amplification_reweighted,
    calibration_errors,
    count_matching_threshold,
    difference_in_equality_of_opportunity,
    disparate_impact,
    equal_opportunity_difference,
    positive_rates,
    reweighted_accuracy,
    statistical_parity_difference,
)
from zprime.packages.classifiers.measures.parities import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    feasible,
    phi,
)
from zprime.packages.classifiers.selection import (
    accuracy,
    average_precision,
    group_accuracies,
    worst_group_accuracy,
)

__all__ = [
    "accuracy",
    "average_odds_difference",
    "average_precision",
    "balanced_accuracy",
    "bias_amplification",
    "bias_amplification_reweighted",
    "bootstrap_weights",
    "calibration_errors",
    "count_matching_threshold",
    "count_table",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "difference_in_equality_of_opportunity",
    "disparate_impact",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "feasible",
    "frechet_distance",
    "group_accuracies",
    "group_counts",
    "kl_joint",
    "kl_scores",
    "kl_scores_published",
    "kl_uniform",
    "median_and_deviation",
    "phi",
    "positive_rates",
    "reweighted_accuracy",
    "statistical_parity_difference",
    "worst_group_accuracy",
]
