"""train and train_attribute: every data set's images and groups, what a run writes, fair labellers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from classifiers.labellers import half_of_each, load_labeller
from classifiers.networks.backbones import load_network
from classifiers.networks.cards import RunCard
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import per_image, predict
from pipeline.content.stores import Store
from pipeline.content.trust import read_judgements
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages import train, train_attribute
from stages.parameters import AllParameters, read_parameters
from stages.shared.costs import Cost
from stages.shared.paths import ATTRIBUTES, BALANCED, REAL, RUNS
from stages.shared.training_data import training_images
from stages.train_attribute import SELECTIONS, group_accuracies_at, labeller_metrics
from tests.balanced import expected_images, make_project
from tests.real_labels import write_real_labels

TWO = ("Blond_Hair", "Male")
THREE = ("Blond_Hair", "Male", "Eyeglasses")


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: tuple[str, ...]) -> AllParameters:
    """A small balanced data set, and quick trainings; the current folder is its own."""
    monkeypatch.chdir(tmp_path)
    make_project(attributes)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["runtime"] |= {"device": "cpu", "precision": "fp32"}
    for section in ("train", "train_attribute"):
        parameters[section] |= {"steps": 6, "batch_size": 8}
        parameters[section]["backbone"]["width"] = 8
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    return read_parameters()


def assert_images_are(images: LabelledImages, ids: list[str]) -> None:
    pictures = expected_images()
    assert images.ids.tolist() == ids
    order = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_array_equal(images.read(order), np.stack([pictures[ids[k]] for k in order]))


# Data


@pytest.mark.parametrize("attributes", [TWO, THREE], ids=["one", "two"])
def test_every_data_set_has_its_images_and_groups(attributes, tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, attributes)
    labels = pd.read_parquet(REAL / "labels.parquet")
    labels = labels[labels["split"] == "train"]
    # A rarer group: four of the real training images of the last group become validation images.
    last = labels[(labels[list(attributes)] == 1).all(axis=1)]["id"][:4]
    whole = pd.read_parquet(REAL / "labels.parquet")
    whole.loc[whole["id"].isin(last), "split"] = "validation"
    write_real_labels(whole)
    labels = labels[~labels["id"].isin(last)]
    digits = 2 ** np.arange(len(attributes))[::-1]  # the target first: group = t n_g + a
    groups = (labels[list(attributes)] @ digits).to_numpy()
    n_groups = 2 ** len(attributes)
    store = Store(REAL)

    original = training_images("original", 0, parameters, store)
    assert_images_are(original, labels["id"].tolist())
    np.testing.assert_array_equal(original.groups, groups)
    np.testing.assert_array_equal(original.targets, labels["Blond_Hair"])
    assert original.synthetic is None

    duplicated = training_images("duplicated", 0, parameters, store)
    assert duplicated.group_counts(n_groups) == [40 // n_groups] * n_groups
    assert_images_are(duplicated, duplicated.ids.tolist())
    group_of = dict(zip(labels["id"], groups, strict=True))
    assert duplicated.groups.tolist() == [group_of[id] for id in duplicated.ids]
    assert set(duplicated.ids) == set(labels["id"])

    for data, file in (("augmented", "manifest.parquet"), ("sampled", "sampled.parquet")):
        table = pd.read_parquet(BALANCED / file)
        table = table[table["split"] == "train"]
        images = training_images(data, 0, parameters, store)
        assert_images_are(images, table["id"].tolist())
        expected = table["target"] * n_groups // 2 + table["protected"]
        assert images.groups.tolist() == expected.tolist()
        assert images.targets.tolist() == table["target"].tolist()
        assert images.synthetic.tolist() == [store != str(REAL) for store in table["store"]]
        assert 0 < images.synthetic.sum() < len(images)


def test_data_that_are_not_there_are_named(tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, TWO)
    with pytest.raises(
        UserError, match=r"'augmentd' is no training data.*original, duplicated, sampled, aug"
    ):
        training_images("augmentd", 0, parameters, Store(REAL))
    labels = pd.read_parquet(REAL / "labels.parquet")
    write_real_labels(labels[labels["split"] != "oracle"])
    with pytest.raises(UserError, match=r"no split 'oracle', which the data 'oracle' are made of"):
        training_images("oracle", 0, parameters, Store(REAL))


# Runs


def predictions_of(data: str, recipe: str) -> pd.DataFrame:
    table = pd.read_parquet(RUNS / data / recipe / "0" / "predictions.parquet")
    assert set(table["selection"]) == {"worst_group_accuracy", "accuracy"}
    return table[table["selection"] == "worst_group_accuracy"].drop(columns="selection").set_index("id")


def test_a_run_of_several_protected_attributes_has_a_column_of_each(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, THREE)
    train.main("sampled", "group_dro", 0)
    predictions = predictions_of("sampled", "group_dro")
    assert list(predictions) == ["split", "target", "Male", "Eyeglasses", "score"]
    labels = pd.read_parquet(REAL / "labels.parquet").set_index("id").loc[predictions.index]
    assert set(predictions["split"]) == {"validation", "test"}
    for column, name in (("split", "split"), ("target", "Blond_Hair"), ("Male", "Male"), ("Eyeglasses",) * 2):
        assert predictions[column].tolist() == labels[name].tolist()
    assert Cost.read(RUNS / "sampled/group_dro/0/cost.json") == Cost(forward=6 * 8, backward=6 * 8)
    history = pd.read_csv(RUNS / "sampled/group_dro/0/history.csv")
    assert [name for name in history if name.startswith("q_")] == [f"q_{group}" for group in range(8)]


def test_the_saved_network_is_the_model_that_the_predictions_are_of(tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, TWO)
    train.main("augmented", "erm", 0)
    predictions = predictions_of("augmented", "erm")
    network, card = load_network(RUNS / "augmented/erm/0", RunCard)
    assert (card.data, card.recipe, card.seed) == ("augmented", "erm", 0)
    test = train.real_images(parameters, "test", Store(REAL))
    scores = predict(network, test.read, len(test), new_accelerator(Runtime(device="cpu", precision="fp32")))
    np.testing.assert_allclose(scores, predictions.loc[test.ids, "score"], atol=1e-6)
    assert predictions["split"].value_counts().to_dict() == {"test": len(test), "validation": 12}


# Attributes


def images_with(groups: list[int], targets: list[int]) -> LabelledImages:
    ids = np.array([str(number) for number in range(len(groups))], dtype=object)
    return LabelledImages(ids, lambda positions: positions, np.array(targets), np.array(groups))


# A rare positive group that scores lower than the others: 0.3 and 0.4, beside negatives of 0.1 to 0.35.
GROUPS = [0, 0, 0, 0, 0, 2, 2, 2, 2, 3, 3]
SCORES = np.array([0.1, 0.1, 0.2, 0.2, 0.35, 0.8, 0.8, 0.9, 0.9, 0.3, 0.4])
RARE = images_with(GROUPS, [0] * 5 + [1] * 6)


def test_the_selections_by_hand():
    """F1 is 1 at no cut: at 0.3 one false positive, 12 / 13; at 0.4 one missed, 10 / 11.

    The worst group has 4/5 between 0.2 and 0.3, where all of the rare group are right, and 1/2 above 0.35.
    """
    assert SELECTIONS["average_precision"][1](SCORES, RARE) == 0.3
    assert SELECTIONS["worst_group_accuracy"][1](SCORES, RARE) == pytest.approx(0.25)
    assert SELECTIONS["worst_group_accuracy"][0](SCORES, RARE) == pytest.approx(4 / 5)
    np.testing.assert_array_equal(group_accuracies_at(SCORES, RARE, 0.3, 4), [0.8, np.nan, 1, 1])
    np.testing.assert_array_equal(group_accuracies_at(SCORES, RARE, 0.4, 4), [1, np.nan, 1, 0.5])


def test_a_fair_threshold_is_another_than_the_best_f1():
    """Of the rare positives, of group 3, one scores less than three negatives of group 0.

    F1: 12 / 15 with it, at 0.3, and 10 / 11 without it, at 0.9. The worst group: 7 / 10 with it, whatever the
    cut between 0.1 and 0.3, and 1 / 2 without it; half way between the two scores.
    """
    scores = np.array([0.1] * 7 + [0.35] * 3 + [0.9] * 4 + [0.3, 0.95])
    images = images_with([0] * 10 + [2] * 4 + [3] * 2, [0] * 10 + [1] * 6)
    assert SELECTIONS["average_precision"][1](scores, images) == 0.9
    assert SELECTIONS["worst_group_accuracy"][1](scores, images) == pytest.approx(0.2)
    assert SELECTIONS["worst_group_accuracy"][0](scores, images) == pytest.approx(7 / 10)


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken():
    """Everything between 0.1 and 0.8 parts the classes; 0.45 is half way, the lowest would be 0.1."""
    images = images_with([0, 0, 3, 3], [0, 0, 1, 1])
    assert SELECTIONS["worst_group_accuracy"][1](np.array([0.0, 0.1, 0.8, 1.0]), images) == pytest.approx(
        0.45
    )


def test_no_threshold_has_a_better_worst_group():
    """Also of an attribute whose groups hold both of its labels."""
    random = np.random.default_rng(0)
    for _ in range(20):
        groups, targets = random.integers(0, 8, 60), random.integers(0, 2, 60)
        scores = np.round(0.3 * targets + random.random(60), 1)  # with ties
        images = images_with(groups.tolist(), targets.tolist())
        worst = {cut: np.nanmin(group_accuracies_at(scores, images, cut, 8)) for cut in np.unique(scores)}
        best = max(worst.values())
        assert SELECTIONS["worst_group_accuracy"][0](scores, images) == pytest.approx(best)
        chosen = SELECTIONS["worst_group_accuracy"][1](scores, images)
        assert np.nanmin(group_accuracies_at(scores, images, chosen, 8)) == best


def test_metrics_of_a_group_without_images_are_null():
    metrics = labeller_metrics(SCORES[:, None], RARE, [0.4], 4)
    assert metrics.group_accuracies[1] is None
    assert metrics.group_n == [5, 0, 4, 2]
    assert metrics.accuracy == pytest.approx(10 / 11)
    assert "NaN" not in json.dumps(metrics.model_dump(mode="json"))


@pytest.mark.parametrize("selection", SELECTIONS)
def test_an_attributes_weights_and_threshold_go_together(selection, tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, THREE)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["train_attribute"] |= {"selection": selection, "networks": 2, "checkers": True}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    train_attribute.main("Eyeglasses")
    labeller, card = load_labeller(ATTRIBUTES / "Eyeglasses")
    assert card.halves == [None, None, 0, 1]
    validation = train_attribute.real_images(read_parameters(), "validation", Store(REAL), "Eyeglasses")
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    scores = per_image(
        labeller,
        lambda images: torch.sigmoid(labeller.with_checkers(images)),
        validation.read,
        len(validation),
        accelerator,
    )
    figure, threshold_of = SELECTIONS[selection]
    for column, threshold in zip(scores.T, card.thresholds, strict=True):
        assert threshold == pytest.approx(threshold_of(column, validation), abs=1e-6)
    assert card.threshold == card.thresholds[0]
    # Every network is the best of its own history.
    history = pd.read_csv(ATTRIBUTES / "Eyeglasses/history.csv")
    for number, network in enumerate(labeller.members):
        alone = predict(network, validation.read, len(validation), accelerator)
        best = history[history["network"] == number][selection].max()
        assert figure(alone, validation) == pytest.approx(best, abs=1e-6)
    metrics = json.loads((ATTRIBUTES / "Eyeglasses/metrics.json").read_text())
    for place, (column, threshold) in enumerate(zip(scores.T, card.thresholds, strict=True)):
        accuracies = group_accuracies_at(column, validation, threshold, 8)
        prefix = f"checker_{place - 1}_" if place else ""
        given = [metrics[f"{prefix}group_{group}_accuracy"] for group in range(8)]
        np.testing.assert_allclose([np.nan if value is None else value for value in given], accuracies)
    (judgement,) = read_judgements(ATTRIBUTES / "Eyeglasses")
    worst = np.nanmin([metrics[f"group_{group}_accuracy"] for group in range(8)])
    assert judgement.figures["worst_group_accuracy"] == pytest.approx(worst)


def test_a_checker_sees_one_half_of_the_images(tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, TWO)
    images = train_attribute.real_images(parameters, "train", Store(REAL), "Male")
    parts = [train_attribute.training_part(images, half, 0) for half in (0, 1)]
    assert not set(parts[0].ids) & set(parts[1].ids)
    assert set(parts[0].ids) | set(parts[1].ids) == set(images.ids)
    assert parts[1].ids.tolist() == images.ids[half_of_each(images.groups, 0) == 1].tolist()
    assert train_attribute.training_part(images, None, 0) is images


def test_a_useless_labeller_stops_with_its_sentence(tmp_path, monkeypatch):
    """Without steps enough to learn anything; with go_on its output is there, and says so."""
    project(tmp_path, monkeypatch, TWO)
    parameters = yaml.safe_load(Path("params.yaml").read_text()) | {"on_useless": "stop"}
    parameters["train_attribute"] |= {"steps": 1, "evaluations": 1}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    with pytest.raises(
        UserError, match=r"labeller of Male is useless: in its worst group, .* To go on all the same"
    ):
        train_attribute.main("Male")
    assert not (ATTRIBUTES / "Male").exists()
    Path("params.yaml").write_text(yaml.safe_dump(parameters | {"on_useless": "go_on"}))
    train_attribute.main("Male")
    assert read_judgements(ATTRIBUTES / "Male")[0].level == "useless"


def test_a_run_says_whether_it_left_its_plateau(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, TWO)
    train.main("original", "erm", 0)
    (judgement,) = read_judgements(RUNS / "original/erm/0")
    history = pd.read_csv(RUNS / "original/erm/0/history.csv")
    assert judgement.figures["separation"] == pytest.approx(history["separation"].iloc[-1])
    assert judgement.level == ("fine" if history["separation"].iloc[-1] >= 0.1 else "useless")
