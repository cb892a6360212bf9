"""Points from CSV files."""

import csv
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.core.errors import DataError

COLUMNS = ("x1", "x2")
POINTS_AT_ONCE = 8192


def read_points(path: Path) -> NDArray[np.float64]:
    """All points of a CSV file (points, 2), as `point_chunks`."""
    return np.concatenate(list(point_chunks(path)))


def point_chunks(path: Path) -> Iterator[NDArray[np.float64]]:
    """The points of a CSV file with the columns x1 and x2, a bounded number (points, 2) at a time.

    Raises:
        DataError: no file, no CSV in UTF-8, no such columns, no rows, a row that is too long, or a cell that
            is no finite number.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            while points := [_point(row, number := number + 1, path) for row in islice(rows, POINTS_AT_ONCE)]:
                yield np.array(points)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from None
    if not number:
        raise DataError(f"{path}: there are no rows below the header")


def _point(row: dict[str, str], number: int, path: Path) -> list[float]:
    if None in row:  # a decimal comma makes one cell two
        raise DataError(f"{path}: row {number} has more cells than there are columns")
    point = []
    for name in COLUMNS:
        if name not in row:
            raise DataError(f"{path}: the needed column '{name}' is missing")
        try:
            point.append(float(row[name]))
        except (TypeError, ValueError):
            point.append(math.nan)
        if not math.isfinite(point[-1]):
            raise DataError(f"{path}: row {number}, column '{name}': {row[name]!r} is no finite number")
    return point
