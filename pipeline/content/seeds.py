"""Derives the seed of all random numbers from (seed, purpose, item or step number)."""

import hashlib

import numpy as np


def derived_seed(*parts: int | str) -> int:
    """Hash any parts, such as (seed, "sample", number), to a 63-bit seed: the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded by `derived_seed`."""
    return np.random.default_rng(derived_seed(*parts))
