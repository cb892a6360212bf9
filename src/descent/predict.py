"""Prediction: the heights of raw points."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from src.bundle.progress import prediction_progress
from src.core.atomic import file_written_whole
from src.core.errors import DataError
from src.descent.model import Descent
from src.descent.points import COLUMNS, point_chunks
from src.descent.preprocessing import Preprocessing


def write_heights(
    model: Descent, preprocessing: Preprocessing, input: Path, output: Path = Path("predictions.csv")
) -> int:
    """Write the coordinates and the height of each point to a CSV file.

    Args:
        model: has the surface.
        preprocessing: not used.
        input: a CSV file of points, columns x1 and x2.
        output: the CSV file to write.

    Returns:
        The number of points.
    """
    done = 0
    with file_written_whole(output) as file, prediction_progress() as advance:
        print(*COLUMNS, "height", sep=",", file=file)
        for points in point_chunks(input):
            table = np.column_stack([points, heights(model, points)])
            np.savetxt(file, table, delimiter=",", fmt="%.10g")
            done += len(points)
            advance(len(points))
    return done


@torch.inference_mode()
def heights(model: Descent, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights (B,) of points (B, 2)."""
    found: NDArray[np.float64] = model(torch.from_numpy(points).to(model.device)).cpu().numpy()
    return found


WRITERS = {Descent: write_heights}


def predict_points(model: Descent, preprocessing: Preprocessing, points: pd.DataFrame) -> pd.DataFrame:
    """The points of a table in memory, columns x1 and x2, with their heights.

    Raises:
        DataError: a column is missing, or a cell is not a finite number.
    """
    for name in COLUMNS:
        if name not in points:
            raise DataError(f"the points: column '{name}' is missing")
    table = points[[*COLUMNS]].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if wrong := np.argwhere(~np.isfinite(table.to_numpy())).tolist():
        row, column = wrong[0]
        raise DataError(f"the points: row {row + 1}, column '{COLUMNS[column]}': expected a finite number")
    return table.assign(height=heights(model, np.array(table)))


PREDICTORS = {Descent: predict_points}
