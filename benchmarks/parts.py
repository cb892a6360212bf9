"""Preparing a table in several parts by 1, 2 and 8 processes: time, CPU time and memory.

    python -m benchmarks.parts [--parts 8] [--rows 250000] [--processes "[1, 2, 8]"]

Each part is the house-price sample over and over. The memory is what all processes allocate together
(RssAnon). All must give the same bytes. Temporary files need three times the size of the table.
"""

import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from benchmarks.corpus import measured
from benchmarks.timing import write_sample
from src.core.digests import file_digest


def run(parts: int = 8, rows: int = 250_000, processes: list[int] | None = None) -> None:
    """Print what each number of processes takes, and the ratio of its CPU time to that of the first.

    Args:
        parts: their number.
        rows: of a part.
        processes: their numbers; 1, 2 and 8 if none is given.
    """
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    settings = parameters["house_prices"]["prepare"] | {"train": "parts"}
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name, "raw")
        (raw / "parts").mkdir(parents=True)
        size = sum(write_sample(raw / "parts" / f"{number}.csv", rows) for number in range(parts))
        print(f"{parts} parts of {rows:,} rows, {size / 1e6:.0f} MB", flush=True)
        first: tuple[float, str] | None = None
        for number in processes or [1, 2, 8]:
            prepared = Path(name, f"prepared_{number}")
            used = measured(raw, prepared, settings, "tabular", PYTHON_CPU_COUNT=str(number))
            digest = file_digest(prepared / "manifest.json")
            first = first or (used.cpu, digest)
            print(
                f"{number} processes: {used.seconds:6.1f} s  CPU {used.cpu:6.1f} s, "
                f"{used.cpu / first[0]:.2f} times  {used.allocated:6,.0f} MiB  "
                f"the same bytes: {digest == first[1]}",
                flush=True,
            )


if __name__ == "__main__":
    auto_cli(run)
