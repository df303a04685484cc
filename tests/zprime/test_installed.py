"""zprime as other people have it: installed, from a wheel or from a clone, beside a `data` of their own."""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import torch

from generators.networks.cards import GeneratorCard
from generators.networks.dcgan import DCGANGenerator
from generators.networks.loading import save_generator
from tests import balanced

PROJECT = Path(__file__).parents[2]
PACKAGES = ("classifiers", "data", "generators", "pipeline", "stages")
BUILD = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"

pytestmark = pytest.mark.slow


def without_this_project() -> dict[str, str]:
    """The environment variables, but for the one that tells processes of tests where the project is."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def copy_of_the_project(folder: Path) -> Path:
    """The files that are built: building leaves others beside them."""
    folder.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    for name in ("zprime", *PACKAGES):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but zprime in it, which sees the libraries of this one; its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    clone = copy_of_the_project(folder / "clone")
    subprocess.run(
        [sys.executable, "-c", BUILD, request.param, str(folder)], cwd=clone, check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], check=True, env=without_this_project())
    # A path in a .pth file is searched, but its own .pth files are not read: no zprime is found there.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def run(installed: Path, folder: Path, *command: str) -> str:
    """What a program of the environment prints, run in a folder."""
    program, *arguments = command
    done = subprocess.run(
        [str(installed / "bin" / program), *arguments],
        cwd=folder,
        env=without_this_project(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("installed", ["build_wheel"], indirect=True)
def test_a_wheel_takes_one_name_and_has_every_file(installed: Path) -> None:
    (wheel,) = installed.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    expected = {}
    for package in ("zprime", *PACKAGES):
        prefix = Path() if package == "zprime" else Path("zprime/packages")
        for path in (PROJECT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected[(prefix / path.relative_to(PROJECT)).as_posix()] = path.read_bytes()
    assert "zprime/py.typed" in expected
    assert any(name.endswith(".j2") for name in expected)
    assert held == expected


THEIRS = {
    "package": ("data/__init__.py", "data/own.py"),
    "folder": (None, "data/own.py"),
    "module": ("data.py", None),
}
ORDERS = {
    "zprime first": "from zprime import Store\nimport data",
    "theirs first": "import data\nfrom zprime import Store",
}
CHECK = """
import sys
{imports}
assert Store.__module__ == "zprime.packages.pipeline.content.stores", Store.__module__
taken = [name for name in sys.modules if name.split(".")[0] in {packages}]
assert taken == ["data"], taken
{theirs}
print(Store.__name__)
"""


ONE_OF_EACH = {("package", "theirs first"), ("folder", "zprime first"), ("module", "theirs first")}
OWN = [
    pytest.param(kind, order, marks=[] if (kind, order) in ONE_OF_EACH else pytest.mark.exhaustive)
    for kind, order in itertools.product(THEIRS, ORDERS)
]


@pytest.mark.parametrize(("kind", "order"), OWN)
def test_a_data_of_ones_own_is_found_by_its_owner_alone(
    installed: Path, tmp_path: Path, kind: str, order: str
) -> None:
    own, module = THEIRS[kind]
    for name in filter(None, (own, module)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("WHOSE = 'theirs'\n")
    theirs = ["assert data.WHOSE == 'theirs'"] if own else []
    theirs += ["import data.own", "assert data.own.WHOSE == 'theirs'"] if module else []
    script = CHECK.format(imports=ORDERS[order], packages=PACKAGES, theirs="\n".join(theirs))
    (tmp_path / "script.py").write_text(script)
    assert run(installed, tmp_path, "python", "script.py") == "Store\n"


TRAINS = """
from pathlib import Path
import data
import numpy as np
import torch
from torch.utils.data import DataLoader
from zprime import BalancedDataset, load_generator, metrics

if __name__ == "__main__":
    train = BalancedDataset("out/balanced", split="train")
    loader = DataLoader(train, batch_size=len(train), num_workers=1, multiprocessing_context="spawn")
    (batch,) = loader
    assert all((batch["image"][k] == train[k]["image"]).all() for k in range(len(train)))
    counts = metrics.count_table(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1]))
    assert metrics.statistical_parity_difference(counts) == 0.5 - 1
    generator = load_generator(Path("generator"), torch.device("cpu"))
    images = generator(torch.ones(2, generator.latent_dim))
    assert torch.equal(images, torch.load("images.pt"))
    print(data.WHOSE, len(train), type(generator).__module__)
"""


def test_what_zprime_offers_works_beside_a_data_of_ones_own(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker processes, which import zprime anew, read the same images."""
    monkeypatch.chdir(tmp_path)
    balanced.make_project()
    (tmp_path / "data.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "train.py").write_text(TRAINS)
    architecture = {"latent_dim": 3, "width": 2, "depth": 1, "tanh": True}
    torch.manual_seed(0)
    network = DCGANGenerator(**architecture)
    card = GeneratorCard(kind="dcgan", latent_dim=3, resolution=8, architecture=architecture)
    save_generator(tmp_path / "generator", network, card)
    torch.save(network.eval()(torch.ones(2, 3)), tmp_path / "images.pt")
    manifest = balanced.manifest()
    count = int((manifest["split"] == "train").sum())
    printed = run(installed, tmp_path, "python", "train.py")
    assert printed == f"theirs {count} zprime.packages.generators.networks.dcgan\n"


def test_the_command_and_the_templates_of_an_installation(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("raise SystemExit('nobody asked for it')")
    (tmp_path / "theirs.csv").write_text("id,y,score,g\na,1,0.9,m\nb,0,0.2,m\nc,1,0.8,f\nd,0,0.7,f\n")
    assert "evaluate" in run(installed, tmp_path, "zprime", "--help")
    assert "4 samples" in run(installed, tmp_path, "zprime", "evaluate", "theirs.csv", "--protected", "g")
    script = (
        "import jinja2, zprime.packages as packages\n"
        "folder = packages.FOLDER / 'stages' / 'reporting'\n"
        "templates = jinja2.Environment(loader=jinja2.FileSystemLoader(folder))\n"
        "names = templates.list_templates(['j2'])\n"
        "assert all(templates.get_template(name) for name in names)\n"
        "print(folder, *names, sep='\\n')\n"
    )
    folder, *names = run(installed, tmp_path, "python", "-c", script).splitlines()
    theirs = Path(folder).resolve()
    assert installed.parent.resolve() in theirs.parents  # and not this clone
    source = PROJECT / "stages" / "reporting"
    assert names == sorted(path.relative_to(source).as_posix() for path in source.rglob("*.j2"))
