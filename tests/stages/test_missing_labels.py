"""fill_labels, and what trainings make of what it fills: the three strategies of train.missing_labels."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

from classifiers import labellers
from data.names import UNKNOWN
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.errors import UserError
from stages import fill_labels, train_attribute
from stages.parameters import AllParameters, read_parameters
from stages.shared.paths import ATTRIBUTES, BALANCED, REAL, REAL_LABELS
from stages.shared.training_data import training_images, training_labels
from tests.balanced import expected_images, make_project

TWO = ("Blond_Hair", "Male")
THREE = ("Blond_Hair", "Male", "Eyeglasses")
PRIOR = 0.4  # of the planted labellers


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: tuple[str, ...]) -> AllParameters:
    """A small balanced data set in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_project(attributes)
    return read_parameters()


def hide(name: str, every: int, first: int = 0) -> list[str]:
    """Take a protected attribute away from every so many-th training image; return their ids."""
    labels = pd.read_parquet(REAL / "labels.parquet")
    rows = labels.index[labels["split"] == "train"][first::every]
    labels.loc[rows, name] = UNKNOWN
    write_table(REAL / "labels.parquet", labels)
    return labels.loc[rows, "id"].tolist()


class Planted(nn.Module):
    """A labeller whose logit is a multiple of an image's mean, [-1, 1]."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, images: Tensor) -> Tensor:
        return self.slope * images.mean(dim=(1, 2, 3))


def plant(monkeypatch: pytest.MonkeyPatch, slopes: dict[str, float]) -> None:
    """Put a planted labeller in the place of each attribute's."""

    def load(folder: Path, device: torch.device) -> tuple[nn.Module, SimpleNamespace]:
        return Planted(slopes[folder.name]), SimpleNamespace(prior=PRIOR)

    monkeypatch.setattr(labellers, "load_labeller", load)


def by_hand(ids: list[str], slope: float) -> dict[str, float]:
    """The probabilities of images of one target by a planted labeller, for the share that they seem to have.

    The share is the highest point of the likelihood, by trying many; the odds are moved from the prior to it.
    """
    pictures = expected_images()
    scores = np.array([1 / (1 + math.exp(-slope * (pictures[i].mean() / 127.5 - 1))) for i in ids])
    shares = np.linspace(1, 1e6 - 1, 999_999) / 1e6
    logs = sum(np.log(shares * s / PRIOR + (1 - shares) * (1 - s) / (1 - PRIOR)) for s in scores)
    share = float(np.clip(shares[logs.argmax()], 1 / (len(ids) + 2), 1 - 1 / (len(ids) + 2)))
    odds = scores / (1 - scores) * (share / (1 - share)) / (PRIOR / (1 - PRIOR))
    return dict(zip(ids, odds / (1 + odds), strict=True))


# --- fill_labels -----------------------------------------------------------------------------------------


def test_where_nothing_is_missing_the_labellers_have_no_effect(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, THREE)
    REAL_LABELS.unlink()
    fill_labels.main()
    whole = REAL_LABELS.read_bytes()
    monkeypatch.setattr(labellers, "load_labeller", None)  # would fail if it were called
    (ATTRIBUTES / "Male").mkdir(parents=True, exist_ok=True)
    (ATTRIBUTES / "Male" / "card.json").write_text("{}")
    fill_labels.main()
    assert REAL_LABELS.read_bytes() == whole
    filled, given = pd.read_parquet(REAL_LABELS), pd.read_parquet(REAL / "labels.parquet")
    pd.testing.assert_frame_equal(filled[list(given)], given)
    assert filled["known"].all()
    for name in THREE[1:]:
        assert filled[f"{name}_probability"].tolist() == given[name].tolist()
    assert "Blond_Hair_probability" not in filled


def test_gaps_are_filled_with_the_labellers_probabilities(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, THREE)
    given = pd.read_parquet(REAL / "labels.parquet").set_index("id")
    men, glasses = hide("Male", 3), hide("Eyeglasses", 4)
    slopes = {"Male": 9.0, "Eyeglasses": -7.0}
    plant(monkeypatch, slopes)
    fill_labels.main()
    filled = pd.read_parquet(REAL_LABELS).set_index("id")
    assert filled.index.tolist() == given.index.tolist()
    assert set(filled.index[~filled["known"]]) == set(men) | set(glasses)
    for name, gaps in (("Male", men), ("Eyeglasses", glasses)):
        by_target = [[id for id in gaps if given.loc[id, "Blond_Hair"] == target] for target in (0, 1)]
        assert all(len(ids) > 2 for ids in by_target)
        expected = by_hand(by_target[0], slopes[name]) | by_hand(by_target[1], slopes[name])
        assert len({value > 0.5 for value in expected.values()}) == 2
        shown = filled[f"{name}_probability"]
        for id, value in expected.items():
            assert shown[id] == pytest.approx(value, abs=1e-4)
            assert filled.loc[id, name] == int(value >= 0.5)
        others = filled.index.difference(gaps)  # also of an image that lacks the other attribute
        pd.testing.assert_series_equal(filled.loc[others, name], given.loc[others, name])
        assert shown[others].tolist() == given.loc[others, name].tolist()
    pd.testing.assert_series_equal(filled["Blond_Hair"], given["Blond_Hair"])


def test_the_share_that_the_images_seem_to_have_moves_the_probabilities(tmp_path, monkeypatch):
    """All images look alike, as the labeller is indifferent: the likeliest share is the prior itself."""
    project(tmp_path, monkeypatch, TWO)
    given = pd.read_parquet(REAL / "labels.parquet").set_index("id")
    men = [id for id in hide("Male", 2) if given.loc[id, "Blond_Hair"] == 1]
    plant(monkeypatch, {"Male": 0.0})  # a score of 1/2 for each, where the prior is 0.4
    fill_labels.main()
    found = pd.read_parquet(REAL_LABELS).set_index("id").loc[men, "Male_probability"]
    # Each image is 1.25 times as likely among positives as it is in 5/6 among negatives: all are positive.
    share = 1 - 1 / (len(men) + 2)
    odds = 1.0 * (share / (1 - share)) / (PRIOR / (1 - PRIOR))
    assert found.tolist() == pytest.approx([odds / (1 + odds)] * len(men))


# --- The strategies --------------------------------------------------------------------------------------


def with_strategy(strategy: str) -> AllParameters:
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["train"]["missing_labels"] = strategy
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    return read_parameters()


def filled_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: tuple[str, ...]
) -> pd.DataFrame:
    """A project with gaps that planted labellers fill; the completed labels by id."""
    project(tmp_path, monkeypatch, attributes)
    for place, name in enumerate(attributes[1:]):
        hide(name, 3 + place)
    plant(monkeypatch, {"Male": 9.0, "Eyeglasses": -7.0})
    fill_labels.main()
    return pd.read_parquet(REAL_LABELS).set_index("id")


def memberships_by_hand(row: pd.Series, attributes: tuple[str, ...]) -> list[float]:
    """The probability of each group t n_g + g of an image: 0 for the other target."""
    expected = []
    for values in np.ndindex(*(2,) * len(attributes)):
        chance = float(values[0] == row["Blond_Hair"])
        for name, value in zip(attributes[1:], values[1:], strict=True):
            chance *= row[f"{name}_probability"] if value else 1 - row[f"{name}_probability"]
        expected.append(chance)
    return expected


@pytest.mark.parametrize("data", ["original", "augmented"])
@pytest.mark.parametrize("attributes", [TWO, THREE], ids=["one", "two"])
def test_the_three_strategies(attributes, data, tmp_path, monkeypatch):
    filled = filled_project(tmp_path, monkeypatch, attributes)
    store, n_groups = Store(REAL), 2 ** len(attributes)
    images = {
        strategy: training_images(data, 0, with_strategy(strategy), store)
        for strategy in ("predicted", "left_out", "soft")
    }
    predicted, left_out, soft = images.values()
    real = np.isin(predicted.ids.astype(str), filled.index.to_numpy().astype(str))
    known = np.array([id not in filled.index or bool(filled.loc[id, "known"]) for id in predicted.ids])
    assert 0 < (~known).sum() < real.sum()
    assert (real.all()) == (data == "original")

    assert predicted.known is None and predicted.memberships is None
    assert predicted.has_group.all()
    np.testing.assert_array_equal(left_out.known, known)
    np.testing.assert_array_equal(left_out.has_group, known)
    assert left_out.memberships is None
    np.testing.assert_array_equal(soft.known, known)
    assert soft.has_group.all()
    for of in (left_out, soft):
        assert of.ids.tolist() == predicted.ids.tolist()
        np.testing.assert_array_equal(of.groups, predicted.groups)

    assert soft.memberships is not None and soft.memberships.shape == (len(soft), n_groups)
    np.testing.assert_allclose(soft.memberships.sum(axis=1), 1)
    for target in (0, 1):
        others = soft.memberships[soft.targets == target].reshape(-1, 2, n_groups // 2)[:, 1 - target]
        assert not others.any()
    for row in np.flatnonzero(real):
        expected = memberships_by_hand(filled.loc[predicted.ids[row]], attributes)
        np.testing.assert_allclose(soft.memberships[row], expected, atol=1e-12)
    np.testing.assert_array_equal(soft.memberships[known].argmax(axis=1), soft.groups[known])
    assert set(soft.memberships[known].flatten()) == {0.0, 1.0}

    counts = np.bincount(predicted.groups, minlength=n_groups)
    assert predicted.group_sizes(n_groups) == counts.tolist()
    assert left_out.group_sizes(n_groups) == np.bincount(predicted.groups[known], minlength=n_groups).tolist()
    np.testing.assert_allclose(soft.group_sizes(n_groups), soft.memberships.sum(axis=0))
    assert soft.group_sizes(n_groups) != counts.tolist()


def test_a_synthetic_image_that_is_called_like_a_real_one_is_known(tmp_path, monkeypatch):
    filled = filled_project(tmp_path, monkeypatch, TWO)
    gap = filled.index[~filled["known"]][0]
    table = pd.read_parquet(BALANCED / "manifest.parquet")
    synthetic = table["source"] != "real"
    other = table.loc[synthetic, "id"].iloc[0]
    labels = pd.read_parquet(REAL_LABELS).replace({"id": {gap: other}})  # the real one is called so, too
    write_table(REAL_LABELS, labels)
    images = training_images("augmented", 0, with_strategy("left_out"), Store(REAL))
    assert images.synthetic is not None and images.known is not None
    assert images.known[images.synthetic].all()


@pytest.mark.parametrize("strategy", ["predicted", "left_out", "soft"])
def test_duplicated_repeats_what_has_a_group(strategy, tmp_path, monkeypatch):
    filled = filled_project(tmp_path, monkeypatch, TWO)
    parameters = with_strategy(strategy)
    original, duplicated = (
        training_images(data, 0, parameters, Store(REAL)) for data in ("original", "duplicated")
    )
    largest = max(np.bincount(original.groups[original.has_group]))
    has_group = duplicated.has_group
    assert np.bincount(duplicated.groups[has_group], minlength=4).tolist() == [largest] * 4
    left = sorted(duplicated.ids[~has_group])
    gaps = sorted(filled.index[~filled["known"]]) if strategy == "left_out" else []
    assert left == gaps  # each once
    rows = training_labels("duplicated", parameters)
    groups = (rows["target"] * 2 + rows["protected"]).to_numpy()
    assert np.bincount(groups, minlength=4).tolist() == np.bincount(duplicated.groups, minlength=4).tolist()


def test_without_a_gap_all_strategies_are_one(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, TWO)
    for strategy in ("predicted", "left_out", "soft"):
        for data in ("original", "duplicated", "augmented", "oracle"):
            images = training_images(data, 0, with_strategy(strategy), Store(REAL))
            assert images.known is None and images.memberships is None


# --- Labellers -------------------------------------------------------------------------------------------


def test_labellers_are_trained_on_images_with_all_labels(tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, THREE)
    gaps = {*hide("Male", 3), *hide("Eyeglasses", 4)}
    images = train_attribute.known_images(parameters, "train", Store(REAL), "Male")
    assert len(images) == 40 - len(gaps)
    assert not gaps & set(images.ids)
    given = pd.read_parquet(REAL / "labels.parquet").set_index("id").loc[images.ids]
    assert images.targets.tolist() == given["Male"].tolist()


def test_a_group_without_a_known_image_is_named(tmp_path, monkeypatch):
    parameters = project(tmp_path, monkeypatch, TWO)
    labels = pd.read_parquet(REAL / "labels.parquet")
    rows = (labels["split"] == "train") & (labels["Blond_Hair"] == 1) & (labels["Male"] == 1)
    labels.loc[rows, "Male"] = UNKNOWN
    write_table(REAL / "labels.parquet", labels)
    with pytest.raises(UserError) as caught:
        train_attribute.known_images(parameters, "train", Store(REAL), "Male")
    assert str(caught.value) == (
        "train_attribute Male: no image of the train split is known to be of the group Blond_Hair=1, Male=1: "
        "give more protected labels, at least some of every group."
    )
