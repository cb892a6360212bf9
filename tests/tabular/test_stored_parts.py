"""The parts of a table, read by several processes: the same bytes, messages and errors as by one."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.errors import DataError, ResourceError
from src.tabular import stored_table
from src.tabular.prepare import Preparation, prepare
from src.tabular.sources import Source

ROWS = 160
ROW = np.arange(ROWS)
TABLE = pd.DataFrame(
    {
        "Id": [f"{row:04}" for row in ROW],
        "area": [f"{row * 1.3777:.4f}" if row % 7 else "" for row in ROW],
        "late": np.where(ROW < 90, ROW.astype(str), np.char.add("r", (ROW % 3).astype(str))),
        "kind": [["brick", "wood", "NA", "stone"][row // 20 * row % 4] for row in ROW],
        "flat": [row % 3 for row in ROW],
        "price": [100 + row % 9 / 8 for row in ROW],
    }
)
SETTINGS = Preparation(target="price", train="parts", id="Id", duplicates="apart")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four parts, CSV and Parquet in turn, for which processes are started."""
    monkeypatch.setattr(stored_table, "SIDE_BY_SIDE", 0)
    monkeypatch.setattr("src.tabular.sources.BLOCK_ROWS", 7)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(4):
        part = TABLE[40 * number : 40 * (number + 1)]
        if number % 2:
            part.to_parquet(folder / f"{number}.parquet")
        else:
            part.to_csv(folder / f"{number}.csv", index=False)
    # below the rows that this process looks at, quotes that pyarrow may read otherwise: left to pandas
    monkeypatch.setattr("src.tabular.blocks.HEAD", 3)
    lines = (folder / "2.csv").read_text().splitlines(keepends=True)
    lines[9] = lines[9].replace(",brick,", ', "brick ",')
    (folder / "2.csv").write_text("".join(lines))
    return folder


def prepared(parts: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files that this number of processes prepares."""
    monkeypatch.setenv("PYTHON_CPU_COUNT", str(processes))
    folder = parts.parent / f"prepared {processes}"
    prepare(parts.parent, folder, SETTINGS)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(
    parts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    used = []
    helpers = stored_table.helpers
    monkeypatch.setattr(
        stored_table, "helpers", lambda number, *others: used.append(number) or helpers(number, *others)
    )
    expected = prepared(parts, 1, monkeypatch)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].endswith("parts/2.csv: spaces around cells left out: 'kind'")
    assert b'"r2"' in expected["preprocessing.json"]  # `late` is a text in the last parts, so in all
    assert b'"7"' in expected["preprocessing.json"]
    for processes in (2, 20):
        caplog.clear()
        assert prepared(parts, processes, monkeypatch) == expected
        assert [record.getMessage() for record in caplog.records] == messages
    assert used == [2, 4]  # not more than there are parts
    assert not [path for path in parts.parent.iterdir() if path.name.startswith("tmp")]


@pytest.mark.slow
def test_the_error_of_the_first_damaged_part_is_shown(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = []
    for number in (0, 2):
        path = parts / f"{number}.csv"
        path.write_text(path.read_text().replace(f"{40 * number + 35:04},", f"{40 * number + 35:04},1,"))
    for processes in (1, 2):
        with pytest.raises(DataError, match=r"0\.csv: row 36 has 7 cells, the header has 6") as raised:
            prepared(parts, processes, monkeypatch)
        errors.append((type(raised.value), str(raised.value)))
    assert errors[0] == errors[1]
    assert not (parts.parent / "prepared 2").exists()


class EndsTheProcess:
    """Blocks that end the process which reads them, as the system does when the memory is exhausted."""

    def __call__(self, names: list[str]) -> None:
        os._exit(1)


@pytest.mark.slow
def test_a_process_that_is_ended_from_outside_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", "2")
    part = Source(["x"], EndsTheProcess())
    source = Source(["x"], EndsTheProcess(), (part, part), stored_table.SIDE_BY_SIDE)
    message = "a process that reads a table was ended from outside; was there memory left?"
    with pytest.raises(ResourceError, match=re.escape(message)):
        stored_table.stored_table(tmp_path, source, (), (), SETTINGS.reading, tmp_path)
