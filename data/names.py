"""Names in the tables of images: their splits, where images come from, and the columns of the manifest."""

from collections.abc import Sequence

SPLITS = ("train", "validation", "test")
ORACLE_SPLIT = "oracle"  # a balanced real training set, where a source can make one
UNKNOWN = -1  # the value of an attribute where a training image's label is missing
JUDGE_SPLIT = "judge"  # another one, of the networks that judge synthetic images: for evaluation alone

SYNTHETIC_SOURCES = ("z", "z_prime", "real_prime")
BASE_COLUMNS = ("id", "store", "target", "protected", "split", "source", "pair_id")


def manifest_columns(attributes: Sequence[str]) -> list[str]:
    """List the manifest's columns: `BASE_COLUMNS`, and each attribute's score (NaN for real images)."""
    return [*BASE_COLUMNS, *(f"{name}_score" for name in attributes)]
