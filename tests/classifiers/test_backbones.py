"""Backbones: scores do not depend on neighbours, saved files load again, damaged files are refused."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from classifiers.networks.backbones import WEIGHTS, SmallResNet, load_network, new_backbone, save_network
from classifiers.networks.cards import JudgeCard, NetworkCard
from classifiers.networks.parameters import Backbone
from pipeline.errors import UserError

SMALL = Backbone(name="small", width=8)


def images(n: int = 5, side: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def pretrained(path: Path, name: str = "resnet18") -> Backbone:
    return Backbone(name=name, weights=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


# The small network


@pytest.mark.parametrize("side", [4, 8, 32, 45])
def test_the_small_network_gives_one_logit_per_image(side):
    assert SmallResNet(4)(images(5, side)).shape == (5,)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_score_does_not_depend_on_the_images_beside_it(mode):
    network = new_backbone(SMALL, seed=0)
    network.train(mode == "train")
    batch = images()
    together = network(batch)
    assert together.std() > 1e-4
    for k in range(5):
        torch.testing.assert_close(together[k : k + 1], network(batch[k : k + 1]), rtol=0, atol=1e-5)
    batch[0] *= 100
    torch.testing.assert_close(network(batch)[1:], together[1:], rtol=0, atol=1e-5)


def test_weights_come_from_the_seed_and_the_global_one_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = (new_backbone(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_every_weight_has_a_gradient():
    network = new_backbone(SMALL, seed=0)
    network(images()).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


# Saved and loaded


def test_a_saved_network_gives_the_same_scores(tmp_path):
    network = new_backbone(SMALL, seed=0).to(memory_format=torch.channels_last)
    save_network(tmp_path / "network", network, JudgeCard(backbone=SMALL, threshold=0.25, attribute="Male"))
    loaded, card = load_network(tmp_path / "network", JudgeCard)
    torch.testing.assert_close(loaded(images()), network(images()), rtol=0, atol=1e-6)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert card.content() == {
        "backbone": {"name": "small", "width": 8},
        "threshold": 0.25,
        "attribute": "Male",
    }


def test_a_saved_network_does_not_need_the_pretrained_file_it_came_from(tmp_path):
    gone = Backbone.model_construct(name="small", width=8, weights=tmp_path / "gone.pth", sha256="0")
    save_network(
        tmp_path / "network", new_backbone(SMALL, seed=0), NetworkCard.model_construct(backbone=gone)
    )
    _, read = load_network(tmp_path / "network", NetworkCard)
    assert read.content() == {"backbone": {"name": "small", "width": 8}}


def test_the_file_is_the_one_that_safetensors_writes(tmp_path):
    network = new_backbone(SMALL, seed=0)
    save_network(tmp_path / "network", network, NetworkCard(backbone=SMALL))
    save_file(network.state_dict(), tmp_path / WEIGHTS)
    assert (tmp_path / "network" / WEIGHTS).read_bytes() == (tmp_path / WEIGHTS).read_bytes()
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == ["card.json", WEIGHTS]


def test_an_input_output_error_is_one_sentence(tmp_path):
    """The file is a special one of Linux, whose first bytes cannot be read."""
    folder = tmp_path / "network"
    save_network(folder, new_backbone(SMALL, seed=0), NetworkCard(backbone=SMALL))
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/proc/self/mem")
    with pytest.raises(UserError) as raised:
        load_network(folder, NetworkCard)
    assert str(raised.value) == (
        f"{folder} holds no classifier that zprime wrote: [Errno 5] Input/output error."
    )


def remove_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def damage_card(folder: Path) -> None:
    (folder / "card.json").write_text("{")


def damage_card_list(folder: Path) -> None:
    (folder / "card.json").write_text("[]")


def damage_name(folder: Path) -> None:
    (folder / "card.json").write_text('{"backbone": {"name": "vgg", "width": 8}}')


def damage_width(folder: Path) -> None:
    (folder / "card.json").write_text('{"backbone": {"name": "small", "width": 16}}')


def damage_weights(folder: Path) -> None:
    os.truncate(folder / "network.safetensors", 1000)


@pytest.mark.parametrize(
    "damage",
    [remove_all, damage_card, damage_card_list, damage_name, damage_width, damage_weights],
    ids=["empty", "card_no_json", "card_no_table", "unknown_name", "other_width", "truncated_weights"],
)
def test_a_broken_folder_is_refused_and_named(damage, tmp_path):
    folder = tmp_path / "network"
    save_network(folder, new_backbone(SMALL, seed=0), NetworkCard(backbone=SMALL))
    damage(folder)
    with pytest.raises(UserError) as raised:
        load_network(folder, NetworkCard)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


# torchvision's networks (the first of these tests imports torchvision, which takes seconds)


@pytest.fixture(scope="module")
def state_dict_file(tmp_path_factory) -> Path:
    import torchvision.models

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def test_pretrained_weights_are_loaded_all_but_the_last_layers(state_dict_file, tmp_path):
    network = new_backbone(pretrained(state_dict_file), seed=0)
    weights, loaded = torch.load(state_dict_file, weights_only=True), network.network.state_dict()
    assert set(loaded) == set(weights)
    for name in weights:
        if not name.startswith("fc."):
            assert torch.equal(loaded[name], weights[name]), name
    assert loaded["fc.weight"].shape == (1, 512)
    network.eval()
    # It sees what ImageNet's networks do: (image in [0, 1] - mean) / deviation, by channel.
    batch = images(2, 32).clamp(-1, 1)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = network.network(((batch + 1) / 2 - mean) / std)[:, 0]
    torch.testing.assert_close(network(batch), expected)
    save_network(tmp_path / "network", network, NetworkCard(backbone=pretrained(state_dict_file)))
    torch.testing.assert_close(load_network(tmp_path / "network", NetworkCard)[0](batch), expected)


class CreatesFile:
    """Creates a file when it is unpickled, as a malicious checkpoint could."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused_without_running_it(legacy, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    evil = {"conv1.weight": CreatesFile(trace)}
    if legacy:
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        torch.save(evil, path)
    with pytest.raises(UserError) as raised:
        new_backbone(pretrained(path), seed=0)
    assert not trace.exists()
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)  # torch's own message says how to run it after all
    # The file does what it is said to do where it is unpickled.
    pickle.loads(path.read_bytes()) if legacy else torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_file_with_another_sha256_is_refused_unread(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    wanted = "0" * 64
    with pytest.raises(UserError) as raised:
        new_backbone(Backbone(name="resnet18", weights=path, sha256=wanted), seed=0)
    for part in (str(path), wanted, hashlib.sha256(b"weights").hexdigest()):
        assert part in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no file .*absent\.pth"):
        new_backbone(Backbone(name="resnet18", weights=tmp_path / "absent.pth", sha256="0" * 64), seed=0)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"epoch": 3}, {}, {"conv1.weight": torch.zeros(1)}, torch.zeros(3)],
    ids=["list", "no_tensors", "empty", "wrong_shape", "tensor"],
)
def test_a_file_that_is_no_state_dict_is_refused_and_named(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UserError) as raised:
        new_backbone(pretrained(path), seed=0)
    assert str(path) in str(raised.value)
    assert "state_dict" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_of_another_network_are_refused(state_dict_file):
    with pytest.raises(UserError, match="resnet50"):
        new_backbone(pretrained(state_dict_file, "resnet50"), seed=0)
