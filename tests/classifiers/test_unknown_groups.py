"""Images whose protected group is not known: left out of groups, or of several by their memberships."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifiers.finishing.smote import images_taking_part
from classifiers.networks.images import LabelledImages
from classifiers.networks.small import Classifier
from classifiers.training.batches import Batch
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.adversary import AdversaryLoss, inverse_shares
from classifiers.training.methods.base import Method, SumOverProcesses
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.methods.weighted import Weighted, group_weights
from classifiers.training.pairs import SelectivePairs
from classifiers.training.recipes import grouped_by_source
from classifiers.training.samplers import UniformSampler
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_values
from tests.classifiers.by_recipe import train_by
from tests.classifiers.toys import (
    TRAINING,
    assert_same_training,
    batch_of,
    context_of,
    in_two_processes,
    part_of,
)

DEFINITIONS: dict[str, dict[str, Any]] = preset_values("avatars", Path(__file__).parents[2] / PRESETS)[
    "train"
]["definitions"]
NEED_LABELS = [
    name for name, recipe in DEFINITIONS.items() if "training" in Recipe.model_validate(recipe).needs
]
STRATEGIES = ("predicted", "left_out", "soft")
OF_BOTH_SOURCES = replace(TRAINING, synthetic=np.arange(256) % 3 == 0)
SHORT = {"steps": 3, "evaluations": 1, "batch_size": 8}


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def one_hot(images: LabelledImages) -> np.ndarray:
    return np.eye(4)[images.groups]


def with_unknown(known: np.ndarray, strategy: str, seed: int = 0) -> LabelledImages:
    """The toy images, of which some have no known group; soft ones are of either protected group."""
    images = OF_BOTH_SOURCES
    if strategy == "predicted":
        return images
    if strategy == "left_out":
        return replace(images, known=known)
    shares = np.random.default_rng(seed).random(len(images))
    memberships = one_hot(images)
    for row in np.flatnonzero(~known):
        memberships[row] = 0
        first = 2 * images.targets[row]
        memberships[row, first : first + 2] = 1 - shares[row], shares[row]
    groups = np.where(known, images.groups, 2 * images.targets + (shares >= 0.5))
    return replace(images, groups=groups, known=known, memberships=memberships)


def half_known() -> np.ndarray:
    return np.random.default_rng(1).random(256) < 0.5


def few_known() -> np.ndarray:
    """One real and one synthetic image of each group: most batches of eight have none of them."""
    keys = OF_BOTH_SOURCES.groups + 4 * np.asarray(OF_BOTH_SOURCES.synthetic)
    known = np.zeros(256, dtype=bool)
    known[np.unique(keys, return_index=True)[1]] = True
    return known


def test_there_are_recipes_that_need_labels():
    assert {"group_dro", "lisa", "dann", "reweighing", "balanced_batches", "source_groups"} < {*NEED_LABELS}
    assert not {"erm", "jtt", "pseudo_groups_dro", "cvar"} & {*NEED_LABELS}


# --- Trainings by every recipe that needs protected labels -----------------------------------------------


@pytest.mark.parametrize("known", [half_known(), few_known()], ids=["half", "few"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NEED_LABELS)
def test_no_strategy_leaves_nan(name, strategy, known, accelerator, tmp_path):
    """Also where a batch has no image whose group is known."""
    images = with_unknown(known, strategy)
    network, _, result = train_by(DEFINITIONS[name], accelerator, tmp_path / "state.pt", images, **SHORT)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert all(np.isfinite([*record.values()]).all() for record in result.history)


@pytest.mark.parametrize("name", NEED_LABELS)
def test_what_is_left_out_has_no_effect(name, accelerator, tmp_path):
    """Whatever the protected group of an image is that is not known."""
    known = half_known()
    images = with_unknown(known, "left_out")
    turned = np.where(known, images.groups, 2 * images.targets + 1 - images.groups % 2)
    others = replace(images, groups=turned)
    assert_same_training(
        train_by(DEFINITIONS[name], accelerator, tmp_path / "own.pt", images, **SHORT),
        train_by(DEFINITIONS[name], accelerator, tmp_path / "others.pt", others, **SHORT),
    )


@pytest.mark.parametrize("name", NEED_LABELS)
def test_certain_memberships_are_known_groups(name, accelerator, tmp_path):
    certain = replace(OF_BOTH_SOURCES, known=half_known(), memberships=one_hot(OF_BOTH_SOURCES))
    hard, _, first = train_by(DEFINITIONS[name], accelerator, tmp_path / "hard.pt", OF_BOTH_SOURCES, **SHORT)
    soft, _, second = train_by(DEFINITIONS[name], accelerator, tmp_path / "soft.pt", certain, **SHORT)
    for key, value in hard.state_dict().items():
        torch.testing.assert_close(soft.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)
    for one, other in zip(first.history, second.history, strict=True):
        assert other == pytest.approx(one, abs=1e-5)


SOFT_IN_THE_LOSS = [
    name
    for name in NEED_LABELS
    if DEFINITIONS[name]["method"]["name"]
    in ("group_dro", "weighted", "domain_adversarial", "adversarial_debiasing")
]


@pytest.mark.parametrize("name", SOFT_IN_THE_LOSS)
def test_uncertain_memberships_train_other_weights(name, accelerator, tmp_path):
    """Than the most likely groups do, and than leaving them out does."""
    soft = with_unknown(half_known(), "soft")
    images = [soft, replace(soft, known=None, memberships=None), replace(soft, memberships=None)]
    changes = SHORT | {"steps": 6}  # dann begins at λ = 0
    found = [
        train_by(DEFINITIONS[name], accelerator, tmp_path / f"{k}.pt", of, **changes)[0]
        for k, of in enumerate(images)
    ]
    first, *others = (torch.cat([p.flatten() for p in network.parameters()]) for network in found)
    for other in others:
        assert (first - other).abs().max() > 1e-7


# --- Group DRO -------------------------------------------------------------------------------------------

SHARES = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
LOSSES = torch.tensor([1.0, 2.0, 4.0])


def soft_batch(memberships: torch.Tensor, targets: torch.Tensor) -> Batch:
    """Return a batch of images of which none has a known group."""
    return batch_of(
        torch.zeros(len(targets), 3, 2, 2),
        targets,
        memberships.argmax(dim=1),
        memberships=memberships,
        known=torch.zeros(len(targets), dtype=torch.bool),
    )


def test_group_losses_by_memberships_by_hand():
    """Σ p_ig ℓ_i / Σ p_ig = (1 + 1)/1.5 and (1 + 4)/1.5: PG-DRO."""
    batch = soft_batch(SHARES, torch.ones(3, dtype=torch.long))
    sums, counts = batch.sums_by_group(LOSSES, 2), batch.sums_by_group(torch.ones(3), 2)
    assert (sums / counts).tolist() == pytest.approx([4 / 3, 10 / 3])
    method = GroupDRO([1.5, 1.5], step_size=0.6)
    logits = -LOSSES.expm1().log()  # of positives with these losses
    logits.requires_grad_()
    loss = method.loss(logits, batch)
    growth = [math.exp(0.6 * 4 / 3), math.exp(0.6 * 10 / 3)]
    q = [value / sum(growth) for value in growth]
    assert method.q.tolist() == pytest.approx(q)
    assert loss.item() == pytest.approx(q[0] * 4 / 3 + q[1] * 10 / 3)
    (gradient,) = torch.autograd.grad(loss, logits)
    of_losses = [q[0] / 1.5, (q[0] + q[1]) / 3, q[1] / 1.5]  # Σ_g q_g p_ig / Σ p_ig
    slopes = (torch.exp(-LOSSES) - 1).tolist()  # σ(z) - 1
    assert gradient.tolist() == pytest.approx([a * b for a, b in zip(of_losses, slopes, strict=True)])


def test_a_group_that_is_nobodys_most_likely_one_has_a_weight():
    memberships = np.tile([0.6, 0.4, 0.0, 0.0], (10, 1))
    targets = np.zeros(10, dtype=np.int64)
    images = LabelledImages(TRAINING.ids[:10], TRAINING.read, targets, targets, memberships=memberships)
    assert images.group_counts(4) == [10, 0, 0, 0]
    assert images.group_sizes(4) == pytest.approx([6, 4, 0, 0])
    assert GroupDRO(images.group_sizes(4)).q.tolist() == [0.5, 0.5, 0, 0]


def test_unknown_images_are_not_in_group_dros_losses():
    known = torch.tensor([True, False, True, True])
    targets = torch.ones(4, dtype=torch.long)
    batch = batch_of(torch.zeros(4, 3, 2, 2), targets, torch.tensor([2, 2, 2, 3]), known=known)
    logits = torch.tensor([0.5, 9.0, -0.5, 0.0], requires_grad=True)
    method = GroupDRO([0, 0, 5, 5], step_size=1.0)
    loss = method.loss(logits, batch)
    of = [math.log1p(math.exp(-value)) for value in (0.5, -0.5, 0.0)]
    means = [(of[0] + of[1]) / 2, of[2]]
    growth = [math.exp(value) for value in means]
    assert method.q.tolist() == pytest.approx([0, 0, *(value / sum(growth) for value in growth)])
    expected = sum(g * m for g, m in zip(growth, means, strict=True)) / sum(growth)
    assert loss.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[1] == 0


# --- Weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inverse", "effective_number", "reweighing"])
def test_the_mean_weight_of_images_with_memberships_is_one(name):
    images = with_unknown(half_known(), "soft")
    weights = group_weights(name, 0.9, context_of(images.group_sizes(4)))
    assert (images.memberships @ weights.numpy()).mean() == pytest.approx(1)


def test_a_loss_weight_is_the_mean_of_its_groups_weights():
    """3 · ½ + 1 · ½ = 2 for an image that may be of either; 1 for one whose group is left out."""
    weights, targets = torch.tensor([0.0, 0.0, 3.0, 1.0]), torch.tensor([1, 1])
    memberships = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 0.0]])
    losses = torch.tensor([1.0, 2.0])
    logits = -losses.expm1().log()
    soft = soft_batch(memberships, targets)
    assert Weighted(weights).loss(logits, soft).item() == pytest.approx((2 * 1 + 3 * 2) / 2)
    left_out = replace(soft, memberships=None)
    assert Weighted(weights).loss(logits, left_out).item() == pytest.approx((1 + 2) / 2)


# --- Adversaries -----------------------------------------------------------------------------------------


def test_an_adversarys_loss_by_memberships_by_hand():
    """A positive is of group 1 with probability 0.3: 0.7 ln(1 + e²) + 0.3 ln(1 + e⁻²) for a logit of 2."""
    memberships = torch.tensor([[0.0, 0.0, 0.7, 0.3], [1.0, 0.0, 0.0, 0.0]])
    batch = soft_batch(memberships, torch.tensor([1, 0]))
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    expected = (0.7 * wrong + 0.3 * right + wrong) / 2
    attributes = AdversaryLoss(context_of([5] * 4), "attributes", False, False)
    assert attributes(torch.full((2, 1), 2.0), batch).item() == pytest.approx(expected)
    intersections = AdversaryLoss(context_of([5] * 4), "intersections", False, False)
    assert intersections(torch.tensor([[0.0, 2.0]] * 2), batch).item() == pytest.approx(expected)
    # Of the two images 0.3 are of group 1: H(a) = H(0.15); given y: half of H(0.3).
    entropy = -(0.15 * math.log(0.15) + 0.85 * math.log(0.85))
    assert attributes.figures()["adversary_bound"] == pytest.approx(entropy)
    given = AdversaryLoss(context_of([5] * 4), "attributes", True, False)
    given(torch.zeros(2, 1), batch)
    of_positives = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert given.figures()["adversary_bound"] == pytest.approx(of_positives / 2)


def test_an_adversarys_weights_by_memberships_have_a_mean_of_one():
    """Group sizes below 1 too: 1/P(a|y) over the two groups that occur."""
    sizes = torch.tensor([[0.5, 1.5], [4.0, 0.0]], dtype=torch.float64)
    assert inverse_shares(sizes, True).tolist() == [[2.0, pytest.approx(2 / 3)], [1.0, 0.0]]
    assert (inverse_shares(sizes, True) * sizes).sum() / sizes.sum() == pytest.approx(1)


def test_an_adversary_takes_both_sources_of_a_group_for_one():
    images = with_unknown(half_known(), "soft")
    doubled = grouped_by_source(images, 4)
    assert doubled.memberships is not None and doubled.memberships.shape == (256, 8)
    np.testing.assert_allclose(doubled.memberships[:, :4] + doubled.memberships[:, 4:], images.memberships)
    assert not doubled.memberships[~images.synthetic, 4:].any()
    guesses = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.from_numpy(images.targets)
    losses = [
        AdversaryLoss(context_of([5] * of.memberships.shape[1]), "intersections", True, True)(
            guesses, soft_batch(torch.from_numpy(of.memberships).float(), targets)
        )
        for of in (images, doubled)
    ]
    torch.testing.assert_close(losses[0], losses[1])


# --- Several processes -----------------------------------------------------------------------------------

FEATURES = torch.randn(10, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def fill(module: torch.nn.Module) -> None:
    """Set the parameters to fixed noise; threads share the random numbers of torch's own generator."""
    generator = torch.Generator().manual_seed(2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=generator)


class Toy(Classifier):
    """A network with 12 features, an image's values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(12, 1)
        fill(self)

    @property
    def last(self) -> torch.nn.Linear:
        return self.linear

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


IN_A_BATCH = {
    name: Recipe.model_validate(DEFINITIONS[name])
    for name in (*SOFT_IN_THE_LOSS, "hardest_in_groups")
    if "group_by" not in DEFINITIONS[name]
}


@pytest.mark.parametrize("first", [slice(0, 3), slice(0, 10, 2), slice(0, 1)])
@pytest.mark.parametrize("name", IN_A_BATCH)
def test_two_processes_equal_one_with_memberships(name, first):
    shares = torch.rand(10, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(10) % 3 % 2
    memberships = torch.zeros(10, 2, 2)
    memberships[torch.arange(10), targets] = torch.stack([1 - shares, shares], dim=1)
    whole = replace(soft_batch(memberships.flatten(1), targets), images=FEATURES, progress=0.5)
    mine = torch.zeros(10, dtype=torch.bool)
    mine[first] = True

    def gradients(part: Batch, total: SumOverProcesses) -> tuple[list[torch.Tensor], Method]:
        network = Toy()
        context = context_of([2.5, 0.5, 3.0, 4.0], feature_size=12, total=total)
        method = IN_A_BATCH[name].method.build(context)
        fill(method)
        parameters = [*network.parameters(), *method.parameters()]
        found = [
            gradient
            for loss in method.losses(network, part).values
            for gradient in torch.autograd.grad(
                loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        ]
        return found, method

    alone, method = gradients(whole, lambda tensor: tensor)
    both = in_two_processes(
        lambda number, total: gradients(part_of(whole, mine if number == 0 else ~mine), total)
    )
    for one, other, expected in zip(both[0][0], both[1][0], alone, strict=True):
        assert expected.isfinite().all()
        torch.testing.assert_close(one + other, expected)
    for _, of_process in both:
        for own, of_all in zip(of_process.buffers(), method.buffers(), strict=True):
            torch.testing.assert_close(own, of_all, rtol=1e-5, atol=1e-6)


# --- What needs one group --------------------------------------------------------------------------------


def test_partners_are_of_the_most_likely_group():
    soft = with_unknown(half_known(), "soft")
    hard = replace(soft, known=None, memberships=None)
    first, second = (
        SelectivePairs(UniformSampler(of.groups, 64, 0), of, 2, 0.5, 0)(0) for of in (soft, hard)
    )
    np.testing.assert_array_equal(first, second)
    assert (first[:, 0] != first[:, 1]).all()


def test_images_that_are_left_out_take_no_part_in_interpolation():
    known = half_known()
    left_out, soft = (with_unknown(known, strategy) for strategy in ("left_out", "soft"))
    assert images_taking_part(left_out, 0).ids.tolist() == TRAINING.ids[known].tolist()
    assert images_taking_part(soft, 0).ids.tolist() == TRAINING.ids.tolist()
