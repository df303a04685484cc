"""fit_hyperplanes and complement where the labels of latents are known: attributes, domains, ablations."""

import json
import pickle
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from generators.hyperplanes import (
    Hyperplane,
    angle_between,
    domain_names,
    fit_hyperplane,
    group_balancing_weights,
    load_hyperplanes,
    planes_of,
    save_hyperplanes,
)
from generators.latents import sample_latents, to_sphere
from generators.networks.cards import CARD, GeneratorCard
from pipeline.content.groups import protected_groups
from pipeline.content.index import INDEX
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.trust import read_judgements
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from stages import complement, fit_hyperplanes
from stages.shared.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS, PRESETS
from stages.shared.presets import preset_values

PROJECT = Path(__file__).parents[2]
D, SHARD = 12, 1500
FIT, VALIDATION, PAIR = 2400, 600, 500
NAMES = ["Blond_Hair", "Male", "Eyeglasses"]
# Male and Eyeglasses are 1 where x and y are positive; the target is 1 where z is, but among men where u is.
PLACES = {"Male": 0, "Eyeglasses": 1}


def write_parameters(**sections: dict | str | list) -> None:
    parameters = preset_values("smoke", PROJECT / PRESETS)
    parameters["fit_hyperplanes"]["group_balanced"] = False  # tests fit planes themselves, by labels alone
    sections = {
        "attributes": NAMES,
        "sample": {"fit": FIT, "validation": VALIDATION, "pair": PAIR},
        **sections,
    }
    for name, values in sections.items():
        parameters[name] = parameters[name] | values if isinstance(values, dict) else values
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


def write_store(
    output: Path, rows: pd.DataFrame, latents: np.ndarray | None = None, shard_size: int = SHARD
) -> None:
    shutil.rmtree(output, ignore_errors=True)
    starts = range(0, len(rows), shard_size)
    for shard, start in enumerate(starts):
        part = slice(start, start + shard_size)
        if latents is None:
            commit_shard(output, shard, rows[part])
        else:
            commit_shard(output, shard, rows[part], "latents", latents[part])
    finish_store(output, len(starts), *([] if latents is None else ["latents", (D,), "float32"]))


def labels_of(latents: np.ndarray) -> pd.DataFrame:
    """Labels and, as scores, how far on its side each latent is."""
    male, glasses = latents[:, 0], latents[:, 1]
    target = np.where(male > 0, latents[:, 3], latents[:, 2])
    columns = {}
    for name, distance in zip(NAMES, (target, male, glasses), strict=True):
        columns[f"{name}_score"] = 1 / (1 + np.exp(-4 * distance))
        columns[name] = (distance > 0).astype(np.int64)
    return pd.DataFrame(columns)


def write_card(normalises: bool) -> None:
    """Say in out/generator/card.json whether the generator divides z by its length."""
    card = GeneratorCard(latent_dim=D, resolution=8, normalises_latents=normalises)
    card.write(GENERATOR / CARD)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_parameters()
    write_card(True)
    latents = sample_latents(0, "z", 0, FIT + VALIDATION + PAIR, D)
    ids = pd.DataFrame({"id": [f"z-{number:08d}" for number in range(len(latents))]})
    parts = np.repeat(["fit", "validation", "pair"], [FIT, VALIDATION, PAIR])
    write_store(LATENTS / "z", ids.assign(part=parts), latents)
    write_store(LABELS / "z", pd.concat([ids, labels_of(latents)], axis=1))
    return tmp_path


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def fit_latents() -> tuple[np.ndarray, pd.DataFrame]:
    latents = Store(LATENTS / "z").read_between(0, FIT)
    return latents, labels_of(latents)


def assert_fitted_with(name: str, latents: np.ndarray, labels: np.ndarray) -> None:
    expected = fit_hyperplane(name, latents, labels, 1.0, 0)
    plane = load_hyperplanes(HYPERPLANES / "hyperplanes.json")[name]
    np.testing.assert_array_equal(plane.normal, expected.normal)
    assert plane.offset == expected.offset
    counts = metrics(HYPERPLANES)[name]["latents"]
    assert counts == {"0": int((labels == 0).sum()), "1": int((labels == 1).sum())}


# fit_hyperplanes


def test_every_attribute_has_a_hyperplane_and_every_pair_an_angle(project):
    fit_hyperplanes.main()
    planes, about = load_hyperplanes(HYPERPLANES / "hyperplanes.json"), metrics(HYPERPLANES)
    assert sorted(planes) == sorted(NAMES)
    latents, labels = fit_latents()
    for name in NAMES:
        assert_fitted_with(name, latents, labels[name].to_numpy())
        assert about[name]["positives"] == labels[name].mean()
    for name, place in PLACES.items():
        assert planes[name].normal[place] > 0.99
        assert about[name]["balanced_accuracy"] > 0.95
    pairs = ["Blond_Hair x Male", "Blond_Hair x Eyeglasses", "Male x Eyeglasses"]
    assert sorted(about["angles_degrees"]) == sorted(pairs)
    for pair in pairs:
        first, second = pair.split(" x ")
        assert about["angles_degrees"][pair] == angle_between(planes[first], planes[second])


def test_groups_of_latents_weigh_the_same(project):
    write_parameters(fit_hyperplanes={"group_balanced": True})
    fit_hyperplanes.main()
    latents, labels = fit_latents()
    columns = labels[NAMES].to_numpy()
    weights = group_balancing_weights(columns @ np.array([4, 2, 1]))
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    for name in NAMES:
        expected = fit_hyperplane(name, latents, labels[name].to_numpy(), 1.0, 0, weights)
        np.testing.assert_array_equal(planes[name].normal, expected.normal)


def test_the_target_has_a_hyperplane_in_every_domain(project):
    write_parameters(fit_hyperplanes={"domain_dependent": True})
    fit_hyperplanes.main()
    names = domain_names("Blond_Hair", NAMES[1:])
    planes, about = load_hyperplanes(HYPERPLANES / "hyperplanes.json"), metrics(HYPERPLANES)
    assert sorted(planes) == sorted([*NAMES, *names])
    latents, labels = fit_latents()
    domains = protected_groups(labels[NAMES[1:]].to_numpy())[0]
    for domain, name in enumerate(names):
        here = domains == domain
        assert_fitted_with(name, latents[here], labels["Blond_Hair"].to_numpy()[here])
        assert about[name]["positives"] == labels["Blond_Hair"][here].mean()
        assert planes[name].normal[3 if "Male=1" in name else 2] > 0.98
        # Of its own domain's validation latents: one plane for all is right in one domain of two at most.
        assert about[name]["balanced_accuracy"] > 0.93
    assert about["Blond_Hair"]["balanced_accuracy"] < 0.85
    assert len(about["angles_degrees"]) == 7 * 6 // 2
    assert about["angles_degrees"][f"{names[0]} x {names[2]}"] == pytest.approx(90, abs=8)
    assert about["angles_degrees"][f"{names[2]} x {names[3]}"] == pytest.approx(0, abs=8)


def test_the_first_latents_are_fitted(project):
    write_parameters(fit_hyperplanes={"latents": 321})
    fit_hyperplanes.main()
    latents, labels = fit_latents()
    assert_fitted_with("Male", latents[:321], labels["Male"].to_numpy()[:321])
    assert metrics(HYPERPLANES)["Male"]["positives"] == labels["Male"][:321].mean()


def test_confident_latents_are_fitted_and_all_validate(project):
    write_parameters(fit_hyperplanes={"confidence": 0.9})
    fit_hyperplanes.main()
    latents, labels = fit_latents()
    for name in NAMES:  # each by its own scores
        score = labels[f"{name}_score"].to_numpy()
        chosen = (score >= 0.9) | (score <= 1 - 0.9)
        assert 0.3 < chosen.mean() < 0.8
        assert_fitted_with(name, latents[chosen], labels[name].to_numpy()[chosen])
    plane = load_hyperplanes(HYPERPLANES / "hyperplanes.json")["Male"]
    held_out = Store(LATENTS / "z").read_between(FIT, FIT + VALIDATION)
    truth, found = held_out[:, 0] > 0, plane.distance(held_out) > 0
    accuracy = (found[truth].mean() + (~found[~truth]).mean()) / 2
    assert metrics(HYPERPLANES)["Male"]["balanced_accuracy"] == pytest.approx(accuracy)


def test_the_rarer_label_gets_its_share(project):
    write_parameters(fit_hyperplanes={"rare_share": 0.1, "domain_dependent": True})
    fit_hyperplanes.main()
    about = metrics(HYPERPLANES)
    for name in (*NAMES, *domain_names("Blond_Hair", NAMES[1:])):
        rare, common = sorted(about[name]["latents"].values())
        assert rare / (rare + common) == pytest.approx(0.1, abs=0.005)
        assert common > 0.4 * FIT / (1 if name in NAMES else 4)
    before = (HYPERPLANES / "hyperplanes.json").read_bytes()
    fit_hyperplanes.main()
    assert (HYPERPLANES / "hyperplanes.json").read_bytes() == before
    write_parameters(fit_hyperplanes={"rare_share": 0.1, "domain_dependent": True, "seed": 1})
    fit_hyperplanes.main()
    assert (HYPERPLANES / "hyperplanes.json").read_bytes() != before


def test_a_domain_with_one_target_label_is_named(project):
    labels = Store(LABELS / "z").rows.drop(columns=["shard", "row"])
    labels.loc[(labels["Male"] == 1) & (labels["Eyeglasses"] == 0), "Blond_Hair"] = 0
    write_store(LABELS / "z", labels)
    fit_hyperplanes.main()
    write_parameters(fit_hyperplanes={"domain_dependent": True}, on_useless="stop")
    where = r"Male=1, Eyeglasses=0 is useless: all \d+ latents to fit it with are labelled 0"
    with pytest.raises(UserError, match=where):
        fit_hyperplanes.main()
    write_parameters(fit_hyperplanes={"domain_dependent": True})  # which goes on
    fit_hyperplanes.main()
    named = metrics(HYPERPLANES)["Blond_Hair in Male=1, Eyeglasses=0"]
    assert named["latents"]["0"] == named["latents"]["1"]  # the halves of the scores


def test_accuracy_without_both_labels_in_validation_is_null(project):
    labels = Store(LABELS / "z").rows.drop(columns=["shard", "row"])
    number = labels["id"].str.removeprefix("z-").astype(int)
    labels.loc[(number >= FIT) & (labels["Male"] == 1), "Blond_Hair"] = 1
    write_store(LABELS / "z", labels)
    write_parameters(fit_hyperplanes={"domain_dependent": True}, on_useless="stop")
    with pytest.raises(
        UserError, match=r"Male=1, Eyeglasses=0 is useless: all \d+ latents to validate it with"
    ):
        fit_hyperplanes.main()
    write_parameters(fit_hyperplanes={"domain_dependent": True})
    fit_hyperplanes.main()
    about = metrics(HYPERPLANES)
    for name in domain_names("Blond_Hair", NAMES[1:]):
        for key in ("balanced_accuracy", "balanced_accuracy_on_sphere"):
            assert (about[name][key] is None) == ("Male=1" in name)


def test_planes_say_of_every_group_how_often_they_are_right(project):
    fit_hyperplanes.main()
    latents = Store(LATENTS / "z").read_between(FIT, FIT + VALIDATION)
    labels = labels_of(latents)
    groups = (labels["Blond_Hair"] * 4 + labels["Male"] * 2 + labels["Eyeglasses"]).to_numpy()
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    for name in NAMES:
        about = metrics(HYPERPLANES)[name]
        right = (planes[name].distance(latents) > 0) == labels[name].to_numpy()
        assert about["group_n"] == [(groups == g).sum() for g in range(8)]
        np.testing.assert_allclose(about["group_accuracies"], [right[groups == g].mean() for g in range(8)])


def test_planes_are_judged_beside_their_metrics(project):
    write_parameters(on_useless="stop")
    fit_hyperplanes.main()
    target, male, glasses, angles = read_judgements(HYPERPLANES)
    assert [male.step, glasses.step] == ["hyperplane of Male", "hyperplane of Eyeglasses"]
    assert [male.level, glasses.level, angles.level] == ["fine", "fine", "fine"]
    # One plane for a target that lies along z among women and along u among men is right for three in four.
    assert (target.step, target.level) == ("hyperplane of Blond_Hair", "doubtful")
    assert target.figures["balanced_accuracy"] == metrics(HYPERPLANES)["Blond_Hair"]["balanced_accuracy"]
    worst = min(a for a in metrics(HYPERPLANES)["Blond_Hair"]["group_accuracies"])
    assert target.figures["worst_group_accuracy"] == worst
    write_parameters(on_useless="stop", fit_hyperplanes={"domain_dependent": True})
    fit_hyperplanes.main()
    judgements = read_judgements(HYPERPLANES)
    names = domain_names("Blond_Hair", NAMES[1:])
    assert [judgement.step for judgement in judgements[3:-1]] == [f"hyperplane of {name}" for name in names]
    assert {judgement.level for judgement in judgements[3:-1]} == {"fine"}


def test_labels_at_random_and_parallel_planes_stop_the_run(project):
    labels = Store(LABELS / "z").rows.drop(columns=["shard", "row"])
    before = labels["Male"].copy()
    labels["Male"] = np.random.default_rng(0).integers(0, 2, len(labels))
    write_store(LABELS / "z", labels)
    write_parameters(on_useless="stop")
    sentence = (
        r"hyperplane of Male is useless: it is right for \d\d % of 600 latents .* set on_useless to go_on"
    )
    with pytest.raises(UserError, match=sentence):
        fit_hyperplanes.main()
    assert not HYPERPLANES.exists()
    labels["Male"] = before
    labels["Eyeglasses"] = before
    write_store(LABELS / "z", labels)
    with pytest.raises(UserError, match="angles between hyperplanes is useless: the normals of Male and Eye"):
        fit_hyperplanes.main()
    write_parameters(on_useless="go_on")
    fit_hyperplanes.main()
    assert read_judgements(HYPERPLANES)[-1].level == "useless"
    assert metrics(HYPERPLANES)["angles_degrees"]["Male x Eyeglasses"] == pytest.approx(0.0, abs=0.01)


# complement


def complemented(**sections: dict | str) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Latents to pair as their complements' rows have them, those rows, and the complements."""
    write_parameters(**sections)
    fit_hyperplanes.main()
    return complements_of_z()


def complements_of_z() -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """The same, with the hyperplanes that are there."""
    complement.main("z")
    z, z_prime = Store(LATENTS / "z"), Store(LATENTS / "z_prime")
    assert faulty_files(LATENTS / "z_prime") == {}
    rows = z_prime.rows
    return z.read(z.positions(rows["pair_id"])), rows, z_prime.read_between(0, len(z_prime))


def test_two_attributes_have_three_complements_of_every_latent(project):
    z, rows, moved = complemented()
    assert len(rows) == 3 * PAIR
    assert Store(LATENTS / "z_prime").items_per_shard == [0, 0, 3 * PAIR]
    assert (rows.groupby("pair_id")["flips"].nunique() == 3).all()
    masks = rows["flips"].map({"Male": "10", "Eyeglasses": "01", "Male+Eyeglasses": "11"})
    assert (rows["id"] == "z_prime-" + rows["pair_id"].str.removeprefix("z-") + "-" + masks).all()
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    for name in NAMES:
        factors = np.where([name in flips.split("+") for flips in rows["flips"]], -1, 1)
        np.testing.assert_allclose(
            planes[name].distance(moved), factors * planes[name].distance(z), atol=1e-5
        )
    np.testing.assert_allclose(rows["move_length"], np.linalg.norm(moved - z, axis=1), atol=1e-5)


@pytest.mark.parametrize("normalises", [True, False])
def test_a_latent_is_flipped_if_it_is_rendered_in_the_group_it_is_meant_for(normalises, project):
    """Off the sphere all are; on it those whose length changes much may not be, with a plane off centre."""
    write_card(normalises)
    fit_hyperplanes.main()
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    planes["Male"] = Hyperplane("Male", planes["Male"].normal, 1.5)
    planes["Blond_Hair"] = Hyperplane("Blond_Hair", planes["Blond_Hair"].normal, -1.5)
    save_hyperplanes(HYPERPLANES / "hyperplanes.json", list(planes.values()))
    z, rows, moved = complements_of_z()
    if not normalises:
        assert rows["flipped"].all() and rows["target_stayed"].all()
        return
    z, moved = to_sphere(z), to_sphere(moved)
    expected = np.full(len(rows), True)
    for name in NAMES[1:]:
        changed = (planes[name].distance(z) > 0) != (planes[name].distance(moved) > 0)
        expected &= changed == rows["flips"].str.contains(name).to_numpy()
    assert 0.5 < expected.mean() < 0.99
    np.testing.assert_array_equal(rows["flipped"], expected)
    stayed = (planes["Blond_Hair"].distance(z) > 0) == (planes["Blond_Hair"].distance(moved) > 0)
    assert 0.5 < stayed.mean() < 1
    np.testing.assert_array_equal(rows["target_stayed"], stayed)


def test_metrics_are_those_of_the_latents_for_each_subset(project):
    _, rows, _ = complemented()
    about = metrics(LATENTS / "z_prime")
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    for flips, of in [("all", rows), *rows.groupby("flips")]:
        found = about if flips == "all" else about["by_flips"][flips]
        assert found["move_length_median"] == pytest.approx(of["move_length"].median(), abs=0.02)
        assert found["move_length_95th_percentile"] == pytest.approx(
            of["move_length"].quantile(0.95), abs=0.05
        )
        assert found["flipped_on_sphere"] == pytest.approx(of["flipped"].mean())
        normals = np.stack([planes[name].normal for name in NAMES])
        assert found["condition_number"] == pytest.approx(np.linalg.cond(normals))
    assert set(about["by_flips"]) == {"Male", "Eyeglasses", "Male+Eyeglasses"}
    assert [of["complements"] for of in about["by_flips"].values()] == [PAIR] * 3
    # The angle between w_g and the plane that the other two span.
    others = np.stack([planes[name].normal for name in ("Blond_Hair", "Eyeglasses")])
    w = planes["Male"].normal
    within = np.linalg.pinv(others) @ others @ w
    angle = np.degrees(np.arccos(np.linalg.norm(within)))
    assert about["by_flips"]["Male"]["angle_degrees"] == pytest.approx(angle)


def test_domains_take_the_targets_distance_along(project):
    z, rows, moved = complemented(fit_hyperplanes={"domain_dependent": True})
    loaded = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    planes = planes_of(loaded, "Blond_Hair", NAMES[1:])
    own = planes.domains_of(z)
    mask = rows["flips"].map({"Male": 2, "Eyeglasses": 1, "Male+Eyeglasses": 3}).to_numpy()
    clear = np.abs([plane.distance(z) for plane in planes.protected]).min(axis=0) > 1e-4
    np.testing.assert_array_equal(planes.domains_of(moved)[clear], (own ^ mask)[clear])
    sides = np.choose(own, [plane.distance(z) > 0 for plane in planes.by_domain])
    np.testing.assert_array_equal(planes.target_sides_of(z), sides)
    before, after = (np.stack([plane.distance(of) for plane in planes.by_domain]) for of in (z, moved))
    each = np.arange(len(rows))
    np.testing.assert_allclose(after[own ^ mask, each], before[own, each], atol=1e-5)
    # What the labels make of it: the target is kept, where one hyperplane for all loses it.
    kept = (labels_of(moved)["Blond_Hair"] == labels_of(z)["Blond_Hair"]).mean()
    z, _, moved = complemented()
    assert kept > 0.93 > 0.85 > (labels_of(moved)["Blond_Hair"] == labels_of(z)["Blond_Hair"]).mean()


def test_domains_in_the_datas_metric_and_on_the_sphere(project):
    fit = {"domain_dependent": True}
    sections = [
        {"complement": {"metric": "mahalanobis"}, "fit_hyperplanes": fit},
        {"latent_space": "sphere", "fit_hyperplanes": fit},
    ]
    for settings in sections:
        z, rows, moved = complemented(**settings)
        planes = planes_of(load_hyperplanes(HYPERPLANES / "hyperplanes.json"), "Blond_Hair", NAMES[1:])
        reached = np.full(len(rows), True)
        if "latent_space" in settings:
            z = to_sphere(z)
            np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(D), atol=1e-5)
            reached = rows["flipped"].to_numpy()
            assert reached.mean() > 0.99
        mask = rows["flips"].map({"Male": 2, "Eyeglasses": 1, "Male+Eyeglasses": 3}).to_numpy()
        own, each = planes.domains_of(z), np.arange(len(rows))
        before, after = (np.stack([plane.distance(of) for plane in planes.by_domain]) for of in (z, moved))
        off = np.abs(after[own ^ mask, each] - before[own, each])[reached]
        assert np.quantile(off, 0.98) < 1e-5


# The first of each group


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("of_latents", "of_labels", "mode"),
    [
        (SHARD, SHARD, "inline"),
        (170, 64, "inline"),
        (3000, 500, "inline"),
        pytest.param(700, 500, "local", marks=pytest.mark.slow),
    ],
)
def test_the_first_latents_to_pair_of_each_group_have_complements(of_latents, of_labels, mode, project):
    """Whatever the shards of latents and of labels are, and wherever latents to pair stand."""
    latents, labels = Store(LATENTS / "z").read_between(0, FIT + VALIDATION + PAIR), Store(LABELS / "z").rows
    rows = Store(LATENTS / "z").rows.drop(columns=["shard", "row"])
    rows["part"] = np.array(["fit", "pair", "fit", "validation", "pair"])[np.arange(len(rows)) % 5]
    write_store(LATENTS / "z", rows, latents, of_latents)
    write_store(LABELS / "z", labels.drop(columns=["shard", "row"]), shard_size=of_labels)
    fit_hyperplanes.main()
    per_group = 100
    left, expected = dict.fromkeys(product((0, 1), repeat=3), per_group), []
    for name, part, group in zip(
        rows["id"], rows["part"], labels[NAMES].itertuples(index=False), strict=True
    ):
        if part == "pair":
            left[tuple(group)] -= 1
            expected += [name] if left[tuple(group)] >= 0 else []
    assert max(left.values()) < 0
    write_parameters(complement={"per_group": per_group}, cluster={"mode": mode, "workers": 2})
    _, made, _ = complements_of_z()
    assert sorted(set(made["pair_id"])) == expected
    assert (made["pair_id"].value_counts() == 3).all()


def test_a_group_with_fewer_latents_has_them_all(project):
    groups = Store(LABELS / "z").rows.groupby(NAMES)["id"]
    fit_hyperplanes.main()
    write_parameters(complement={"per_group": int(groups.size().max())})
    _, made, _ = complements_of_z()
    assert made["pair_id"].nunique() == PAIR


def test_choosing_holds_no_ids(project, monkeypatch):
    """Workers are told a few numbers for each shard, and no table of the whole store is read for them."""

    def refuse(*_: object) -> None:
        raise AssertionError("all rows are read")

    monkeypatch.setattr(Store, "rows_where", refuse)
    monkeypatch.setattr(Store, "rows", property(refuse))
    told = complement.first_of_each_group(NAMES, PAIR)
    assert told.before.shape == (3, 8)
    assert len(pickle.dumps(told)) < 1000


def test_the_batch_size_of_the_refinement_is_no_other_work(project):
    fit_hyperplanes.main()
    indices = []
    for batch_size in (256, 64):
        write_parameters(complement={"refine": {"steps": 0, "batch_size": batch_size}})
        complement.main("z")
        indices.append(json.loads((LATENTS / "z_prime" / INDEX).read_text()))
    assert indices[0] == indices[1]


def test_inverted_real_images_have_complements_of_their_own_names(project):
    latents = sample_latents(7, "real", 0, 40, D)
    real_ids = [f"real-{number:05d}" for number in range(40)]
    rows = pd.DataFrame({"id": [f"inverted-{name}" for name in real_ids], "real_id": real_ids, "error": 0.1})
    write_store(LATENTS / "real", rows, latents)
    write_parameters(attributes=NAMES[:2], complement={"metric": "mahalanobis"})
    fit_hyperplanes.main()
    complement.main("real")
    store = Store(LATENTS / "real_prime")
    assert store.rows["id"].tolist() == [f"real_prime-{name}" for name in real_ids]
    assert store.rows["pair_id"].tolist() == real_ids
    assert (store.rows["flips"] == "Male").all()
    assert list(store.rows.columns) == [
        "id", "pair_id", "flips", "move_length", "flipped", "target_stayed", "shard", "row",
    ]  # fmt: skip
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    moved = store.read_between(0, 40)
    for name, factor in (("Male", -1), ("Blond_Hair", 1)):
        np.testing.assert_allclose(
            planes[name].distance(moved), factor * planes[name].distance(latents), atol=1e-5
        )
    assert metrics(LATENTS / "real_prime")["by_flips"]["Male"]["complements"] == 40


def test_parallel_hyperplanes_are_refused_before_any_shard(project):
    fit_hyperplanes.main()
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    planes["Eyeglasses"] = Hyperplane("Eyeglasses", -planes["Male"].normal, 0.1)
    save_hyperplanes(HYPERPLANES / "hyperplanes.json", list(planes.values()))
    with pytest.raises(UserError) as raised:
        complement.main("z")
    assert str(raised.value).startswith("complement: the hyperplanes of Male and Eyeglasses are parallel")


def test_complements_of_anything_else_are_refused(project):
    with pytest.raises(UserError, match="complements of z and of real, not of 'z_prime'"):
        complement.main("z_prime")
