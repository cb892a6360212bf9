"""Points from CSV files."""

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.shared.errors import DataError

COLUMNS = ("x1", "x2")


def read_points(path: Path) -> NDArray[np.float64]:
    """The points of a CSV file with the columns x1 and x2: (points, 2).

    Raises:
        DataError: no file, no CSV in UTF-8, no such columns, no rows, a row that is too long, or a cell that
            is no finite number.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from None
    points = []
    for number, row in enumerate(rows, start=1):
        if None in row:  # a decimal comma makes one cell two
            raise DataError(f"{path}: row {number} has more cells than there are columns")
        for name in COLUMNS:
            if name not in row:
                raise DataError(f"{path}: the needed column '{name}' is missing")
            try:
                points.append(float(row[name]))
            except (TypeError, ValueError):
                points.append(math.nan)
            if not math.isfinite(points[-1]):
                raise DataError(f"{path}: row {number}, column '{name}': {row[name]!r} is no finite number")
    if not points:
        raise DataError(f"{path}: there are no rows below the header")
    return np.array(points).reshape(-1, 2)
