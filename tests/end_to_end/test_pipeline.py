"""The real pipeline, tiny: `dvc repro` of the smoke preset in a fresh repository, then what users do next."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators.hyperplanes import load_hyperplanes
from pipeline.content.stores import Store
from pipeline.integrity import faulty_files
from tests.end_to_end.running import checked, edit, seconds
from tests.support import environment, run_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_store_is_whole_and_no_state_is_left(repository: Path) -> None:
    outputs = sorted(path.parent for path in (repository / "out").rglob("index.json"))
    names = {str(output.relative_to(repository / "out")) for output in outputs}
    for folder in ("latents", "synthetic", "labels"):
        assert {f"{folder}/z", f"{folder}/z_prime"} < names
    assert {"real", "generator", "attributes/Male", "hyperplanes", "balanced", "runs/oracle/erm/0"} < names
    assert {"judges/Blond_Hair", "judges/Male", "quality", "runs/sampled/group_dro/0"} < names
    assert [fault for output in outputs for fault in faulty_files(output)] == []
    assert not list(repository.rglob("*.tmp"))
    assert not [path for path in (repository / ".work").rglob("*") if path.is_file()]
    assert "are whole" in checked(repository, sys.executable, "-m", "zprime.verify", "out")


def test_complements_flip_protected_and_keep_target(repository: Path) -> None:
    planes = load_hyperplanes(repository / "out/hyperplanes/hyperplanes.json")
    z, z_prime = (Store(repository / "out/latents" / name) for name in ("z", "z_prime"))
    moved = z_prime.read(np.arange(len(z_prime)))
    latents = z.read(z.positions(z_prime.rows["pair_id"]))
    for attribute, factor in (("Blond_Hair", 1), ("Male", -1)):
        plane = planes[attribute]
        np.testing.assert_allclose(plane.distance(moved), factor * plane.distance(latents), atol=1e-5)


def test_the_manifest_joins_to_images_and_labels(repository: Path) -> None:
    manifest = pd.read_parquet(repository / "out/balanced/manifest.parquet")
    for name, rows in manifest.groupby("store"):
        assert len(Store(repository / str(name)).positions(rows["id"])) == len(rows)
    labels = pd.read_parquet(repository / "out/labels/z/rows").set_index("id")
    of_z = manifest[manifest["source"] == "z"].set_index("id")
    pd.testing.assert_series_equal(
        of_z["target"], labels.loc[of_z.index, "Blond_Hair"], check_names=False, check_dtype=False
    )
    of_prime = manifest[manifest["source"] == "z_prime"].set_index("pair_id")
    assert (of_prime["protected"] == 1 - of_z.loc[of_prime.index, "protected"].to_numpy()).all()
    datasheet = json.loads((repository / "out/balanced/datasheet.json").read_text())
    assert datasheet["after"]["kl_joint"] < datasheet["before"]["kl_joint"]


def test_the_same_seed_gives_the_same_dataset_twice(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    for stage in ("prepare", "train_gan", "sample", "synthesize"):
        arguments = ["z"] if stage == "synthesize" else []
        done = run_python("-m", f"stages.{stage}", *arguments, cwd=tmp_path, env=environment(repository))
        assert done.returncode == 0, done.stderr
    # An index has the sha256 of every file of its store.
    for store in ("out/real", "out/latents/z", "out/synthetic/z"):
        index = (tmp_path / store / "index.json").read_text()
        assert index == (repository / store / "index.json").read_text()


def test_metrics_nest_as_promised(repository: Path) -> None:
    metrics = json.loads((repository / "metrics.json").read_text())
    names = {"original", "duplicated", "sampled", "augmented", "oracle"}
    assert set(metrics) == names | {"gap", "choices", "test", "recommendation"}
    labels = pd.read_parquet(repository / "out/real/labels.parquet")
    sizes = labels[labels["split"] == "test"].groupby(["Blond_Hair", "Male"]).size().tolist()
    assert metrics["test"] == {f"group_{group}_n": n for group, n in enumerate(sizes)}
    for name in names:
        assert set(metrics[name]) == {"data", "erm", "group_dro"}
        for figure in ("worst_group_accuracy", "gap_closed"):
            assert set(metrics[name]["erm"][figure]) == {"mean", "std"}
        assert metrics[name]["data"]["kl_joint"] >= 0
    ends = [metrics[name]["erm"]["worst_group_accuracy"]["mean"] for name in ("original", "oracle")]
    assert [metrics["gap"][end] for end in ("erm_on_original", "erm_on_oracle")] == ends
    assert metrics["gap"]["size"] == pytest.approx(ends[1] - ends[0], abs=2e-6)
    assert set(metrics["choices"]) == names
    for name, choice in metrics["choices"].items():
        chosen = metrics[name][choice["recipe"]]
        assert choice["worst_group_accuracy"] == chosen["worst_group_accuracy"]
        on_validation = {r: metrics[name][r]["validation_worst_group_accuracy"]["mean"]
                         for r in ("erm", "group_dro")}  # fmt: skip
        assert chosen["validation_worst_group_accuracy"]["mean"] == max(on_validation.values())
    predictions = pd.read_parquet(repository / "out/runs/oracle/erm/0/predictions.parquet")
    test = predictions[
        (predictions["split"] == "test") & (predictions["selection"] == "worst_group_accuracy")
    ]
    accuracy = ((test["score"] >= 0.5) == test["target"]).mean()
    assert metrics["oracle"]["erm"]["accuracy"]["mean"] == pytest.approx(accuracy, abs=1e-6)
    assert "worst_group_accuracy" in checked(repository, "dvc", "metrics", "show")


def test_the_report_is_one_file(repository: Path) -> None:
    page = (repository / "out/report/index.html").read_text()
    assert "data:image/" in page
    assert 'src="http' not in page
    assert str(repository) not in page


def test_nothing_to_do_takes_seconds(repository: Path) -> None:
    """Less than six stages take to start, whatever the machine: 10 s where a start takes 1.8 s."""
    start = seconds(repository, sys.executable, "-m", "stages.train", "--help")
    begun = time.monotonic()
    assert "up to date" in checked(repository, "dvc", "repro")
    assert time.monotonic() - begun < 6 * start


def test_a_changed_complement_leaves_the_baselines_alone(repository: Path) -> None:
    edit(repository, "complement", variant="perpendicular")
    changed = set(json.loads(checked(repository, "dvc", "status", "--json")))
    assert changed == {"complement", "report"}
    plan = checked(repository, "dvc", "repro", "--dry")
    edit(repository, "complement", variant="complement")
    for stage in ("complement", "synthesize@z_prime", "label@z_prime", "balance"):
        assert f"'{stage}'" in plan
    assert "'train_balanced@augmented-erm-0'" in plan
    # DVC's plan names stages downstream of a change, whether or not they will run.
    running = [line for line in plan.splitlines() if line.startswith("Running stage")]
    assert not [line for line in running if "train_real" in line or "generator" in line]


@pytest.mark.parametrize(
    ("section", "values", "stage", "sentence"),
    [
        ("train_gan", {"resolution": 32}, "stages.train_gan", "train_gan: channels has no entry for 32 px"),
        ("prepare", {"resolution": 8}, "stages.prepare", "params.yaml: train_gan.resolution is 16 px"),
        ("balance", {"policy": "all"}, "stages.balance", "balance.policy (it is 'all')"),
        ("train", {"recipes": ["twice"]}, "stages.evaluate", "recipe 'twice' is not defined"),
        ("sample", {"pairs": 3}, "stages.sample", "sample.pairs is not a parameter"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(repository, section, values, stage, sentence, tmp_path) -> None:
    shutil.copy(repository / "params.yaml", tmp_path / "params.yaml")
    edit(tmp_path, section, **values)
    done = run_python("-m", stage, cwd=tmp_path, env=environment(repository))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_input_is_one_sentence_of_the_command(tmp_path: Path, repository: Path) -> None:
    shutil.copy(repository / "params.yaml", tmp_path / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "stages.balance"],
        cwd=tmp_path, env=environment(repository), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "error: out/real_labels/labels.parquet is missing: run `dvc repro` to make it."
    )
