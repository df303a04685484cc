"""The product from another repository: exported by `dvc repro`, pushed to a remote, imported elsewhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.content.files import write_json
from pipeline.declaration import DATA, read_entries
from stages.reporting.recommending import recommend
from stages.shared.paths import RECOMMENDATION
from tests.balanced import PROJECT, make_project, manifest, write_parameters
from tests.end_to_end.running import checked, edit, run
from tests.support import environment

pytestmark = pytest.mark.slow

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@localhost")
VERDICT = "Train erm on the augmented data."
INPUTS = ("out/balanced", "out/evaluation", "out/real", "out/synthetic")


def commit(repository: Path) -> None:
    checked(repository, "git", "add", ".")
    checked(repository, "git", *IDENTITY, "commit", "--quiet", "-m", "a step")


def export_and_push(repository: Path) -> None:
    """`dvc repro`, `dvc push`, and a commit that names what was pushed."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=repository, env=environment(PROJECT), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    checked(repository, "dvc", "push", "--quiet")
    commit(repository)


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the project's stage export, whose outputs are in a remote and nowhere else."""
    folder = tmp_path_factory.mktemp("producer")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    make_project()
    write_parameters(formats=["hf-parquet"], images_per_file=50)
    write_json(RECOMMENDATION, recommend([], ["Male"], {}, 0).model_dump() | {"sentence": VERDICT})
    patch.undo()
    stage = read_entries(PROJECT)["export"]
    for name in [path for path in stage["deps"] if not path.startswith(DATA)]:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(PROJECT / name, folder / name)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"export": stage}}))
    checked(folder, "git", "init", "--quiet")
    checked(folder, "dvc", "init", "--quiet")
    remote = tmp_path_factory.mktemp("remote")
    checked(folder, "dvc", "remote", "add", "--quiet", "-d", "local", str(remote))
    checked(folder, "dvc", "add", "--quiet", *INPUTS)
    export_and_push(folder)
    for name in (".dvc/cache", "out/export/hf-parquet", *INPUTS):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """A repository of somebody else."""
    checked(tmp_path, "git", "init", "--quiet")
    checked(tmp_path, "dvc", "init", "--quiet")
    return tmp_path


def test_an_export_is_imported_and_read(producer: Path, consumer: Path) -> None:
    checked(consumer, "dvc", "import", "--quiet", str(producer), "out/export/hf-parquet", "-o", "faces")
    assert (consumer / "faces.dvc").is_file()
    assert VERDICT in (consumer / "faces/README.md").read_text()
    table = pd.read_parquet(consumer / "faces/data")
    assert len(table) == 130
    counts = {"train": 100, "validation": 12, "test": 18}
    import datasets

    loaded = datasets.load_dataset(str(consumer / "faces"), cache_dir=str(consumer / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == counts
    commit(consumer)
    shutil.rmtree(consumer / "faces")
    shutil.rmtree(consumer / ".dvc/cache")
    checked(consumer, "dvc", "pull", "--quiet")  # a clone of the consumer gets it from the producer's remote
    pd.testing.assert_frame_equal(pd.read_parquet(consumer / "faces/data"), table)


def test_what_was_exported_anew_comes_with_an_update(
    producer: Path, consumer: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changing = tmp_path_factory.mktemp("changing") / "producer"
    shutil.copytree(producer, changing)
    checked(consumer, "dvc", "import", "--quiet", str(changing), "out/export/hf-parquet", "-o", "faces")
    assert len(pd.read_parquet(consumer / "faces/data")) == 130
    checked(changing, "dvc", "pull", "--quiet")
    edit(changing, "export", rows="train")
    export_and_push(changing)
    checked(consumer, "dvc", "update", "--quiet", "faces.dvc")
    assert len(pd.read_parquet(consumer / "faces/data")) == 100


def test_the_dataset_is_got_with_its_stores(producer: Path, consumer: Path, monkeypatch) -> None:
    from data import BalancedDataset

    for name in ("out/balanced", "out/real", "out/synthetic"):
        (consumer / "out").mkdir(exist_ok=True)
        checked(consumer, "dvc", "get", "--quiet", str(producer), name, "-o", name)
    monkeypatch.chdir(consumer)
    dataset = BalancedDataset("out/balanced", split="train")
    assert len(dataset) == 100
    assert dataset[0]["image"].shape == (3, 16, 16)
    assert set(dataset.to_pandas()["id"]) < set(manifest()["id"])


def test_a_file_is_opened_without_a_download_of_the_rest(producer: Path, consumer: Path) -> None:
    program = (
        "import dvc.api, pandas as pd\n"
        f"with dvc.api.open('out/balanced/manifest.parquet', repo={str(producer)!r}, mode='rb') as file:\n"
        "    print(len(pd.read_parquet(file)))\n"
        "path = 'out/export/hf-parquet/README.md'\n"
        f"print(dvc.api.read(path, repo={str(producer)!r}).splitlines()[0])\n"
    )
    done = run(consumer, sys.executable, "-c", program)
    assert done.stdout.split() == ["130", "---"], done.stderr
    assert {path.name for path in consumer.iterdir()} == {".dvc", ".dvcignore", ".git"}
