"""A project with a small balanced data set, as the pipeline leaves it, and what its images should be."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from pipeline.stores import Store, commit_shard, finish_store, write_table
from stages import balance
from stages.paths import LABELS, REAL, SYNTHETIC

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


def write_parameters(**export: object) -> None:
    """params.yaml in the current folder: the smoke preset with this section `export`."""
    parameters = yaml.safe_load((PROJECT / "presets/smoke.yaml").read_text())
    parameters["cluster"] = {"mode": "inline"}
    parameters["export"] |= export
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


def make_project() -> None:
    """out/real, out/synthetic, out/labels and, by the stage itself, out/balanced; in the current folder."""
    write_parameters()
    random = np.random.default_rng(1)
    count = len(REAL_IDS)
    groups = np.arange(count) % 4
    labels = pd.DataFrame(
        {
            "id": REAL_IDS,
            "split": ["train"] * 40 + ["validation"] * 12 + ["test"] * (count - 52),
            NAMES[0]: groups // 2,
            NAMES[1]: groups % 2,
        }
    )
    order = random.permutation(count)
    _write_store(REAL, labels[["id"]], 0)
    write_table(REAL / "labels.parquet", labels.iloc[order])  # the manifest's order is not the store's
    z = pd.DataFrame({"id": [f"z-{number:08d}" for number in range(30)]})
    z_prime = pd.DataFrame({"id": [f"z_prime-{number:08d}" for number in range(30)], "pair_id": z["id"]})
    for first, (source, rows) in zip((200, 300), {"z": z, "z_prime": z_prime}.items(), strict=True):
        _write_store(SYNTHETIC / source, rows, first)
        scores = {f"{name}_score": random.random(len(rows)) for name in NAMES}
        cut = {name: (scores[f"{name}_score"] >= 0.5).astype(int) for name in NAMES}
        commit_shard(LABELS / source, 0, rows[["id"]].assign(**scores, **cut))
        finish_store(LABELS / source, 1)
    balance.main()


def manifest() -> pd.DataFrame:
    """The manifest by id, with the group as the field numbers it."""
    table = pd.read_parquet("out/balanced/manifest.parquet").set_index("id", drop=False)
    return table.assign(group=table["target"] * 2 + table["protected"])


def expected_images() -> dict[str, NDArray[np.uint8]]:
    """What each id's picture is."""
    images: dict[str, NDArray[np.uint8]] = {}
    for folder in (REAL, SYNTHETIC / "z", SYNTHETIC / "z_prime"):
        store = Store(folder)
        images |= dict(zip(store.rows["id"], store.read_between(0, len(store)), strict=True))
    return images
