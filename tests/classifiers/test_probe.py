"""The real-versus-synthetic probe: 0.5 if nothing differs, near 1 if everything does, by group."""

from pathlib import Path

import numpy as np
import pytest

from classifiers.measures.probe import area_under_curve, both_kinds, probe_separation, random_halves
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from classifiers.training.parameters import Optimizer, Training
from pipeline.content.resumable import Session
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

PROBE = Training(
    backbone=Backbone(name="small", width=8),
    optimizer=Optimizer(name="sgd", learning_rate=0.1),
    steps=25,
    batch_size=32,
    evaluations=1,
    flip=True,
    shift=0.0,
)


def noise_images(name: str, n: int, seed: int, marked_groups: tuple[int, ...] = ()) -> LabelledImages:
    """Return images of noise in groups 0 to 3; those of some groups have a red corner that no other has."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, 4, n)
    pixels = random.integers(60, 160, (n, 8, 8, 3)).astype(np.uint8)
    pixels[np.isin(groups, marked_groups), :4, :, 0] += 90
    ids = np.array([f"{name}-{number}" for number in range(n)], dtype=object)
    return LabelledImages(ids, lambda positions: pixels[positions], groups // 2, groups)


def probe(real: LabelledImages, synthetic: LabelledImages, folder: Path, seed: int = 0, steps: int = 25):
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    settings = PROBE.model_copy(update={"steps": steps})
    session = Session("probe", accelerator, folder / "state.pt", 3600.0)
    return probe_separation(session, real, synthetic, 5, settings, seed)


# The area under the curve


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    scores = np.array([0.1, 0.4, 0.4, 0.9])
    kinds = np.array([0, 1, 0, 1])  # of four pairs three in order, and one tied
    assert area_under_curve(scores, kinds) == pytest.approx(3.5 / 4)
    assert area_under_curve(scores, 1 - kinds) == pytest.approx(0.5 / 4)


@pytest.mark.parametrize("kinds", [[0, 0], [1, 1], []])
def test_of_one_kind_there_is_no_area(kinds):
    assert np.isnan(area_under_curve(np.zeros(len(kinds)), np.array(kinds, dtype=int)))


# What goes in


def test_halves_have_every_image_once_and_depend_on_the_seed():
    first, second = random_halves(11, seed=0)
    assert (len(first), len(second)) == (5, 6)
    assert sorted([*first, *second]) == list(range(11))
    assert not np.array_equal(first, random_halves(11, seed=1)[0])


def test_both_kinds_are_read_in_any_order():
    real, synthetic = noise_images("real", 5, 0), noise_images("z", 7, 1)
    both = both_kinds(real, synthetic)
    assert both.targets.tolist() == [0] * 5 + [1] * 7
    assert both.ids[[0, 4, 5, 11]].tolist() == ["real-0", "real-4", "z-0", "z-6"]
    assert both.groups.tolist() == [*real.groups, *synthetic.groups]
    chosen = np.array([11, 0, 5, 4, 4])
    pixels = both.read(chosen)
    expected = [synthetic.read(np.array([6])), real.read(np.array([0])), synthetic.read(np.array([0]))]
    np.testing.assert_array_equal(pixels[:3], np.concatenate(expected))
    np.testing.assert_array_equal(pixels[3], pixels[4])
    assert both.read(np.array([2, 1])).shape == (2, 8, 8, 3)  # of one kind alone


# What comes out


def test_the_same_distribution_cannot_be_told_apart(tmp_path):
    found = probe(noise_images("real", 1200, 0), noise_images("z", 1200, 1), tmp_path)
    assert found.auc == pytest.approx(0.5, abs=0.05)  # three standard deviations of 600 and 600
    assert found.images == 600


def test_shifted_images_are_told_apart_and_so_is_the_group_that_differs(tmp_path):
    """Half of the groups are marked: the probe is sure within these, and guesses within the others."""
    real, synthetic = noise_images("real", 800, 0), noise_images("z", 800, 1, marked_groups=(2, 3))
    found = probe(real, synthetic, tmp_path)
    assert (found.group_auc[[2, 3]] > 0.98).all()
    np.testing.assert_allclose(found.group_auc[[0, 1]], 0.5, atol=0.15)
    assert found.auc == pytest.approx(0.75, abs=0.05)  # 1 for one half, 0.5 for the other
    assert np.isnan(found.group_auc[4])
    assert found.group_real.sum() == found.group_synthetic.sum() == found.images == 400
    assert found.group_real[4] == found.group_synthetic[4] == 0
    everywhere = probe(real, noise_images("z", 800, 1, (0, 1, 2, 3)), tmp_path / "all")
    assert everywhere.auc > 0.98


def test_it_is_measured_on_images_that_it_has_not_learnt(tmp_path):
    """After 150 steps a network knows its forty images by heart, and can only guess on others."""
    settings = {"steps": 150}
    aucs = [
        probe(
            noise_images("real", 40, 2 * k), noise_images("z", 40, 2 * k + 1), tmp_path / str(k), **settings
        )
        for k in range(3)
    ]
    assert np.mean([found.auc for found in aucs]) == pytest.approx(0.5, abs=0.2)


def test_a_probe_depends_on_its_seed_alone_and_goes_on_where_it_was(tmp_path):
    sets = noise_images("real", 60, 0), noise_images("z", 60, 1, marked_groups=(1,))
    first = probe(*sets, tmp_path / "a", steps=8)
    again = probe(*sets, tmp_path / "b", steps=8)
    resumed = probe(*sets, tmp_path / "a", steps=8)  # its state is that of the last step
    other = probe(*sets, tmp_path / "c", seed=1, steps=8)
    assert first.auc == again.auc == resumed.auc
    assert first.auc != other.auc


def test_unequal_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="4 real and 6 synthetic"):
        probe(noise_images("real", 4, 0), noise_images("z", 6, 1), tmp_path)
