"""A table larger than the memory: prepare, an epoch of training and predictions under a limit of the memory.

    python -m benchmarks.large_table [--rows 9000000] [--limit 2048]

The table is the house-price sample over and over, with Ids of its own. The limit is that of the data that a
process may allocate (RLIMIT_DATA); arrays that are memory-mapped for reading are files and do not count. Each
command runs in its own process, and the disk needs four times the size of the table.
"""

import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from benchmarks.timing import Usage, watched, write_sample

COMMANDS = {
    "fetch": "pipelines.fetch house_prices",
    "prepare": "pipelines.prepare house_prices",
    "train": "src.cli fit --config configs/house_prices.yaml --trainer.max_epochs=1 --data.batch_size=1024",
    "predict": "src.cli predict --bundle models/house_prices --data.input data/raw/house_prices/train.csv "
    "--data.output predictions.csv",
}


def run(rows: int = 9_000_000, limit: int = 2048) -> None:
    """Print the sizes, and for each command its time and the largest memory that it allocated.

    Args:
        rows: of the table.
        limit: of the memory, in MiB.
    """
    project = Path.cwd()
    with tempfile.TemporaryDirectory(dir=project) as name:
        folder = Path(name)
        (folder / "configs").symlink_to(project / "configs")
        (folder / "table").mkdir()
        parameters = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
        parameters["house_prices"] |= {"source": "table", "files": {}}
        parameters["house_prices"]["prepare"] |= {"test_share": 0.02, "validation_share": 0.02}
        (folder / "params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
        size = write_sample(folder / "table/train.csv", rows)
        print(f"{rows:,} rows, {size >> 20:,} MiB of CSV, limit {limit:,} MiB", flush=True)
        for label, command in COMMANDS.items():
            used = usage_of(command.split(), folder, limit)
            print(
                f"{label:8} {used.seconds:7.1f} s  allocated {used.allocated:6.0f} MiB  with mapped files "
                f"{used.resident:6.0f} MiB",
                flush=True,
            )
            if label == "fetch":
                shutil.rmtree(folder / "table")
            if label == "prepare":
                prepared = folder / "data/prepared/house_prices"
                arrays = sum(path.stat().st_size for path in prepared.glob("*.npy"))
                learnt = json.loads((prepared / "preprocessing.json").read_text(encoding="utf-8"))
                dense = 4 * rows * len(learnt["features"])
                print(f"prepared {arrays >> 20:,} MiB, as features {dense >> 20:,} MiB", flush=True)
                print(f"features are {dense / (limit << 20):.1f} times the limit", flush=True)


def usage_of(arguments: list[str], folder: Path, limit: int | None = None) -> Usage:
    """Run `python -m ...` in a folder, of this project's code, and measure it.

    Args:
        arguments: of Python, behind -m.
        folder: the working folder.
        limit: of the memory that the process may allocate, in MiB.
    """
    environment = os.environ | {
        "PYTHONPATH": str(Path.cwd()),
        "WANDB_MODE": "disabled",
        "MIMALLOC_ARENA_RESERVE": "64MiB",  # pyarrow's allocator reserves a GiB of addresses, which count
    }
    most = resource.RLIM_INFINITY if limit is None else limit << 20
    return watched(
        ["-m", *arguments],
        cwd=folder,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )


if __name__ == "__main__":
    auto_cli(run)
