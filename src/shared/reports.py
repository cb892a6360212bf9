"""What the report of every task has: metrics.json, plots/ with the learning curve, tables/."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from src.shared.plots import plot_learning_curve

SIGNIFICANT_DIGITS = 6


def begin_report(bundle: Path, folder: Path) -> tuple[Path, Path]:
    """Make the folders plots and tables, and draw the learning curve.

    Args:
        bundle: models/<task>.
        folder: of the report; it exists.

    Returns:
        The two folders.
    """
    plots, tables = folder / "plots", folder / "tables"
    for part in (plots, tables):
        part.mkdir()
    shutil.copyfile(bundle / "history.csv", plots / "learning_curve.csv")
    plot_learning_curve(bundle / "history.csv", plots / "learning_curve.png")
    return plots, tables


def write_metrics(metrics: Mapping[str, float], folder: Path) -> dict[str, float]:
    """Write metrics.json.

    Args:
        metrics: by name, such as test/accuracy; those that are not finite are left out.
        folder: of the report.

    Returns:
        What was written: six digits, which are what is read, and the same where processors differ in the
        last bits.
    """
    rounded = {
        name: float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        for name, value in metrics.items()
        if math.isfinite(value)
    }
    text = json.dumps(rounded, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    return rounded
