"""Makes hyperplanes, latents and constraints to test complements with."""

import numpy as np

from generators.complements import Constraints, constraints_of
from generators.hyperplanes import Hyperplane


def random_planes(random: np.random.Generator, count: int, D: int) -> list[Hyperplane]:
    normals = random.normal(size=(count, D))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = random.normal(size=count)
    return [Hyperplane(f"attribute{k}", normals[k], float(offsets[k])) for k in range(count)]


def random_latents(random: np.random.Generator, n: int, D: int) -> np.ndarray:
    return random.normal(size=(n, D)).astype(np.float32)


def random_covariance(random: np.random.Generator, D: int) -> np.ndarray:
    """Draw a covariance whose axes are rotated and whose variances span 1 to 10."""
    axes, _ = np.linalg.qr(random.normal(size=(D, D)))
    return axes * np.linspace(1, 10, D) @ axes.T


def plane_at(degrees: float, attribute: str = "Male") -> Hyperplane:
    return Hyperplane(attribute, np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]), 0.3)


def all_changed(variant: str, target: Hyperplane, protected: list[Hyperplane]) -> Constraints:
    """Return the constraints that change every protected attribute, with one target plane for all domains."""
    return constraints_of(variant, target, target, protected, [True] * len(protected))


def distances(constraints: Constraints, latents: np.ndarray) -> np.ndarray:
    """Compute the distances of z' from the hyperplanes that it is measured from: [n, k]."""
    return latents.astype(np.float64) @ constraints.normals.T + constraints.offsets


def wanted(constraints: Constraints, latents: np.ndarray) -> np.ndarray:
    """Compute what the distances of the complements of z should be: [n, k]."""
    own = latents.astype(np.float64) @ constraints.own_normals.T + constraints.own_offsets
    return constraints.factors * own
