"""Raw point -> start.npy and preprocessing.json."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import DataError
from src.descent.preprocessing import read_points


@dataclass
class Preparation:
    """Where the descent begins: the section `<task>.prepare` of params.yaml.

    Args:
        start: the raw file with one point, columns x1 and x2.
    """

    start: str = "start.csv"


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Write the starting point: start.npy (1, 2) float64, preprocessing.json, manifest.json.

    Raises:
        DataError: the file cannot be used, or holds more than one point; nothing is written then.
    """
    path = raw / settings.start
    points = read_points(path)
    if len(points) > 1:
        raise DataError(f"{path}: a descent begins at one point, here are {len(points)}")
    with written_whole(prepared) as folder:
        np.save(folder / "start.npy", points)
        text = json.dumps({"start": points[0].tolist()}, indent=1, sort_keys=True)
        (folder / "preprocessing.json").write_text(text + "\n", encoding="utf-8")
        write_manifest(folder)
