"""The common part of all reports: metrics.json, plots/ with the learning curve, tables/."""

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from src.core.documents import parsed_yaml, write_json
from src.core.paths import HISTORY
from src.reporting.figures import plot_learning_curve

logger = logging.getLogger(__name__)

SIGNIFICANT_DIGITS = 6


def begin_report(bundle: Path, folder: Path) -> tuple[Path, Path]:
    """Make the folders plots and tables, and draw the learning curve.

    Returns:
        The two folders.
    """
    plots, tables = folder / "plots", folder / "tables"
    for part in (plots, tables):
        part.mkdir()
    shutil.copyfile(bundle / HISTORY, plots / "learning_curve.csv")
    configuration = parsed_yaml((bundle / "config.yaml").read_text(encoding="utf-8"))
    plot_learning_curve(bundle / HISTORY, plots / "learning_curve.png", configuration)
    return plots, tables


def write_metrics(metrics: Mapping[str, float], folder: Path) -> dict[str, float]:
    """Write metrics.json without metrics that are NaN or infinite, which JSON cannot represent; warn of them.

    Args:
        metrics: by name, such as test/accuracy.
        folder: of the report.

    Returns:
        All metrics, rounded to six significant digits: processors may differ in the last bits.
    """
    rounded = {name: float(f"{value:.{SIGNIFICANT_DIGITS}g}") for name, value in metrics.items()}
    finite = {name: value for name, value in rounded.items() if math.isfinite(value)}
    left_out = [f"{name} {value}" for name, value in sorted(rounded.items()) if name not in finite]
    if left_out:
        logger.warning("not finite, so left out of metrics.json: %s", ", ".join(left_out))
    write_json(folder / "metrics.json", finite)
    return rounded
