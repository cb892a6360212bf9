"""The point where the descent begins."""

import csv
from pathlib import Path

import yaml


def write_sample(description: Path, folder: Path) -> None:
    """Write start.csv with the points that a YAML description lists.

    Raises:
        ValueError: the description is no YAML, or has no list of pairs.
    """
    try:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{description} is no YAML: {error}") from None
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(points, list) or not points:
        raise ValueError(f"{description} describes no sample: it lacks points")
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueError(f"{description}: points: expected pairs [x1, x2], found {point!r}")
    with (folder / "start.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x1", "x2"])
        writer.writerows(points)
