"""Fréchet distances: closed forms, parity with pytorch-fid, features, and refused Inception weights."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception

from classifiers.measures.fidelity import Inception, features_of, frechet_distance
from classifiers.networks.backbones import new_backbone
from classifiers.networks.parameters import Backbone
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.support import run_python


def sample_with(mean, covariance, n: int = 50, seed: int = 0) -> np.ndarray:
    """Return samples [n, D] that have exactly this mean and this covariance."""
    noise = np.random.default_rng(seed).standard_normal((n, len(mean)))
    noise -= noise.mean(axis=0)
    whitened = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    return whitened @ np.linalg.cholesky(np.asarray(covariance, dtype=float)).T + mean


def pytorch_fids(a: np.ndarray, b: np.ndarray) -> float:
    statistics = [value for x in (a, b) for value in (x.mean(axis=0), np.cov(x, rowvar=False))]
    return float(fid_score.calculate_frechet_distance(*statistics))


# The distance


def test_normal_distributions_with_parallel_axes():
    """For independent features: Σ (μ_a - μ_b)² + (σ_a - σ_b)² = 9 + 16 + 1 + 4."""
    a = sample_with([0.0, 1.0], np.diag([1.0, 9.0]))
    b = sample_with([3.0, 5.0], np.diag([4.0, 1.0]), n=80, seed=1)
    assert frechet_distance(a, b) == pytest.approx(30.0, abs=1e-9)
    assert frechet_distance(b, a) == pytest.approx(30.0, abs=1e-9)


def test_normal_distributions_with_other_axes():
    """For 2 x 2 matrices tr (A B)^½ = √(tr A B + 2 √det A B); here tr A B = 6 and det A B = 3 · 3."""
    a, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[2.0, -1.0], [-1.0, 2.0]])
    a_sample, b_sample = sample_with([0, 0], a), sample_with([0, 0], b, seed=1)
    trace = np.trace(a @ b)
    assert (trace, np.linalg.det(a @ b)) == pytest.approx((6.0, 9.0))
    expected = 4.0 + 4.0 - 2.0 * np.sqrt(6.0 + 2.0 * 3.0)
    assert frechet_distance(a_sample, b_sample) == pytest.approx(expected, abs=1e-9)


def test_singular_covariances_cost_no_digits():
    """Singular are: a constant feature, one that doubles another, fewer samples than features."""
    x = np.random.default_rng(1).standard_normal(60)
    x = 2.0 * (x - x.mean()) / x.std(ddof=1)
    line = np.column_stack([x, 2 * x, np.full(60, 7.0)])  # variance 4 + 16, all along one line
    tripled = 3 * line  # standard deviations and the constant three times as large
    assert frechet_distance(line, tripled) == pytest.approx((2 * np.sqrt(20.0)) ** 2 + 14.0**2, rel=1e-12)
    few = np.random.default_rng(0).standard_normal((5, 40))
    assert frechet_distance(few, few + 1.0) == pytest.approx(40.0, rel=1e-12)


def test_the_same_sample_is_at_no_distance_and_another_order_neither():
    features = np.random.default_rng(0).standard_normal((200, 30)).astype(np.float32) * 100
    assert 0.0 <= frechet_distance(features, features) < 1e-8
    assert 0.0 <= frechet_distance(features, features[::-1]) < 1e-8


def test_parity_with_pytorch_fid():
    random = np.random.default_rng(0)
    for n, dim in ((100, 5), (300, 40)):
        a = random.standard_normal((n, dim)) @ random.standard_normal((dim, dim))
        b = random.gamma(2.0, size=(n + 7, dim)) @ random.standard_normal((dim, dim))
        assert frechet_distance(a, b) == pytest.approx(pytorch_fids(a, b), rel=1e-8)


def test_small_differences_survive_large_values():
    """In float32 the mean of values about 4096 would be off by more than the distance."""
    a = sample_with([4096.0, 0.0], np.eye(2) * 0.01, n=1000)
    b = sample_with([4096.001, 0.0], np.eye(2) * 0.01, n=1000, seed=1)
    assert frechet_distance(a, b) == pytest.approx(1e-6, rel=1e-3)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="two samples or more, not 1"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


# Features


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_features_are_what_the_last_layer_sees_in_float32(name):
    """They are the same under bfloat16 and for any batches, and the last layer maps them to the logit."""
    network = new_backbone(Backbone(name=name, width=8), seed=0)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    accelerator = new_accelerator(Runtime(device="cpu", precision="bf16"))
    features = features_of(network, network.features, pixels.__getitem__, 7, accelerator, batch_size=3)
    assert features.shape == (7, network.last.in_features)
    network.eval()
    with torch.no_grad():
        whole = network.features(images_to_tensor(pixels, torch.device("cpu")))
        logits = network(images_to_tensor(pixels, torch.device("cpu")))
        by_hand = torch.from_numpy(features).float() @ network.last.weight[0] + network.last.bias
    np.testing.assert_allclose(features, whole.numpy(), atol=2e-5)
    np.testing.assert_allclose(by_hand, logits, atol=2e-5)
    assert features.std() > 1e-3


# Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, str]:
    """Write the state_dict of a randomly initialised FID Inception; return the file and its sha256."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        network = inception.fid_inception_v3()
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_parity_with_pytorch_fid_from_files_to_distance(weights, tmp_path, monkeypatch):
    """pytorch-fid gets the same images as PNG files, and its network the same weights."""
    path, digest = weights
    random = np.random.default_rng(0)
    sets = {"a": random.integers(0, 256, (70, 8, 8, 3)), "b": random.integers(0, 200, (70, 8, 8, 3))}
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    network = Inception(path, digest, dim=64)
    features = {}
    for name, values in sets.items():
        pixels = values.astype(np.uint8)
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{number:03d}.png")
        features[name] = features_of(network, network, pixels.__getitem__, len(pixels), accelerator, 35)

    state = torch.load(path, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    folders = [str(tmp_path / name) for name in sets]
    expected = fid_score.calculate_fid_given_paths(folders, 35, "cpu", 64, num_workers=0)
    assert expected > 1e-3
    assert frechet_distance(features["a"], features["b"]) == pytest.approx(expected, rel=1e-4)


def test_the_last_features_are_the_default(weights):
    network = Inception(*weights)
    assert not network.training
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 2048)


def test_nothing_is_downloaded_and_pytorch_fid_is_left_as_it_was(weights):
    before = inception.load_state_dict_from_url
    first, again = (Inception(*weights, dim=64).state_dict() for _ in range(2))
    assert inception.load_state_dict_from_url is before
    assert all(torch.equal(first[name], again[name]) for name in first)
    stored = torch.load(weights[0], weights_only=True)
    assert torch.equal(first["network.blocks.0.0.conv.weight"], stored["Conv2d_1a_3x3.conv.weight"])


def test_another_file_than_the_one_named_is_refused(weights, tmp_path):
    path, digest = weights
    with pytest.raises(UserError, match=rf"inception_weights: .*has sha256 {digest}, expected {'0' * 64}"):
        Inception(path, "0" * 64)
    with pytest.raises(UserError, match=r"inception_weights: there is no file .*gone\.pth"):
        Inception(tmp_path / "gone.pth", digest)


class Evil:
    def __reduce__(self):
        return (print, ("code has run",))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not a checkpoint", "read as tensors only"),
        (Evil(), "read as tensors only"),
        ({"Conv2d_1a_3x3.conv.weight": torch.zeros(3)}, "is not the state_dict of pytorch-fid's Inception"),
        ([1, 2, 3], "is not the state_dict of pytorch-fid's Inception"),
    ],
    ids=["bytes", "code", "another state_dict", "no state_dict"],
)
def test_what_is_no_such_state_dict_is_refused_in_one_sentence(content, complaint, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=complaint) as raised:
        Inception(path, hashlib.sha256(path.read_bytes()).hexdigest(), dim=64)
    assert "\n" not in str(raised.value)
    assert "code has run" not in capsys.readouterr().out


def test_pytorch_fid_is_imported_only_where_it_is_used():
    code = "import sys, classifiers.measures.fidelity; sys.exit('pytorch_fid' in sys.modules)"
    assert run_python("-c", code).returncode == 0
