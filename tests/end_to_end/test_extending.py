"""docs/extending.md: its examples are put into a copy of the project, and run through the pipeline."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from classifiers.selection import log_odds
from tests.end_to_end.running import checked, new_repository
from tests.support import PROJECT, environment, run_python

PAGE = PROJECT / "docs" / "extending.md"
BLOCK = re.compile(r"(?:<!-- (?P<what>.+?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```\n", re.DOTALL)
DIRECTIVE = re.compile(
    r"(?P<verb>file|in|run)(?:: (?P<path>\S+))?(?: (?P<place>after|before|for): (?P<text>.+))?"
)

# All stages of the preset that the page ends with, in one process: each would take seconds to start.
STAGES = """
import importlib
from stages.parameters import read_parameters

def run(stage, *arguments):
    importlib.import_module(f"stages.{stage}").main(*arguments)

parameters = read_parameters()
run("prepare")
for attribute in parameters.attributes:
    run("train_attribute", attribute)
run("fill_labels")
run("load_gan")
run("sample")
run("synthesize", "z")
run("label", "z")
run("fit_hyperplanes")
run("complement", "z")
run("synthesize", "z_prime")
run("label", "z_prime")
run("balance")
for attribute in parameters.attributes:
    run("train_judge", attribute)
run("assess")
for data, recipe, seed in parameters.runs:
    trained, _, finish = recipe.partition("+")
    run(*(("finish", data, trained, finish, seed) if finish else ("train", data, trained, seed)))
run("evaluate")
run("report")
run("export", "npz")
"""
SAMPLER = """
import numpy as np
from classifiers.training.samplers import SAMPLERS
sampler = SAMPLERS["root"].make(np.array([0] * 90 + [1] * 10), 4000, 0)
print((sampler(0) >= 90).mean())
"""

pytestmark = pytest.mark.slow


class Step(NamedTuple):
    """A block of the page: what to do with its code."""

    verb: str
    path: str
    place: str
    text: str
    code: str


def steps_of(page: str) -> list[Step]:
    """The steps of a page, in its order; every block of code has to be one."""
    steps = []
    for block in BLOCK.finditer(page):
        directive = DIRECTIVE.fullmatch(block["what"] or "")
        assert directive, f"nobody tests this block:\n{block['code']}"
        verb, path, place, text = (part or "" for part in directive.group("verb", "path", "place", "text"))
        steps.append(Step(verb, path, place, text, block["code"]))
    return steps


def with_step(content: str, step: Step) -> str:
    """What a file contains after a step."""
    if step.place == "for":
        count = content.count(step.text)
        assert count == 1, f"{step.path} has {step.text!r} {count} times"
        return content.replace(step.text, step.code.strip())
    lines = content.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.strip() == step.text]
    assert len(found) == 1, f"{step.path} has the line {step.text!r} {len(found)} times"
    at = found[0] + (step.place == "after")
    is_definition = step.code.startswith(("class ", "def "))
    return "".join([*lines[:at], step.code, "\n\n" * is_definition, *lines[at:]])


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with all that the page adds, after a run of its preset."""
    folder = new_repository(tmp_path_factory.mktemp("extended"))
    for step in steps_of(PAGE.read_text(encoding="utf-8")):
        if step.verb == "run":
            done = run_python("-c", step.code, cwd=folder, env=environment(folder))
            assert done.returncode == 0, done.stderr
            continue
        path = folder / step.path
        if step.verb == "file":
            assert not path.exists()
            path.write_text(step.code, encoding="utf-8")
        else:
            path.write_text(with_step(path.read_text(encoding="utf-8"), step), encoding="utf-8")
    digest = sha256((folder / "squares.npz").read_bytes()).hexdigest()
    preset = folder / "presets" / "squares.yaml"
    preset.write_text(preset.read_text().replace("0" * 64, digest))
    for arguments in (("-m", "zprime", "preset", "squares"), ("-c", STAGES)):
        done = run_python(*arguments, cwd=folder, env=environment(folder))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return folder


def test_a_step_puts_its_code_where_it_says() -> None:
    content = "a = [\n    1,\n]\n"

    assert with_step(content, Step("in", "f", "after", "1,", "    2,\n")) == "a = [\n    1,\n    2,\n]\n"
    assert with_step(content, Step("in", "f", "before", "a = [", "# a\n")) == "# a\na = [\n    1,\n]\n"
    assert with_step(content, Step("in", "f", "before", "a = [", "class A: ...\n")) == (
        "class A: ...\n\n\na = [\n    1,\n]\n"
    )
    assert with_step(content, Step("in", "f", "for", "1", "3\n")) == "a = [\n    3,\n]\n"
    with pytest.raises(AssertionError, match="0 times"):
        with_step(content, Step("in", "f", "after", "2,", ""))


def test_a_block_that_says_not_where_it_goes_is_found() -> None:
    with pytest.raises(AssertionError, match="nobody tests this block"):
        steps_of("```python\nx = 1\n```\n")


def test_the_code_of_the_page_is_in_the_projects_style(extended: Path) -> None:
    checked(extended, "ruff", "check", ".")
    checked(extended, "ruff", "format", "--check", ".")


def test_no_stage_has_to_list_what_was_added(extended: Path) -> None:
    test = "test_an_entry_lists_every_module_that_its_stage_can_run_and_no_other"
    arguments = ("-m", "pytest", "-p", "no:cacheprovider", f"tests/stages/test_declaration.py::{test}")
    done = run_python(*arguments, cwd=extended, env=environment(extended))
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_dataset_and_a_generator_are_used(extended: Path) -> None:
    labels = pd.read_parquet(extended / "out/real/labels.parquet")
    card = json.loads((extended / "out/generator/card.json").read_text())

    assert labels.groupby("split").size().to_dict() == dict.fromkeys(
        ("oracle", "test", "train", "validation"), 400
    )
    assert labels[labels["split"] == "train"].eval("Large == Red").mean() == pytest.approx(0.9, abs=0.05)
    assert (card["kind"], card["latent_dim"], card["resolution"]) == ("components", 12, 16)


def test_a_parameter_takes_effect(extended: Path) -> None:
    import h5py

    with h5py.File(extended / "out/latents/z/shard-00000.h5") as file:
        assert np.std(file["latents"][:]) == pytest.approx(0.8, abs=0.03)


def test_a_sampler_draws_by_the_roots_of_the_groups_sizes(extended: Path) -> None:
    done = run_python("-c", SAMPLER, cwd=extended, env=environment(extended))

    # √10 / (√90 + √10) = 1 / 4
    assert float(done.stdout) == pytest.approx(0.25, abs=0.03)


def test_a_method_a_control_and_a_metric_are_in_the_results(extended: Path) -> None:
    metrics = json.loads((extended / "metrics.json").read_text())
    counts = json.loads((extended / "out/evaluation/data.json").read_text())["reduced"]["group_counts"]
    predictions = pd.read_parquet(extended / "out/runs/reduced/focal/0/predictions.parquet")
    chosen = predictions.query("split == 'test' and selection == 'worst_group_accuracy'")
    right = (chosen["score"] >= 0.5) == (chosen["target"] == 1)
    page = (extended / "out/report/index.html").read_text()

    assert len(set(counts.values())) == 1 and min(counts.values()) > 0
    assert metrics["reduced"]["focal"]["worst_class_accuracy"]["mean"] == pytest.approx(
        right.groupby(chosen["target"]).mean().min(), abs=1e-6
    )
    assert "Worst-class accuracy" in page
    assert "left out until it is as small as the smallest" in page


def test_a_post_processor_is_fitted_on_validation_and_measured_on_test(extended: Path) -> None:
    cell = json.loads((extended / "metrics.json").read_text())["original"]["erm+equal_rates"]
    table = pd.read_parquet(extended / "out/runs/original/erm/0/predictions.parquet")
    rows = table.query("selection == 'worst_group_accuracy'")
    validation, test = (rows[rows["split"] == split] for split in ("validation", "test"))
    share = 1 - validation["target"].mean()
    thresholds = {red: np.quantile(of["score"], share) for red, of in validation.groupby("Red")}
    right = (test["score"] >= test["Red"].map(thresholds)) == (test["target"] == 1)

    assert cell["accuracy"]["mean"] == pytest.approx(right.mean(), abs=1e-6)


def test_a_finish_is_one_more_recipe(extended: Path) -> None:
    metrics = json.loads((extended / "metrics.json").read_text())
    card = json.loads((extended / "out/runs/original/erm+moved/0/card.json").read_text())
    before, after = (
        pd.read_parquet(extended / f"out/runs/original/{recipe}/0/predictions.parquet")
        .query("selection == 'worst_group_accuracy'")
        .set_index("id")["score"]
        for recipe in ("erm", "erm+moved")
    )
    before = before[after.index]

    assert {"erm+moved", "erm"} <= set(metrics["augmented"])
    assert card["finish"]["threshold"] in np.linspace(0, 1, 21)
    moved = log_odds(before.to_numpy()) - log_odds(after.to_numpy())
    np.testing.assert_allclose(moved, log_odds(card["finish"]["threshold"]), atol=0.1)  # of bfloat16


def test_an_export_has_every_image(extended: Path) -> None:
    manifest = pd.read_parquet(extended / "out/balanced/manifest.parquet")
    files = [np.load(path) for path in sorted((extended / "out/export/npz").glob("balanced-train-*.npz"))]
    positives = sum(int(file["y"].sum()) for file in files)

    train = manifest[manifest["split"] == "train"]
    assert sum(len(file["images"]) for file in files) == len(train)
    assert files[0]["images"].shape[1:] == (16, 16, 3)
    assert positives == train["target"].sum()
