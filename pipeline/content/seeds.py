"""Random numbers: every seed is derived from (seed, purpose, item or step number)."""

import hashlib

import numpy as np


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, such as (seed, "sample", number): the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by `derived_seed`."""
    return np.random.default_rng(derived_seed(*parts))
