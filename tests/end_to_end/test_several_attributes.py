"""The real pipeline, tiny, with two protected attributes and all that can be added to it."""

import json
import re
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from generators.hyperplanes import domain_names
from pipeline.content.groups import group_names
from pipeline.content.stores import Store
from pipeline.integrity import faulty_files
from tests.end_to_end.running import edit, new_repository, replace
from tests.stages.pages import tables_of
from tests.support import environment, run_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

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
    edit(folder, "complement", refine={"steps": 2, "learning_rate": 0.05})
    edit(folder, "balance", sources=SOURCES)
    # The controls are left out: they are made of groups, of however many attributes.
    edit(folder, "train", recipes=["erm", "group_dro"], balanced_data=["augmented"])
    # Not by `dvc repro`, which another test runs: the same commands in an order of DVC's graph, each in a
    # process of its own, forked.
    with Repo(str(folder)) as repo:
        commands = [stage.cmd for stage in nx.dfs_postorder_nodes(repo.index.graph)]
    assert len(commands) == 32
    for command in commands:
        done = run_python(*command.removeprefix("exec python ").split(), cwd=folder, env=environment(folder))
        assert done.returncode == 0, f"{command}: {done.stderr}"
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


def rows_of_test(folder: Path) -> list[pd.DataFrame]:
    """What ERM on the augmented data predicts of the test images: of every seed, by the reported weights."""
    runs = sorted((folder / "out/runs/augmented/erm").iterdir())
    tables = [pd.read_parquet(path / "predictions.parquet") for path in runs]
    return [t[(t["split"] == "test") & (t["selection"] == "worst_group_accuracy")] for t in tables]


def group_means(rows: pd.DataFrame, values: pd.Series, names: list[str]) -> pd.Series:
    """The mean of each group that has rows, by (target, protected columns)."""
    return values.groupby([rows["target"], *(rows[name] for name in names)]).mean()


def mean_over_seeds(values: list[float]) -> object:
    return pytest.approx(np.mean(values), abs=2e-6)  # metrics.json has six digits


def test_metrics_have_every_attribute(several: Path) -> None:
    """Recomputed from the predictions, of the intersections and of each attribute alone."""
    metrics, seeds = read_json(several / "metrics.json"), rows_of_test(several)
    cell = metrics["augmented"]["erm"]
    for ending, names in {"": NAMES[1:], "_Male": ["Male"], "_Eyeglasses": ["Eyeglasses"]}.items():
        accuracies = [group_means(rows, (rows["score"] >= 0.5) == rows["target"], names) for rows in seeds]
        assert cell[f"worst_group_accuracy{ending}"]["mean"] == mean_over_seeds([a.min() for a in accuracies])
        if ending:
            continue
        for group, key in enumerate(np.ndindex(2, 2, 2)):
            found = cell[f"group_{group}_accuracy"]["mean"]
            assert found == mean_over_seeds([a[key] for a in accuracies]), key
    runs = pd.read_parquet(several / "out/evaluation/runs.parquet").query(
        "data == 'augmented' and recipe == 'erm' and selection == 'worst_group_accuracy'"
    )
    thresholds = runs.sort_values("seed")["threshold"]
    for name in NAMES[1:]:  # at the matched threshold
        gaps = []
        for rows, threshold in zip(seeds, thresholds, strict=True):
            rates = group_means(rows, rows["score"] >= threshold, [name])
            gaps.append(rates[1, 0] - rates[1, 1])
        assert cell[f"equal_opportunity_difference_{name}"]["mean"] == mean_over_seeds(gaps)
        assert cell[f"deo_{name}"]["mean"] == mean_over_seeds(list(np.abs(gaps)))
        assert cell[f"bias_amplification_reweighted_{name}"]["mean"] is not None
    quality = read_json(several / "out/quality/quality.json")
    assert quality["groups"] == group_names(NAMES[0], NAMES[1:])
    assert set(quality["judge"]["complements"]["real_prime"]) == set(FLIPS)


def sizes_of_test_groups(folder: Path) -> list[int]:
    """Of the real test images, by the labels alone: [8]."""
    labels = pd.read_parquet(folder / "out/real/labels.parquet").query("split == 'test'")
    return np.bincount(labels[NAMES].to_numpy() @ [4, 2, 1], minlength=8).tolist()


def test_the_report_has_all_groups_with_their_sizes_and_accuracies(several: Path) -> None:
    sizes = sizes_of_test_groups(several)
    assert list(read_json(several / "metrics.json")["test"].values()) == sizes
    page = (several / "out/report/index.html").read_text()
    for group, (name, n) in enumerate(zip(group_names(NAMES[0], NAMES[1:]), sizes, strict=True)):
        assert re.search(f'title="{name}">[^<]*<code>group_{group}, n = {n:,}</code>', page), name
    rows = tables_of(page)["Group accuracies on test, in percent"]
    start = next(k for k, row in enumerate(rows) if row[0].startswith("augmented"))
    shown = next(row for row in rows[start:] if row[0] == "erm")[1:9]
    cell = read_json(several / "metrics.json")["augmented"]["erm"]
    means = [100 * cell[f"group_{group}_accuracy"]["mean"] for group in range(8)]
    assert [float(text.split("±")[0]) for text in shown] == pytest.approx(means, abs=0.051)
