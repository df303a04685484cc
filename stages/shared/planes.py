"""The schema of out/hyperplanes/metrics.json."""

from typing import Literal

from pydantic import ConfigDict

from pipeline.content.typed_files import FilePart, Share, StageFile


class PlaneMetrics(FilePart):
    """How well a hyperplane separates latents that it was not fitted on.

    Attributes:
        group_accuracies, group_n: the accuracy and the number of latents of each group.
        positives: share of the latents that are labelled 1.
        latents: label -> how many it was fitted on.
    """

    balanced_accuracy: Share
    balanced_accuracy_on_sphere: Share
    group_accuracies: list[Share]
    group_n: list[int]
    positives: float
    latents: dict[Literal["0", "1"], int]


class HyperplaneMetrics(StageFile):
    """out/hyperplanes/metrics.json: by the name of each plane its metrics, and the angles between them.

    Attributes:
        angles_degrees: "A x B" -> the angle between the two normals.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, PlaneMetrics]

    angles_degrees: dict[str, float]

    @property
    def planes(self) -> dict[str, PlaneMetrics]:
        """The metrics by the planes' names."""
        return self.__pydantic_extra__
