"""history.csv: the metrics of a training, one row an epoch."""

import csv
import math
from pathlib import Path


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a history, in the order of the epochs, by column name.

    A value is NaN where an epoch has none, as those of the validation rows in an epoch without validation.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


def rows_with(rows: list[dict[str, float]], column: str) -> list[dict[str, float]]:
    """The rows of a history that have a value in a column."""
    return [row for row in rows if not math.isnan(row[column])]


def best_row(rows: list[dict[str, float]], column: str, mode: str = "min") -> dict[str, float]:
    """The row of a history with the best value of a column, the first of equal ones.

    Args:
        rows: of the history.
        column: its name.
        mode: `min`, where lower values are better, or `max`.
    """
    return {"min": min, "max": max}[mode](rows_with(rows, column) or rows, key=lambda row: row[column])
