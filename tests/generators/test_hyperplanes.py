"""Hyperplanes: a planted plane is found again; distances and angles by hand; files keep every bit.

The data that they are fitted with are tested, too: domains, confident scores, shares of the rarer label.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.hyperplanes import (
    Hyperplane,
    Planes,
    angle_between,
    confident,
    domain_names,
    fit_hyperplane,
    group_balancing_weights,
    load_hyperplanes,
    plane_balanced_accuracy,
    planes_of,
    save_hyperplanes,
    with_both_labels,
    with_rare_share,
)
from pipeline.errors import UserError


def planted(n: int, D: int, offset: float, seed: int = 0) -> tuple[Hyperplane, np.ndarray, np.ndarray]:
    """Draw a random plane, latents, and on which side of the plane each lies."""
    random = np.random.default_rng(seed)
    normal = random.normal(size=D)
    plane = Hyperplane("planted", normal / np.linalg.norm(normal), offset)
    latents = random.normal(size=(n, D)).astype(np.float32)
    return plane, latents, (plane.distance(latents) > 0).astype(np.int64)


@pytest.mark.parametrize("offset", [0.0, 0.5, -1.2])  # at -1.2 one latent in nine is positive
def test_a_planted_plane_is_recovered_with_its_orientation(offset):
    truth, latents, labels = planted(2000, 16, offset)
    plane = fit_hyperplane("Male", latents, labels, C=1.0, seed=0)
    assert plane.attribute == "Male"
    assert angle_between(plane, truth) < 4
    assert plane.offset == pytest.approx(offset, abs=0.1)
    assert plane_balanced_accuracy(plane, latents, labels) > 0.97
    assert plane.distance(latents)[labels == 1].mean() > 0.5 > plane.distance(latents)[labels == 0].mean()


def test_group_weights_by_hand():
    """Two groups of 40 and 20 share 60 evenly: 30 / 40 and 30 / 20. One of 5 counts as 20 would."""
    weights = group_balancing_weights(np.repeat([0, 3], [40, 20]))
    np.testing.assert_allclose(weights, np.repeat([0.75, 1.5], [40, 20]))
    few = group_balancing_weights(np.repeat([0, 3], [20, 5]))
    np.testing.assert_allclose(few, np.ones(25))
    assert len(group_balancing_weights(np.zeros(0, dtype=np.int64))) == 0


def test_with_balanced_groups_a_plane_does_not_lean_towards_what_goes_with_its_attribute():
    """Of the two latent directions one makes the target, noisily, the other the protected attribute.

    In 95 % of the latents kept they agree. By the labels alone the target's plane leans to the other's.
    """
    random = np.random.default_rng(0)
    latents = random.normal(size=(60_000, 8)).astype(np.float32)
    target = (latents[:, 0] + random.normal(size=60_000) > 0).astype(np.int64)
    protected = (latents[:, 1] > 0).astype(np.int64)
    kept = (target == protected) | (random.random(60_000) < 1 / 19)
    latents, target, protected = latents[kept], target[kept], protected[kept]
    truth = Hyperplane("target", np.eye(8)[0], 0.0)
    leaning = fit_hyperplane("target", latents, target, 1.0, 0)
    weights = group_balancing_weights(2 * target + protected)
    upright = fit_hyperplane("target", latents, target, 1.0, 0, weights)
    assert angle_between(leaning, truth) > 60
    assert angle_between(upright, truth) < 10


def test_the_normal_has_unit_length():
    _, latents, labels = planted(300, 8, 0.2)
    for C in (0.01, 10.0):
        plane = fit_hyperplane("Male", latents, labels, C=C, seed=0)
        assert np.linalg.norm(plane.normal) == pytest.approx(1, abs=1e-12)


def test_opposite_labels_give_the_opposite_plane():
    _, latents, labels = planted(500, 8, 0.2)
    plane = fit_hyperplane("Male", latents, labels, C=1.0, seed=0)
    opposite = fit_hyperplane("Male", latents, 1 - labels, C=1.0, seed=0)
    assert angle_between(plane, opposite) == pytest.approx(180, abs=0.1)
    assert opposite.offset == pytest.approx(-plane.offset, abs=1e-3)


def test_fewer_latents_than_dimensions_are_separated():
    _, latents, labels = planted(40, 100, 0.0)
    plane = fit_hyperplane("Male", latents, labels, C=10.0, seed=0)
    assert plane_balanced_accuracy(plane, latents, labels) == 1


def test_the_same_seed_fits_the_same_plane():
    _, latents, labels = planted(40, 100, 0.0)
    first, second = (fit_hyperplane("Male", latents, labels, C=1.0, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.normal, second.normal)
    assert first.offset == second.offset


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_label_is_refused_and_the_attribute_named(label):
    with pytest.raises(UserError, match=f"all 10 images.*Eyeglasses={label}"):
        fit_hyperplane("Eyeglasses", np.ones((10, 3)), np.full(10, label), C=1.0, seed=0)


def test_a_domain_of_one_label_is_refused_and_named():
    name = "Blond_Hair in Male=1, Eyeglasses=0"
    with pytest.raises(UserError) as raised:
        fit_hyperplane(name, np.ones((7, 3)), np.zeros(7, int), C=1.0, seed=0)
    message = str(raised.value)
    assert "all 7 images of the domain Male=1, Eyeglasses=0 to fit with are labelled Blond_Hair=0" in message
    assert "out/attributes/Blond_Hair;" in message
    assert "domain_dependent false" in message


def test_labels_of_one_kind_part_the_scores_and_others_stay():
    scores = np.array([0.9, 0.6, 0.8, 0.7, 0.95])
    assert with_both_labels(np.ones(5, int), scores).tolist() == [1, 0, 0, 0, 1]
    assert with_both_labels(np.zeros(4, int), np.full(4, 0.2)).tolist() == [0, 0, 1, 1]  # equal scores
    labels = np.array([0, 0, 0, 1, 0])
    assert with_both_labels(labels, scores).tolist() == labels.tolist()
    assert with_both_labels(np.zeros(0, int), np.zeros(0)).tolist() == []


def test_a_domain_without_latents_is_refused_and_named():
    with pytest.raises(UserError, match="no latent of the domain Male=1 to fit Blond_Hair with"):
        fit_hyperplane("Blond_Hair in Male=1", np.ones((0, 3)), np.zeros(0, int), C=1.0, seed=0)


def test_signed_distances_by_hand():
    plane = Hyperplane("Male", np.array([0.6, 0.8]), -1.0)
    latents = np.array([[2.0, 1.0], [0.0, 0.0], [0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(plane.distance(latents), [1.2 + 0.8 - 1, -1, 0], atol=1e-6)


def test_balanced_accuracy_by_hand():
    """Distances 1, 1, -1, -1, -1 against labels 1, 0, 1, 0, 0: TPR 1/2 and TNR 2/3."""
    plane = Hyperplane("Male", np.array([1.0]), 0.0)
    latents = np.array([[1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    assert plane_balanced_accuracy(plane, latents, np.array([1, 0, 1, 0, 0])) == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )


def test_balanced_accuracy_is_undefined_without_both_labels():
    plane = Hyperplane("Male", np.array([1.0]), 0.0)
    assert np.isnan(plane_balanced_accuracy(plane, np.array([[1.0], [-1.0]]), np.array([1, 1])))
    assert np.isnan(plane_balanced_accuracy(plane, np.empty((0, 1)), np.empty(0, int)))


@pytest.mark.parametrize(
    ("second", "degrees"),
    [
        ((1.0, 0.0), 0),
        ((0.5, np.sqrt(0.75)), 60),
        ((0.0, 1.0), 90),
        ((-0.6, 0.8), 126.8698976),
        ((-1.0, 0.0), 180),
    ],
)
def test_angles_by_hand(second, degrees):
    first = Hyperplane("Male", np.array([1.0, 0.0]), 3.0)
    assert angle_between(first, Hyperplane("Young", np.array(second), -2.0)) == pytest.approx(
        degrees, abs=1e-5
    )


def test_files_keep_every_bit(tmp_path):
    truth, latents, labels = planted(200, 8, 0.1)
    planes = [truth, fit_hyperplane("Male", latents, labels, C=1.0, seed=0)]
    save_hyperplanes(tmp_path / "hyperplanes.json", planes)
    loaded = load_hyperplanes(tmp_path / "hyperplanes.json")
    assert set(loaded) == {"planted", "Male"}
    for plane in planes:
        read = loaded[plane.attribute]
        assert read.attribute == plane.attribute
        assert read.normal.dtype == np.float64
        np.testing.assert_array_equal(read.normal, plane.normal)
        assert read.offset == plane.offset


# Domains


def test_the_domains_names_are_in_the_order_of_their_numbers():
    assert domain_names("Blond_Hair", ["Male", "Eyeglasses"]) == [
        "Blond_Hair in Male=0, Eyeglasses=0",
        "Blond_Hair in Male=0, Eyeglasses=1",
        "Blond_Hair in Male=1, Eyeglasses=0",
        "Blond_Hair in Male=1, Eyeglasses=1",
    ]


def test_the_sides_of_the_protected_hyperplanes_say_which_domain():
    target = Hyperplane("t", np.array([1.0, 0.0]), 9.0)
    first, second = Hyperplane("g", np.array([1.0, 0.0]), -1.0), Hyperplane("h", np.array([0.0, -1.0]), 0.0)
    latents = np.array([[0.9, 1.0], [0.9, -1.0], [1.1, 1.0], [1.1, -1.0]], np.float32)
    np.testing.assert_array_equal(Planes(target, (first, second)).domains_of(latents), [0, 1, 2, 3])
    np.testing.assert_array_equal(Planes(target, (second, first)).domains_of(latents), [0, 2, 1, 3])
    np.testing.assert_array_equal(Planes(target, (first,)).domains_of(latents), [0, 0, 1, 1])


@pytest.mark.parametrize("by_domain", [False, True])
def test_planes_come_back_from_a_file_each_in_its_place(by_domain, tmp_path):
    names = domain_names("Blond_Hair", ["Male", "Eyeglasses"]) if by_domain else []
    normals = np.random.default_rng(0).normal(size=(7, 5))
    written = {
        name: Hyperplane(name, normal, float(place))
        for place, (name, normal) in enumerate(
            zip(["Eyeglasses", "Blond_Hair", "Male", *names], normals, strict=False)
        )
    }
    save_hyperplanes(tmp_path / "hyperplanes.json", list(written.values()))
    planes = planes_of(load_hyperplanes(tmp_path / "hyperplanes.json"), "Blond_Hair", ["Male", "Eyeglasses"])
    assert planes.target.offset == 1
    assert [plane.offset for plane in planes.protected] == [2, 0]
    assert [plane.offset for plane in planes.by_domain] == ([3, 4, 5, 6] if by_domain else [])
    for plane in (planes.target, *planes.protected, *planes.by_domain):
        np.testing.assert_array_equal(plane.normal, written[plane.attribute].normal)


# The ablations


def test_confident_scores_by_hand():
    scores = np.array([0.0, 0.1, 0.11, 0.5, 0.89, 0.9, 1.0], np.float32)
    np.testing.assert_array_equal(confident(scores, 0.9), [True, True, False, False, False, True, True])
    assert confident(scores, 0.5).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 600),
    st.floats(0.02, 0.5),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_the_rarer_label_gets_its_share(rare, more, share, inverse, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat([1, 0], [rare, rare + more]))
    labels = 1 - labels if inverse else labels
    try:
        chosen = with_rare_share("Male", labels, share, seed)
    except UserError:
        assert share * (2 * rare + more) < rare  # the rarer label is to be thinned out,
        assert round((rare + more) * share / (1 - share)) == 0  # to less than one latent
        return
    assert (np.diff(chosen) > 0).all()
    n_rare = (labels[chosen] == (0 if inverse else 1)).sum() if more else min(np.bincount(labels[chosen]))
    n_common = len(chosen) - n_rare
    # One kind is whole, and of the other there is what makes the share, to a half.
    thinned_common = n_rare == rare and abs(n_common - rare * (1 - share) / share) < 0.5 + 1e-6
    thinned_rare = n_common == rare + more and abs(n_rare - n_common * share / (1 - share)) < 0.5 + 1e-6
    assert thinned_common or thinned_rare


def test_shares_by_hand():
    labels = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0, 0])  # 2 of 10
    for share, counts in ((0.5, [2, 2]), (0.25, [6, 2]), (0.2, [8, 2]), (1 / 9, [8, 1])):
        assert np.bincount(labels[with_rare_share("Male", labels, share, 0)]).tolist() == counts


def test_the_draw_depends_on_the_seed_and_the_hyperplane():
    labels = np.repeat([0, 1], [500, 50])
    drawn = with_rare_share("Male", labels, 0.5, 0)
    np.testing.assert_array_equal(with_rare_share("Male", labels, 0.5, 0), drawn)
    for name, seed in (("Male", 1), ("Blond_Hair", 0)):
        assert (with_rare_share(name, labels, 0.5, seed) != drawn).any()


def test_a_share_that_is_less_than_one_latent_is_refused():
    labels = np.repeat([0, 1], [99, 20])
    with pytest.raises(UserError, match=r"rare_share 0\.004 .*Male.*from 99 latents.*a share of 0\.01\."):
        with_rare_share("Male", labels, 0.004, 0)
    assert labels[with_rare_share("Male", labels, 0.01, 0)].sum() == 1


def test_a_single_label_is_left_to_the_fit_to_refuse():
    for labels in (np.zeros(5, int), np.ones(5, int), np.empty(0, int)):
        np.testing.assert_array_equal(with_rare_share("Male", labels, 0.3, 0), np.arange(len(labels)))
