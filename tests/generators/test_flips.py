"""Every subset of several protected attributes; the target's hyperplane of the domain that z' is moved to."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from generators.complements import (
    VARIANTS,
    Flip,
    angle_to_what_is_kept,
    complement,
    complement_by_domain,
    condition_number,
    constraints_of,
    require_independent,
    subset_flips,
)
from generators.hyperplanes import Hyperplane, Planes
from generators.latents import to_sphere
from pipeline.content.groups import protected_columns
from pipeline.errors import UserError
from tests.generators.planes import (
    all_changed,
    distances,
    plane_at,
    random_covariance,
    random_latents,
    random_planes,
    wanted,
)

SEEDS = st.integers(0, 2**32 - 1)
KEEPING = ["complement", "on_hyperplane"]  # variants in which the target is constrained


def planes_in(
    random: np.random.Generator, k: int, D: int, by_domain: bool = False, offset: float = 1.0
) -> Planes:
    """Draw random planes with offsets of this standard deviation."""
    count = 1 + k + (2**k if by_domain else 0)
    target, *others = (
        Hyperplane(p.attribute, p.normal, offset * p.offset) for p in random_planes(random, count, D)
    )
    return Planes(target, tuple(others[:k]), tuple(others[k:]))


def worst_condition(flips: list[Flip]) -> float:
    return max(condition_number(of) for flip in flips for of in flip.by_domain)


def axis(D: int, place: int, attribute: str, offset: float = 0.0) -> Hyperplane:
    return Hyperplane(attribute, np.eye(D)[place], offset)


# Subsets


def test_the_subsets_of_three_attributes_in_the_order_of_their_masks():
    target, *protected = (axis(4, k, name) for k, name in enumerate("tabc"))
    flips = subset_flips("complement", Planes(target, tuple(protected)))
    assert [(flip.mask, flip.name) for flip in flips] == [
        (0b001, "c"), (0b010, "b"), (0b011, "b+c"), (0b100, "a"), (0b101, "a+c"), (0b110, "a+b"),
        (0b111, "a+b+c"),
    ]  # fmt: skip
    assert [flip.by_domain[0].factors.tolist() for flip in flips[:3]] == [
        [1, 1, 1, -1], [1, 1, -1, 1], [1, 1, -1, -1],
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 3), st.integers(6, 64), SEEDS, st.booleans())
def test_every_subset_meets_its_constraints(variant, k, D, seed, own_metric):
    """Attributes in the subset are flipped or moved onto, all other protected attributes are kept."""
    random = np.random.default_rng(seed)
    planes = planes_in(random, k, D)
    flips = subset_flips(variant, planes)
    assume(worst_condition(flips) < 20)
    z = random_latents(random, 8, D)
    covariance = random_covariance(random, D) if own_metric else None
    for flip in flips:
        moved = complement_by_domain(z, planes.domains_of(z), flip, covariance)
        in_subset = protected_columns(np.array([flip.mask]), k)[0]
        assert flip.attributes == tuple(np.array([p.attribute for p in planes.protected])[in_subset == 1])
        for plane, changes in zip(planes.protected, in_subset, strict=True):
            factor = (0 if variant.endswith("on_hyperplane") else -1) if changes else 1
            np.testing.assert_allclose(plane.distance(moved), factor * plane.distance(z), atol=1e-5)
        if variant in KEEPING:
            np.testing.assert_allclose(planes.target.distance(moved), planes.target.distance(z), atol=1e-5)
        if variant == "complement":
            clear = np.abs([plane.distance(z) for plane in planes.protected]).min(axis=0) > 1e-4
            np.testing.assert_array_equal(
                planes.domains_of(moved)[clear], planes.domains_of(z)[clear] ^ flip.mask
            )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(6, 48), SEEDS)
def test_a_subset_flipped_twice_gives_the_latent_back(k, D, seed):
    random = np.random.default_rng(seed)
    planes = planes_in(random, k, D)
    flips = subset_flips("complement", planes)
    assume(worst_condition(flips) < 10)
    z = random_latents(random, 8, D)
    for flip in flips:
        moved = complement(z, flip.by_domain[0])
        assert np.linalg.norm(moved - z, axis=1).max() > 0.01
        np.testing.assert_allclose(complement(moved, flip.by_domain[0]), z, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 48), SEEDS)
def test_perpendicular_attributes_are_flipped_one_after_another(D, seed):
    random = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(random.normal(size=(D, 3)))
    target, first, second = (Hyperplane(f"{k}", axes[:, k], float(random.normal())) for k in range(3))
    z = random_latents(random, 8, D)
    by_name = {f.name: f for f in subset_flips("complement", Planes(target, (first, second)))}
    one, other = (complement(z, by_name[name].by_domain[0]) for name in ("1", "2"))
    assert np.abs(one - other).max() > 0.01
    in_turn = complement(one, by_name["2"].by_domain[0])
    np.testing.assert_allclose(complement(z, by_name["1+2"].by_domain[0]), in_turn, atol=1e-5)
    np.testing.assert_allclose(one + other - z, in_turn, atol=1e-5)


def test_of_two_attributes_at_an_angle_the_second_keeps_its_distance_by_hand():
    """Male y, Eyeglasses 0.6 y + 0.8 z: z = (7, 2, 3) has the distances 2 and 3.6."""
    glasses = Hyperplane("Eyeglasses", np.array([0.0, 0.6, 0.8]), 0.0)
    planes = Planes(axis(3, 0, "Blond_Hair", 5.0), (axis(3, 1, "Male"), glasses))
    z = np.array([[7.0, 2.0, 3.0]])
    moved = {flip.name: complement(z, flip.by_domain[0])[0] for flip in subset_flips("complement", planes)}
    np.testing.assert_allclose(moved["Male"], [7, -2, 6], atol=1e-5)  # -1.2 + 0.8 z = 3.6
    np.testing.assert_allclose(moved["Eyeglasses"], [7, 2, -6], atol=1e-5)  # 1.2 + 0.8 z = -3.6
    np.testing.assert_allclose(moved["Male+Eyeglasses"], [7, -2, -3], atol=1e-5)
    perpendicular = subset_flips("perpendicular", planes)[0].by_domain[0]
    assert perpendicular.attributes == ("Male", "Eyeglasses")
    np.testing.assert_array_equal(perpendicular.factors, [1, -1])


# The smallest move, with and without domains


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEEPING), st.integers(1, 3), st.booleans(), st.booleans(), SEEDS)
def test_the_move_is_the_minimum_norm_solution(variant, k, by_domain, own_metric, seed):
    """In coordinates in which Σ is the identity, least squares gives the shortest move."""
    random = np.random.default_rng(seed)
    D = int(random.integers(6, 48))
    planes = planes_in(random, k, D, by_domain)
    flips = subset_flips(variant, planes)
    assume(worst_condition(flips) < 20)
    z = random_latents(random, 8, D)
    covariance = random_covariance(random, D) if own_metric else np.eye(D)
    root = np.linalg.cholesky(covariance)
    domains = planes.domains_of(z)
    for flip in flips:
        moved = complement_by_domain(z, domains, flip, covariance if own_metric else None)
        for latent, domain, image in zip(z, domains, moved, strict=True):
            of = flip.by_domain[domain if by_domain else 0]
            lacking = (wanted(of, latent[None]) - distances(of, latent[None]))[0]
            smallest = root @ np.linalg.lstsq(of.normals @ root, lacking)[0]
            np.testing.assert_allclose(image - latent, smallest, atol=2e-4)


# The target's hyperplane in each domain


def in_two_dimensions() -> Planes:
    """Male is y; the target is x among the women and 0.6 x + 0.8 y + 0.1 among the men."""
    of_men = Hyperplane("Blond_Hair in Male=1", np.array([0.6, 0.8]), 0.1)
    by_domain = (axis(2, 0, "Blond_Hair in Male=0"), of_men)
    return Planes(axis(2, 0, "Blond_Hair"), (axis(2, 1, "Male"),), by_domain)


def test_two_domains_by_hand():
    planes = in_two_dimensions()
    z = np.array([[2.0, -1.0], [1.0, 2.0]])
    np.testing.assert_array_equal(planes.domains_of(z), [0, 1])
    (flip,) = subset_flips("complement", planes)
    moved = complement_by_domain(z, planes.domains_of(z), flip)
    # A woman of s_t = 2 becomes a man of 0.6 x + 0.8 + 0.1 = 2; a man of 0.6 + 1.6 + 0.1 a woman of x = 2.3.
    np.testing.assert_allclose(moved, [[11 / 6, 1.0], [2.3, -2.0]], atol=1e-6)


def test_on_the_hyperplane_between_two_domains_by_hand():
    """The target's distance is the other domain's: 0.6 x + 0.1 = 2 and x = 2.3, at y = 0."""
    planes = in_two_dimensions()
    z = np.array([[2.0, -1.0], [1.0, 2.0]])
    (flip,) = subset_flips("on_hyperplane", planes)
    moved = complement_by_domain(z, planes.domains_of(z), flip)
    np.testing.assert_allclose(moved, [[1.9 / 0.6, 0.0], [2.3, 0.0]], atol=1e-6)


def test_in_three_dimensions_what_no_constraint_asks_for_stays_by_hand():
    """The target is x among the women, z + 0.5 among the men."""
    by_domain = axis(3, 0, "Blond_Hair in Male=0"), axis(3, 2, "Blond_Hair in Male=1", 0.5)
    planes = Planes(axis(3, 0, "Blond_Hair"), (axis(3, 1, "Male"),), by_domain)
    z = np.array([[2.0, -1.0, 3.0], [4.0, 1.0, 3.0]])
    (flip,) = subset_flips("complement", planes)
    moved = complement_by_domain(z, planes.domains_of(z), flip)
    np.testing.assert_allclose(moved, [[2.0, 1.0, 1.5], [3.5, -1.0, 3.0]], atol=1e-6)


def test_four_domains_by_hand():
    """The target is x + b, b = 0, 1, 2, 4; a latent of y > 0 > z is of domain 2: s_t = 5 + 2."""
    by_domain = tuple(axis(3, 0, f"in {a}", b) for a, b in enumerate((0.0, 1.0, 2.0, 4.0)))
    planes = Planes(axis(3, 0, "t"), (axis(3, 1, "g"), axis(3, 2, "h")), by_domain)
    z = np.array([[5.0, 1.0, -1.0]])
    np.testing.assert_array_equal(planes.domains_of(z), [2])
    moved = {
        flip.name: complement_by_domain(z, np.array([2]), flip)[0]
        for flip in subset_flips("complement", planes)
    }
    np.testing.assert_allclose(moved["h"], [3, 1, 1], atol=1e-6)  # domain 3
    np.testing.assert_allclose(moved["g"], [7, -1, -1], atol=1e-6)  # domain 0
    np.testing.assert_allclose(moved["g+h"], [6, -1, 1], atol=1e-6)  # domain 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEEPING), st.integers(1, 3), st.integers(12, 64), SEEDS, st.sampled_from("ems"))
def test_the_other_domains_distance_is_the_own_domains(variant, k, D, seed, space):
    """It holds with the Euclidean metric, in the data's own metric, and on the sphere."""
    random = np.random.default_rng(seed)
    planes = planes_in(random, k, D, by_domain=True, offset=0.2)
    flips = subset_flips(variant, planes)
    assume(worst_condition(flips) < 10)
    z = random_latents(random, 32, D)
    z = to_sphere(z) if space == "s" else z
    covariance = random_covariance(random, D) if space == "m" else None
    domains = planes.domains_of(z)
    for flip in flips:
        moved = complement_by_domain(z, domains, flip, covariance, space == "s")
        met = np.full(len(z), True)
        if space == "s":
            np.testing.assert_allclose(
                np.linalg.norm(moved.astype(np.float64), axis=1), np.sqrt(D), atol=1e-5
            )
            for at, (latent, domain) in enumerate(zip(z, domains, strict=True)):
                of = flip.by_domain[domain]
                nearest = np.linalg.pinv(of.normals) @ (wanted(of, latent[None])[0] - of.offsets)
                met[at] = np.linalg.norm(nearest) < 0.98 * np.sqrt(D)
            assert met.mean() > 0.5
        for latent, domain, image in zip(z[met], domains[met], moved[met], strict=True):
            own, other = planes.by_domain[domain], planes.by_domain[domain ^ flip.mask]
            assert other.distance(image) == pytest.approx(own.distance(latent), abs=1e-5)
            for plane, changes in zip(
                planes.protected, protected_columns(np.array([flip.mask]), k)[0], strict=True
            ):
                factor = (0 if variant == "on_hyperplane" else -1) if changes else 1
                assert plane.distance(image) == pytest.approx(factor * plane.distance(latent), abs=1e-5)


@pytest.mark.parametrize("variant", KEEPING)
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("space", ["euclidean", "mahalanobis", "sphere"])
def test_domains_of_one_hyperplane_are_the_plain_complement(variant, k, space):
    """Within a domain they are equal to the bit; over all domains up to the order of the sums."""
    random = np.random.default_rng(k)
    plain = planes_in(random, k, 16, offset=0.2)
    same = Planes(plain.target, plain.protected, (plain.target,) * 2**k)
    z = random_latents(random, 500, 16)
    z = to_sphere(z) if space == "sphere" else z
    covariance = random_covariance(random, 16) if space == "mahalanobis" else None
    domains = plain.domains_of(z)
    assert len(np.unique(domains)) == 2**k
    for one, by_domain in zip(subset_flips(variant, plain), subset_flips(variant, same), strict=True):
        settings = covariance, space == "sphere"
        assert (len(one.by_domain), len(by_domain.by_domain)) == (1, 2**k)
        moved = complement_by_domain(z, domains, by_domain, *settings)
        expected = complement_by_domain(z, domains, one, *settings)
        np.testing.assert_allclose(moved, expected, rtol=0, atol=2e-6)
        for domain in range(2**k):
            here = domains == domain
            expected = complement_by_domain(z[here], domains[here], one, *settings)
            np.testing.assert_array_equal(moved[here], expected)


@pytest.mark.parametrize("on_sphere", [False, True])
def test_a_move_is_a_function_of_the_latent_alone(on_sphere):
    random = np.random.default_rng(0)
    planes = planes_in(random, 2, 8, by_domain=True, offset=0.2)
    z = random_latents(random, 300, 8)
    z = to_sphere(z) if on_sphere else z
    for flip in subset_flips("complement", planes):
        together = complement_by_domain(z, planes.domains_of(z), flip, None, on_sphere)
        order = random.permutation(300)[:40]
        alone = [
            complement_by_domain(z[[at]], planes.domains_of(z[[at]]), flip, None, on_sphere) for at in order
        ]
        np.testing.assert_allclose(np.concatenate(alone), together[order], rtol=0, atol=2e-6)


def test_complements_are_written_where_they_are_wanted():
    random = np.random.default_rng(0)
    planes = planes_in(random, 1, 8, by_domain=True)
    z = random_latents(random, 50, 8)
    (flip,) = subset_flips("complement", planes)
    out = np.full((50, 8), np.nan, np.float32)
    assert complement_by_domain(z, planes.domains_of(z), flip, out=out) is out
    np.testing.assert_array_equal(out, complement_by_domain(z, planes.domains_of(z), flip))
    assert complement_by_domain(z[:0], planes.domains_of(z[:0]), flip).shape == (0, 8)


# Dependent hyperplanes


def test_the_pair_of_parallel_hyperplanes_is_named():
    planes = Planes(axis(3, 0, "Blond_Hair"), (axis(3, 1, "Male"), axis(3, 1, "Beard", 0.4)))
    for variant in ("complement", "perpendicular"):
        with pytest.raises(UserError, match=r"hyperplanes of Male and Beard are parallel"):
            require_independent(subset_flips(variant, planes)[0].by_domain[0])


def test_three_hyperplanes_in_a_plane_are_all_named():
    planes = [
        Hyperplane(n, np.array([*plane_at(a).normal, 0.0]), 0.0)
        for n, a in zip("tgh", (0, 50, 110), strict=True)
    ]
    constraints = all_changed("complement", planes[0], planes[1:])
    with pytest.raises(UserError, match=r"hyperplanes of t and g and h are linearly dependent"):
        complement(np.ones((1, 3)), constraints)
    require_independent(all_changed("perpendicular", planes[0], planes[1:]))


def test_the_domain_whose_hyperplane_is_parallel_is_named():
    by_domain = axis(2, 0, "Blond_Hair in Male=0"), axis(2, 1, "Blond_Hair in Male=1", 1.0)
    planes = Planes(axis(2, 0, "Blond_Hair"), (axis(2, 1, "Male"),), by_domain)
    (flip,) = subset_flips("complement", planes)
    require_independent(flip.by_domain[1])  # to the women, whose plane is x
    with pytest.raises(UserError, match=r"hyperplanes of Blond_Hair in Male=1 and Male are parallel"):
        require_independent(flip.by_domain[0])


def test_hyperplanes_that_the_datas_metric_makes_parallel_are_refused():
    planes = all_changed("complement", plane_at(40.0, "Blond_Hair"), [plane_at(50.0)])
    require_independent(planes)
    with pytest.raises(UserError, match="parallel"):
        require_independent(planes, np.diag([1.0, 1e-9]))


# Angles


def test_the_angle_between_what_is_kept_and_what_is_changed_by_hand():
    assert angle_to_what_is_kept(all_changed("complement", plane_at(10), [plane_at(75)])) == pytest.approx(65)
    # Of lines, not of directions: 130° is 50°.
    assert angle_to_what_is_kept(all_changed("complement", plane_at(0), [plane_at(130)])) == pytest.approx(50)
    assert angle_to_what_is_kept(all_changed("perpendicular", plane_at(0), [plane_at(130)])) is None
    x, y = axis(3, 0, "t"), axis(3, 1, "g")
    slanted = Hyperplane("h", np.array([0.0, np.sin(np.radians(30)), np.cos(np.radians(30))]), 0.0)
    first, second, both = (
        constraints_of("complement", x, x, [y, slanted], flipped)
        for flipped in ([True, False], [False, True], [True, True])
    )
    assert angle_to_what_is_kept(first) == pytest.approx(60)
    assert angle_to_what_is_kept(second) == pytest.approx(60)
    assert angle_to_what_is_kept(both) == pytest.approx(90)
