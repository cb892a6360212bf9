"""The parts of a table, read by the nodes of a Ray cluster: the same bytes and errors as by one process."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core import cluster
from src.core.errors import ConfigurationError, DataError
from src.tabular import stored_table
from src.tabular.prepare import Preparation, prepare
from tests.support import address_of

ROW = np.arange(160)
TABLE = pd.DataFrame(
    {
        "Id": [f"{row:04}" for row in ROW],
        "area": [f"{row * 1.3777:.4f}" if row % 7 else "" for row in ROW],
        "late": np.where(ROW < 90, ROW.astype(str), np.char.add("r", (ROW % 3).astype(str))),  # read twice
        "price": 100 + ROW % 9 / 8,
    }
)
SETTINGS = Preparation(target="price", train="parts", id="Id", duplicates="apart")
pytestmark = [pytest.mark.slow, pytest.mark.kinds("tabular"), pytest.mark.unix]


@pytest.fixture
def raw(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four parts, CSV and Parquet in turn, in a project that is the working folder."""
    monkeypatch.setattr(stored_table, "SIDE_BY_SIDE", 0)
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "project", symlinks=True))
    parts = Path("data/raw/table/parts")
    parts.mkdir(parents=True)
    for number in range(4):
        part = TABLE[40 * number : 40 * (number + 1)]
        if number % 2:
            part.to_parquet(parts / f"{number}.parquet")
        else:
            part.to_csv(parts / f"{number}.csv", index=False)
    return parts.parent


def prepared_files(raw: Path) -> dict[str, bytes]:
    """The files that are prepared."""
    folder = Path("data/prepared/table")
    prepare(raw, folder, SETTINGS)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return found


def test_the_nodes_of_a_cluster_change_nothing(
    two_nodes: Any, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    expected = prepared_files(raw)
    monkeypatch.setenv("RAY_ADDRESS", address_of(two_nodes))
    assert prepared_files(raw) == expected
    monkeypatch.setattr(stored_table, "FILES", 3)  # two parts a task
    assert prepared_files(raw) == expected
    assert {path.name for path in raw.parents[1].rglob("*") if path.name.startswith("tmp")} == set()
    assert not [*Path("runs").glob(".cluster-*")]

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "versions", lambda: {"pyarrow": "0"})
        with pytest.raises(ConfigurationError, match=r"cannot read a table: pyarrow: found .*, expected 0"):
            prepared_files(raw)

    monkeypatch.setattr("src.tabular.blocks.HEAD", 3)  # the damage is below the rows that this process reads
    path = raw / "parts/2.csv"
    path.write_text(path.read_text().replace("0115,", "0115,1,"))
    with pytest.raises(DataError, match=r"2\.csv: row 36 has 5 cells, the header has 4"):
        prepared_files(raw)
