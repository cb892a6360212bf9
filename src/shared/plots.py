"""Plots with the same bytes on every run: no date, no program version, one style."""

import csv
from pathlib import Path

from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG without metadata that changes."""
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})


def plot_learning_curve(history: Path, path: Path) -> None:
    """Training and validation loss over the epochs, the epoch of the best validation loss marked.

    Args:
        history: the CSV file of the bundle, one row an epoch.
        path: the picture to write.
    """
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("train/loss", "validation/loss"):
        axes.plot(epochs, [float(row[name]) for row in rows], label=name)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log", title="Learning curve")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
