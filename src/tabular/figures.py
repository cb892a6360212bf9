"""Figures of a trained model of a table: the fitted function, predicted against actual values.

B batch, F features, C classes
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from src.reporting.figures import readable_logarithm, save_figure
from src.tabular.data import Splits
from src.tabular.linear import raw_values
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing, transform

Numbers = NDArray[np.floating]

CURVE_POINTS = 400
MAP_POINTS = 200
PANELS = 3  # beside one another
COLORS = [f"C{number}" for number in range(10)]  # of Matplotlib's default cycle


def plot_function(model: TabularModel, splits: Splits, preprocessing: Preprocessing, path: Path) -> None:
    """Plot the fitted function of one or two numbers: a curve, a contour map, or the regions of the classes.

    Args:
        model: trained.
        splits: features (B, F) and target by split; F is 1 or 2.
        preprocessing: of the training rows; all columns are numeric.
        path: of the figure.
    """
    columns = preprocessing.numeric
    points = {name: raw_values(features, columns) for name, (features, _) in splits.items()}
    everywhere = np.concatenate(list(points.values()))
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    margin = 0.05 * (high - low)
    count = CURVE_POINTS if len(columns) == 1 else MAP_POINTS
    lines = [np.linspace(*edges, count) for edges in zip(low - margin, high + margin, strict=True)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*lines)], axis=1)  # (points, F)
    answers = _answers(model, grid, preprocessing)
    figure = Figure(figsize=(6.2, 5), layout="constrained")
    axes = figure.subplots()
    if len(columns) == 1:
        _draw_curve(axes, model, lines[0], answers, points, splits)
        axes.set(xlabel=columns[0].name, ylabel=preprocessing.target.name)
        axes.legend()
    else:
        _draw_map(axes, figure, model, lines, answers)
        test = splits["test"][1]
        colors: Any = "black"
        if model.target.classes is not None:
            colors = [COLORS[code % len(COLORS)] for code in test.tolist()]
        across, up = points["test"].T
        axes.scatter(across, up, s=9, c=colors, edgecolors="white", linewidths=0.3)
        axes.set(xlabel=columns[0].name, ylabel=columns[1].name)
    axes.set_title("Fitted function" if model.target.classes is None else "Regions of the classes")
    save_figure(figure, path)


def _answers(model: TabularModel, raw: Numbers, preprocessing: Preprocessing) -> Numbers:
    """Predictions for rows (B, F) in the units of the columns: values (B,) or probabilities (B, C)."""
    names = [column.name for column in preprocessing.columns]
    features = transform(pd.DataFrame(raw, columns=names), preprocessing, Path("grid"), Counter())
    with torch.inference_mode():
        answers: Numbers = model.predict(model(torch.from_numpy(features))).numpy()
    return answers


def _draw_curve(
    axes: Any,
    model: TabularModel,
    line: Numbers,
    answers: Numbers,
    points: dict[str, Numbers],
    splits: Splits,
) -> None:
    if model.target.classes is None:
        for name in ("train", "test"):
            axes.scatter(points[name][:, 0], model.predict(splits[name][1]), s=12, alpha=0.6, label=name)
        axes.plot(line, answers, color="black", label="model")
    else:
        for number, name in enumerate(model.target.classes):
            axes.plot(line, answers[:, number], color=COLORS[number % len(COLORS)], label=f"P({name})")
    axes.grid(alpha=0.3)


def _draw_map(axes: Any, figure: Figure, model: TabularModel, lines: list[Numbers], answers: Numbers) -> None:
    shape = (len(lines[1]), len(lines[0]))
    if model.target.classes is None:
        drawn = axes.contourf(*lines, answers.reshape(shape), levels=30, cmap="viridis")
        figure.colorbar(drawn, label=model.target.name)
        return
    classes = len(model.target.classes)
    regions = model.decide(torch.from_numpy(answers)).numpy().reshape(shape)
    palette = ListedColormap([COLORS[number % len(COLORS)] for number in range(classes)])
    axes.pcolormesh(*lines, regions, cmap=palette, vmin=-0.5, vmax=classes - 0.5, alpha=0.3, rasterized=True)
    axes.contour(*lines, regions, levels=np.arange(classes - 1) + 0.5, colors="black", linewidths=1)


def plot_predictions(targets: Sequence[tuple[Tensor, Tensor, bool]], labels: list[str], path: Path) -> None:
    """Plot predicted against actual values of the test rows, a panel for each target.

    Args:
        targets: predicted and actual values (B,) in the unit of the target, and whether the axes are
            logarithmic.
        labels: of the targets.
        path: of the figure.
    """
    across = min(len(targets), PANELS)
    down = -(-len(targets) // PANELS)
    figure = Figure(figsize=(5.2 * across, 5 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (predicted, actual, logarithmic), label in zip(panels, targets, labels, strict=False):
        _draw_predictions(axes, actual.numpy(), predicted.numpy(), label, logarithmic)
    for axes in panels[len(targets) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def _draw_predictions(axes: Any, actual: Numbers, predicted: Numbers, label: str, logarithmic: bool) -> None:
    low, high = float(min(actual.min(), predicted.min())), float(max(actual.max(), predicted.max()))
    axes.plot([low, high], [low, high], color="grey", linewidth=1)
    axes.scatter(actual, predicted, s=12, alpha=0.6)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        readable_logarithm(axes.xaxis)
        readable_logarithm(axes.yaxis)
    axes.grid(alpha=0.3)
    axes.set(xlabel=f"{label}, actual", ylabel=f"{label}, predicted", title="Test rows")
