"""Plots with the same bytes on every run: no date, no program version, one style."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from src.reporting.history import read_history

MAPS_SHOWN = 8


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG without metadata that changes; the text of an SVG stays text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lockstep"}):
        figure.savefig(
            path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else {"Date": None}
        )


def readable_logarithm(axis: Axis) -> None:
    """Tick a logarithmic axis at 1, 2, 5, 10, ... with plain numbers such as 0.05 or 200 k."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(EngFormatter() if axis.get_view_interval()[1] >= 1000 else "{x:g}")
    axis.set_minor_formatter(NullFormatter())


def plot_learning_curve(history: Path, path: Path) -> None:
    """Training and validation loss over the epochs, the epoch of the lowest validation loss marked.

    Where training has an accuracy, a second panel shows it beside that of validation.

    Args:
        history: the CSV file of the bundle, one row an epoch.
        path: the picture to write.
    """
    rows = read_history(history)
    epochs = [int(row["epoch"]) for row in rows]
    accurate = "train/accuracy" in rows[0]
    figure = Figure(figsize=(9.6 if accurate else 6.4, 4), layout="constrained")
    axes, *others = figure.subplots(1, 2 if accurate else 1, squeeze=False)[0]
    for name in ("train/loss", "validation/loss"):
        axes.plot(epochs, [row[name] for row in rows], label=name)
    validation = [row["validation/loss"] for row in rows]
    best = min(range(len(rows)), key=lambda number: validation[number])
    axes.plot(epochs[best], validation[best], "o", color="black", label=f"lowest, epoch {epochs[best]}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log", title="Learning curve")
    readable_logarithm(axes.yaxis)
    for other in others:
        for name in ("train/accuracy", "validation/accuracy"):
            other.plot(epochs, [row[name] for row in rows], label=name)
        other.set(xlabel="epoch", ylabel="accuracy", title="Accuracy")
    for panel in (axes, *others):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    save_figure(figure, path)


def plot_feature_maps(
    image: NDArray[np.uint8], maps: list[tuple[str, NDArray[np.float32]]], path: Path
) -> None:
    """One image and, row by row, the first maps that each layer makes of it.

    Args:
        image: (C, H, W).
        maps: a description and (channels, height, width) of each layer.
        path: the picture to write.
    """
    figure = Figure(figsize=(MAPS_SHOWN * 1.1, 1.5 * (len(maps) + 1)), layout="constrained")
    parts = figure.subfigures(len(maps) + 1, 1, squeeze=False)[:, 0]
    grey = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    rows: list[tuple[str, Any]] = [("image: " + " x ".join(map(str, image.shape)), [grey]), *maps]
    for part, (title, shown) in zip(parts, rows, strict=True):
        part.suptitle(title, fontsize=9)
        for axes in part.subplots(1, MAPS_SHOWN):
            axes.set_axis_off()
        for axes, channel in zip(part.axes, shown, strict=False):
            axes.imshow(channel, cmap="gray" if channel.ndim == 2 else None)
    save_figure(figure, path)


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
