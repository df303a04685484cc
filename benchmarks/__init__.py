"""Benchmarks: the speed of the fast parts against a baseline in the same run, by `make bench`."""
