"""dvc.yaml lists what can change a stage's outputs, all of it and nothing else; what runs again follows."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.declaration import read_entries, stage_of, stages_in_order
from tests.end_to_end.running import checked

PROJECT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "generators", "classifiers", "data", "stages")

# Modules that stages import and that are no dependencies, as they cannot change what a stage writes, and why.
EXEMPT = {
    "pipeline/__init__.py": "asks whether the `dvc repro` that started the stage is alive",
    "pipeline/cluster.py": "says where shards are made; a shard is a function of its number",
    "pipeline/dask_cluster.py": "says where shards are made; a shard is a function of its number",
    "pipeline/declaration.py": "reads dvc.yaml: what is resumed, not what is made",
    "pipeline/errors.py": "a stage that raises an error has no output",
    "pipeline/integrity.py": "says whether what was written is still there",
    "pipeline/launch.py": "starts one training in several processes, which end as one process does",
    "pipeline/progress.py": "shows how far a stage is",
    "pipeline/runtime.py": "says where and how precisely, as the section `runtime`, which is no dependency",
    "pipeline/stage.py": "reads the command line, and shows errors",
    "pipeline/work.py": "says where unfinished work is kept",
    "data/__init__.py": "gives other people's code `BalancedDataset`; no stage asks for it",
    "stages/__init__.py": "remembers the process that started the stage",
    "stages/shared/paths.py": "says where outputs are, as dvc.yaml does; DVC misses one that is elsewhere",
}
# The schemas of params.yaml: what they let through is a stage's `params`.
SCHEMA = "parameters.py"
# Listed by every stage as a whole: what it holds is so small and so basic that it is not told apart.
BASIC = "pipeline/content"

TEMPLATES = (".j2", ".css")


# What a stage can run: a walk of its imports


@cache
def imported_by(file: str) -> frozenset[str]:
    """The project's files that a file imports, in functions too, or names as its templates."""
    path = PROJECT / file
    if path.suffix in TEMPLATES:
        return templates_named_in(path)
    found = set()
    for node in running_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {module for name in names for module in files_of(name)}
    return frozenset(found) | templates_named_in(path)


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and child in node.body:
            continue
        yield from running_nodes(child)


def files_of(name: str) -> set[str]:
    """The files that an import of `package.module.attribute` runs: its packages' and the module's."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return set()
    found = set()
    for count in range(1, len(parts) + 1):
        path = Path(*parts[:count])
        found |= {
            str(file)
            for file in (path / "__init__.py", path.with_suffix(".py"))
            if (PROJECT / file).is_file()
        }
    return found


def templates_named_in(path: Path) -> frozenset[str]:
    """The templates beside a module, or anywhere in its package, whose names stand in its text."""
    named = re.findall(r"[\w./]+\.(?:j2|css)", path.read_text())
    package = PROJECT / path.relative_to(PROJECT).parts[0]
    return frozenset(
        str(file.relative_to(PROJECT))
        for file in package.rglob("*")
        for name in named
        if file.suffix in TEMPLATES and f"/{file}".endswith(f"/{name}")
    )


def is_exempt(file: str) -> bool:
    return file in EXEMPT or Path(file).name == SCHEMA


@cache
def is_empty(file: str) -> bool:
    """Whether a module has a docstring and nothing else."""
    path = PROJECT / file
    return path.suffix == ".py" and path.is_file() and len(ast.parse(path.read_text()).body) <= 1


@cache
def reachable_from(module: str) -> frozenset[str]:
    """All files that can change what a stage's module writes."""
    found, waiting = set(), [module]
    while waiting:
        file = waiting.pop()
        if file not in found and not is_exempt(file):
            found.add(file)
            waiting += imported_by(file)
    return frozenset(file for file in found if not is_empty(file))


# The declaration


@pytest.fixture(scope="module")
def entries() -> Any:
    return read_entries(PROJECT)


@pytest.fixture(scope="module")
def parameters() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    return content | {"inverted": ["real"], "export": content["export"] | {"formats": ["hf-parquet"]}}


def modules_of(entry: dict[str, Any]) -> list[str]:
    """The modules that an entry of dvc.yaml may run."""
    names = re.search(r"stages\.(\S+)", entry["cmd"])[1]
    choices = entry["meta"]["generator"] if names == "${generator}" else (names,)
    return [f"stages/{name}.py" for name in choices]


def code_of(entry: dict[str, Any]) -> list[str]:
    """The code that an entry lists, with each module that it may run."""
    listed = [path for path in entry["deps"] if not path.startswith("out/")]
    return [path for path in listed if "${" not in path] + modules_of(entry)


def files_in(path: str) -> list[str]:
    if not (PROJECT / path).is_dir():
        return [path]
    below = sorted((PROJECT / path).rglob("*"))
    return [str(file.relative_to(PROJECT)) for file in below if file.suffix in (".py", *TEMPLATES)]


def is_listed(file: str, code: Sequence[str]) -> bool:
    return any(f"{file}/".startswith(f"{path}/") for path in code)


def test_an_entry_lists_every_module_that_its_stage_can_run_and_no_other(entries) -> None:
    complaints = []
    for name, entry in entries.items():
        code = code_of(entry)
        reached = {file for module in modules_of(entry) for file in reachable_from(module)}
        complaints += [
            f"dvc.yaml, {name}: add `- {file}` to its deps (or import it nowhere that the stage reaches)"
            for file in sorted(reached)
            if not is_listed(file, code)
        ]
        for path in code:
            files = [file for file in files_in(path) if not is_exempt(file) and not is_empty(file)]
            unreached = [file for file in files if file not in reached]
            if unreached and path != BASIC:
                rest = "" if path in unreached else f": the stage cannot run {', '.join(unreached)} in it"
                complaints.append(f"dvc.yaml, {name}: remove `- {path}` from its deps{rest}")
        if BASIC not in code:
            complaints.append(f"dvc.yaml, {name}: add `- {BASIC}` to its deps")
    assert not complaints, "\n".join(complaints)


def test_what_is_exempt_is_there_and_is_imported() -> None:
    stages = [str(path.relative_to(PROJECT)) for path in (PROJECT / "stages").glob("*.py")]
    imported = {file for stage in stages for module in reachable_from(stage) for file in imported_by(module)}
    imported |= {file for exempt in EXEMPT for file in imported_by(exempt)}
    assert sorted(set(EXEMPT) - imported) == []


def test_every_stage_has_an_entry_and_every_entry_a_stage(entries) -> None:
    stages = {f"stages/{path.name}" for path in (PROJECT / "stages").glob("*.py")}
    stages -= {"stages/__init__.py", "stages/parameters.py"}
    assert {module for entry in entries.values() for module in modules_of(entry)} == stages


def test_every_parameter_of_an_entry_is_in_the_parameter_file(entries, parameters) -> None:
    for stage in stages_in_order(entries, parameters):
        for key in stage.params:
            value = parameters
            for part in key.split("."):
                assert part in value, f"dvc.yaml, {stage.name}: params.yaml has no {key}"
                value = value[part]


def test_no_entry_depends_on_what_changes_no_result(entries, parameters) -> None:
    keys = {
        key
        for stage in stages_in_order(entries, parameters)
        if stage.name != "report"
        for key in stage.params
    }
    assert not {key for key in keys if key.split(".")[0] in ("runtime", "cluster", "on_useless")}
    for untrained in ("synthesize", "label", "invert", "complement", "complement.refine"):
        assert not {untrained, f"{untrained}.batch_size"} & keys


# The stages of a command


@pytest.mark.parametrize(
    ("command", "name", "out", "reads"),
    [
        ("synthesize z", "synthesize", "out/synthetic/z", "out/latents/z"),
        ("synthesize real_prime", "synthesize", "out/synthetic/real_prime", "out/latents/real_prime"),
        ("train original erm 0", "train_real", "out/runs/original/erm/0", "out/real"),
        ("train augmented half_real 7", "train_balanced", "out/runs/augmented/half_real/7", "out/balanced"),
        ("finish oracle erm afr 0", "finish_real", "out/runs/oracle/erm+afr/0", "out/runs/oracle/erm/0"),
        ("finish sampled erm dfr 7", "finish_balanced", "out/runs/sampled/erm+dfr/7", "out/synthetic"),
        ("load_classifier mine", "load_classifier", "out/runs/elsewhere/mine/0", "out/real"),
        (
            "finish elsewhere mine dfr 0",
            "finish_elsewhere",
            "out/runs/elsewhere/mine+dfr/0",
            "out/runs/elsewhere/mine/0",
        ),
        ("load_gan", "generator", "out/generator", "out/real"),
        ("train_gan", "generator", "out/generator", "out/real"),
        ("complement z", "complement", "out/latents/z_prime", "out/labels/z"),
        ("complement real", "complement_inverted", "out/latents/real_prime", "out/real"),
        ("export celeba", "export", "out/export/celeba", "out/balanced"),
    ],
)
def test_a_command_has_its_entry_also_where_nobody_asks_for_it(command, name, out, reads, entries) -> None:
    parameters = yaml.safe_load((PROJECT / "params.yaml").read_text())
    stage = stage_of(command, entries, parameters)
    assert (stage.name, stage.command, stage.outs) == (name, command, (out,))
    assert reads in stage.data
    assert f"stages/{command.split(' ')[0]}.py" in stage.code
    assert not [path for path in (*stage.code, *stage.data, *stage.params) if "${" in path]


def test_a_stage_has_the_values_of_its_parameters(entries, parameters) -> None:
    stage = stage_of("train original group_dro 0", entries, parameters)
    assert stage.params["train.definitions.group_dro"] == parameters["train"]["definitions"]["group_dro"]
    assert stage.params["train.steps"] == parameters["train"]["steps"]
    assert "train.definitions.erm" not in stage.params


def test_stages_come_after_what_they_read(entries, parameters) -> None:
    asked_for = [
        stage_of(command, entries, parameters)
        for command in ("finish original erm dfr 9", "train original erm 9")
    ]
    stages = stages_in_order(entries, parameters, asked_for)
    commands = [stage.command for stage in stages]
    for first, second in (
        ("prepare", "load_gan"),
        ("load_gan", "sample"),
        ("sample", "synthesize z"),
        ("synthesize z", "label z"),
        ("label z", "fit_hyperplanes"),
        ("fit_hyperplanes", "complement z"),
        ("complement z", "synthesize z_prime"),
        ("invert real", "complement real"),
        ("complement real", "synthesize real_prime"),
        ("label real_prime", "balance"),
        ("balance", "train augmented erm 0"),
        ("train original erm 9", "finish original erm dfr 9"),
        ("finish original erm dfr 9", "evaluate"),
        ("evaluate", "report"),
        ("evaluate", "export hf-parquet"),
    ):
        assert commands.index(first) < commands.index(second), (first, second)


# What runs again when a file is touched

TRAININGS = {"train_attribute", "train_judge", "train_real", "train_balanced"}
FINISHES = {"finish_real", "finish_balanced", "finish_elsewhere"}
OF_CLASSIFIERS = TRAININGS | {"assess"}  # its probe is a classifier, trained as the others are
RENDERING = {"generator", "synthesize", "synthesize_inverted", "complement", "complement_inverted", "invert"}
TOUCHED = {
    "classifiers/measures/metrics.py": FINISHES | {"evaluate", "report"},  # gaps of φ
    "classifiers/measures/divergences.py": {"balance", "evaluate", "report"},
    "classifiers/measures/bootstrap.py": {"evaluate"},
    "classifiers/measures/judging.py": {"assess"},
    "classifiers/measures/fidelity.py": {"assess"},
    "stages/reporting/figures.py": {"report"},
    "stages/reporting/tables.py": {"report"},
    "classifiers/training/methods/erm.py": OF_CLASSIFIERS,
    "classifiers/training/methods/group_dro.py": {"train_real", "train_balanced"},
    "classifiers/finishing/last_layer.py": FINISHES,
    "generators/networks/kernels.py": RENDERING,
    "generators/zoo.py": {"generator"},
    "data/exports/celeba.py": {"export"},
    "data/sources/celeba.py": {"prepare", "train_judge", "assess"},
    "stages/shared/summaries.py": {"balance", "evaluate"},
    "pipeline/cluster.py": set(),
}


@pytest.mark.parametrize("file", TOUCHED)
def test_a_touched_file_runs_these_stages_again(file, entries) -> None:
    assert (PROJECT / file).is_file()
    assert {name for name, entry in entries.items() if is_listed(file, code_of(entry))} == TOUCHED[file]


def test_seeds_run_every_stage_again(entries) -> None:
    file = "pipeline/content/seeds.py"
    assert {name for name, entry in entries.items() if is_listed(file, code_of(entry))} == set(entries)


@pytest.mark.slow
def test_dvc_names_those_stages(tmp_path, entries) -> None:
    """In a copy whose stages do nothing: deps are the project's code; there is no data, and no finish."""
    for package in (*PACKAGES, "params.yaml"):
        copy = shutil.copytree if (PROJECT / package).is_dir() else shutil.copy
        copy(PROJECT / package, tmp_path / package)
    idle = {
        name: {key: entry[key] for key in ("matrix", "params") if key in entry}
        | {"cmd": "true", "deps": [path for path in entry["deps"] if not path.startswith("out/")]}
        for name, entry in entries.items()
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": idle}))
    checked(tmp_path, "dvc", "init", "--quiet", "--no-scm")
    checked(tmp_path, "dvc", "commit", "--quiet", "--force")
    for file in ("classifiers/measures/metrics.py", "classifiers/training/methods/group_dro.py"):
        before = (tmp_path / file).read_text()
        (tmp_path / file).write_text(f"{before}# touched\n")
        named = json.loads(checked(tmp_path, "dvc", "status", "--json"))
        assert {name.split("@")[0] for name in named} == TOUCHED[file] - FINISHES
        (tmp_path / file).write_text(before)


# What is resumed: a real kill in the middle of shards, in a copy of the project

IMAGES, SHARDS = 4, 8  # of a shard, and of the store
KILLED = """
import os, signal, sys
from stages import prepare

made, commit = [], prepare.commit_shard

def killing(work, shard, *given, **named):
    if len(made) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(shard)
    return commit(work, shard, *given, **named)

prepare.commit_shard = killing
prepare.main()
print("made", *made)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A copy of the project where `prepare` was killed after two of its shards."""
    copy = tmp_path_factory.mktemp("copy") / "project"
    for name in (*PACKAGES, "dvc.yaml"):
        of = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy.mkdir(exist_ok=True)
        of(PROJECT / name, copy / name)
    parameters = yaml.safe_load((PROJECT / "params.yaml").read_text())
    parameters["cluster"]["mode"] = "inline"
    parameters["prepare"] |= {"resolution": 8, "shard_size": IMAGES}
    parameters["prepare"]["source"] |= {
        "train": 12, "validation": 8, "validation_minimum": 1, "test_per_group": 1, "oracle": 4, "judge": 4,
    }  # fmt: skip
    (copy / "params.yaml").write_text(yaml.safe_dump(parameters))
    assert prepare(copy, 2).returncode == -signal.SIGKILL
    return copy


def prepare(project: Path, shards: int = 1000) -> subprocess.CompletedProcess[str]:
    """Run `prepare` with the code of a project, and kill it when it has made so many shards."""
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(shards)],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("touched", "kept"),
    [
        (None, True),
        ("data/sources/avatars.py", False),
        ("pipeline/content/seeds.py", False),
        ("classifiers/training/methods/group_dro.py", True),
    ],
)
def test_shards_are_kept_where_the_code_that_decides_them_is_the_same(
    touched, kept, killed, tmp_path
) -> None:
    project = shutil.copytree(killed, tmp_path / "project")
    if touched is not None:
        with (project / touched).open("a") as file:
            file.write("\n")
    done = prepare(project)
    assert done.returncode == 0, done.stderr
    made = done.stdout.splitlines()[-1].split(" ")[1:]
    assert made == [str(shard) for shard in range(2 if kept else 0, SHARDS)]
    assert json.loads((project / "out/real/index.json").read_text())["made_by"] == "prepare"
