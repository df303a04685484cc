"""OccamNets: the exit that an image leaves at, the losses by hand, and the memory of what was right."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from classifiers.networks.backbones import load_network, new_backbone, save_network
from classifiers.networks.cards import NetworkCard
from classifiers.networks.inference import predict
from classifiers.networks.occam import Exit, OccamNet
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch
from classifiers.training.descent import descend, new_optimizer
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.occam import Occam, gate_weights, main_weights, suppression
from classifiers.training.methods.occam_memory import Correctness
from classifiers.training.parameters import Optimizer
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.test_methods import Processes
from tests.classifiers.toys import VALIDATION, batch_of, context_of, settings_of, trained

OCCAM = Backbone(name="occam", width=8)


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def noise(n: int = 5, side: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def with_open_gates(network: OccamNet) -> OccamNet:
    """Give the gate of the second exit weights with which some images of noise leave there."""
    opening = network.outlets[1].gate[-1]
    nn.init.normal_(opening.weight, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        opening.bias.zero_()
        gates = network.exits(noise(40))[1].gates
        opening.bias.sub_(gates.median())
    return network


# The network


@pytest.mark.parametrize("side", [4, 8, 32, 45])
def test_it_gives_one_logit_per_image(side):
    assert OccamNet(8)(noise(5, side)).shape == (5,)
    for number, of in enumerate(OccamNet(8).exits(noise(5, side))):
        stage = math.ceil(math.ceil(side / 2) / 2**number)
        assert of.logits.shape == of.gates.shape == (5,)
        assert of.maps.shape == (5, stage, stage)


def test_an_exits_logit_is_the_mean_of_its_map():
    for of in new_backbone(OCCAM, 0).exits(noise()):
        torch.testing.assert_close(of.maps.mean(dim=(1, 2)), of.logits)
        assert of.maps.std() > 1e-3


def test_an_image_leaves_at_the_first_open_gate_and_never_at_the_first_exit():
    open_gate, closed = torch.tensor([0.0, 3.0]), torch.tensor([-0.1, -3.0])
    maps = torch.zeros(2, 1, 1)

    def at(number: float, gates: torch.Tensor) -> Exit:
        return Exit(torch.full((2,), number), maps, gates)

    chosen = OccamNet.chosen
    assert chosen([at(1, open_gate), at(2, open_gate)]).tolist() == [1, 1]
    assert chosen([at(1, closed), at(2, closed)]).tolist() == [2, 2]
    assert chosen([at(1, torch.tensor([1.0, -1.0])), at(2, closed)]).tolist() == [1, 2]
    network = with_open_gates(new_backbone(OCCAM, 0))
    _, second, last = network.exits(noise(40))
    leaves = second.gates >= 0
    assert 5 < leaves.sum() < 35
    torch.testing.assert_close(network(noise(40)), torch.where(leaves, second.logits, last.logits))


def test_a_new_networks_gates_are_closed_and_its_last_layer_is_that_of_the_last_exit():
    network = new_backbone(OCCAM, 0)
    for of in network.exits(noise()):
        assert of.gates.tolist() == [-1] * 5
    torch.testing.assert_close(network(noise()), network.last(network.features(noise()))[:, 0])
    assert network.last.in_features == 32


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_score_does_not_depend_on_the_images_beside_it(mode):
    network = with_open_gates(new_backbone(OCCAM, 0))
    network.train(mode == "train")
    batch = noise(40)
    together = network(batch)
    for k in (0, 17, 39):
        torch.testing.assert_close(network(batch[k : k + 1]), together[k : k + 1], rtol=0, atol=1e-5)


def test_the_first_exit_trains_no_stage_and_gates_train_none_of_the_features():
    network = with_open_gates(new_backbone(OCCAM, 0))
    first, *_ = exits = network.exits(noise())
    (first.logits.sum() + first.maps.sum()).backward(retain_graph=True)
    with_gradients = {name for name, p in network.named_parameters() if p.grad is not None}
    own = {name for name, _ in network.named_parameters() if name.startswith("outlets.0.")}
    assert with_gradients == {name for name in own if ".gate." not in name}
    network.zero_grad()
    sum(of.gates.sum() for of in exits).backward()
    with_gradients = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradients == {name for name, _ in network.named_parameters() if ".gate." in name}


def test_a_saved_network_gives_the_same_scores_in_batches_of_any_size(accelerator, tmp_path):
    network = with_open_gates(new_backbone(OCCAM, 0)).to(memory_format=torch.channels_last)
    save_network(tmp_path, network, NetworkCard(backbone=OCCAM))
    loaded, card = load_network(tmp_path, NetworkCard)
    assert card.content() == {"backbone": {"name": "occam", "width": 8}}
    torch.testing.assert_close(loaded(noise()), network(noise()), rtol=0, atol=1e-6)
    scores = [predict(loaded, VALIDATION.read, 30, accelerator, batch_size=size) for size in (1, 7, 30)]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-6)


# The losses by hand


def test_the_weights_of_the_main_loss_by_hand():
    easy = torch.tensor([0.9, 0.5], dtype=torch.float64) ** 3
    assert main_weights(easy, easy.max()).tolist() == pytest.approx([1.09998628, 0.27146541], abs=1e-8)
    stay = 1 - torch.tensor([0.8, 0.2], dtype=torch.float64)
    assert main_weights(stay, stay.max()).tolist() == pytest.approx([0.34999688, 1.0999875], abs=1e-7)


def test_the_weights_of_the_gates_by_hand():
    found = gate_weights(torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([0.999995] * 3 + [1.73202483], abs=1e-6)
    assert gate_weights(torch.ones(1, 3)).tolist() == [pytest.approx([0.999995] * 3)]


@pytest.mark.parametrize("target", [1, 0])
def test_the_suppression_by_hand(target):
    """Mean 3: the places with 1, 2 and 3 are to say nothing; KL 0.12011451, 0.43378083, 0.85544017."""
    maps = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]) * (2 * target - 1)
    found = suppression(maps, torch.tensor([float(target)]))
    assert found.tolist() == pytest.approx([0.35233388], abs=1e-6)


class Fixed(nn.Module):
    """A network whose exits say what it was given."""

    def __init__(self, logits: list[list[float]], gates: list[list[float]], place: float = 0.0) -> None:
        super().__init__()
        self.logits, self.gates = torch.tensor(logits), torch.tensor(gates)
        self.place = place

    def exits(self, images: torch.Tensor) -> list[Exit]:
        maps = torch.full((len(self.logits[0]), 2, 2), self.place)
        return [Exit(logits, maps, gates) for logits, gates in zip(self.logits, self.gates, strict=True)]

    chosen = staticmethod(OccamNet.chosen)


def occam(images: int, thresholds: tuple[float, ...] = (0.5, 0.6, 0.7), **changes) -> Occam:
    return Occam(context_of([images // 2, 0, 0, images - images // 2], **changes), thresholds)


def labels_of(targets: list[int], **changes) -> Batch:
    of = torch.tensor(targets)
    return batch_of(torch.zeros(len(targets), 3, 2, 2), of, of * 3, **changes)


def test_the_whole_loss_by_hand():
    """Two images with y = 1 and 0, of 1.0 in every place of the maps: KL 0.12011451, all are silent.

    Exit 0 has p(y) = 0.9 and 0.5, a logit of 0 counts as 1; exit 1's weights come from gate 0 (0.8 and 0.2),
    exit 2's from gate 1 (½ and ½). Right are 1, 0 | 1, 1 | 0, 1.
    """
    log = math.log
    logits = [[log(9), 0.0], [1.0, -2.0], [-1.0, -0.5]]
    gates = [[log(4), -log(4)], [0.0, 0.0], [30.0, -30.0]]
    found = occam(4).losses(Fixed(logits, gates, 1.0), labels_of([1, 0]))
    assert found.logits.tolist() == [1.0, -2.0]

    def softplus(value: float) -> float:
        return float(np.logaddexp(0, value))

    weights = [[1.09998628, 0.27146541], [0.34999688, 1.0999875], [0.5 / 0.50001 + 0.1] * 2]
    main = sum(
        weights[j][0] * softplus(-logits[j][0]) + weights[j][1] * softplus(logits[j][1]) for j in range(3)
    )
    equal = (1 + 1e-5) ** -0.5
    gate = equal * (softplus(-log(4)) + softplus(-log(4)) + 2 * log(2) + softplus(30) + softplus(30))
    expected = (main + gate) / 2 + 3 * 0.1 * 0.12011451
    assert found.values[0].item() == pytest.approx(expected, rel=1e-6)


def test_a_gate_that_is_sure_has_a_finite_loss():
    logits, gates = [[5.0, 5.0]] * 3, [[200.0, -200.0]] * 3
    assert occam(4).losses(Fixed(logits, gates), labels_of([0, 1])).values[0].isfinite()


# The memory


def test_targets_are_those_of_the_memory_once_an_exit_has_passed_its_threshold():
    """Of two classes one image each: the accuracy is 1, 0.5 or 0. A threshold of 0.5 means 0.75."""
    memory = Correctness(4, [0.5])
    both, positions = torch.tensor([0.0, 1.0]), torch.tensor([2, 0])

    def seen(right: list[bool], window: int, at: torch.Tensor = positions) -> list[float]:
        memory.begin_window()
        return memory.remembered(torch.tensor([right]), both, at, window)[0].tolist()

    assert seen([True, True], 0) == [1, 1]
    assert memory.correct.tolist() == [[1, -1, 1, -1]]
    assert seen([True, False], 1) == [1, 0]  # still settling
    assert memory.correct.tolist() == [[0, -1, 1, -1]]
    assert seen([True, True], 2) == [1, 0]  # passed: as it was recorded
    assert memory.correct.tolist() == [[0, -1, 1, -1]]
    assert seen([False, False], 2) == [0, 0]  # fallen below: anew
    assert memory.correct.tolist() == [[0, -1, 0, -1]]
    assert seen([True, True], 3, torch.tensor([1, 0])) == [1, 0]  # image 1 had not been seen
    assert memory.correct.tolist() == [[0, 1, 0, -1]]


def test_an_accuracy_at_the_threshold_has_not_passed_it():
    for threshold, learns in ((0.5, True), (0.49, False)):
        memory = Correctness(4, [threshold])
        targets, positions = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.arange(4)
        memory.remembered(torch.tensor([[False] * 4]), targets, positions, 0)
        memory.begin_window()
        found = memory.remembered(torch.tensor([[True, True, True, False]]), targets, positions, 2)
        assert memory.accuracies().tolist() == [0.75]
        assert found.tolist() == ([[1, 1, 1, 0]] if learns else [[0, 0, 0, 0]])


def test_an_image_that_is_in_a_batch_twice_was_right_if_both_copies_were():
    memory = Correctness(2, [0.5])
    memory.remembered(torch.tensor([[True, False, True]]), torch.ones(3), torch.tensor([1, 1, 0]), 0)
    assert memory.correct.tolist() == [[1, 0]]


def test_accuracies_are_the_mean_of_both_classes_and_a_class_without_images_does_not_count():
    memory = Correctness(8, [0.5, 0.5])
    right = torch.tensor([[True, True, False, True], [False, False, True, False]])
    memory.remembered(right, torch.tensor([0.0, 0, 0, 1]), torch.arange(4), 0)
    assert memory.accuracies().tolist() == pytest.approx([(2 / 3 + 1) / 2, (1 / 3 + 0) / 2])
    memory.begin_window()
    assert memory.accuracies().tolist() == [0, 0]
    memory.remembered(right, torch.zeros(4), torch.arange(4), 0)
    assert memory.accuracies().tolist() == [0.75, 0.25]


def test_a_window_has_as_many_steps_as_batches_make_all_images():
    """Of 5 images in batches of 2: three steps; then accuracies and the highest weights start anew."""
    method, network = occam(5), Fixed([[3.0, 3.0]] * 3, [[-3.0, -3.0]] * 3)
    seen, highest = [], []
    for step in range(7):
        network.logits[0] = 3.0 - step
        method.losses(network, labels_of([1, 1], positions=torch.tensor([0, 1])))
        seen.append(int(method.memory.seen.sum()))
        highest.append(method.highest[0].item())
    assert seen == [2, 4, 6, 2, 4, 6, 2]
    cubes = [(1 / (1 + math.exp(step - 3))) ** 3 for step in range(7)]
    assert highest == pytest.approx([*cubes[:1] * 3, *cubes[3:4] * 3, cubes[6]])


def test_the_history_has_the_accuracy_of_every_exit(accelerator, tmp_path):
    _, method, result = trained(accelerator, tmp_path / "state.pt", occam(256))
    for record in result.history:
        assert all(0 <= record[f"exit_{j}_accuracy"] <= 1 for j in range(3))
    assert method.steps == 12
    assert (method.memory.correct >= 0).sum() > 0


@pytest.mark.parametrize("split", [slice(0, 3), slice(0, 8, 2), slice(0, 1)])
def test_gradients_summed_over_two_processes_equal_one_processs(split):
    """And both have the same memory as one, after two steps."""
    targets, images = [1, 0, 0, 1, 1, 0, 1, 1], noise(8)
    whole = batch_of(images, torch.tensor(targets), torch.tensor(targets) * 3)
    mine = torch.zeros(8, dtype=torch.bool)
    mine[split] = True
    parts = [
        batch_of(
            images[part],
            whole.targets[part],
            whole.groups[part],
            positions=torch.arange(8)[part],
            places=torch.arange(8)[part],
            size=8,
        )
        for part in (mine, ~mine)
    ]

    def gradients_of(method: Occam, batch: Batch) -> list[torch.Tensor]:
        network = new_backbone(OCCAM, 0)
        for _ in range(2):
            network.zero_grad()
            method.losses(network, batch).values[0].backward()
        return [parameter.grad for parameter in network.parameters()]

    processes = Processes()
    for k, part in enumerate(parts):
        gradients_of(occam(8, total=processes.recorder(k)), part)
    methods = [occam(8, total=processes.summing()) for _ in parts]
    shares = [gradients_of(method, part) for method, part in zip(methods, parts, strict=True)]
    alone = occam(8)
    for first, second, expected in zip(*shares, gradients_of(alone, whole), strict=True):
        torch.testing.assert_close(first + second, expected, rtol=1e-4, atol=1e-6)
    for method in methods:
        for own, of_all in zip(method.buffers(), alone.buffers(), strict=True):
            torch.testing.assert_close(own, of_all)


def test_batches_of_one_image_train_without_nan(accelerator):
    network, method = new_backbone(OCCAM, 0), occam(2)
    optimizer = new_optimizer(network, method, settings_of(optimizer=Optimizer()))
    first = {name: parameter.clone() for name, parameter in network.named_parameters()}
    for step in range(6):
        batch = batch_of(
            noise(1),
            torch.tensor([step % 2]),
            torch.tensor([3 * (step % 2)]),
            positions=torch.tensor([step % 2]),
        )
        descend(network, method, optimizer, 1e-3, batch, accelerator)
    for name, parameter in network.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, first[name]), name


def test_it_learns_and_images_leave_early(accelerator, tmp_path):
    """The left half is redder where the target is 1, which the second exit sees."""
    network, _, result = trained(
        accelerator, tmp_path / "state.pt", occam(256), optimizer=Optimizer(learning_rate=5e-3), steps=120
    )
    scores = predict(network, VALIDATION.read, len(VALIDATION), accelerator)
    assert ((scores > 0.5) == VALIDATION.targets).mean() > 0.9
    pixels = torch.from_numpy(VALIDATION.read(np.arange(len(VALIDATION)))).permute(0, 3, 1, 2)
    gates = network.exits(pixels.float() / 127.5 - 1)[1].gates
    assert (gates >= 0).float().mean() > 0.2
    assert result.history[-1]["loss"] < result.history[0]["loss"]


# Settings


def test_a_recipe_names_the_thresholds_and_needs_no_protected_label():
    recipe = Recipe(method={"name": "occam", "thresholds": [0.1, 0.2, 0.3]}, backbone="occam")
    method = recipe.method.build(context_of([3, 3, 3, 3]))
    torch.testing.assert_close(method.memory.least.tolist(), [0.55, 0.6, 0.65])
    assert method.memory.correct.shape == (3, 12)
    assert recipe.method.needs == frozenset()


def test_another_number_of_thresholds_is_refused():
    with pytest.raises(ValidationError, match="thresholds"):
        Recipe(method={"name": "occam", "thresholds": [0.1, 0.2]}, backbone="occam")


def test_pretrained_weights_do_not_fit():
    with pytest.raises(ValidationError, match="weights go with resnet18 or resnet50"):
        Backbone(name="occam", weights="weights.pth", sha256="0" * 64)
