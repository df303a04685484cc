"""finish: RECIPE+NAME is one more recipe, measured on images that it was not fitted on."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from classifiers.finishing.halves import validation_halves
from classifiers.networks.backbones import load_network
from classifiers.networks.cards import RunCard
from classifiers.networks.inference import predict
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.content.trust import read_judgements
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages import evaluate, finish, report, train
from stages.parameters import read_parameters
from stages.shared.costs import Cost
from stages.shared.inputs import real_images
from stages.shared.paths import EVALUATION, REAL, RUNS
from tests.balanced import make_project
from tests.stages.evaluated import make_synthesised, make_trained
from tests.stages.pages import tables_of
from tests.support import environment

NAMES = ("dfr", "smote", "afr")
TRAINED = ("original", "augmented")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose params.yaml asks for three finishes of ERM, and its trained networks."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_project()
        parameters = yaml.safe_load(Path("params.yaml").read_text())
        parameters["runtime"] |= {"device": "cpu", "precision": "fp32"}
        parameters["train"] |= {
            "steps": 6, "batch_size": 8, "real_data": ["original"], "balanced_data": ["augmented"],
            "recipes": ["erm"], "seeds": [0],
        }  # fmt: skip
        parameters["train"]["backbone"]["width"] = 8
        parameters["finish"]["names"] = list(NAMES)
        Path("params.yaml").write_text(yaml.safe_dump(parameters))
        for data in TRAINED:
            train.main(data, "erm", 0)
    return folder


@pytest.fixture(scope="module")
def finished(trained: Path) -> Path:
    """The same project after its finishes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        for data in TRAINED:
            for name in NAMES:
                finish.main(data, "erm", name, 0)
    return trained


def predictions_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet").set_index("id")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_finish_was_fitted_on_is_in_no_choice_and_no_report(name, finished, monkeypatch):
    monkeypatch.chdir(finished)
    parameters = read_parameters()
    rows = predictions_of(RUNS / f"augmented/erm+{name}/0")
    assert list(rows) == ["split", "selection", "target", "Male", "score"]
    assert set(rows["selection"]) == {"worst_group_accuracy"}
    validation = real_images(parameters, "validation", Store(REAL))
    fitting, selecting = validation_halves(validation, 0)
    assert set(rows.index[rows["split"] == "validation"]) == set(selecting.ids)
    assert len(fitting) == 4 and len(selecting) == 8  # of three in each group, the greater half
    # The saved network is the model that the predictions are of.
    network, card = load_network(RUNS / f"augmented/erm+{name}/0", RunCard)
    assert (card.data, card.recipe, card.seed) == ("augmented", f"erm+{name}", 0)
    assert card.finish["penalty"] >= 0
    test = real_images(parameters, "test", Store(REAL))
    scores = predict(network, test.read, len(test), new_accelerator(Runtime(device="cpu", precision="fp32")))
    np.testing.assert_allclose(scores, rows.loc[test.ids, "score"], atol=1e-6)
    plain = predictions_of(RUNS / "augmented/erm/0")
    plain = plain[plain["selection"] == "worst_group_accuracy"]
    assert plain["split"].value_counts().to_dict() == {"test": len(test), "validation": 12}
    assert np.abs(plain.loc[test.ids, "score"] - scores).max() > 1e-3
    cost, of_training = (Cost.read(RUNS / f"augmented/{of}/0/cost.json") for of in (f"erm+{name}", "erm"))
    assert of_training == Cost(forward=48, backward=48)
    assert cost.forward > 48  # embeddings are computed, and the figures that it chooses by
    assert cost.backward == 48
    # Only the last layer differs from the trained network's, which is still there.
    before, _ = load_network(RUNS / "augmented/erm/0", RunCard)
    states = before.state_dict(), network.state_dict()
    changed = {key for key, tensor in states[0].items() if not tensor.equal(states[1][key])}
    assert changed == {"logit.weight", "logit.bias"}
    judged = [read_judgements(RUNS / f"augmented/{recipe}/0") for recipe in ("erm", f"erm+{name}")]
    assert judged[0] and judged[0] == judged[1]


def test_finishes_are_recipes_of_every_table(finished, monkeypatch, tmp_path):
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "copy"))
    for path in RUNS.glob("*/*/0/trust.json"):  # six steps leave no plateau
        path.unlink()
    evaluate.main()
    recipes = ["erm", *(f"erm+{name}" for name in NAMES)]
    runs = pd.read_parquet(EVALUATION / "runs.parquet")
    chosen = runs[runs["selection"] == "worst_group_accuracy"]
    assert list(zip(chosen["data"], chosen["recipe"], strict=True)) == [
        (data, recipe) for data in TRAINED for recipe in recipes
    ]
    metrics = json.loads(Path("metrics.json").read_text())
    assert set(metrics["augmented"]) == {*recipes, "data"}
    recommendation = json.loads((EVALUATION / "recommendation.json").read_text())
    images = {(cell["data"], cell["recipe"]): cell["images"] for cell in recommendation["cells"]}
    assert images == {(data, of): 12 if of == "erm" else 8 for data in TRAINED for of in recipes}


def test_without_names_no_table_has_a_finish(finished, monkeypatch, tmp_path):
    monkeypatch.chdir(finished)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["finish"]["names"] = []
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    parameters = read_parameters(path)
    assert parameters.recipes == ["erm"]
    assert parameters.runs == [("original", "erm", 0), ("augmented", "erm", 0)]


KILLED = """
import os, signal, sys
from stages import finish

def killed(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "kill":
    finish.predictions = killed
finish.main("original", "erm", "smote", 0)
"""


def test_a_finish_that_is_killed_has_the_same_bytes_when_it_is_run_again(finished, monkeypatch):
    """It was killed when the network was saved."""
    monkeypatch.chdir(finished)
    folder = RUNS / "original/erm+smote/0"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    statuses = [
        subprocess.run(
            [sys.executable, "-c", KILLED, how], cwd=finished, env=environment(), capture_output=True
        ).returncode
        for how in ("kill", "live")
    ]
    assert statuses == [-signal.SIGKILL, 0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_finished_is_said(trained, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match=r"finish: 'adr' is none of .*afr, dfr, .*smote"):
        finish.main("original", "erm", "adr", 0)
    with pytest.raises(UserError, match=r"out/runs/original/erm/7 holds no classifier that zprime wrote"):
        finish.main("original", "erm", "dfr", 7)


def test_the_report_has_finishes_without_the_selection_that_they_lack(tmp_path, monkeypatch):
    """Of the networks that average accuracy chose none is saved, so none is finished."""
    monkeypatch.chdir(tmp_path)
    make_trained(1, seeds=(0,))
    make_synthesised(1)
    for data in read_parameters().train.data:
        rows = pd.read_parquet(RUNS / data / "erm/0/predictions.parquet")
        half = (rows["split"] == "test") | (rows["id"].str[-1].astype(int) % 2 == 0)
        rows = rows[half & (rows["selection"] == "worst_group_accuracy")]
        write_table(RUNS / data / "erm+dfr/0/predictions.parquet", rows)
        Cost(forward=264, backward=240).write(RUNS / data / "erm+dfr/0/cost.json")
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["finish"]["names"] = ["dfr"]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    evaluate.main()
    report.main()
    page = Path("out/report/index.html").read_text()
    assert "Behind a + stands what finished the trained network" in page
    table = tables_of(page)["Accuracies of every recipe"]
    start = next(k for k, row in enumerate(table) if row[0].startswith("original "))
    plain, _, finished = table[start + 1 : start + 4]
    assert (plain[0], finished[0]) == ("erm", "erm+dfr")
    assert plain[2:-4] == finished[2:-4]  # on test
    assert plain[-4:] == ["5.0 ± 3.9", "68.8 ± 5.4", "none", "1.00/1.00"]  # selected by average accuracy
    assert finished[-4:] == ["–", "–", "val.", "1.10/1.00"]
