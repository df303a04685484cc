"""A project with a small balanced data set, as the pipeline leaves it, and what its images should be."""

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from pipeline.content.stores import Store, commit_shard, finish_store
from stages import balance
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.paths import ATTRIBUTES, LABELS, REAL, SYNTHETIC
from stages.shared.presets import PRESETS, preset_values
from tests.real_labels import write_real_labels

PROJECT = Path(__file__).parents[1]
NAMES = ("Blond_Hair", "Male")
SIDE = 16  # px
REAL_IDS = [  # of real data sets: paths, suffixes, names that differ only where a file system sees nothing
    "a/1.png", "a_1.png", "../x", "b.c.jpg", "Ä.png", "Ö.png", "N.jpg", "n.jpg", "y" * 200, "000007.jpg",
    *(f"train-{number:06d}" for number in range(60)),
]  # fmt: skip


def pictures(numbers: NDArray[np.int_]) -> NDArray[np.uint8]:
    """A picture for each number, smooth as JPEG likes them, no two the same: [n, SIDE, SIDE, 3]."""
    random = np.random.default_rng(0).integers(20, 200, (1000, 3))[numbers]
    ramp = np.linspace(0, 50, SIDE).astype(int)
    down, across = np.meshgrid(ramp, ramp, indexing="ij")
    shades = np.stack([down, across, (down + across) // 2], axis=-1)
    return (random[:, None, None, :] + shades).astype(np.uint8)


def _write_store(folder: Path, rows: pd.DataFrame, first: int) -> None:
    """A store of images in two shards; the pictures are those of `first` and on."""
    half = len(rows) // 2
    images = pictures(np.arange(first, first + len(rows)))
    commit_shard(folder, 0, rows[:half], "images", images[:half])
    commit_shard(folder, 1, rows[half:], "images", images[half:])
    finish_store(folder, 2, "images", (SIDE, SIDE, 3), "uint8")


def write_parameters(
    attributes: Sequence[str] = NAMES, balance: dict | None = None, **export: object
) -> None:
    """params.yaml in the current folder: the smoke preset with these attributes, `balance` and `export`."""
    parameters = preset_values("smoke", PROJECT / PRESETS)
    parameters["attributes"] = list(attributes)
    parameters["cluster"] = {"mode": "inline"}
    parameters["on_useless"] = "go_on"  # the classifiers of this project throw coins
    gates = parameters["balance"]["gates"]
    parameters["balance"] |= {"synthetic_per_real": None, **(balance or {})}
    parameters["balance"]["gates"] = gates | parameters["balance"]["gates"]
    parameters["export"] |= export
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


def make_project(attributes: Sequence[str] = NAMES, **balance_section: object) -> None:
    """out/real, out/synthetic, out/labels and, by the stage itself, out/balanced; in the current folder.

    30 latents z, with every complement of each. By its metrics the target's classifier is always right; of
    the last group (1, ..., 1) validation has no image.
    """
    write_parameters(attributes, balance_section)
    random = np.random.default_rng(1)
    count = len(REAL_IDS)
    groups = np.array(list(product((0, 1), repeat=len(attributes))))
    values = groups[np.arange(count) % len(groups)]
    labels = pd.DataFrame(
        {
            "id": REAL_IDS,
            "split": ["train"] * 40 + ["validation"] * 12 + ["test"] * (count - 52),
            **{name: values[:, column] for column, name in enumerate(attributes)},
        }
    )
    order = random.permutation(count)
    aside = {"oracle": "oracle", "judge": "judge"}  # of splits that are no user's
    others = pd.DataFrame(
        [{"id": id, "split": split, **dict.fromkeys(attributes, 1)} for id, split in aside.items()]
    )
    _write_store(REAL, pd.concat([labels, others])[["id"]], 0)
    # The manifest's order is not the store's.
    write_real_labels(pd.concat([others, labels.iloc[order]]))
    z = pd.DataFrame({"id": [f"z-{number:08d}" for number in range(30)]})
    for first, source, rows in ((200, "z", z), (300, "z_prime", _complements(z, attributes))):
        _write_store(SYNTHETIC / source, rows, first)
        # Each attribute is seen in half of the images: all of them may join real groups of one size.
        places = {name: random.permutation(len(rows)) for name in attributes}
        scores = {f"{name}_score": (place + 0.5) / len(rows) for name, place in places.items()}
        cut = {name: (scores[f"{name}_score"] >= 0.5).astype(int) for name in attributes}
        commit_shard(LABELS / source, 0, rows[["id"]].assign(**scores, **cut))
        finish_store(LABELS / source, 1)
    accuracies: list[float | None] = [1.0] * (len(groups) - 1) + [None]
    labeller_metrics_of(accuracies).write(ATTRIBUTES / attributes[0] / "metrics.json")
    balance.main()


def labeller_metrics_of(accuracies: list[float | None]) -> LabellerMetrics:
    """The metrics of a labeller that is right of so many in each group, None in a group without images."""
    sizes = [0 if accuracy is None else 20 for accuracy in accuracies]
    return LabellerMetrics(
        average_precision=0.8,
        accuracy=0.9,
        threshold=0.5,
        group_accuracies=accuracies,
        group_n=sizes,
        checker_accuracies=[],
    )


def leave_training_images(counts: Sequence[int], keep: Sequence[str] = ()) -> None:
    """Take real training images away until so many of each group are left.

    Args:
        counts: how many of each group are left, [2 n_protected].
        keep: ids of images that stay.
    """
    table = pd.read_parquet(REAL / "labels.parquet")
    names = [name for name in table if name not in ("id", "split")]
    groups = sum(table[name] * 2**place for place, name in enumerate(reversed(names)))
    gone: list[int] = []
    for group, count in enumerate(counts):
        members = table[(table["split"] == "train") & (groups == group)]
        rest = members[~members["id"].isin(keep)]
        gone += rest.index[: len(members) - count].tolist()
    write_real_labels(table.drop(index=gone))


def write_labels(source: str, labels: pd.DataFrame) -> None:
    """Write the store of a source's labels anew.

    Args:
        source: the source of images whose labels they are.
        labels: the rows, id and further columns.
    """
    shutil.rmtree(LABELS / source)
    commit_shard(LABELS / source, 0, labels)
    finish_store(LABELS / source, 1)


def _complements(z: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The rows of the store of complements: one per z and non-empty subset of the protected attributes."""
    protected = attributes[1:]
    masks = [mask for mask in product((0, 1), repeat=len(protected)) if any(mask)]
    rows = []
    for id in z["id"]:
        for mask in masks:
            suffix = "" if len(protected) == 1 else "-" + "".join(map(str, mask))
            flips = [name for name, flipped in zip(protected, mask, strict=True) if flipped]
            rows.append((f"z_prime-{id.removeprefix('z-')}{suffix}", id, "+".join(flips), 1.0, True, True))
    return pd.DataFrame(rows, columns=["id", "pair_id", "flips", "move_length", "flipped", "target_stayed"])


def manifest(n_protected: int = 2) -> pd.DataFrame:
    """The manifest by id, with the group as the field numbers it."""
    table = pd.read_parquet("out/balanced/manifest.parquet").set_index("id", drop=False)
    return table.assign(group=table["target"] * n_protected + table["protected"])


def expected_images() -> dict[str, NDArray[np.uint8]]:
    """What each id's picture is."""
    images: dict[str, NDArray[np.uint8]] = {}
    for folder in (REAL, SYNTHETIC / "z", SYNTHETIC / "z_prime"):
        store = Store(folder)
        images |= dict(zip(store.rows["id"], store.read_between(0, len(store)), strict=True))
    return images
