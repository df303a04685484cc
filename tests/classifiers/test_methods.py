"""ERM and Group DRO: q and losses by hand, no graph kept, one batch over two processes."""

import gc
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from classifiers.training.batches import Batch
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.base import Method, one_process
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from tests.classifiers.toys import batch_of, context_of

LOG2, LOG3 = math.log(2), math.log(3)
# Binary cross-entropy by hand: logit 0 -> ln 2; ln 3 -> ln 4/3 where the target is 1, ln 4 where it is 0.


def labels_of(targets: list[int], groups: list[int]) -> Batch:
    return batch_of(torch.zeros(len(targets), 3, 2, 2), torch.tensor(targets), torch.tensor(groups))


# Two batches with which the whole of Group DRO is worked by hand, for η = 1.
# First: group 0 has the losses ln 2 and ln 4, mean 1.5 ln 2; group 3 has ln 4/3; 1 and 2 are absent.
FIRST_LOGITS, FIRST = [0.0, LOG3, LOG3], labels_of([0, 0, 1], [0, 0, 3])
# Second: group 1 has ln 4, group 3 has ln 2; 0 and 2 are absent.
SECOND_LOGITS, SECOND = [LOG3, 0.0], labels_of([0, 1], [1, 3])


def test_q_by_hand_for_two_batches_with_absent_groups():
    method = GroupDRO([10, 10, 10, 10], step_size=1.0)
    assert method.q.tolist() == [0.25] * 4

    # q is multiplied by e^ℓ: 2^1.5 = 2.828427, 1, 1, 4/3 = 1.333333; their sum is 6.161760.
    loss = method.loss(torch.tensor(FIRST_LOGITS), FIRST)
    assert method.q.tolist() == pytest.approx([0.459029, 0.162291, 0.162291, 0.216388], abs=1e-6)
    # 0.459029 * 1.5 ln 2 + 0.216388 * ln 4/3 = 0.477265 + 0.062251
    assert loss.item() == pytest.approx(0.539516, abs=1e-5)

    # Then by 1, 4, 1, 2: 0.459029, 0.649165, 0.162291, 0.432777; their sum is 1.703262.
    loss = method.loss(torch.tensor(SECOND_LOGITS), SECOND)
    assert method.q.tolist() == pytest.approx([0.269500, 0.381130, 0.095283, 0.254087], abs=1e-6)
    # 0.381130 ln 4 + 0.254087 ln 2
    assert loss.item() == pytest.approx(0.528359 + 0.176120, abs=1e-5)


def test_q_by_hand_with_the_adjustment():
    """C/√n_g with C = 2: 1, 0.5, 0.2, 2 for 4, 16, 100 and 1 images; absent groups are not adjusted."""
    method = GroupDRO([4, 16, 100, 1], step_size=1.0, adjustment=2.0)
    loss = method.loss(torch.tensor(FIRST_LOGITS), FIRST)
    # e^1 2^1.5 = 7.688463, 1, 1, e^2 4/3 = 9.852075; their sum is 19.540538.
    assert method.q.tolist() == pytest.approx([0.393462, 0.051176, 0.051176, 0.504186], abs=1e-6)
    # The adjustment moves q, not the loss: 0.393462 * 1.5 ln 2 + 0.504186 ln 4/3.
    assert loss.item() == pytest.approx(0.409091 + 0.145045, abs=1e-5)


def test_the_step_size_scales_the_exponent():
    method = GroupDRO([1, 1, 1, 1], step_size=0.01)
    method.loss(torch.tensor(FIRST_LOGITS), FIRST)
    grown = np.array([2 ** (1.5 * 0.01), 1, 1, (4 / 3) ** 0.01])
    assert method.q.tolist() == pytest.approx((grown / grown.sum()).tolist(), abs=1e-7)


def test_absent_groups_keep_their_proportions():
    method = GroupDRO([1, 1, 1, 1], step_size=1.0)
    method.q.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    method.loss(torch.tensor([LOG3]), labels_of([0], [0]))  # by e^ln 4 = 4: 0.4, 0.2, 0.3, 0.4; sum 1.3
    assert method.q.tolist() == pytest.approx([0.4 / 1.3, 0.2 / 1.3, 0.3 / 1.3, 0.4 / 1.3], abs=1e-6)


def test_a_group_without_images_has_no_weight():
    """Of 2 targets x 2 protected x 2 sources only three of the first four groups occur: each has q = 1/3."""
    method = GroupDRO([5, 0, 7, 1, 0, 0, 0, 0], step_size=1.0)
    assert method.q.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0, 0, 0, 0])
    # Groups 0 and 3 grow by 2^1.5 = 2.828427 and 4/3 as above: over 2.828427 + 1 + 1.333333 = 5.161760.
    loss = method.loss(torch.tensor(FIRST_LOGITS), FIRST)
    expected = [0.547958, 0, 0.193732, 0.258310, 0, 0, 0, 0]
    assert method.q.tolist() == pytest.approx(expected, abs=1e-6)
    # Group 2, which is absent from the batch, keeps its weight: 0.547958 * 1.5 ln 2 + 0.258310 ln 4/3.
    assert loss.item() == pytest.approx(0.569725 + 0.074311, abs=1e-5)


def test_the_gradient_weighs_each_image_by_its_groups_q_over_its_count():
    method = GroupDRO([10, 10, 10, 10], step_size=1.0)
    logits = torch.tensor(FIRST_LOGITS, requires_grad=True)
    method.loss(logits, FIRST).backward()
    # σ(logit) - target: 1/2, 3/4, -1/4; q_0 / 2, q_0 / 2, q_3 of the first batch by hand.
    expected = [0.459029 / 2 * 0.5, 0.459029 / 2 * 0.75, 0.216388 * -0.25]
    assert logits.grad.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_group_that_goes_on_being_the_worst_takes_all_the_weight():
    method = GroupDRO([10, 10, 10, 10], step_size=0.1)
    for _ in range(100):
        method.loss(torch.tensor([-3.0, 3.0, 3.0, 3.0]), labels_of([1, 1, 1, 1], [0, 1, 2, 3]))
    assert method.q[0] > 0.99
    assert method.q.sum().item() == pytest.approx(1)


# No graph is kept


class CountedNode(torch.autograd.Function):
    """Does nothing; its node of the graph is a Python object, which can be counted."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient


class Leaky(GroupDRO):
    """Makes the mistake that METHODS 1 warns of: a running loss that is not detached."""

    running: torch.Tensor | float = 0.0

    def loss(self, logits, batch):
        loss = super().loss(logits, batch)
        self.running = 0.9 * self.running + 0.1 * loss
        return loss


def graph_left_behind(method: Method, steps: int) -> tuple[int, int]:
    """Count the graph nodes and tensors that training steps beyond the first ten leave alive."""
    random = torch.Generator().manual_seed(0)
    weight = torch.zeros(3, requires_grad=True)

    def alive() -> Counter:
        gc.collect()
        kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
        return Counter(nodes=kinds["CountedNodeBackward"], tensors=kinds["Tensor"] + kinds["Parameter"])

    for step in range(steps):
        features = torch.randn(8, 3, generator=random)
        groups = torch.randint(4, (8,), generator=random)
        loss = method.loss(CountedNode.apply(features @ weight), batch_of(features, groups // 2, groups))
        weight.grad = None
        loss.backward()
        if step == 10:
            early = alive()
    late = alive()
    return late["nodes"] - early["nodes"], late["tensors"] - early["tensors"]


@pytest.mark.parametrize("method", [GroupDRO([5, 5, 5, 5], adjustment=1.0), ERM()], ids=["group_dro", "erm"])
def test_no_graph_is_kept_after_a_thousand_steps(method):
    assert graph_left_behind(method, 1000) == (0, 0)
    for buffer in method.buffers():
        assert buffer.grad_fn is None
        assert not buffer.requires_grad


def test_a_kept_graph_would_be_seen():
    nodes, _ = graph_left_behind(Leaky([5, 5, 5, 5]), 100)
    assert nodes > 80


# ERM


def test_erm_is_the_mean_binary_cross_entropy():
    logits, targets = torch.randn(20, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    batch = batch_of(torch.zeros(20, 3, 2, 2), targets, torch.zeros(20, dtype=torch.long))
    expected = F.binary_cross_entropy_with_logits(logits, targets.float())
    assert ERM().loss(logits, batch).item() == pytest.approx(expected.item())
    assert ERM().loss(torch.tensor(FIRST_LOGITS), FIRST).item() == pytest.approx(
        (LOG2 + 2 * LOG2 + math.log(4 / 3)) / 3
    )


# Several processes


class Processes:
    """Emulates the sum over two processes, which make the same calls in the same order."""

    def __init__(self) -> None:
        self.given: list[list[torch.Tensor]] = [[], []]

    def recorder(self, process: int):
        def total(tensor: torch.Tensor) -> torch.Tensor:
            self.given[process].append(tensor.clone())
            return tensor

        return total

    def summing(self):
        sums = iter([first + second for first, second in zip(*self.given, strict=True)])
        return lambda tensor: next(sums)


@pytest.mark.parametrize(
    "new_method",
    [
        lambda total: GroupDRO([4, 16, 100, 1], step_size=0.5, adjustment=2.0, total=total),
        lambda total: ERM(total),
    ],
    ids=["group_dro", "erm"],
)
@pytest.mark.parametrize("split", [slice(0, 3), slice(0, 10, 2), slice(0, 1)])
def test_gradients_summed_over_two_processes_equal_one_processs(new_method, split):
    """It holds even if a process sees none of a group, or another number of images."""
    random = torch.Generator().manual_seed(0)
    groups = torch.tensor([0, 0, 1, 3, 0, 3, 3, 1, 0, 0])
    features = torch.randn(10, 4, generator=random)
    whole = batch_of(features, groups // 2, groups)
    mine = torch.zeros(10, dtype=torch.bool)
    mine[split] = True
    parts = [batch_of(features[part], groups[part] // 2, groups[part]) for part in (mine, ~mine)]

    def gradient_and_loss(method: Method, batch: Batch) -> tuple[torch.Tensor, float]:
        weight = torch.tensor([0.5, -1.0, 0.2, 1.5], requires_grad=True)
        loss = method.loss(batch.images @ weight, batch)
        loss.backward()
        return weight.grad, loss.item()

    processes = Processes()
    for k, part in enumerate(parts):
        gradient_and_loss(new_method(processes.recorder(k)), part)
    methods = [new_method(processes.summing()) for _ in parts]
    shares = [gradient_and_loss(method, part) for method, part in zip(methods, parts, strict=True)]
    alone = new_method(one_process)
    gradient, loss = gradient_and_loss(alone, whole)
    torch.testing.assert_close(shares[0][0] + shares[1][0], gradient)
    assert shares[0][1] + shares[1][1] == pytest.approx(loss, rel=1e-5)
    for method in methods:
        for own, of_all in zip(method.buffers(), alone.buffers(), strict=True):
            torch.testing.assert_close(own, of_all)


# State, and the settings


def test_q_is_part_of_the_state_and_of_the_history():
    method, other = (GroupDRO([4, 16, 100, 1], step_size=1.0) for _ in range(2))
    method.loss(torch.tensor(FIRST_LOGITS), FIRST)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.q, method.q)
    assert other.q.tolist() != [0.25] * 4
    assert method.figures() == {f"q_{group}": method.q[group].item() for group in range(4)}
    assert ERM().figures() == {}


def test_recipes_name_their_method_with_its_numbers():
    recipe = Recipe(method={"name": "group_dro", "step_size": 0.25, "adjustment": 3.0})
    method = recipe.method.build(context_of([9, 9, 9, 9]))
    assert isinstance(method, GroupDRO)
    assert method.step_size == 0.25
    assert method.adjustments.tolist() == [1.0] * 4
    assert isinstance(Recipe(method={"name": "erm"}).method.build(context_of([9, 9, 9, 9])), ERM)


def test_a_method_has_no_numbers_of_another():
    with pytest.raises(ValidationError, match="step_size"):
        Recipe(method={"name": "erm", "step_size": 0.25})


def test_settings_do_without_torch():
    """Code that only reads parameters must not wait for torch."""
    script = "import sys, stages.parameters; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)
