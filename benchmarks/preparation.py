"""Peak memory and time of preparing a large table against pandas.read_csv of the same file.

    python -m benchmarks.preparation [--rows 1000000]

The table is the house-price sample over and over, with Ids of its own; each way runs in its own process.
"""

import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from benchmarks.timing import measured

READ = "import pandas; pandas.read_csv('train.csv')"
PREPARE = """
from pathlib import Path
from pipelines.parameters import checked
from src.tabular.prepare import Preparation, prepare
settings = checked(Preparation, {settings}, "prepare")
prepare(Path("."), Path("prepared"), settings)
"""


def compare(rows: int = 1_000_000) -> None:
    """Print time and peak memory of both, and the ratio.

    Args:
        rows: of the generated CSV.
    """
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    settings = parameters["house_prices"]["prepare"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = Path("data/samples/house_prices/train.csv")
        header, *lines = sample.read_text(encoding="utf-8").splitlines()
        cells = [line.split(",", 1)[1] for line in lines]
        table = folder / "train.csv"
        with table.open("w", encoding="utf-8") as file:
            print(header, file=file)
            file.writelines(f"{number},{cells[number % len(cells)]}\n" for number in range(rows))
        megabytes = table.stat().st_size / 1e6
        print(f"{rows:,} rows x {header.count(',') + 1} columns, {megabytes:.0f} MB")
        read = measured(READ, folder)
        prepared = measured(PREPARE.format(settings=settings), folder)
    for label, (seconds, peak) in {"pandas.read_csv": read, "prepare": prepared}.items():
        print(f"{label:16} {seconds:6.1f} s  peak {peak:6.0f} MiB")
    print(f"prepare needs {prepared[1] / read[1]:.2f} times the memory of pandas.read_csv")


if __name__ == "__main__":
    auto_cli(compare)
