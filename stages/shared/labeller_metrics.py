"""The schema of out/attributes/ATTRIBUTE/metrics.json."""

import itertools
from typing import Any

from pydantic import model_serializer, model_validator

from pipeline.content.typed_files import Share, StageFile


class LabellerMetrics(StageFile):
    """out/attributes/ATTRIBUTE/metrics.json: how good a labeller is on the real validation images.

    The file has the lists' values by key: `group_0_accuracy`, `group_0_n`, `checker_0_group_0_accuracy`.

    Attributes:
        threshold: scores from it on predict 1.
        group_accuracies, group_n: the accuracy and the number of images of each group, [2 n_g].
        checker_accuracies: for each checker its accuracy in each group; empty without checkers.
    """

    average_precision: float
    accuracy: float
    threshold: float
    group_accuracies: list[Share]
    group_n: list[int]
    checker_accuracies: list[list[Share]]

    @model_serializer
    def _by_key(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "average_precision": self.average_precision,
            "accuracy": self.accuracy,
            "threshold": self.threshold,
        }
        for group, (accuracy, n) in enumerate(zip(self.group_accuracies, self.group_n, strict=True)):
            content |= {f"group_{group}_accuracy": accuracy, f"group_{group}_n": n}
        for half, accuracies in enumerate(self.checker_accuracies):
            content |= {f"checker_{half}_group_{k}_accuracy": value for k, value in enumerate(accuracies)}
        return content

    @model_validator(mode="before")
    @classmethod
    def _from_keys(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "group_0_accuracy" not in content:
            return content
        rest = dict(content)
        checkers = (_taken(rest, f"checker_{half}_group_{{}}_accuracy") for half in itertools.count())
        lists = {
            "group_accuracies": _taken(rest, "group_{}_accuracy"),
            "group_n": _taken(rest, "group_{}_n"),
            "checker_accuracies": list(itertools.takewhile(bool, checkers)),
        }
        return rest | lists


def _taken(content: dict[str, Any], key: str) -> list[Any]:
    """Take the values of a key with 0, 1, ... in it out of `content`, as far as it has them."""
    keys = itertools.takewhile(content.__contains__, map(key.format, itertools.count()))
    return [content.pop(found) for found in keys]
