"""How the cost of each stage grows with the data: python -m benchmarks.scale [--parts "[rows, columns]"].

For each size it prints CPU seconds and the allocated memory. The exponent between two sizes is 1 where a
command takes ten times as long for ten times the data, and less while its start outweighs the data.
docs/scale.md explains the numbers.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from jsonargparse import auto_cli

from benchmarks.corpus import write_corpus
from benchmarks.large_table import usage_of
from benchmarks.pictures import make_photographs
from benchmarks.timing import Usage, write_sample

Part = Literal["rows", "columns", "pictures", "bytes", "evaluation"]
TABLE = {
    "fetch": "pipelines.fetch house_prices",
    "prepare": "pipelines.prepare house_prices",
    "train": "src.cli fit --config configs/house_prices.yaml --trainer.max_epochs=1 --data.batch_size=1024",
    "evaluate": "pipelines.evaluate house_prices",
    "predict": "src.cli predict --bundle models/house_prices --data.input data/raw/house_prices/train.csv",
}


@contextmanager
def project(task: str, preparation: dict[str, Any] | None = None) -> Iterator[tuple[Path, Path]]:
    """A folder with this project's configurations and a task whose raw data are yet to be written.

    Args:
        task: of params.yaml.
        preparation: its keys below `prepare`; those that it has if none are given.

    Yields:
        The folder, and that of the raw data.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "configs").symlink_to(Path("configs").absolute())
        (folder / "requirements.lock").symlink_to(Path("requirements.lock").absolute())
        parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        parameters[task] |= {"source": "source", "files": {}}
        if preparation is not None:
            parameters[task]["prepare"] = preparation
        (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
        (folder / "source").mkdir()
        yield folder, folder / "source"


def prepared(task: str, folder: Path) -> dict[str, Usage]:
    """What the stages before a training take."""
    return {stage: usage_of([f"pipelines.{stage}", task], folder) for stage in ("fetch", "prepare")}


def rows(number: int) -> dict[str, Usage]:
    """The stages of a table of 81 columns, an epoch of training."""
    with project("house_prices") as (folder, raw):
        write_sample(raw / "train.csv", number)
        return {stage: usage_of(command.split(), folder) for stage, command in TABLE.items()}


def columns(number: int) -> dict[str, Usage]:
    """Preparation of 20,000 rows of normal numbers."""
    with project("line", {"target": "c0", "task": "regression"}) as (folder, raw):
        values = np.random.default_rng(0).normal(size=(20_000, number))
        pd.DataFrame(values, columns=[f"c{each}" for each in range(number)]).to_csv(
            raw / "train.csv", index=False
        )
        return prepared("line", folder)


def pictures(number: int) -> dict[str, Usage]:
    """Preparation of JPEG photographs of 320 x 240 pixels at 64 x 64."""
    with project("fashion_mnist", {"train": ".", "resize": 64}) as (folder, raw):
        make_photographs(raw, number)
        return prepared("fashion_mnist", folder)


def text(number: int) -> dict[str, Usage]:
    """Preparation of texts, a token for each character; the memory is that of the first process alone."""
    with project("words", {"tokenizer": "char"}) as (folder, raw):
        write_corpus(raw / "corpus.txt", number // 1_000_000)
        return prepared("words", folder)


def evaluation(number: int) -> dict[str, Usage]:
    """Evaluation of a language model of characters that has taken some steps; 1 % of the texts are tested."""
    preparation = {"tokenizer": "char", "test_share": 0.01, "validation_share": 0.01}
    with project("poems", preparation) as (folder, raw):
        write_corpus(raw / "corpus.txt", number // 1_000_000)
        prepared("poems", folder)
        usage_of(["src.cli", "fit", "--config", "configs/poems.yaml", "--trainer.max_steps=10"], folder)
        return {"evaluate": usage_of(["pipelines.evaluate", "poems"], folder)}


SIZES: dict[Part, list[int]] = {
    "rows": [10_000, 100_000, 1_000_000],
    "columns": [20, 100, 500],
    "pictures": [500, 2_000, 8_000],
    "bytes": [10_000_000, 50_000_000, 200_000_000],
    "evaluation": [20_000_000, 100_000_000],
}
MEASURED = {"rows": rows, "columns": columns, "pictures": pictures, "bytes": text, "evaluation": evaluation}


def measure(parts: list[Part] | None = None) -> None:
    """Print CPU seconds, memory and exponents.

    Args:
        parts: what grows; everything if none is given.
    """
    for part in parts or SIZES:
        before: tuple[int, dict[str, Usage]] | None = None
        for size in SIZES[part]:
            found = MEASURED[part](size)
            for stage, used in found.items():
                line = f"{size:>11,} {part:10} {stage:8} {used.cpu:7.1f} s CPU {used.allocated:6,.0f} MiB"
                if before:
                    exponent = log(used.cpu / before[1][stage].cpu) / log(size / before[0])
                    line += f"  exponent {exponent:.2f}"
                print(line, flush=True)
            before = (size, found)


if __name__ == "__main__":
    auto_cli(measure)
