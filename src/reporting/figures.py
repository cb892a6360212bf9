"""Plots with the same bytes on every run: no date, no program version, one style."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from src.core.fonts import choose_fonts
from src.core.scores import chosen_by
from src.reporting.history import best_row, read_history, rows_with


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG without metadata that changes; the text of an SVG stays text."""
    if path.suffix == ".png":
        choose_fonts(figure)
    for text in figure.findobj(Text):
        if "$" in text.get_text() and "\\math" not in text.get_text():  # that of a scale is a formula
            text.set_parse_math(False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lockstep"}):
        figure.savefig(
            path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else {"Date": None}
        )


def readable_logarithm(axis: Axis) -> None:
    """Tick a logarithmic axis at 1, 2, 5, 10, ... with plain numbers such as 0.05 or 200 k."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(EngFormatter() if axis.get_view_interval()[1] >= 1000 else "{x:g}")
    axis.set_minor_formatter(NullFormatter())


def plot_learning_curve(history: Path, path: Path, configuration: dict[str, Any] | None = None) -> None:
    """Training and validation loss over the epochs, the epoch of the lowest validation loss marked.

    Where training has an accuracy, a second panel shows it beside that of validation. A module with other
    names has all its losses drawn, or all that it logs.

    Args:
        history: the CSV file of the bundle, one row an epoch.
        path: the picture to write.
        configuration: of the training. If its monitor has chosen another epoch, a line marks that one.
    """
    rows = read_history(history)
    accurate = "train/accuracy" in rows[0]
    figure = Figure(figsize=(9.6 if accurate else 6.4, 4), layout="constrained")
    axes, *others = figure.subplots(1, 2 if accurate else 1, squeeze=False)[0]
    names = [name for name in rows[0] if name not in ("epoch", "learning_rate")]
    losses = [name for name in names if name in ("train/loss", "validation/loss")]
    losses = losses or [name for name in names if name.endswith("loss")] or names
    for name in losses:
        axes.plot(*_curve(rows, name), label=name)
    loss = next((name for name in losses if "val" in name), None)
    best = None if loss is None else best_row(rows, loss)
    if loss is not None and best is not None:
        lowest = f"lowest, epoch {best['epoch']:.0f}"
        axes.plot(best["epoch"], best[loss], "o", color="black", label=lowest)
    monitor, mode = chosen_by(configuration or {}, rows[0])
    if configuration and monitor in rows[0] and (kept := best_row(rows, monitor, mode)) is not best:
        epoch = kept["epoch"]
        for panel in (axes, *others):
            panel.axvline(epoch, color="grey", linestyle=":", label=f"kept, epoch {epoch:.0f}")
    axes.set(xlabel="epoch", ylabel="loss", title="Learning curve")
    if all(row[name] > 0 for name in losses for row in rows_with(rows, name)):
        axes.set_yscale("log")
        readable_logarithm(axes.yaxis)
    for other in others:
        for name in ("train/accuracy", "validation/accuracy"):
            other.plot(*_curve(rows, name), label=name)
        other.set(xlabel="epoch", ylabel="accuracy", title="Accuracy")
    for panel in (axes, *others):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    save_figure(figure, path)


def _curve(rows: list[dict[str, float]], name: str) -> tuple[list[int], list[float]]:
    """The epochs that have a value, and their values."""
    known = rows_with(rows, name)
    return [int(row["epoch"]) for row in known], [row[name] for row in known]


def plot_confusion_matrix(
    actual: NDArray[np.integer], predicted: NDArray[np.integer], classes: list[str], label: str, path: Path
) -> None:
    """Plot the number of test rows by actual and predicted class.

    Args:
        actual: (rows,) codes of classes.
        predicted: (rows,) likewise.
        classes: the names of the classes, in the order of their codes.
        label: of the target.
        path: of the figure.
    """
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for row, column in np.ndindex(*counts.shape):
        shade = "white" if counts[row, column] > counts.max() / 2 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade)
    axes.set(xlabel=f"{label}, predicted", ylabel=f"{label}, actual", title="Test rows")
    save_figure(figure, path)
