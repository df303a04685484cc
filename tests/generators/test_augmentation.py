"""DiffAugment: what moves, what is cut out, which colours change, and that gradients pass."""

import numpy as np
import pytest
import torch

from generators.training.augmentation import augment, change_color, cut_out, translate
from generators.training.parameters import DiffAugment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int = 200, height: int = 8, width: int = 8) -> torch.Tensor:
    """Draw images without two equal pixels, and without zeros."""
    return torch.rand(n, 3, height, width, generator=generator(9)) + 1


def rolled(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Move the image [3, H, W] down by dy and right by dx, zeros entering."""
    moved = np.roll(image, (dy, dx), axis=(1, 2))
    height, width = image.shape[1:]
    moved[:, : max(dy, 0)] = 0
    moved[:, height + min(dy, 0) :] = 0
    moved[:, :, : max(dx, 0)] = 0
    moved[:, :, width + min(dx, 0) :] = 0
    return moved


def test_translation_moves_by_whole_pixels_and_zeros_enter():
    """Every image equals one of the 5 x 3 moves that a reach of 2 (of 8) by 1 (of 4) allows; all occur."""
    images = noise(300, 8, 4)
    candidates = [(dy, dx) for dy in range(-2, 3) for dx in range(-1, 2)]
    found = []
    for before, after in zip(images.numpy(), translate(images, 0.25, generator()).numpy(), strict=True):
        matches = [move for move in candidates if np.array_equal(rolled(before, *move), after)]
        assert len(matches) == 1
        found.append(matches[0])
    assert set(found) == set(candidates)
    counts = [found.count(move) for move in candidates]
    assert 5 < min(counts) <= max(counts) < 45  # 20 each on average


def test_translation_by_nothing_changes_nothing():
    images = noise()
    torch.testing.assert_close(translate(images, 0.0, generator()), images, rtol=0, atol=0)


def test_cutout_zeros_exactly_one_box():
    """The box is 4 x 4 with its centre in the image: its part inside is zero, everything else as it was."""
    images = noise(300)
    zeroed = []
    for before, after in zip(images, cut_out(images, 0.5, generator()), strict=True):
        gone = after[0] == 0
        assert torch.equal(after, before.masked_fill(gone, 0.0))  # in all three channels alike
        rows, columns = gone.any(dim=1).nonzero().flatten(), gone.any(dim=0).nonzero().flatten()
        box = torch.zeros(8, 8, dtype=torch.bool)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert torch.equal(gone, box)
        for side in (rows, columns):
            touches_border = side[0] == 0 or side[-1] == 7
            assert len(side) == 4 or (touches_border and 2 <= len(side) < 4)
        zeroed.append((int(rows[0]), int(columns[0]), len(rows), len(columns)))
    assert (2, 2, 4, 4) in zeroed
    assert len(set(zeroed)) > 30


def test_cutout_of_the_whole_side_may_leave_at_most_half_of_it():
    images = noise()
    gone = (cut_out(images, 1.0, generator()) == 0).all(dim=1)
    assert (gone.any(dim=2).sum(dim=1) >= 4).all()
    assert (gone.any(dim=1).sum(dim=1) >= 4).all()


def test_colour_changes_stay_within_their_ranges():
    """On images of two greys only brightness and contrast show: mean ± 0.5, deviation x 0.5 to 1.5."""
    images = torch.zeros(2000, 3, 2, 2)
    images[..., 0] = 0.4
    changed = change_color(images, generator())
    assert torch.equal(changed[:, 0], changed[:, 2])
    brightness = changed.mean(dim=(1, 2, 3)) - 0.2
    contrast = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5)):
        assert low - 1e-5 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-5
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.03)


def test_saturation_runs_from_grey_to_twice_the_colour():
    """With a single pixel, saturation (0 to 2) and contrast (0.5 to 1.5) both scale the channels' spread."""
    images = torch.tensor([0.3, 0.0, -0.3]).reshape(1, 3, 1, 1).expand(4000, 3, 1, 1)
    changed = change_color(images, generator())
    spread = (changed[:, 0] - changed[:, 2]).flatten() / 0.6
    assert -1e-5 <= spread.min() < 0.01
    assert 2.8 < spread.max() <= 3 + 1e-5
    assert spread.mean().item() == pytest.approx(1, abs=0.05)


def test_images_are_changed_each_by_itself():
    images = noise(1).expand(50, 3, 8, 8)
    for changed in (
        translate(images, 0.25, generator()),
        cut_out(images, 0.5, generator()),
        change_color(images, generator()),
    ):
        assert len(changed.flatten(1).unique(dim=0)) > 10


ALL = DiffAugment(translation=0.25, cutout=0.5, color=True)


def test_the_same_generator_state_gives_the_same_result():
    images = noise()
    first, again, other = (augment(images, ALL, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_generator_advances():
    images, random = noise(), generator()
    assert not torch.equal(augment(images, ALL, random), augment(images, ALL, random))


def test_what_is_not_asked_for_is_not_done():
    images = noise()
    assert augment(images, DiffAugment(), generator()) is images
    only = {
        "translation": (DiffAugment(translation=0.25), translate(images, 0.25, generator())),
        "cutout": (DiffAugment(cutout=0.5), cut_out(images, 0.5, generator())),
        "color": (DiffAugment(color=True), change_color(images, generator())),
    }
    for parameters, expected in only.values():
        assert torch.equal(augment(images, parameters, generator()), expected)


def test_gradients_flow_through_all_of_them():
    images = noise().requires_grad_(True)
    augment(images, ALL, generator()).sum().backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().sum() > 0


def test_the_gradient_of_a_translation_is_the_translation_back():
    """Pixels that stay have gradient 1, those that leave the image 0: as many as zeros enter."""
    images = noise().requires_grad_(True)
    moved = translate(images, 0.25, generator())
    moved.sum().backward()
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(images.grad.sum(dim=(1, 2, 3)), (moved != 0).sum(dim=(1, 2, 3)).float())
