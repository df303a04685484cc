"""The metrics of a binary classifier over protected groups, for other people's code.

Most are functions of a table of counts, `count_table(...)[..., t, g, p]`: how many samples have target t, protected
group g and prediction p. `classifiers/measures/metrics.py` in the clone says how each is defined, and its source.
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
