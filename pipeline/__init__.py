"""What every stage shares: parameters, stores, shards over a cluster, runtime."""

import os

STARTED_BY = os.getppid()  # read at once: it is another process as soon as that one is killed
