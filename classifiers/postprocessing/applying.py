"""Fits a post-processor on some rows and applies it to others, if these rows allow it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from classifiers.counts import group_counts
from classifiers.measures.evaluation import Predictions
from classifiers.postprocessing import POSTPROCESSORS
from pipeline.content.arrays import IntArray
from pipeline.content.groups import protected_groups
from pipeline.errors import UserError


def post_processed(
    name: str, names: Sequence[str], fitting: Predictions, reported: Predictions
) -> Predictions:
    """Fit a post-processor, and apply it to other rows.

    Args:
        name: of the post-processor, a key of `POSTPROCESSORS`.
        names: of the protected groups, for errors: [n_g].
        fitting: the rows to fit on.
        reported: the rows to predict; none of them may be among those to fit on.

    Returns:
        `reported` with the post-processor's P(ŷ=1).

    Raises:
        UserError: the post-processor cannot be fitted on these rows, or not be applied to those.
    """
    fitted_on, n_groups = protected_groups(fitting.protected, fitting.n_protected)
    applied_to, _ = protected_groups(reported.protected, reported.n_protected)
    post_processor = POSTPROCESSORS[name]()
    _check_fitting(
        name, names, group_counts(fitting.targets, fitted_on, n_groups), post_processor.most_groups
    )
    unknown = np.setdiff1d(applied_to, fitted_on).tolist()
    if unknown:
        raise UserError(
            f"{name} cannot be applied to rows of {names[unknown[0]]}: none of the rows that it is fitted on "
            "is of that protected group."
        )
    post_processor.fit(fitting.scores, fitting.targets, fitted_on)
    return replace(reported, positive_rates=post_processor.positive_rate(reported.scores, applied_to))


def _check_fitting(name: str, names: Sequence[str], counts: IntArray, most: int | None) -> None:
    """Check the rows that a post-processor is fitted on.

    Args:
        name: of the post-processor.
        names: of the protected groups.
        counts: of the rows in each group t * n_g + g, [2 n_g].
        most: how many protected groups the method can take; None for any number.

    Raises:
        UserError: they are of too few groups or of too many, or have one class alone in some group.
    """
    by_target = counts.reshape(2, -1)
    present = np.flatnonzero(by_target.sum(axis=0)).tolist()
    if len(present) < 2 or (most is not None and len(present) > most):
        expected = "two protected groups" if most == 2 else "two protected groups or more"
        raise UserError(
            f"{name} is for {expected}, but the rows that it is fitted on are of {len(present)}: "
            f"{'; '.join(names[g] for g in present) or 'there are none'}."
        )
    for group in present:
        if not by_target[:, group].all():
            missing = int(np.argmin(by_target[:, group]))
            raise UserError(
                f"{name} cannot be fitted: every protected group needs rows of both classes to fit on, and "
                f"none of {names[group]} has y = {missing}."
            )
