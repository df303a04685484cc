"""Code that every stage shares: parameters, stores, shards over a cluster, runtime."""

import os

STARTED_BY = os.getppid()  # read at import: it changes when that process dies
BY_DVC = "DVC_ROOT" in os.environ  # DVC sets it for its stages


def is_orphan() -> bool:
    """Tell whether the `dvc repro` that started this stage is gone: the next one starts the stage again."""
    return BY_DVC and os.getppid() != STARTED_BY
