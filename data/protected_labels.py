"""Protected labels that are missing, and protected labels that a benchmark hides or turns over.

A source may leave protected attributes of training images empty: the tables then have `UNKNOWN` there, and
the stage `fill_labels` predicts them.
"""

from collections.abc import Sequence

import pandas as pd

from data.names import SPLITS, UNKNOWN
from data.parameters import ProtectedLabels
from pipeline.content.seeds import derived_seed
from pipeline.errors import UserError

SEEDS = 2.0**63  # `derived_seed` is below


def weakened(labels: pd.DataFrame, protected: Sequence[str], settings: ProtectedLabels) -> pd.DataFrame:
    """Hide, and turn over, shares of the protected labels of the training images.

    Whether a label is hidden or turned over depends on (seed, attribute, id): a larger share takes in all
    that a smaller one has, so that results can be compared.

    Args:
        labels: id, split and the attributes of every image.
        protected: the protected attributes.
        settings: the shares.

    Returns:
        The labels, with `UNKNOWN` where one is hidden.
    """
    if not settings.hidden and not settings.flipped:
        return labels
    labels, training = labels.copy(), labels["split"] == "train"
    for attribute in protected:
        values = labels[attribute]
        concerned = training & (values != UNKNOWN)

        def drawn(what: str, share: float, attribute: str = attribute) -> "pd.Series[bool]":
            chances = labels["id"].map(lambda id: derived_seed(settings.seed, what, attribute, id) / SEEDS)
            return chances < share

        values = values.mask(concerned & drawn("flip", settings.flipped), 1 - values)
        labels[attribute] = values.mask(concerned & drawn("hide", settings.hidden), UNKNOWN)
    return labels


def check_known(labels: pd.DataFrame, attributes: Sequence[str], where: str) -> None:
    """Check that only protected attributes of training images are unknown.

    Args:
        labels: split and attributes of every image.
        attributes: the target, then the protected ones.
        where: what error sentences call the table.

    Raises:
        UserError: a target is unknown, or a protected attribute of an image that is not for training.
    """
    target, *protected = attributes
    measured = labels["split"] != SPLITS[0]
    for name, empty in {
        target: labels[target] == UNKNOWN,
        **{name: measured & (labels[name] == UNKNOWN) for name in protected},
    }.items():
        if empty.any():
            image = labels[empty].iloc[0]
            raise UserError(
                f"{where}: {name} is empty for the image {image['id']!r} of the split {image['split']}: only "
                "protected attributes of training images may be, as nothing could be measured otherwise."
            )
