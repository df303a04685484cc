"""What every stage shares: parameters, stores, shards over a cluster, runtime."""

import os

STARTED_BY = os.getppid()  # read at once: it is another process as soon as that one is killed
BY_DVC = "DVC_ROOT" in os.environ  # which DVC sets for its stages


def is_orphan() -> bool:
    """Whether the `dvc repro` that started this stage is gone, killed perhaps: the next one starts it."""
    return BY_DVC and os.getppid() != STARTED_BY
