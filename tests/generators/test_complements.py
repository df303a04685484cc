"""Complements: constraints met exactly, the published closed forms, the smallest of all such moves."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from generators.complements import (
    FLIP,
    KEEP,
    ONTO,
    VARIANTS,
    Constraints,
    complement,
    complement_on_sphere,
    condition_number,
)
from generators.hyperplanes import Hyperplane
from generators.latents import to_sphere
from pipeline.errors import UserError
from tests.generators.planes import (
    all_changed,
    distances,
    plane_at,
    random_covariance,
    random_latents,
    random_planes,
)

SEEDS = st.integers(0, 2**32 - 1)


# The constraints


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 3), st.integers(4, 96), SEEDS, st.booleans())
def test_every_variant_meets_its_constraints_on_random_hyperplanes(variant, protected, D, seed, own_metric):
    random = np.random.default_rng(seed)
    target, *others = random_planes(random, 1 + protected, D)
    constraints = all_changed(variant, target, others)
    assume(condition_number(constraints) < 30)
    z = random_latents(random, 16, D)
    covariance = random_covariance(random, D) if own_metric else None
    moved = complement(z, constraints, covariance)
    wanted = {"complement": -1, "on_hyperplane": 0, "perpendicular": -1, "perpendicular_on_hyperplane": 0}
    for plane in others:
        np.testing.assert_allclose(plane.distance(moved), wanted[variant] * plane.distance(z), atol=1e-5)
    if variant in ("complement", "on_hyperplane"):
        np.testing.assert_allclose(target.distance(moved), target.distance(z), atol=1e-5)


def test_perpendicular_variants_leave_the_target_unconstrained():
    random = np.random.default_rng(0)
    target, protected = random_planes(random, 2, 3)
    z = random_latents(random, 16, 3)
    for variant in ("perpendicular", "perpendicular_on_hyperplane"):
        moved = complement(z, all_changed(variant, target, [protected]))
        assert np.abs(target.distance(moved) - target.distance(z)).max() > 0.1


# The closed forms of METHODS 1.4


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 96), SEEDS)
def test_every_variant_equals_its_published_closed_form(D, seed):
    random = np.random.default_rng(seed)
    target, protected = random_planes(random, 2, D)
    z = random_latents(random, 16, D).astype(np.float64)
    w_t, w_g = target.normal, protected.normal
    s_g = (z @ w_g + protected.offset)[:, None]
    cos = w_t @ w_g
    sin = np.sqrt(1 - cos**2)
    assume(sin > 0.05)
    across = (w_g - cos * w_t) / sin  # ĝ⊥: unit, in the plane of w_t and w_g, perpendicular to w_t
    assert np.linalg.norm(across) == pytest.approx(1)
    assert across @ w_t == pytest.approx(0, abs=1e-9)
    closed_forms = {
        "complement": z - 2 * s_g / sin * across,
        "on_hyperplane": z - s_g / sin * across,
        "perpendicular": z - 2 * s_g * w_g,
        "perpendicular_on_hyperplane": z - s_g * w_g,
    }
    assert set(closed_forms) == set(VARIANTS)
    for variant, expected in closed_forms.items():
        moved = complement(z, all_changed(variant, target, [protected]))
        np.testing.assert_allclose(moved, expected, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        # z = (2, 1): s_t = 2 and s_g = 0.6 * 2 + 0.8 * 1 + 0.5 = 2.5.
        ("complement", (2.0, -5.25)),  # x stays; 1.2 + 0.8 y + 0.5 = -2.5
        ("on_hyperplane", (2.0, -2.125)),  # x stays; 1.2 + 0.8 y + 0.5 = 0
        ("perpendicular", (-1.0, -3.0)),  # (2, 1) - 5 (0.6, 0.8)
        ("perpendicular_on_hyperplane", (0.5, -1.0)),  # (2, 1) - 2.5 (0.6, 0.8)
    ],
)
def test_a_two_dimensional_example_worked_by_hand(variant, expected):
    target = Hyperplane("Blond_Hair", np.array([1.0, 0.0]), 0.0)
    protected = Hyperplane("Male", np.array([0.6, 0.8]), 0.5)
    moved = complement(np.array([[2.0, 1.0]]), all_changed(variant, target, [protected]))
    np.testing.assert_allclose(moved, [expected], atol=1e-6)


def test_two_protected_attributes_are_both_flipped_by_hand():
    """Along the axes the constraints do not touch one another: x stays, y and z change sign about -b."""
    planes = [
        Hyperplane(name, axis, b) for name, axis, b in zip("tgh", np.eye(3), (5.0, 1.0, 0.0), strict=True)
    ]
    moved = complement(np.array([[7.0, 2.0, 3.0]]), all_changed("complement", planes[0], planes[1:]))
    np.testing.assert_allclose(moved, [[7.0, -4.0, -3.0]], atol=1e-6)


# The smallest move


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 3), st.integers(4, 64), SEEDS)
def test_the_move_is_the_minimum_norm_solution(variant, protected, D, seed):
    random = np.random.default_rng(seed)
    target, *others = random_planes(random, 1 + protected, D)
    constraints = all_changed(variant, target, others)
    assume(condition_number(constraints) < 30)
    z = random_latents(random, 8, D)
    s = z @ constraints.normals.T + constraints.offsets
    smallest = np.linalg.lstsq(constraints.normals, ((constraints.factors - 1) * s).T)[0].T
    np.testing.assert_allclose(complement(z, constraints) - z, smallest, atol=1e-4)


@pytest.mark.parametrize("own_metric", [False, True])
def test_no_optimiser_finds_a_shorter_move(own_metric):
    random = np.random.default_rng(3)
    target, protected = random_planes(random, 2, 5)
    z = random_latents(random, 1, 5)[0].astype(np.float64)
    covariance = random_covariance(random, 5) if own_metric else np.eye(5)
    precision = np.linalg.inv(covariance)
    found = minimize(
        lambda x: (x - z) @ precision @ (x - z),
        x0=random.normal(size=5),
        method="SLSQP",
        tol=1e-12,
        constraints=[
            {"type": "eq", "fun": lambda x: target.distance(x) - target.distance(z)},
            {"type": "eq", "fun": lambda x: protected.distance(x) + protected.distance(z)},
        ],
    )
    assert found.success
    constraints = all_changed("complement", target, [protected])
    moved = complement(z[None], constraints, covariance if own_metric else None)
    np.testing.assert_allclose(moved[0], found.x, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 48), SEEDS)
def test_the_complement_of_the_complement_is_the_latent(D, seed):
    random = np.random.default_rng(seed)
    target, protected = random_planes(random, 2, D)
    constraints = all_changed("complement", target, [protected])
    assume(condition_number(constraints) < 10)
    z = random_latents(random, 8, D)
    np.testing.assert_allclose(complement(complement(z, constraints), constraints), z, atol=1e-4)


# The data's own metric


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 48), SEEDS)
def test_mahalanobis_with_the_identity_is_euclidean(D, seed):
    random = np.random.default_rng(seed)
    target, protected = random_planes(random, 2, D)
    constraints = all_changed("complement", target, [protected])
    assume(condition_number(constraints) < 10)
    z = random_latents(random, 8, D)
    np.testing.assert_allclose(complement(z, constraints, np.eye(D)), complement(z, constraints), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 32), SEEDS)
def test_the_mahalanobis_move_is_the_shorter_one_in_the_datas_metric(D, seed):
    random = np.random.default_rng(seed)
    target, protected = random_planes(random, 2, D)
    constraints = all_changed("complement", target, [protected])
    assume(condition_number(constraints) < 10)
    z = random_latents(random, 8, D)
    covariance = random_covariance(random, D)

    def lengths(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        move = moved.astype(np.float64) - z
        return np.sqrt(np.einsum("nd,de,ne->n", move, np.linalg.inv(covariance), move)), np.linalg.norm(
            move, axis=1
        )

    in_own_metric, in_own_metric_euclidean = lengths(complement(z, constraints, covariance))
    euclidean, euclidean_euclidean = lengths(complement(z, constraints))
    assert (in_own_metric < euclidean).all()
    assert (euclidean_euclidean < in_own_metric_euclidean).all()


def test_the_mahalanobis_move_by_hand():
    """With Σ = diag(1, 4) and w = (0.6, 0.8): Σ w = (0.6, 3.2), w Σ w = 2.92; z = (1, 0.5) has s = 1."""
    target = Hyperplane("Blond_Hair", np.array([1.0, 0.0]), 0.0)
    protected = Hyperplane("Male", np.array([0.6, 0.8]), 0.0)
    constraints = all_changed("perpendicular", target, [protected])
    moved = complement(np.array([[1.0, 0.5]]), constraints, np.diag([1.0, 4.0]))
    np.testing.assert_allclose(moved, [[1 - 2 * 0.6 / 2.92, 0.5 - 2 * 3.2 / 2.92]], atol=1e-6)


# On the sphere


def random_constraints(
    random: np.random.Generator, factors: list[float], D: int, offset: float
) -> Constraints:
    """Draw constraints on random unit normals whose offsets have this standard deviation."""
    normals = random.normal(size=(len(factors), D))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = offset * random.normal(size=len(factors))
    return Constraints(tuple("abc"[: len(factors)]), normals, offsets, np.array(factors), normals, offsets)


def reach_of(constraints: Constraints, z: np.ndarray) -> np.ndarray:
    """Compute the length of the shortest vector that meets the constraints: [n]."""
    wanted = constraints.factors * distances(constraints, z) - constraints.offsets
    return np.linalg.norm(wanted @ np.linalg.pinv(constraints.normals).T, axis=1)


FACTORS = st.lists(st.sampled_from([KEEP, FLIP, ONTO]), min_size=1, max_size=3)


@settings(max_examples=80, deadline=None)
@given(FACTORS, st.integers(8, 64), SEEDS)
def test_on_the_sphere_every_constraint_is_met_at_the_full_length(factors, D, seed):
    random = np.random.default_rng(seed)
    constraints = random_constraints(random, factors, D, 0.3)
    assume(condition_number(constraints) < 10)
    z = to_sphere(random_latents(random, 16, D))
    z = z[reach_of(constraints, z) < 0.98 * np.sqrt(D)]
    moved = complement_on_sphere(z, constraints)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved.astype(np.float64), axis=1), np.sqrt(D), atol=1e-5)
    wanted = constraints.factors * distances(constraints, z)
    np.testing.assert_allclose(distances(constraints, moved), wanted, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(8, 64), SEEDS)
def test_on_the_sphere_what_keeps_every_distance_stays_where_it_is(k, D, seed):
    random = np.random.default_rng(seed)
    constraints = random_constraints(random, [KEEP] * k, D, 1.0)
    assume(condition_number(constraints) < 10)
    z = to_sphere(random_latents(random, 16, D))
    np.testing.assert_allclose(complement_on_sphere(z, constraints), z, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(FACTORS, st.integers(8, 32), SEEDS)
def test_no_other_point_of_the_sphere_that_meets_the_constraints_is_nearer(factors, D, seed):
    """The other points meet the constraints and have any remaining direction."""
    random = np.random.default_rng(seed)
    constraints = random_constraints(random, factors, D, 0.3)
    assume(condition_number(constraints) < 10)
    z = to_sphere(random_latents(random, 1, D)).astype(np.float64)
    assume(reach_of(constraints, z)[0] < 0.95 * np.sqrt(D))
    pinv = np.linalg.pinv(constraints.normals)
    fixed = (constraints.factors * distances(constraints, z) - constraints.offsets) @ pinv.T
    moved = complement_on_sphere(z.astype(np.float32), constraints).astype(np.float64)
    spread = np.repeat(10.0 ** -np.arange(4.0), 50)[:, None]
    others = (moved - fixed) + spread * random.normal(size=(200, D))
    others -= (others @ constraints.normals.T) @ pinv.T
    others *= np.sqrt(D - (fixed**2).sum()) / np.linalg.norm(others, axis=1, keepdims=True)
    others += fixed
    np.testing.assert_allclose(np.linalg.norm(others, axis=1), np.sqrt(D))
    wanted = np.broadcast_to(constraints.factors * distances(constraints, z), (200, len(factors)))
    np.testing.assert_allclose(distances(constraints, others), wanted, atol=1e-9)
    assert np.linalg.norm(moved - z) <= np.linalg.norm(others - z, axis=1).min() + 1e-5


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_an_optimiser_on_the_sphere_finds_the_same_point(variant):
    random = np.random.default_rng(6)
    planes = [Hyperplane(p.attribute, p.normal, 0.2 * p.offset) for p in random_planes(random, 2, 8)]
    constraints = all_changed(variant, planes[0], planes[1:])
    z = to_sphere(random_latents(random, 1, 8))[0].astype(np.float64)
    assert reach_of(constraints, z[None])[0] < np.sqrt(8)
    wanted = constraints.factors * distances(constraints, z[None])[0]
    found = minimize(
        lambda x: ((x - z) ** 2).sum(),
        x0=z + 0.1 * random.normal(size=8),
        method="SLSQP",
        tol=1e-9,
        constraints=[
            {"type": "eq", "fun": lambda x: x @ x - 8},
            {"type": "eq", "fun": lambda x: constraints.normals @ x + constraints.offsets - wanted},
        ],
    )
    assert found.success
    moved = complement_on_sphere(z[None].astype(np.float32), constraints)[0]
    np.testing.assert_allclose(moved, found.x, atol=1e-3)


def test_on_the_sphere_by_hand():
    plane = Hyperplane("Male", np.array([1.0, 0.0, 0.0, 0.0]), -0.25)
    constraints = all_changed("perpendicular", plane, [plane])
    # s = 0.75 becomes -0.75: x = -0.5; what is left of the length 2 is √3.75, shared as (√3, 0, 0) was.
    moved = complement_on_sphere(np.array([[1.0, 3**0.5, 0, 0]], np.float32), constraints)
    np.testing.assert_allclose(moved, [[-0.5, 3.75**0.5, 0, 0]], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(8, 32), SEEDS)
def test_constraints_out_of_reach_give_where_the_sphere_comes_nearest_to_them(k, D, seed):
    random = np.random.default_rng(seed)
    constraints = random_constraints(random, [FLIP] * k, D, 3 * np.sqrt(D))
    assume(condition_number(constraints) < 10)
    z = to_sphere(random_latents(random, 4, D))
    z = z[reach_of(constraints, z) > 1.02 * np.sqrt(D)]
    assume(len(z))
    moved = complement_on_sphere(z, constraints).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(D), atol=1e-5)
    others = to_sphere(np.concatenate([random_latents(random, 200, D), moved + 0.1 * random.normal(size=D)]))

    def off(latents: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Compute the distance from the nearest point that meets the constraints."""
        lacking = wanted - distances(constraints, latents)
        return np.linalg.norm(lacking @ np.linalg.pinv(constraints.normals).T, axis=-1)

    for latent, image in zip(z, moved, strict=True):
        wanted = -distances(constraints, latent[None])
        assert off(image[None], wanted)[0] <= off(others, wanted).min() + 1e-5


def test_on_the_sphere_parallel_hyperplanes_are_refused():
    constraints = all_changed("complement", plane_at(0.0, "Blond_Hair"), [plane_at(0.01, "Male")])
    with pytest.raises(UserError, match=r"Blond_Hair and Male are parallel"):
        complement_on_sphere(to_sphere(np.ones((1, 2), np.float32)), constraints)


def test_no_latents_have_no_complements_on_the_sphere():
    constraints = random_constraints(np.random.default_rng(0), [KEEP, FLIP], 8, 1.0)
    assert complement_on_sphere(np.empty((0, 8), np.float32), constraints).shape == (0, 8)


# Parallel hyperplanes


@pytest.mark.parametrize("degrees", [0.0, 0.05, 180.0])
@pytest.mark.parametrize("covariance", [None, np.diag([1.0, 2.0])])
def test_parallel_hyperplanes_are_refused_and_both_named(degrees, covariance):
    target, protected = plane_at(0.0, "Blond_Hair"), plane_at(degrees, "Male")
    with pytest.raises(UserError, match=r"Blond_Hair.*Male.*parallel"):
        complement(np.ones((1, 2)), all_changed("complement", target, [protected]), covariance)


def test_parallel_hyperplanes_are_no_obstacle_to_the_perpendicular_variant():
    constraints = all_changed("perpendicular", plane_at(0.0, "Blond_Hair"), [plane_at(0.0)])
    np.testing.assert_allclose(complement(np.array([[1.0, 5.0]]), constraints), [[-1.6, 5.0]], atol=1e-6)


def test_hyperplanes_a_degree_apart_are_accepted():
    target, protected = plane_at(0.0), plane_at(1.0)
    z = np.array([[0.7, -0.2]])
    moved = complement(z, all_changed("complement", target, [protected]))
    assert protected.distance(moved)[0] == pytest.approx(-protected.distance(z)[0], abs=1e-4)


def test_hyperplanes_that_only_differ_in_the_spread_of_the_data_are_not_called_parallel():
    """Perpendicular normals meet their constraints whatever the variances along them are."""
    target = Hyperplane("Blond_Hair", np.array([1.0, 0.0]), 0.0)
    protected = Hyperplane("Male", np.array([0.0, 1.0]), 0.0)
    constraints = all_changed("complement", target, [protected])
    moved = complement(np.array([[3.0, 2.0]]), constraints, np.diag([1e-4, 1e3]))
    np.testing.assert_allclose(moved, [[3.0, -2.0]], atol=1e-6)


def test_condition_number_by_hand():
    """cond(W) = √((1 + cos θ) / (1 - cos θ)): 1 at 90°, √(1.6 / 0.4) = 2 at cos θ = 0.6."""
    degrees = np.degrees(np.arccos(0.6))
    at = {
        d: condition_number(all_changed("complement", plane_at(0), [plane_at(d)])) for d in (90, degrees, 0)
    }
    assert at[90] == pytest.approx(1)
    assert at[degrees] == pytest.approx(2)
    assert at[0] > 1e12


# What is handed over


def test_constraints_name_the_target_first_and_hold_each_ones_factor():
    target, first, second = random_planes(np.random.default_rng(0), 3, 4)
    constraints = all_changed("complement", target, [first, second])
    assert constraints.attributes == ("attribute0", "attribute1", "attribute2")
    np.testing.assert_array_equal(constraints.factors, [1, -1, -1])
    np.testing.assert_array_equal(constraints.normals, [target.normal, first.normal, second.normal])
    np.testing.assert_array_equal(constraints.offsets, [target.offset, first.offset, second.offset])
    np.testing.assert_array_equal(all_changed("on_hyperplane", target, [first]).factors, [1, 0])
    assert all_changed("perpendicular", target, [first, second]).attributes == ("attribute1", "attribute2")


def test_complements_are_float32_and_the_latents_are_untouched():
    random = np.random.default_rng(0)
    target, protected = random_planes(random, 2, 8)
    z = random_latents(random, 4, 8)
    before = z.copy()
    moved = complement(z, all_changed("complement", target, [protected]))
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(z, before)
