"""The real pipeline, tiny, with two protected attributes and all that can be added to it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators.hyperplanes import domain_names
from pipeline.groups import group_names
from pipeline.stores import Store, faulty_files
from tests.end_to_end.running import checked, edit, new_repository, replace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["Blond_Hair", "Male", "Eyeglasses"]
FLIPS = {"Male": "10", "Eyeglasses": "01", "Male+Eyeglasses": "11"}
SOURCES = ["z", "z_prime", "real_prime"]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inverted real images, a target's hyperplane in every domain, refined complements of both kinds."""
    folder = new_repository(tmp_path_factory.mktemp("several"))
    replace(folder, attributes=NAMES, inverted=["real"])
    # Enough latents of every domain, with labels that are not all the same: smoke's classifiers know little.
    edit(folder, "train_attribute", sampler="group_balanced", selection="worst_group_accuracy")
    edit(folder, "sample", fit=1500)
    edit(folder, "fit_hyperplanes", domain_dependent=True)
    edit(folder, "complement", refine={"steps": 2})
    edit(folder, "balance", sources=SOURCES)
    edit(folder, "train", recipes=["erm", "group_dro"])
    checked(folder, "dvc", "repro")
    return folder


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def test_every_output_is_whole(several: Path) -> None:
    outputs = sorted(path.parent for path in (several / "out").rglob("index.json"))
    assert [fault for output in outputs for fault in faulty_files(output)] == []
    names = {str(output.relative_to(several / "out")) for output in outputs}
    assert {f"{store}/{source}" for store in ("synthetic", "labels") for source in SOURCES} < names
    assert {"latents/real", "latents/real_prime", "quality", *(f"judges/{name}" for name in NAMES)} < names


def test_the_target_has_a_hyperplane_in_every_domain(several: Path) -> None:
    planes = read_json(several / "out/hyperplanes/hyperplanes.json")
    assert sorted(planes) == sorted([*NAMES, *domain_names(NAMES[0], NAMES[1:])])
    assert len(planes) == 3 + 4


@pytest.mark.parametrize(("latents", "of"), [("z_prime", "z"), ("real_prime", "real")])
def test_every_latent_has_three_complements(latents: str, of: str, several: Path) -> None:
    originals, rows = (Store(several / "out/latents" / name).rows for name in (of, latents))
    expected = originals["id"][originals["part"] == "pair"] if of == "z" else originals["real_id"]
    flips = rows.groupby("pair_id")["flips"].apply(set)
    assert sorted(flips.index) == sorted(expected)
    assert len(rows) == 3 * len(expected) > 0
    assert all(found == set(FLIPS) for found in flips)
    assert (rows["id"].str.rsplit("-", n=1).str[1] == rows["flips"].map(FLIPS)).all()
    assert set(read_json(several / "out/latents" / latents / "metrics.json")["by_flips"]) == set(FLIPS)


def test_the_refinement_moved_the_latents_off_the_linear_complements(several: Path) -> None:
    """By two steps of Adam: each component by at most about twice the learning rate, 0.05."""
    normals = {
        name: plane for name, plane in read_json(several / "out/hyperplanes/hyperplanes.json").items()
        if name in NAMES
    }  # fmt: skip
    rows = Store(several / "out/latents/z_prime").rows.query("flips == 'Male'")
    z, z_prime = (Store(several / "out/latents" / name) for name in ("z", "z_prime"))
    before, after = z.read(z.positions(rows["pair_id"])), z_prime.read(z_prime.positions(rows["id"]))
    plane = normals["Male"]
    mirrored = -(before @ np.array(plane["normal"]) + plane["offset"])
    off = np.abs(after @ np.array(plane["normal"]) + plane["offset"] - mirrored)
    assert 1e-3 < off.max() <= 0.11 * np.sqrt(z.item_shape[0])


def test_the_balanced_data_have_eight_groups_and_all_sources(several: Path) -> None:
    manifest = pd.read_parquet(several / "out/balanced/manifest.parquet")
    assert set(manifest["source"]) == {"real", *SOURCES}
    groups = manifest["target"] * 4 + manifest["protected"]
    assert sorted(groups.unique()) == list(range(8))
    sheet = read_json(several / "out/balanced/datasheet.json")
    assert list(sheet["groups"].values()) == group_names(NAMES[0], NAMES[1:])
    training = groups[manifest["split"] == "train"]
    assert [sheet["after"]["group_counts"][f"group_{g}"] for g in range(8)] == [
        int((training == g).sum()) for g in range(8)
    ]
    assert sheet["after"]["kl_joint"] < sheet["before"]["kl_joint"]


def test_metrics_have_every_attribute(several: Path) -> None:
    cell = read_json(several / "metrics.json")["augmented"]["erm"]
    for name in NAMES[1:]:
        assert [key for key in cell if name in key], sorted(cell)
    quality = read_json(several / "out/quality/quality.json")
    assert quality["groups"] == group_names(NAMES[0], NAMES[1:])
    assert set(quality["judge"]["complements"]["real_prime"]) == set(FLIPS)


def test_the_report_names_all_groups(several: Path) -> None:
    page = (several / "out/report/index.html").read_text()
    assert [name for name in group_names(NAMES[0], NAMES[1:]) if name not in page] == []
