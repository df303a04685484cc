"""Writes the labels of real images as the stages that come first do."""

from pathlib import Path

import pandas as pd

from pipeline.content.tables import write_table
from stages.shared.paths import REAL, REAL_LABELS


def write_real_labels(labels: pd.DataFrame, folder: Path = Path()) -> None:
    """Write the labels of the real images, as `prepare` and, where none is missing, `fill_labels` write them.

    Args:
        labels: id, split, and attributes in {0, 1}.
        folder: of the project.
    """
    attributes = [name for name in labels.columns if name not in ("id", "split")]
    write_table(folder / REAL / "labels.parquet", labels)
    filled = labels.assign(**{f"{name}_probability": labels[name] * 1.0 for name in attributes}, known=True)
    write_table(folder / REAL_LABELS, filled)
