"""Linear directions of attributes in latent space: s(z) = w·z + b with a unit normal w."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.stores import write_json

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Hyperplane:
    """An attribute's hyperplane: positive where the attribute is 1.

    Attributes:
        normal: w, unit length, [D].
        offset: b.
    """

    attribute: str
    normal: NDArray[np.float64]
    offset: float

    def distance(self, latents: FloatArray) -> NDArray[np.float64]:
        """The signed distance s(z) of latents [n, D]: [n], in units of the latent space."""
        return latents @ self.normal + self.offset


def fit_hyperplane(
    attribute: str, latents: FloatArray, labels: NDArray[np.int_], C: float, seed: int
) -> Hyperplane:
    """Fit a linear SVM to latents [n, D] and hard labels [n] in {0, 1}; normalised by ||w||.

    Args:
        C: the SVM's inverse regularisation.

    Raises `UserError` where only one label occurs. Source: METHODS 1.3 (Ramaswamy et al., 2021).
    """
    from sklearn.svm import LinearSVC  # a second to import, and most stages do without

    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        only = int(counts.argmax())
        raise UserError(
            f"fit_hyperplanes: all {len(labels)} images that the latents make are labelled {attribute}="
            f"{only}: the generator makes no image of the other kind, or the classifier finds none. See "
            f"out/labels/z and out/attributes/{attribute}; a longer GAN training or more latents may help."
        )
    # Attributes may be rare: each class weighs the same, or the plane would leave the data.
    machine = LinearSVC(C=C, class_weight="balanced", dual=len(labels) < latents.shape[1], random_state=seed)
    machine.fit(latents, labels)
    normal = machine.coef_[0].astype(np.float64)
    length = float(np.linalg.norm(normal))
    return Hyperplane(attribute, normal / length, float(machine.intercept_[0]) / length)


def balanced_accuracy(plane: Hyperplane, latents: FloatArray, labels: NDArray[np.int_]) -> float:
    """(TPR + TNR) / 2 of the plane's sign against labels [n]."""
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(labels, plane.distance(latents) > 0))


def angle_between(first: Hyperplane, second: Hyperplane) -> float:
    """The angle θ between two normals, in degrees: 0 to 180."""
    return float(np.degrees(np.arccos(np.clip(first.normal @ second.normal, -1.0, 1.0))))


def save_hyperplanes(path: Path, planes: list[Hyperplane]) -> None:
    """Write hyperplanes as JSON: attribute -> normal, offset."""
    write_json(path, {p.attribute: {"normal": p.normal.tolist(), "offset": p.offset} for p in planes})


def load_hyperplanes(path: Path) -> dict[str, Hyperplane]:
    """Read what `save_hyperplanes` wrote, by attribute."""
    content = json.loads(path.read_text())
    return {name: Hyperplane(name, np.array(p["normal"]), p["offset"]) for name, p in content.items()}
