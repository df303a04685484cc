"""Trainings that are recorded: what is kept of one, and how another is compared with it.

The sha256 of weights is compared where torch and the processor are those of the record, since both decide in
which order sums are taken; numbers are compared everywhere.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def machine() -> dict[str, str]:
    """What the last bit of a training on a CPU depends on, beside the code."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": models[0] if models else "",
    }


def sha256_of(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of a state_dict: names, shapes and bytes, in its order."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def norm_of(weights: Mapping[str, Tensor]) -> float:
    """The Euclidean norm of all numbers of a state_dict."""
    return float(sum(float(tensor.double().square().sum()) for tensor in weights.values()) ** 0.5)


def record_of(
    weights: Mapping[str, Mapping[str, Tensor]], history: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """What is kept of a training: of every set of weights the sha256 and the norm, and the history."""
    return {
        "weights": {
            name: {"sha256": sha256_of(tensors), "norm": norm_of(tensors)}
            for name, tensors in weights.items()
        },
        "history": [dict(record) for record in history],
    }


def save(path: Path, records: Mapping[str, Any]) -> None:
    """Write records of trainings, and the machine that they were made on."""
    path.write_text(json.dumps({"machine": machine(), "trainings": records}, indent=1) + "\n")


def assert_is(record: Mapping[str, Any], path: Path, name: str) -> None:
    """A training is the recorded one: to the bit on the same machine, else to four digits."""
    golden = json.loads(path.read_text())
    expected = golden["trainings"][name]
    if golden["machine"] == machine():
        assert json.loads(json.dumps(record)) == expected
        return
    assert record["weights"].keys() == expected["weights"].keys()
    for key, weights in expected["weights"].items():
        np.testing.assert_allclose(record["weights"][key]["norm"], weights["norm"], rtol=1e-4)
    assert len(record["history"]) == len(expected["history"])
    for ours, theirs in zip(record["history"], expected["history"], strict=True):
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-4, atol=1e-4)
