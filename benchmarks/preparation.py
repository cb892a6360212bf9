"""Time and memory of preparing a large table in blocks, as a whole by pandas, and of pandas.read_csv alone.

`propose` is what `pipelines.new_task` does before it tries its proposal by a preparation.

    python -m benchmarks.preparation [--rows 1000000] [--whole false]

The table is the house-price sample over and over, with Ids of its own; each way runs in its own process. Both
preparations must give the same bytes.
"""

import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from benchmarks.timing import measured, write_sample
from src.core.digests import file_digest

PROPOSE = """
from pathlib import Path
from src.tabular.propose import propose
propose(Path("train.csv"), "SalePrice")
"""
READ = "import pandas; pandas.read_csv('train.csv')"
PREPARE = """
import src.tabular.reading
from pathlib import Path
from pipelines.parameters import checked
from src.tabular.prepare import Preparation, prepare
settings = checked(Preparation, {settings}, "prepare")
src.tabular.reading.LARGE = {large}
prepare(Path("."), Path("{name}"), settings)
"""


def compare(rows: int = 1_000_000, whole: bool = True) -> None:
    """Print processor time, time and peak memory of each, and the ratios.

    Args:
        rows: of the generated CSV.
        whole: prepare the table as a whole, too.
    """
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    settings = parameters["house_prices"]["prepare"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_sample(folder / "train.csv", rows)
        print(f"{rows:,} rows, {size / 1e6:.0f} MB")
        blocks = PREPARE.format(settings=settings, large=0, name="blocks")
        ways = {"pandas.read_csv": READ, "propose": PROPOSE, "prepare": blocks}
        if whole:
            ways["prepare by pandas"] = PREPARE.format(settings=settings, large=1 << 60, name="whole")
        found = {label: measured(code, folder) for label, code in ways.items()}
        for label, one in found.items():
            print(f"{label:18} {one.cpu:6.1f} s CPU  {one.seconds:6.1f} s  peak {one.peak:6.0f} MiB")
        if whole:
            ratio = found["prepare"].cpu / found["prepare by pandas"].cpu
            same = file_digest(folder / "blocks/manifest.json") == file_digest(folder / "whole/manifest.json")
            print(f"the same bytes: {same}; prepare needs {ratio:.2f} times the processor time")


if __name__ == "__main__":
    auto_cli(compare)
