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
    """All points (N, 2) of a CSV file, as `point_chunks` reads them."""
    return np.concatenate(list(point_chunks(path)))


def point_chunks(path: Path) -> Iterator[NDArray[np.float64]]:
    """Read a CSV file with the columns x1 and x2 in chunks of at most `POINTS_AT_ONCE` rows.

    Yields:
        Points (N, 2).

    Raises:
        DataError: the file is missing, empty or not CSV in UTF-8; a column is missing; a row has too many
            cells; a cell is not a finite number.
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
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from None
    if not number:
        raise DataError(f"{path}: no rows below the header")


def _point(row: dict[str, str], number: int, path: Path) -> list[float]:
    if None in row:  # a decimal comma makes one cell two
        raise DataError(f"{path}: row {number} has more cells than the header")
    point = []
    for name in COLUMNS:
        if name not in row:
            raise DataError(f"{path}: column '{name}' is missing")
        try:
            point.append(float(row[name]))
        except (TypeError, ValueError):
            point.append(math.nan)
        if not math.isfinite(point[-1]):
            raise DataError(f"{path}: row {number}, column '{name}': {row[name]!r}, expected a finite number")
    return point
