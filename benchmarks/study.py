"""A study beside the single trainings that it replaces: python -m benchmarks.study [--name activations].

The study starts with no cell trained, on two workers; then each of its trainings runs as its own command.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jsonargparse import auto_cli

from pipelines.study.cells import Cell
from pipelines.study.study import cells_of, read_study

LINKED = ("configs", "data", "params.yaml", "pipelines", "requirements.lock", "src")


def seconds_of(*arguments: str, folder: Path) -> float:
    """Seconds of `python ARGUMENTS` in a folder."""
    start = time.perf_counter()
    environment = os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def compare(name: str = "activations", workers: int = 2) -> None:
    """Print the seconds of the study, of its single trainings, and the ratio.

    Args:
        name: a study of params.yaml whose task is prepared.
        workers: processes of the study.
    """
    cells: list[Cell] = [cell for group in cells_of(name, read_study(name)).values() for cell in group]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for link in LINKED:
            (folder / link).symlink_to(Path(link).absolute())
        together = seconds_of("-m", "pipelines.study", name, f"--workers={workers}", folder=folder)
        print(f"study {name}: {len(cells)} cells, {workers} workers: {together:.1f} s", flush=True)
        again = seconds_of("-m", "pipelines.study", name, folder=folder)
        print(f"the same with nothing to train: {again:.1f} s", flush=True)
        shutil.rmtree(folder / "runs")
        single = [seconds_of("-m", "src.cli", *cell.arguments, folder=folder) for cell in cells]
    total = sum(single)
    print(
        f"{len(single)} single trainings: {total:.1f} s (median {statistics.median(single):.1f} s)\n"
        f"the study takes {together / total:.3f} times as long"
    )


if __name__ == "__main__":
    auto_cli(compare)
