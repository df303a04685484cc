"""The quality of synthetic images: figures counted by hand, of images that show their own labels."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from classifiers.labellers import Labeller
from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from data.sources.avatars import Avatars
from data.sources.digits import Digits, red_ink
from generators.hyperplanes import Hyperplane, save_hyperplanes
from generators.networks.cards import GeneratorCard
from pipeline.content.files import write_json
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tables import write_table
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from stages import assess, prepare, train_judge
from stages.assess import Extractor, disjoint_samples, distances_of
from stages.shared import judged as assess_judged
from stages.shared.judged import complement_figures, label_figures, sides_of
from stages.shared.paths import (
    ATTRIBUTES,
    BALANCED,
    GENERATOR,
    HYPERPLANES,
    JUDGES,
    LABELS,
    LATENTS,
    QUALITY,
    REAL,
    SYNTHETIC,
)
from stages.shared.presets import preset_values
from tests.cards import labeller_card
from tests.real_labels import write_real_labels

PRESETS = Path(__file__).parents[2] / "presets"
PRESET = preset_values("smoke", PRESETS)
NAMES = ["Blond_Hair", "Male"]
SMALL = Backbone(name="small", width=8)

# Number of z: what G(z) shows, what f says of it, what h says of z; target, then protected attribute.
Z = {0: ("00", "00", "11"), 1: ("00", "00", "00"), 2: ("01", "00", "01"), 3: ("01", "01", "01"),
     4: ("10", "10", "00"), 5: ("10", "10", "10"), 6: ("11", "11", "11"), 7: ("11", "01", "11")}  # fmt: skip
PARTS = {0: "fit", 1: "validation"}  # all others are paired
Z_PRIME = {7: "10", 6: "10", 2: "00", 3: "01", 4: "11", 5: "01"}  # what G(z') shows: not in the order of z
REAL_TEST = {
    "accuracy": 0.9, "balanced_accuracy": 0.9, "worst_group_accuracy": 0.8, "group_accuracies": [0.8] * 4,
    "group_n": [2] * 4,
}  # fmt: skip


def digits(texts: list[str]) -> np.ndarray:
    return np.array([[int(digit) for digit in text] for text in texts], dtype=np.int64)


def labelled(ids: list[str], texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, **dict(zip(NAMES, digits(texts).T, strict=True))})


def pictures(texts: list[str], seed: int) -> np.ndarray:
    """Images [n, 8, 8, 3] that are red where the target is 1 and green where the protected attribute is."""
    images = np.random.default_rng(seed).integers(0, 30, (len(texts), 8, 8, 3))
    for channel, values in enumerate(digits(texts).T):
        images[..., channel] += 200 * values[:, None, None]
    return images.astype(np.uint8)


def write_images(folder: Path, ids: list[str], texts: list[str], seed: int) -> None:
    commit_shard(folder, 0, pd.DataFrame({"id": ids}), "images", pictures(texts, seed))
    finish_store(folder, 1, "images", (8, 8, 3), "uint8")


class SeesColour(nn.Module):
    """A judge that is always right: the sign of a channel's mean is the attribute's value."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.channel = NAMES.index(folder.name)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, self.channel].mean(dim=(1, 2))


def is_green(images: np.ndarray) -> np.ndarray:
    """Whether images of `pictures` are green, from their pixels."""
    return (images[..., 1].mean(axis=(1, 2)) > 115).astype(np.int64)


class SeesGreen(Avatars):
    """A source that computes the protected attribute, and not the target, from pixels."""

    def measured(self, attribute: str):
        return is_green if attribute == "Male" else None


def make_project(judge_images: int = 8) -> None:
    """All that `assess` reads, in the current folder."""
    parameters = {**PRESET, "cluster": {"mode": "inline"}, "runtime": {"device": "cpu", "precision": "fp32"}}
    parameters["assess"]["probe"] |= {"steps": 2}
    parameters["assess"]["judge"] |= {"steps": 40, "evaluations": 2}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    counts = {"train": 24, "validation": 4, "test": 8, "oracle": 12, "judge": judge_images}
    splits = [split for split, count in counts.items() for _ in range(count)]
    texts = [format(number % 4, "02b") for number in range(len(splits))]
    ids = [f"{split}-{number:06d}" for number, split in enumerate(splits)]
    write_images(REAL, ids, texts, seed=0)
    labels = labelled(ids, texts).assign(split=splits)
    write_real_labels(labels.iloc[::-1])

    z, z_prime = ([f"{name}-{k:08d}" for k in of] for name, of in (("z", Z), ("z_prime", Z_PRIME)))
    shown, said, sides = zip(*Z.values(), strict=True)
    write_images(SYNTHETIC / "z", z, list(shown), seed=1)
    write_images(SYNTHETIC / "z_prime", z_prime, list(Z_PRIME.values()), seed=2)
    pairs = pd.DataFrame({"id": z_prime, "pair_id": [f"z-{k:08d}" for k in Z_PRIME], "flips": "Male"})
    rows = {
        "z": pd.DataFrame({"id": z, "part": [PARTS.get(k, "pair") for k in Z]}),
        "z_prime": pairs,
    }
    latents = {"z": digits(list(sides)), "z_prime": digits(list(Z_PRIME.values()))}
    labelled_by_f = {"z": labelled(z, list(said)), "z_prime": labelled(z_prime, list(Z_PRIME.values()))}
    for source, table in rows.items():
        commit_shard(LATENTS / source, 0, table, "latents", (2 * latents[source] - 1).astype(np.float32))
        finish_store(LATENTS / source, 1, "latents", (2,), "float32")
        commit_shard(LABELS / source, 0, labelled_by_f[source].iloc[::-1])
        finish_store(LABELS / source, 1)
    planes = [Hyperplane(name, np.eye(2)[axis], 0.0) for axis, name in enumerate(NAMES)]
    save_hyperplanes(HYPERPLANES / "hyperplanes.json", planes)
    GeneratorCard(latent_dim=2, resolution=8, normalises_latents=True).write(GENERATOR / "card.json")
    for k, name in enumerate(NAMES):
        labeller = Labeller([new_backbone(SMALL, seed=k)], [None])
        save_network(ATTRIBUTES / name, labeller, labeller_card(SMALL, [0.5]))
        metrics = {"images": judge_images, "real_test": REAL_TEST} if judge_images else {"images": 0}
        write_json(JUDGES / name / "metrics.json", metrics)

    real = labels.rename(columns=dict(zip(NAMES, ("target", "protected"), strict=True)))
    real = real[real["split"].isin(["train", "validation", "test"])].assign(store=str(REAL), source="real")
    of_z = labelled(z, list(said)).set_axis(["id", "target", "protected"], axis=1)
    of_z = of_z.assign(store=str(SYNTHETIC / "z"), source="z", split="train")
    paired = of_z[of_z["id"].isin(pairs["pair_id"])]
    inherited = pairs[["id", "pair_id"]].merge(
        paired.rename(columns={"id": "pair_id"}), on="pair_id", validate="one_to_one"
    )
    inherited = inherited.assign(
        store=str(SYNTHETIC / "z_prime"), source="z_prime", protected=1 - inherited["protected"]
    )
    write_table(BALANCED / "manifest.parquet", pd.concat([real, paired, inherited]))
    write_table(BALANCED / "sampled.parquet", pd.concat([real, of_z.iloc[[2, 2]]]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assess_judged, "load_network", lambda folder, schema: (SeesColour(folder), {}))


def quality() -> dict:
    return json.loads((QUALITY / "quality.json").read_text())


# The stage


def test_what_the_judges_find_is_what_was_counted_by_hand(project: None) -> None:
    make_project()
    assess.main()
    found = quality()
    assert found["groups"][2] == "Blond_Hair=1, Male=0"
    assert found["judge_absent"] is None
    judge = found["judge"]
    assert judge["real_test"] == dict.fromkeys(NAMES, REAL_TEST)

    z, z_prime = judge["sources"]["z"], judge["sources"]["z_prime"]
    assert (z["images"], z["group_n"]) == (8, [2, 2, 2, 2])
    assert (z_prime["images"], z_prime["group_n"]) == (6, [1, 2, 2, 1])
    of_f, of_h = z["classifiers"], z["hyperplanes"]
    assert of_f["Blond_Hair"]["accuracy"] == 7 / 8  # wrong of z 7
    assert of_f["Blond_Hair"]["group_accuracies"] == [1.0, 1.0, 1.0, 0.5]
    assert of_f["Male"]["group_accuracies"] == [1.0, 0.5, 1.0, 1.0]  # of z 2
    assert of_h["Blond_Hair"]["accuracy"] == pytest.approx(
        6 / 7
    )  # of z 4; not of z 0, which it was fitted on
    assert of_h["Blond_Hair"]["group_n"] == [1, 2, 2, 2]
    assert of_h["Male"]["accuracy"] == 1.0
    assert z_prime["classifiers"]["Male"]["accuracy"] == z_prime["hyperplanes"]["Male"]["accuracy"] == 1.0

    assert judge["complements"] == {
        "z_prime": {
            "Male": {
                "pairs": 6,
                "changed": {
                    "Blond_Hair": pytest.approx(1 / 6),
                    "Male": pytest.approx(5 / 6),
                },  # of z 5; not z 3
                "as_asked": pytest.approx(4 / 6),
                "group_n": [0, 2, 2, 2],
                "group_changed": {"Blond_Hair": [None, 0.0, 0.5, 0.0], "Male": [None, 0.5, 1.0, 1.0]},
                "group_as_asked": [None, 0.5, 0.5, 1.0],
            }
        }
    }
    assert list(judge["labels"]) == ["augmented", "sampled"]
    augmented = judge["labels"]["augmented"]
    assert augmented["z"]["noise"] == {"Blond_Hair": [0.0, 0.5, 0.0, 0.0], "Male": [1.0, 0.0, 0.0, 0.0]}
    assert augmented["z"]["group_noise_average"] == pytest.approx(2 / 6)
    # Given to z': 3 and 7 are 00, 2 is 01, 6 is 10, 4 and 5 are 11.
    assert augmented["z_prime"] == {
        "images": 6,
        "group_n": [2, 1, 1, 2],
        "confusion": [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]],
        "noise": {"Blond_Hair": [0.5, 0.0, 0.0, 0.5], "Male": [0.5, 1.0, 0.0, 0.0]},
        "group_noise": [1.0, 1.0, 0.0, 0.5],
        "group_noise_average": pytest.approx(4 / 6),
    }
    assert list(judge["labels"]["sampled"]) == ["z"]
    assert judge["labels"]["sampled"]["z"]["group_n"] == [2, 0, 0, 0]

    table = pd.read_parquet(QUALITY / "judged.parquet")
    assert len(table) == 14
    by_id = table.set_index("id")
    assert by_id.loc["z_prime-00000005", [*NAMES, "source"]].tolist() == [0, 1, "z_prime"]


def test_what_pixels_tell_is_counted_like_what_a_network_tells(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project()
    assess.main()
    by_networks = quality()["judge"]
    loaded: list[str] = []
    monkeypatch.setattr(
        assess_judged,
        "load_network",
        lambda folder, schema: (loaded.append(folder.name) or SeesColour(folder), {}),
    )
    monkeypatch.setattr(assess, "source_of", lambda parameters: SeesGreen())
    exact = {**REAL_TEST, "accuracy": 1.0}
    write_json(JUDGES / "Male" / "metrics.json", {"measured": True, "images": 8, "real_test": exact})
    assess.main()
    measured = quality()["judge"]
    assert loaded == ["Blond_Hair"]
    assert (by_networks["measured"], measured["measured"]) == ([], ["Male"])
    assert measured["real_test"] == {"Blond_Hair": REAL_TEST, "Male": exact}
    for figures in ("sources", "complements", "labels"):
        assert measured[figures] == by_networks[figures]


def test_every_set_is_compared_in_as_many_images(project: None) -> None:
    make_project()
    assess.main()
    found = quality()
    assert found["distances"]["images"] == 6  # as many as there are complements
    assert not found["distances"]["inception"]
    names = ["train", "z", "z_prime", "sampled", "augmented"]
    cells = [(cell["reference"], cell["set"]) for cell in found["distances"]["sets"]]
    assert cells == [(reference, name) for reference in ("train", "oracle") for name in names]
    for cell in found["distances"]["sets"]:
        assert list(cell["classifier_frechet_distance"]) == NAMES
        assert all(distance > 0 for distance in cell["classifier_frechet_distance"].values())
        assert cell["fid"] is None
    assert list(found["probe"]) == ["z", "z_prime"]
    for probe in found["probe"].values():
        assert 0.0 <= probe["auc"] <= 1.0
        assert probe["images"] == sum(probe["group_real"]) == sum(probe["group_synthetic"]) == 3


def test_without_a_judge_one_sentence_says_so(project: None, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(judge_images=0)
    assess.main()
    found = quality()
    assert found["judge"] is None
    assert found["judge_absent"].startswith("out/real has no split 'judge', so there is no judge")
    assert found["judge_absent"].count(".") == 1
    assert found["judge_absent"] in capsys.readouterr().out
    assert len(found["distances"]["sets"]) == 10
    assert not (QUALITY / "judged.parquet").exists()


def test_with_inception_there_is_an_fid_and_it_is_no_classifiers_distance(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MeanColour(nn.Module):
        def __init__(self, path: Path, sha256: str) -> None:
            super().__init__()
            assert (path, sha256) == (Path("inception.pth"), "0" * 64)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    make_project(judge_images=0)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["assess"]["inception_weights"] = {"path": "inception.pth", "sha256": "0" * 64}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.setattr(assess, "Inception", MeanColour)
    assess.main()
    found = quality()["distances"]
    assert found["inception"]
    for cell in found["sets"]:
        assert cell["fid"] > 0
        assert list(cell["classifier_frechet_distance"]) == NAMES


# Its parts


def coloured(name: str, values: np.ndarray) -> LabelledImages:
    """Images of one pixel each, whose red is a value."""
    pixels = np.zeros((len(values), 1, 1, 3), np.uint8)
    pixels[:, 0, 0, 0] = values
    ids = np.array([f"{name}-{k}" for k in range(len(values))], dtype=object)
    return LabelledImages(
        ids, lambda positions: pixels[positions], np.zeros(len(values)), np.zeros(len(values))
    )


def test_distances_are_those_of_the_features_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    seen: list[int] = []

    def red(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return (images[:, :1, 0, 0] + 1) * 127.5

    values = {"train": np.array([10, 20, 30, 40]), "z": np.array([15, 35, 55, 75])}
    sets = {name: coloured(name, v) for name, v in values.items()}
    references = {"train": coloured("reference", np.array([0, 0, 50, 50]))}
    extractors = {"Male": Extractor(nn.Identity(), red, 2), "inception": Extractor(nn.Identity(), red, 4)}
    first = distances_of(references, sets, extractors, accelerator, tmp_path)
    assert [(cell["reference"], cell["set"]) for cell in first] == [("train", "train"), ("train", "z")]
    spread = [np.std(v, ddof=1) for v in ([0, 0, 50, 50], values["z"])]
    expected = (45.0 - 25.0) ** 2 + (spread[0] - spread[1]) ** 2  # of one feature
    assert first[1]["fid"] == pytest.approx(expected, rel=1e-4)
    assert first[1]["classifier_frechet_distance"] == {"Male": pytest.approx(expected, rel=1e-4)}

    seen.clear()
    (tmp_path / "features" / "inception-set-z.npy").unlink()  # where it was interrupted
    assert distances_of(references, sets, extractors, accelerator, tmp_path) == first
    assert sum(seen) == 4


def test_samples_are_disjoint_of_the_right_sizes_and_in_order() -> None:
    images = coloured("train", np.arange(20))
    first, second = disjoint_samples(images, [6, 9], 0, "sample")
    numbers = [[int(name.split("-")[1]) for name in part.ids] for part in (first, second)]
    assert [len(part) for part in numbers] == [6, 9]
    assert not set(numbers[0]) & set(numbers[1])
    assert all(part == sorted(part) for part in numbers)
    assert first.read(np.arange(6))[:, 0, 0, 0].tolist() == numbers[0]
    assert numbers[0] != [int(n.split("-")[1]) for n in disjoint_samples(images, [6], 1, "sample")[0].ids]


def test_too_few_images_are_named(project: None) -> None:
    make_project()
    labels = pd.read_parquet(REAL / "labels.parquet")
    oracle = labels["split"] == "oracle"
    keep = labels[~oracle | (labels["id"] == labels[oracle]["id"].iloc[0])]
    write_real_labels(keep)
    with pytest.raises(UserError, match="the set 'oracle' has too few images to compare: 1"):
        assess.main()


@pytest.mark.parametrize(("normalises", "sides"), [(False, [0, 1]), (True, [1, 0])])
def test_h_is_asked_where_the_generator_sees_the_latent(
    project: None, normalises: bool, sides: list[int]
) -> None:
    """On the sphere of radius √2, (0.5, 0.5) goes to (1, 1), and (3, -30) nearly to (0.14, -1.4)."""
    commit_shard(
        LATENTS / "z_prime",
        0,
        pd.DataFrame({"id": ["a", "b"]}),
        "latents",
        np.array([[0.5, 0.5], [3.0, -30.0]], dtype=np.float32),
    )
    finish_store(LATENTS / "z_prime", 1, "latents", (2,), "float32")
    save_hyperplanes(HYPERPLANES / "hyperplanes.json", [Hyperplane("Male", np.array([1.0, 0.0]), -0.8)])
    GeneratorCard(latent_dim=2, resolution=8, normalises_latents=normalises).write(GENERATOR / "card.json")
    assert sides_of("z_prime", ["Male"])["Male"].tolist() == sides


def test_several_protected_attributes_are_asked_and_found_by_name() -> None:
    names = ["Blond_Hair", "Male", "Eyeglasses"]

    def table(ids: list[str], texts: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"id": ids, **dict(zip(names, digits(texts).T, strict=True))})

    before = table(["z-1", "z-2"], ["101", "010"])
    judged = table(["p-1", "p-2", "p-3"], ["110", "000", "011"])
    rows = pd.DataFrame(
        {
            "id": ["p-3", "p-1", "p-2"],
            "pair_id": ["z-2", "z-1", "z-2"],
            "flips": ["Eyeglasses", "Male+Eyeglasses", "Male"],
        }
    )
    figures = complement_figures(judged, rows, before, names)
    assert {flips: found["as_asked"] for flips, found in figures.items()} == {
        "Eyeglasses": 1.0, "Male+Eyeglasses": 1.0, "Male": 1.0,
    }  # fmt: skip
    assert figures["Male+Eyeglasses"]["group_n"] == [0, 0, 0, 0, 0, 1, 0, 0]

    manifest = pd.DataFrame(
        {"id": ["p-1", "p-2", "p-3"], "source": "z_prime", "split": ["train", "train", "test"],
         "target": [1, 1, 0], "protected": [2, 0, 0]}
    )  # fmt: skip
    parameters = SimpleNamespace(protected=names[1:], attributes=names)
    noise = label_figures(manifest, {"z_prime": judged, "z": before}, parameters)
    assert list(noise) == ["z_prime"]
    assert noise["z_prime"]["images"] == 2
    assert noise["z_prime"]["group_noise"] == [None, None, None, None, 1.0, None, 0.0, None]


# The judges


def test_a_judge_learns_from_its_own_images_and_is_measured_on_real_test_images(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(judge_images=80)
    asked: list[str] = []
    real_images = train_judge.real_images
    monkeypatch.setattr(
        train_judge,
        "real_images",
        lambda parameters, split, *more, **options: (
            asked.append(split) or real_images(parameters, split, *more, **options)
        ),
    )
    train_judge.main("Male")
    assert asked == ["judge", "test"]
    metrics = json.loads((JUDGES / "Male" / "metrics.json").read_text())
    assert metrics["images"] == 80
    assert metrics["real_test"]["accuracy"] == 1.0  # green is easily seen
    assert metrics["real_test"]["group_accuracies"] == [1.0] * 4
    assert metrics["real_test"]["group_n"] == [2] * 4
    card = json.loads((JUDGES / "Male" / "card.json").read_text())
    assert (card["attribute"], card["threshold"]) == ("Male", 0.5)


def test_without_images_there_is_no_judge(project: None, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(judge_images=0)
    train_judge.main("Male")
    assert json.loads((JUDGES / "Male" / "metrics.json").read_text()) == {"images": 0}
    assert "out/real has no split 'judge' to train a judge on" in capsys.readouterr().out
    assert assess_judged.judges_of(NAMES, Avatars()) == {}


def test_no_network_is_trained_for_what_pixels_tell(
    project: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither are there images to train one on."""
    make_project(judge_images=0)
    monkeypatch.setattr(train_judge, "source_of", lambda parameters: SeesGreen())
    monkeypatch.setattr(train_judge, "train_classifier", None)
    train_judge.main("Male")
    assert json.loads((JUDGES / "Male" / "metrics.json").read_text()) == {
        "measured": True,
        "images": 8,
        "real_test": {
            "accuracy": 1.0,
            "balanced_accuracy": 1.0,
            "worst_group_accuracy": 1.0,
            "group_accuracies": [1.0] * 4,
            "group_n": [2] * 4,
        },
    }
    assert not list(JUDGES.rglob("*.safetensors"))
    assert "computed from the pixels; accuracy on real test images 1.000" in capsys.readouterr().out


def test_what_pixels_tell_wrongly_is_reported_as_it_is(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project()
    monkeypatch.setattr(SeesGreen, "measured", lambda self, attribute: lambda images: 0 * is_green(images))
    monkeypatch.setattr(train_judge, "source_of", lambda parameters: SeesGreen())
    train_judge.main("Male")
    real_test = json.loads((JUDGES / "Male" / "metrics.json").read_text())["real_test"]
    assert (real_test["accuracy"], real_test["group_accuracies"]) == (0.5, [1.0, 0.0, 1.0, 0.0])


def test_there_are_judges_where_every_attribute_has_either_kind(project: None) -> None:
    make_project()
    judges = assess_judged.judges_of(NAMES, SeesGreen())
    assert judges["Male"] is is_green
    assert isinstance(judges["Blond_Hair"], SeesColour)
    write_json(JUDGES / "Blond_Hair" / "metrics.json", {"images": 0})
    assert assess_judged.judges_of(NAMES, SeesGreen()) == {}
    assert assess_judged.judges_of(["Red"], Digits()) == {"Red": red_ink}


def test_the_ink_of_real_digits_is_judged_from_the_stored_pixels(project: None) -> None:
    parameters = preset_values("digits", PRESETS)
    parameters |= {"cluster": {"mode": "inline"}, "runtime": {"device": "cpu", "precision": "fp32"}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    prepare.main()
    train_judge.main("Red")
    metrics = json.loads((JUDGES / "Red" / "metrics.json").read_text())
    assert (metrics["measured"], metrics["images"]) == (True, 800)
    assert metrics["real_test"]["group_accuracies"] == [1.0] * 4


def test_an_attribute_that_is_not_asked_for_has_no_judge(project: None) -> None:
    make_project()
    with pytest.raises(UserError, match="'Smiling' is none of the attributes Blond_Hair, Male"):
        train_judge.main("Smiling")


def test_the_judges_images_are_in_no_set_that_is_compared(project: None) -> None:
    make_project()
    references, samples = assess.samples_of(assess.read_parameters())
    ids = [name for images in (*references.values(), *samples.values()) for name in images.ids]
    assert not any(name.startswith(("judge", "validation", "test")) for name in ids)
    assert len(Store(REAL)) == 56
