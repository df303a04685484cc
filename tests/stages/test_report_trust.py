"""The report's section "Can this be trusted?": which judgements it shows, and what it says of them."""

import re
from html import unescape
from pathlib import Path

import pytest
import yaml

from pipeline.content.trust import Judgement, Level, settle
from stages import evaluate, report
from stages.parameters import AllParameters, read_parameters
from stages.reporting.trust import mirroring, overall, trust_rows
from stages.shared.paths import ATTRIBUTES, BALANCED, GENERATOR, HYPERPLANES, LABELS, QUALITY, RUNS
from tests.stages.evaluated import make_synthesised, make_trained, write_parameters
from tests.stages.pages import tables_of

FOLDERS = [
    ATTRIBUTES / "Blond_Hair",
    ATTRIBUTES / "Male",
    GENERATOR,
    LABELS / "z",
    HYPERPLANES,
    BALANCED,
    QUALITY,
]


def judged(folder: Path, *levels: Level) -> None:
    """A stage's output with judgements of these levels."""
    judgements = [
        Judgement(f"{folder} {k}", level, f"it is {level} <{k}>.", "Do this.", {"figure": 0.5})
        for k, level in enumerate(levels)
    ]
    settle(judgements, folder, "go_on")


def run(data: str, recipe: str, seed: int) -> Path:
    return RUNS / data / recipe / str(seed)


@pytest.fixture
def parameters(tmp_path, monkeypatch) -> AllParameters:
    monkeypatch.chdir(tmp_path)
    write_parameters(1)
    return read_parameters()


# The rows


def test_nothing_is_shown_of_what_was_not_judged(parameters):
    assert trust_rows(parameters) == []
    assert overall([]) == "No step of this run was judged."


def test_every_step_has_its_rows_in_the_order_of_the_pipeline(parameters):
    for folder in reversed(FOLDERS):
        judged(folder, "fine", "doubtful")
    judged(ATTRIBUTES / "Eyeglasses", "useless")  # no attribute of this run
    rows = trust_rows(parameters)
    assert [row.step for row in rows] == [f"{folder} {k}" for folder in FOLDERS for k in (0, 1)]
    assert [row.level for row in rows] == ["fine", "doubtful"] * len(FOLDERS)


def test_trainings_that_are_fine_are_one_row(parameters):
    cells = [(d, r, s) for d in ("original", "augmented") for r in ("erm", "group_dro") for s in (0, 1)]
    for cell in cells:
        judged(run(*cell), "fine")
    judged(run("original", "pretrained", 0), "useless")  # no recipe of this run
    (row,) = trust_rows(parameters)
    assert (row.step, row.level, row.sentence) == ("trainings", "fine", "all 8 left their plateau.")


def test_trainings_that_are_not_fine_have_rows_before_that_of_the_others(parameters):
    judged(run("augmented", "erm", 1), "useless")
    judged(run("original", "erm", 0), "doubtful")
    judged(run("original", "erm", 1), "fine")
    judged(run("oracle", "erm", 1), "fine")
    rows = trust_rows(parameters)
    assert [row.step for row in rows] == [
        f"{run('original', 'erm', 0)} 0", f"{run('augmented', 'erm', 1)} 0", "trainings",
    ]  # fmt: skip
    assert rows[-1].sentence == "the other 2 left their plateau."
    (run("original", "erm", 1) / "trust.json").unlink()
    (run("oracle", "erm", 1) / "trust.json").unlink()
    assert len(trust_rows(parameters)) == 2


# The sentences


def rows_of(*levels: Level) -> list[Judgement]:
    return [Judgement(f"step {k}", level, "it is.", "", {}) for k, level in enumerate(levels)]


def test_the_worst_steps_are_named():
    assert overall(rows_of("fine", "fine")) == "Each of the 2 judgements below is fine."
    assert overall(rows_of("fine", "doubtful", "doubtful")) == (
        "Doubtful – step 1; step 2: the results may suffer from it."
    )
    assert overall(rows_of("doubtful", "useless", "fine")) == (
        "Useless – step 1: what follows from it is noise, and should not be used."
    )
    five = overall(rows_of(*["doubtful"] * 5))
    assert five == "Doubtful – step 0; step 1; step 2; and 2 more: the results may suffer from it."


def with_flips(generator: str, **flips: bool) -> AllParameters:
    """The parameters of the current folder, with `flip` of some sections."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["generator"] = generator
    content["load_gan"] = {"name": "factory", "factory": "a:b"}
    for section in ("train_attribute", "train", "train_gan"):
        content[section]["flip"] = flips.get(section, False)
    return AllParameters.model_validate(content)


@pytest.mark.parametrize(
    ("flips", "generator", "listed"),
    [
        (["train"], "train_gan", "the recipes"),
        (["train_gan"], "train_gan", "the generator"),
        (["train_attribute", "train"], "train_gan", "the attribute classifiers and the recipes"),
        (["train", "train_gan"], "load_gan", "the recipes"),  # that generator is not trained here
        (
            ["train_attribute", "train", "train_gan"],
            "train_gan",
            "the attribute classifiers, the recipes and the generator",
        ),
    ],
)
def test_what_is_mirrored_and_what_that_means(parameters, flips, generator, listed):
    assert mirroring(with_flips(generator, **dict.fromkeys(flips, True))) == (
        f"Mirrored at random (flip) in the training of {listed}: every other image is shown mirrored left to "
        "right, which is right for faces and scenes, wrong for text and digits."
    )


def test_where_nothing_is_mirrored_that_is_said(parameters):
    assert mirroring(with_flips("load_gan", train_gan=True)).startswith("No training mirrored images (flip)")


# The page


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_trained(1)
        make_synthesised(1)
        content = yaml.safe_load(Path("params.yaml").read_text())
        content["train"]["flip"] = content["train_gan"]["flip"] = True
        content["train_attribute"]["flip"] = False
        Path("params.yaml").write_text(yaml.safe_dump(content))
        judged(GENERATOR, "fine", "doubtful")
        judged(HYPERPLANES, "useless")
        judged(run("augmented", "erm", 1), "fine")
        evaluate.main()
        report.main()
        return (folder / "out/report/index.html").read_text()


def test_the_page_begins_with_trust(page):
    navigation = page.split("<nav>")[1].split("</nav>")[0]
    assert navigation.startswith('<a href="#trust">Can this be trusted?</a>')
    assert re.findall(r'<h2 id="(\w+)"', page)[:2] == ["trust", "results"]


def test_the_page_has_every_judgement_with_its_level_and_what_to_do(page):
    rows = tables_of(page)["Whether each step may be trusted"]
    assert rows == [
        ["Step", "Level", "What was found", "What to do"],
        ["Out/generator 0", "fine", "It is fine <0>.", ""],
        ["Out/generator 1", "doubtful", "It is doubtful <1>.", "Do this."],
        ["Out/hyperplanes 0", "useless", "It is useless <0>.", "Do this."],
        ["Trainings", "fine", "One left its plateau.", ""],
    ]
    section = page.split('id="trust"')[1].split("<h2")[0]
    assert re.findall(r'class="level (\w+)">(\w+)<', section) == [
        (level, level) for level in ("useless", "fine", "doubtful", "useless", "fine")
    ]
    for level in ("fine", "doubtful", "useless"):
        assert re.search(rf"\.level\.{level} {{ color: #\w{{6}}; background: #\w{{6}}; }}", page)


def test_above_the_table_stands_what_is_worst(page):
    section = unescape(page.split('id="trust"')[1].split("<table")[0])
    assert "Useless – out/hyperplanes 0: what follows from it is noise, and should not be used." in section


def test_the_page_says_what_is_mirrored(page):
    section = page.split('id="training"')[1].split("<h2")[0]
    assert (
        "Mirrored at random (flip) in the training of the recipes and the generator: every other" in section
    )
