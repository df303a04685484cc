"""The report's pictures: images of the stores as data URIs, strips and grids."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.content.groups import protected_groups
from pipeline.content.pictures import grid
from pipeline.content.stores import Store
from pipeline.content.tables import read_table
from stages.parameters import AllParameters
from stages.shared.paths import GENERATOR, REAL, REAL_LABELS, SYNTHETIC

PAIRS_PER_GROUP = 4
REAL_PER_GROUP = 16
PICTURE_WIDTH = 1120  # px, at most: the width of the page's text
LOSSLESS_HEIGHT = 64  # px


def groups_by_labels(labels: pd.DataFrame, attributes: Sequence[str]) -> NDArray[np.int64]:
    """Return the group t * n_g + a of each row, [n], from the columns of the attributes, target first."""
    protected, n_groups = protected_groups(labels[list(attributes[1:])].to_numpy(dtype=np.int64))
    return labels[attributes[0]].to_numpy(dtype=np.int64) * n_groups + protected


def evenly_per_group(table: pd.DataFrame, per_group: int) -> pd.DataFrame:
    """Choose equally many rows of every group, evenly spaced in the ids' order: nothing is picked by eye.

    Args:
        table: id, group, and other columns, which are kept.
        per_group: rows.

    Returns:
        the chosen rows.
    """
    chosen = []
    for _, members in table.sort_values("id").groupby("group"):
        count = min(per_group, len(members))
        chosen.append(members.iloc[np.arange(count) * len(members) // count])
    return pd.concat(chosen, ignore_index=True)


def data_uri(kind: str, content: bytes) -> str:
    """Return a file's content as an address for an <img> element."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: NDArray[np.uint8] | Path) -> str:
    """Return pixels [H, W, 3] or a file as a data URI, at most as wide as the page."""
    image = Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture)
    if image.width > PICTURE_WIDTH:
        image = image.resize((PICTURE_WIDTH, round(image.height * PICTURE_WIDTH / image.width)))
    # WebP is a third of the size, but halves the resolution of colour, which shows in enlarged images.
    kind = "png" if image.height <= LOSSLESS_HEIGHT else "webp"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return data_uri(kind, buffer.getvalue())


def images_of(source: str, ids: pd.Series) -> NDArray[np.uint8]:
    """Return the images of a synthetic store: uint8 [n, H, W, 3]."""
    store = Store(SYNTHETIC / source)
    return store.read(store.positions(ids))


def shown_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Choose the pairs to show: a few z of each group of z's labels, evenly spaced, with all complements.

    Args:
        pairs: a row per complement, with id (of its z), prime_id and group.

    Returns:
        the rows of `pairs` with their images: `z_image` and `prime_image`, uint8 [H, W, 3].
    """
    z = evenly_per_group(pairs[["id", "group"]].drop_duplicates("id"), PAIRS_PER_GROUP)
    order = {identity: place for place, identity in enumerate(z["id"])}
    shown = pairs[pairs["id"].isin(order)]
    shown = shown.sort_values("id", key=lambda ids: ids.map(order), kind="stable").reset_index(drop=True)
    images = {"z_image": images_of("z", shown["id"]), "prime_image": images_of("z_prime", shown["prime_id"])}
    return shown.assign(**{name: list(pixels) for name, pixels in images.items()})


def pair_pictures(shown: pd.DataFrame, target: str, protected: Sequence[str]) -> list[dict[str, Any]]:
    """Describe each shown z for the page: group, picture, scores, and the same for its complements.

    Args:
        shown: as `shown_pairs` returns.
        target: the target attribute.
        protected: the protected attributes.

    Returns:
        one entry per z, as the template reads it.
    """
    names = (target, *protected)

    def half(row: Mapping[Any, Any], image: str, prefix: str) -> dict[str, Any]:
        scores = [(row[f"{prefix}{name}_score"], row[f"{prefix}{name}"]) for name in names]
        return {"picture": picture_uri(row[image]), "scores": scores}

    pictures = []
    for _, rows in shown.groupby("id", sort=False):
        complements = []
        for row in rows.to_dict("records"):
            asked = row["flips"].split("+")
            flipped = [name for name in protected if row[name] != row[f"prime_{name}"]]
            complements.append(
                half(row, "prime_image", "prime_")
                | {
                    "flips": row["flips"],
                    "kept": row[target] == row[f"prime_{target}"],
                    "flipped": flipped == asked,
                }
            )
        first = rows.iloc[0].to_dict()
        pictures.append(half(first, "z_image", "") | {"group": first["group"], "complements": complements})
    return pictures


def pairs_grid(shown: pd.DataFrame) -> tuple[NDArray[np.uint8], int]:
    """Return all images in rows, complements below their z, uint8 [n, H, W, 3]; and the length of a row."""
    z = shown.drop_duplicates("id")
    by_flips = [rows["prime_image"] for _, rows in shown.groupby("flips", sort=False)]
    return np.stack([image for row in (z["z_image"], *by_flips) for image in row]), len(z)


def real_pictures(parameters: AllParameters) -> dict[int, str]:
    """Return a strip of real training images for each group that has any, as a data URI by group."""
    labels = read_table(REAL_LABELS, ("id", "split", *parameters.attributes))
    labels = labels[labels["split"] == "train"]
    chosen = evenly_per_group(
        labels.assign(group=groups_by_labels(labels, parameters.attributes)), REAL_PER_GROUP
    )
    store = Store(REAL)
    return {
        int(str(group)): picture_uri(grid(store.read(store.positions(members["id"])), REAL_PER_GROUP))
        for group, members in chosen.groupby("group")
    }


def sample_grids() -> list[tuple[int, str]]:
    """Return the generator's sample grids: resolution in px, picture."""
    files = sorted((GENERATOR / "samples").glob("*.png"))
    return [(int(file.stem), picture_uri(file)) for file in files]
