"""load_classifier: a network from elsewhere is one more recipe, with its own predictions, and is finished."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

from classifiers.elsewhere.importing import load_run
from classifiers.networks.backbones import CARD, WEIGHTS
from classifiers.networks.cards import Source
from pipeline.content.files import sha256_of_file, write_json
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from stages import evaluate, finish, load_classifier, report, train
from stages.parameters import read_parameters
from stages.reporting import pareto
from stages.shared.controls import ELSEWHERE
from stages.shared.costs import Cost
from stages.shared.inputs import real_images
from stages.shared.paths import EVALUATION, REAL, RUNS
from tests.balanced import SIDE, make_project
from tests.stages.evaluated import make_synthesised, make_trained
from tests.stages.pages import tables_of

FACTORY = """
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self, outputs=1, bias=True):
        super().__init__()
        self.scale = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(3 * 16 * 16, outputs, bias)

    def forward(self, images):
        maps = self.drop(torch.relu(self.norm(self.scale(images))))
        return self.fc(maps.view(len(images), -1))


class WithoutLast(Mine):  # a convolution at the end
    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(3, 1, 16)

    def forward(self, images):
        return self.fc(self.norm(self.scale(images))).flatten(1)


class Scaled(Mine):
    def forward(self, images):
        return 3 * super().forward(images)


class Changed(Mine):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return self.change(super().forward(images))


def one(): return Mine()
def two(): return Mine(2, bias=False)
def without(): return WithoutLast()
def scaled(): return Scaled()
def none(): return None
def fails(): raise RuntimeError("no weather today.")
def of_three(): return Changed(lambda z: z.expand(-1, 3))
def integers(): return Changed(lambda z: z.long())
def tuples(): return Changed(lambda z: (z, None))
def nans(): return Changed(lambda z: z * float("nan"))
def noisy(): return Changed(lambda z: z + torch.rand(1))
def batches(): return Changed(lambda z: z - z.mean())
def of_32(): return Changed(lambda z: z.reshape(2, 32))
"""
PERTURBATION = {
    "name": "random_perturbation", "bias": "aod", "epsilon": 0.05, "trials": 3, "kept": 2,
}  # fmt: skip


def definition(factory: str, last: str | None = "fc", **changes: object) -> dict[str, object]:
    """Write weights for a factory's module; return its entry in load_classifier.definitions."""
    namespace: dict[str, object] = {}
    exec(FACTORY, namespace)
    torch.manual_seed(7)
    module = namespace[factory]()  # type: ignore[operator]
    with torch.no_grad():
        module.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.0]))
    path = Path(f"{factory}.pt")
    torch.save(module.state_dict(), path)
    kept = {"name": "factory", "factory": f"my_net:{factory}", "weights": str(path), "last": last}
    return {**kept, "sha256": sha256_of_file(path), "resolution": SIDE, **changes}


def ask_for(definitions: dict[str, dict[str, object]], loaded: list[str] | None = None, **finishes) -> None:
    """Make params.yaml ask for classifiers, for finishes, and for a reject option on their scores."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["load_classifier"] = {"names": list(definitions), "definitions": definitions}
    content["finish"] |= {"recipes": [], "loaded": loaded or [], "names": list(finishes)}
    content["finish"]["definitions"] |= finishes
    content["evaluate"] |= {"postprocess": ["reject_option"], "postprocess_recipes": list(definitions)}
    Path("params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with real images and my_net.py."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("my_net.py").write_text(FACTORY)
        make_project()
        content = yaml.safe_load(Path("params.yaml").read_text())
        content["runtime"] |= {"device": "cpu", "precision": "fp32"}
        content["train"] |= {"steps": 3, "batch_size": 8, "recipes": ["erm"], "seeds": [0]}
        content["train"]["backbone"]["width"] = 8
        Path("params.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> None:
    """The current folder is a copy of that project, where functions of my_net.py are found."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project"))
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    monkeypatch.delitem(sys.modules, "my_net", raising=False)


def scores_of(name: str) -> pd.Series:
    rows = pd.read_parquet(RUNS / ELSEWHERE / name / "0/predictions.parquet")
    assert set(rows["selection"]) == {"worst_group_accuracy"}
    return rows.set_index("id")["score"]


def own_scores(factory: str) -> dict[str, Tensor]:
    """The scores that the user's own code gives the test images, by id."""
    namespace: dict[str, object] = {}
    exec(FACTORY, namespace)
    module: nn.Module = namespace[factory]()  # type: ignore[operator]
    module.load_state_dict(torch.load(f"{factory}.pt", weights_only=True))
    test = real_images(read_parameters(), "test", Store(REAL))
    with torch.no_grad():
        images = images_to_tensor(test.read(np.arange(len(test))), torch.device("cpu")).contiguous()
        outputs = module.eval()(images)
    shares = torch.softmax(outputs, 1)[:, 1] if outputs.shape[1] == 2 else torch.sigmoid(outputs[:, 0])
    return dict(zip(test.ids.tolist(), shares.tolist(), strict=True))


@pytest.mark.parametrize(
    ("factory", "last"), [("one", "fc"), ("two", "fc"), ("without", None), ("two", None)]
)
def test_its_predictions_appear_unchanged_and_it_loads_again(factory, last, project):
    """Of two logits the sigmoid of their difference is the softmax of label 1."""
    ask_for({"mine": definition(factory, last)})
    load_classifier.main("mine")
    own, found = own_scores(factory), scores_of("mine")
    assert len(found) == 30 and set(own) < set(found.index)
    np.testing.assert_allclose(found[list(own)], list(own.values()), atol=1e-6)
    assert found.std() > 1e-3
    assert Cost.read(RUNS / ELSEWHERE / "mine/0/cost.json") == Cost(forward=0, backward=0)
    network, card = load_run(RUNS / ELSEWHERE / "mine/0")
    assert (card.data, card.recipe, card.seed) == (ELSEWHERE, "mine", 0)
    assert card.source == Source(file=f"{factory}.pt", sha256=sha256_of_file(Path(f"{factory}.pt")))
    test = real_images(read_parameters(), "test", Store(REAL))
    images = images_to_tensor(test.read(np.arange(len(test))), torch.device("cpu"))
    again = torch.sigmoid(network(images))
    np.testing.assert_allclose(again, list(own.values()), atol=1e-6)
    if last is not None:
        logits = network.last(network.features(images))[:, 0]
        torch.testing.assert_close(torch.sigmoid(logits), again)
        assert network.last.weight.shape == (1, 3 * SIDE * SIDE)


@pytest.mark.parametrize("factory", ["one", "two"])
def test_a_finish_changes_it_and_is_saved(factory, project):
    tuning = {
        "name": "adversarial_finetuning", "strength": 1.0, "rounds": 1, "critic_steps": 2,
        "network_steps": 2, "batch_size": 4,
    }  # fmt: skip
    layerwise = {"name": "layerwise", "tensors": 2, "max_coordinates": 5, "evaluations": 2}
    finishes = {
        "dfr": {"name": "last_layer"},
        "smote": {"name": "smote"},
        "perturbed": PERTURBATION,
        "tuned": tuning,
        "layers": layerwise,
    }
    ask_for({"mine": definition(factory)}, ["mine"], **finishes)
    load_classifier.main("mine")
    before, _ = load_run(RUNS / ELSEWHERE / "mine/0")
    trained = before.state_dict()
    for name in finishes:
        finish.main(ELSEWHERE, "mine", name, 0)
        network, card = load_run(RUNS / ELSEWHERE / f"mine+{name}/0")
        assert (card.recipe, card.factory, card.last) == (f"mine+{name}", f"my_net:{factory}", "fc")
        changed = {key for key, tensor in network.state_dict().items() if not tensor.equal(trained[key])}
        assert "module.fc.bias" in changed
        assert not [key for key in changed if "norm.running" in key or "num_batches" in key]
        if name in ("dfr", "smote"):
            assert changed == {"module.fc.weight", "module.fc.bias"}
        test = real_images(read_parameters(), "test", Store(REAL))
        images = images_to_tensor(test.read(np.arange(len(test))), torch.device("cpu"))
        scores = scores_of(f"mine+{name}")
        np.testing.assert_allclose(torch.sigmoid(network(images)), scores[test.ids], atol=1e-6)
        assert np.abs(scores[test.ids] - scores_of("mine")[test.ids]).max() > 1e-4
        cost = Cost.read(RUNS / ELSEWHERE / f"mine+{name}/0/cost.json")
        assert cost.forward > 0 and (cost.backward > 0) == (name == "tuned")


def test_a_network_that_zprime_trained_has_the_same_predictions_elsewhere(project):
    train.main("original", "erm", 0)
    shutil.copytree(RUNS / "original/erm/0", "theirs")
    weights = Path("theirs") / WEIGHTS
    settings = {"name": "zprime", "path": str(weights), "sha256": sha256_of_file(weights), "resolution": SIDE}
    ask_for({"mine": settings}, ["mine"], perturbed=PERTURBATION)
    load_classifier.main("mine")
    rows = pd.read_parquet(RUNS / "original/erm/0/predictions.parquet")
    trained = rows[rows["selection"] == "worst_group_accuracy"].set_index("id")["score"]
    pd.testing.assert_series_equal(scores_of("mine"), trained)
    assert (RUNS / ELSEWHERE / "mine/0" / WEIGHTS).read_bytes() == weights.read_bytes()
    finish.main(ELSEWHERE, "mine", "perturbed", 0)
    assert (scores_of("mine+perturbed") - trained).abs().max() > 0


def test_it_computes_in_float32_whatever_the_precision(project):
    ask_for({"mine": definition("one")})
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["runtime"]["precision"] = "bf16"
    Path("params.yaml").write_text(yaml.safe_dump(content))
    load_classifier.main("mine")
    own = own_scores("one")
    np.testing.assert_allclose(scores_of("mine")[list(own)], list(own.values()), atol=1e-6)


def test_a_card_of_zprimes_cannot_name_a_program(project):
    ask_for({"mine": definition("one")})
    load_classifier.main("mine")
    folder = RUNS / ELSEWHERE / "mine/0"
    path = folder / WEIGHTS
    settings = {"name": "zprime", "path": str(path), "sha256": sha256_of_file(path), "resolution": SIDE}
    ask_for({"again": settings})
    with pytest.raises(
        UserError, match=r"definitions\.again\.path: .*card\.json is no card of a network that"
    ):
        load_classifier.main("again")
    card = json.loads((folder / CARD).read_text())
    write_json(folder / CARD, card | {"backbone": {"name": "small", "width": 8}})
    with pytest.raises(UserError, match=r"network\.safetensors does not fit its network: "):
        load_classifier.main("again")


@pytest.mark.parametrize(
    ("factory", "changes", "sentence"),
    [
        ("one", {"weights": "gone.pt"}, ".weights: there is no file gone.pt."),
        ("one", {"sha256": "0" * 64}, f", expected {'0' * 64}."),
        ("one", {"factory": "no_net:one"}, ".factory: no_net:one cannot be called (ModuleNotFoundError: "),
        ("one", {"factory": "my_net:fails"}, "cannot be called (RuntimeError: no weather today)."),
        ("one", {"factory": "my_net:none"}, ".factory: my_net:none gives NoneType, not a torch module."),
        ("one", {"factory": "my_net:two"}, "one.pt does not fit its network: "),
        ("one", {"last": "scale"}, ".last: 'scale' is no linear layer of one or two outputs; these are: fc."),
        ("scaled", {}, ".last: what 'fc' gives is not the logit"),
        ("of_three", {}, " gives [4, 3] for images [4, 3, 16, 16]; logits are float [n], [n, 1] or"),
        ("integers", {}, " gives int64; logits are float"),
        ("tuples", {}, " gives a tuple for images [4, 3, 16, 16]"),
        ("nans", {}, " gives logits that are NaN or infinite."),
        ("noisy", {"last": None}, " gives other logits of the same images each time"),
        ("batches", {"last": None}, " gives logits that depend on the other images of their batch."),
        ("of_32", {}, " fails on images [4, 3, 16, 16] (RuntimeError: "),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_sentence(factory, changes, sentence, project):
    ask_for({"mine": definition(factory) | changes})
    with pytest.raises(UserError) as raised:
        load_classifier.main("mine")
    message = str(raised.value)
    assert message.startswith("load_classifier.definitions.mine")
    assert sentence in message
    assert "\n" not in message
    assert not (RUNS / ELSEWHERE).exists()


def test_weights_that_hold_code_are_not_read(project):
    torch.save({"fc.weight": Path("a")}, "code.pt")
    settings = definition("one", weights="code.pt", sha256=sha256_of_file(Path("code.pt")))
    ask_for({"mine": settings})
    with pytest.raises(UserError, match=r"code\.pt is no state_dict, readable as tensors only \(Unpickling"):
        load_classifier.main("mine")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": 32}, "definitions.mine.resolution is 32 px and prepare.resolution 16 px"),
        ({"last": None}, "finish.loaded has 'mine', but load_classifier.definitions.mine.last names no last"),
        ({"sha256": "abc"}, "load_classifier.definitions.mine"),
        ({"factory": "my_net"}, "load_classifier.definitions.mine"),
        ({"name": "pickle"}, "load_classifier.definitions.mine"),
    ],
)  # fmt: skip
def test_params_are_checked_before_anything_runs(changes, sentence, project):
    ask_for({"mine": definition("one") | changes}, ["mine"], perturbed=PERTURBATION)
    with pytest.raises(UserError) as raised:
        read_parameters()
    assert sentence in str(raised.value)


def test_names_are_checked_before_anything_runs(project):
    ask_for({"erm": definition("one")})
    with pytest.raises(UserError, match=r"load_classifier.names has 'erm', which is a recipe of train.defin"):
        read_parameters()
    ask_for({"a+b": definition("one")})
    with pytest.raises(UserError, match=r"load_classifier.definitions"):
        read_parameters()
    ask_for({"mine": definition("one")}, ["yours"], perturbed=PERTURBATION)
    with pytest.raises(
        UserError, match=r"finish.loaded has 'yours', which load_classifier.names does not load"
    ):
        read_parameters()
    ask_for({"mine": definition("one")})
    with pytest.raises(UserError, match=r"load_classifier: 'yours' is none of mine"):
        load_classifier.main("yours")


def test_a_network_without_a_last_layer_is_not_finished(project):
    ask_for({"mine": definition("without", None)}, perturbed=PERTURBATION)
    load_classifier.main("mine")
    with pytest.raises(UserError, match=r"A finish needs the last linear layer .*: name it as `last`"):
        finish.main(ELSEWHERE, "mine", "perturbed", 0)


def test_code_that_has_changed_is_noticed_when_the_network_is_loaded_again(project):
    ask_for({"mine": definition("one")})
    load_classifier.main("mine")
    folder = RUNS / ELSEWHERE / "mine/0"
    card = json.loads((folder / CARD).read_text())
    write_json(folder / CARD, card | {"factory": "my_net:without", "last": None})
    with pytest.raises(UserError, match=r"network\.safetensors does not fit its network: "):
        load_run(folder)
    write_json(folder / CARD, card | {"factory": "my_net:gone"})
    with pytest.raises(UserError, match=r"card\.json: my_net:gone cannot be called \(AttributeError: "):
        load_run(folder)
    with pytest.raises(UserError, match=r"yours/0 holds no classifier that zprime wrote"):
        load_run(RUNS / ELSEWHERE / "yours/0")


# In the tables


@pytest.fixture
def measurable(made, tmp_path, monkeypatch) -> None:
    """A project with trained networks, a classifier from elsewhere, and its finish; without evaluation.

    The classifier is right on all validation and test images, its finish on fewer.
    """
    monkeypatch.chdir(tmp_path)
    make_trained(1, seeds=(0, 1))
    make_synthesised(1)
    shutil.copy(made / "my_net.py", "my_net.py")
    ask_for({"mine": definition("one")}, ["mine"], perturbed=PERTURBATION)
    for name, flipped in (("mine", 0.0), ("mine+perturbed", 0.1)):
        rows = pd.read_parquet(RUNS / "original/erm/0/predictions.parquet")
        rows = rows[rows["selection"] == "worst_group_accuracy"]
        wrong = np.arange(len(rows)) < flipped * len(rows)
        rows["score"] = np.where((rows["target"] == 1) != wrong, 0.9, 0.1)
        write_table(RUNS / ELSEWHERE / name / "0/predictions.parquet", rows)
        Cost(forward=0 if name == "mine" else 60, backward=0).write(RUNS / ELSEWHERE / name / "0/cost.json")


def test_it_is_in_every_table_and_never_recommended(measurable):
    evaluate.main()
    report.main()
    recipes = ["mine", "mine+reject_option", "mine+perturbed"]
    runs = pd.read_parquet(EVALUATION / "runs.parquet")
    here = runs[runs["data"] == ELSEWHERE]
    assert list(here["recipe"]) == recipes
    assert set(here["seed"]) == {0}
    assert list(here["worst_group_accuracy"][here["recipe"] == "mine"]) == [1.0]  # better than all others
    assert list(here["needs"]) == ["", "prediction validation", "validation"]
    assert list(here["images_forward"]) == [0, 0, 60]
    metrics = json.loads(Path("metrics.json").read_text())
    assert set(metrics[ELSEWHERE]) == set(recipes)  # and no summary of its training data
    assert metrics["choices"][ELSEWHERE]["recipe"] == "mine"
    assert metrics["recommendation"]["best_on_test"]["data"] != ELSEWHERE
    recommendation = json.loads((EVALUATION / "recommendation.json").read_text())
    assert recommendation["data"] != ELSEWHERE
    assert ELSEWHERE not in {cell["data"] for cell in recommendation["cells"]}
    page = Path("out/report/index.html").read_text()
    assert "or of classifiers from elsewhere" in page
    table = tables_of(page)["Accuracies of every recipe"]
    start = next(k for k, row in enumerate(table) if row[0].startswith("elsewhere "))
    assert table[start][0].startswith("elsewhere not trained here: a classifier of one’s own")
    assert [row[0] for row in table[start + 1 :]] == recipes
    assert [row[-2:] for row in table[start + 1 :]] == [["–", "–"], ["val., pred.", "–"], ["val.", "–"]]
    points = pareto.pareto_points(runs, read_parameters().train.definitions)
    points = points[points["data"] == ELSEWHERE]
    assert list(points["family"]) == [pareto.NETWORK, pareto.SCORES, pareto.AFTER]
    assert not points[[f"{name}_frontier" for name in pareto.PERFORMANCES]].any(axis=None)


def test_without_names_no_table_has_one(measurable):
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["load_classifier"]["names"], content["finish"]["loaded"] = [], []
    content["evaluate"] |= {"postprocess": []}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    evaluate.main()
    report.main()
    assert ELSEWHERE not in set(pd.read_parquet(EVALUATION / "runs.parquet")["data"])
    assert ELSEWHERE not in json.loads(Path("metrics.json").read_text())
    page = Path("out/report/index.html").read_text()
    assert "hollow marks are of data that no user has. Below" in page
    assert not [table for table in tables_of(page).values() for row in table if row[0].startswith(ELSEWHERE)]
