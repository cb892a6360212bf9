"""history.csv: the metrics of a training, one row an epoch."""

import csv
from pathlib import Path


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a history, in the order of the epochs, by column name."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
