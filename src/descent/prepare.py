"""Preparation: the raw point to start.npy and preprocessing.json."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import DataError
from src.descent.points import read_points
from src.descent.preprocessing import Preprocessing


@dataclass
class Preparation:
    """The section `<task>.prepare` of params.yaml.

    Args:
        start: the raw file with the starting point, columns x1 and x2.
    """

    start: str = "start.csv"


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Write the starting point: start.npy (1, 2) float64, preprocessing.json, manifest.json.

    Raises:
        DataError: the file cannot be used, or has more than one point; then nothing is written.
    """
    path = raw / settings.start
    points = read_points(path)
    if len(points) > 1:
        raise DataError(f"{path}: {len(points)} points, expected 1")
    with written_whole(prepared) as folder:
        np.save(folder / "start.npy", points)
        Preprocessing(points[0].tolist()).save(folder)
        write_manifest(folder)
