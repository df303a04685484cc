"""What the refinement of complements is told: the labels that are wanted, and where a classifier cuts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from classifiers.labellers import Labeller, load_labeller
from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.parameters import Backbone
from pipeline.content.stores import commit_shard, finish_store
from pipeline.errors import UserError
from stages.shared.paths import LABELS
from stages.shared.refining import _classifier, original_labels, wanted_labels
from tests.cards import labeller_card
from tests.real_labels import write_real_labels

NAMES = ["Blond_Hair", "Male", "Eyeglasses"]


# The labels that are wanted


def test_of_one_protected_attribute_the_other_value_is_wanted() -> None:
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert wanted_labels(labels, 1).tolist() == [[0, 1], [0, 0], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (0b10, [[1, 1, 0], [0, 0, 1], [1, 1, 1]]),  # the first protected attribute is the highest bit
        (0b01, [[1, 0, 1], [0, 1, 0], [1, 0, 0]]),
        (0b11, [[1, 1, 1], [0, 0, 0], [1, 1, 0]]),
    ],
)
def test_of_two_protected_attributes_those_of_the_mask_are_flipped(mask: int, wanted: list) -> None:
    labels = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1]])
    before = labels.copy()
    assert wanted_labels(labels, mask).tolist() == wanted
    np.testing.assert_array_equal(labels, before)


# The labels of the originals


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The labels of a, b, c, d, in other orders in out/labels/z and, negated, in out/real."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame([(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)], columns=NAMES)
    table.insert(0, "id", list("abcd"))
    scores = {f"{name}_score": 0.5 for name in NAMES}
    commit_shard(LABELS / "z", 0, table.iloc[[2, 0]].assign(**scores))
    commit_shard(LABELS / "z", 1, table.iloc[[3, 1]].assign(**scores))
    finish_store(LABELS / "z", 2)
    true = table.assign(split="train", **{name: 1 - table[name] for name in NAMES})
    write_real_labels(true.iloc[[1, 3, 0, 2]])
    return table


def test_labels_of_originals_follow_the_ids(labelled: pd.DataFrame) -> None:
    ids = pd.Series(["d", "a", "c"], index=[7, 7, 0])
    assert original_labels("z", ids, NAMES, 0, 4).tolist() == [[1, 1, 1], [0, 0, 1], [1, 0, 0]]
    assert original_labels("real", ids, NAMES, 0, 4).tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert original_labels("z", ids, [NAMES[2], NAMES[0]], 0, 4).tolist() == [[1, 1], [1, 0], [0, 1]]
    assert original_labels("z", ids[:0], NAMES, 0, 4).shape == (0, 3)
    assert original_labels("z", ids[:1], NAMES, 2, 4).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("latents", ["z", "real"])
def test_an_original_without_labels_is_named(latents: str, labelled: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=f"labels of {latents}.* id 'e'"):
        original_labels(latents, pd.Series(["a", "e"]), NAMES, 0, 4)


def test_no_labels_are_read_but_those_of_the_shards_positions(labelled: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"labels of z.* id 'a'"):
        original_labels("z", pd.Series(["a"]), NAMES, 2, 4)


# Classifiers


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.97])
def test_a_classifier_is_positive_exactly_where_the_score_reaches_the_threshold(threshold: float) -> None:
    """A network whose logits are the pixels' means, evenly over what matters."""
    logits = torch.linspace(-6, 6, 1200, dtype=torch.float64)
    card = labeller_card(Backbone(name="small", width=8), [threshold])
    classifier = _classifier(torch.nn.Flatten(0), card, torch.device("cpu"))
    positive = classifier(logits) >= 0
    assert torch.equal(positive, torch.sigmoid(logits) >= threshold)
    assert 0 < int(positive.sum()) < len(logits)


def test_a_saved_classifier_is_shifted_and_frozen(tmp_path: Path) -> None:
    settings = Backbone(name="small", width=8)
    labeller = Labeller([new_backbone(settings, 0)], [None])
    save_network(tmp_path / "Male", labeller, labeller_card(settings, [0.3]))
    network, card = load_labeller(tmp_path / "Male")
    classifier = _classifier(network, card, torch.device("cpu"))
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    shifted = classifier(images)
    torch.testing.assert_close(shifted, network(images) - float(np.log(0.3 / 0.7)))
    assert not network.training
    shifted.sum().backward()
    assert images.grad is not None and bool((images.grad != 0).any())
    assert [parameter.grad for parameter in network.parameters() if parameter.grad is not None] == []
