"""The schema of out/judges/ATTRIBUTE/metrics.json."""

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from pipeline.content.typed_files import FilePart, Share, StageFile


class Agreement(FilePart):
    """How often labels of an attribute are true."""

    accuracy: Share
    balanced_accuracy: Share
    worst_group_accuracy: Share
    group_accuracies: list[Share]
    group_n: list[int]


class JudgeMetrics(StageFile):
    """out/judges/ATTRIBUTE/metrics.json; the file leaves out what is None.

    Attributes:
        images: the network was trained on, or the computed attribute was compared on; 0 if there is no judge.
        real_test: the agreement with the labels of the real test images; None if there is no judge.
        measured: true if the attribute is computed from pixels, without a network; else None.
    """

    images: int
    real_test: Agreement | None = None
    measured: Literal[True] | None = None

    @model_serializer(mode="wrap")
    def _without_nulls(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if value is not None}
