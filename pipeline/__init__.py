"""What every stage shares: parameters, stores, shards over a cluster, runtime."""
