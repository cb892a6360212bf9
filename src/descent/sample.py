"""The point where the descent begins."""

import csv
from pathlib import Path

import yaml


def write_sample(description: Path, folder: Path) -> None:
    """Write start.csv with the points that a YAML description lists.

    Raises:
        ValueError: the description has no list of points.
    """
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("points"), list):
        raise ValueError(f"{description} describes no sample: it lacks points")
    with (folder / "start.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x1", "x2"])
        writer.writerows(content["points"])
