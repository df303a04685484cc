"""The command that checks stores, and how stages end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.stores import StoreWriter, write_shard
from pipeline.verify import main


def new_store(folder: Path) -> None:
    writer = StoreWriter(folder, "images", (2, 2, 3), "uint8", pd.DataFrame({"id": ["a", "b"]}), 1)
    for shard in writer.missing():
        writer.record(shard, write_shard(folder, shard, "images", np.full((1, 2, 2, 3), shard, np.uint8)))
    writer.finish()


@pytest.fixture
def stores(tmp_path) -> Path:
    for name in ("real", "synthetic/z"):
        new_store(tmp_path / name)
    return tmp_path


def test_whole_stores_are_counted(stores, capsys):
    main([stores])
    assert "2 stores are whole" in capsys.readouterr().out


def test_faults_of_all_stores_are_named(stores, capsys):
    os.truncate(stores / "real" / "shard-00000.h5", 10)
    (stores / "synthetic/z" / "shard-00001.h5").unlink()
    with pytest.raises(UserError, match="2 stores were checked and have faults: 2"):
        main([stores / "real", stores / "synthetic"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{stores / 'real' / 'shard-00000.h5'}: 10 bytes")
    assert lines[1] == f"{stores / 'synthetic/z' / 'shard-00001.h5'}: missing"


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(UserError, match="no store below"):
        main([tmp_path])


def test_the_command_ends_with_status_1_and_one_line_on_stderr(stores):
    (stores / "real" / "shard-00000.h5").unlink()
    command = [sys.executable, "-m", "pipeline.verify", str(stores)]
    process = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("error: 2 stores were checked and have faults: 1")
    assert len(process.stderr.splitlines()) == 1
