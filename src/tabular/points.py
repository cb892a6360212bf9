"""What else is shown where it can be drawn or written down: points in one or two dimensions, lines, series.

B batch, F features
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from src.reporting.figures import save_figure
from src.tabular.model import TabularModel
from src.tabular.preprocessing import transform

Splits = dict[str, tuple[Tensor, Tensor]]
Numbers = NDArray[np.floating]

CURVE_POINTS = 400
MAP_POINTS = 200
STEPS_AHEAD = (1, 4, 16, 64)
COLORS = [f"C{number}" for number in range(10)]  # matplotlib's own


def numeric_inputs(preprocessing: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The learnt columns if all of them are numbers, else None."""
    columns: list[dict[str, Any]] = preprocessing["columns"]
    return columns if all(column["kind"] == "numeric" for column in columns) else None


def raw_values(features: Tensor, columns: list[dict[str, Any]]) -> Numbers:
    """Features (B, F) back in the units of the columns (B, F)."""
    scale, center = (np.array([column[key] for column in columns]) for key in ("scale", "center"))
    return features.numpy().astype(float) * scale + center


def plot_function(model: TabularModel, splits: Splits, preprocessing: dict[str, Any], path: Path) -> None:
    """The fitted function over one or two inputs: a curve, a contour map, or the regions of the classes.

    Args:
        model: trained.
        splits: features (B, F) and target by split; F is 1 or 2.
        preprocessing: the content of preprocessing.json.
        path: the picture to write.
    """
    columns = preprocessing["columns"]
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
        axes.set(xlabel=columns[0]["name"], ylabel=preprocessing["target"]["name"])
        axes.legend()
    else:
        _draw_map(axes, figure, model, lines, answers)
        test = splits["test"][1]
        colors: Any = "black"
        if model.target["classes"] is not None:
            colors = [COLORS[code % len(COLORS)] for code in test.tolist()]
        across, up = points["test"].T
        axes.scatter(across, up, s=9, c=colors, edgecolors="white", linewidths=0.3)
        axes.set(xlabel=columns[0]["name"], ylabel=columns[1]["name"])
    axes.set_title("Fitted function" if model.target["classes"] is None else "Regions of the classes")
    save_figure(figure, path)


def _answers(model: TabularModel, raw: Numbers, preprocessing: dict[str, Any]) -> Numbers:
    """Predictions for rows (B, F) in the columns' units: values (B,) or probabilities (B, C)."""
    names = [column["name"] for column in preprocessing["columns"]]
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
    if model.target["classes"] is None:
        for name in ("train", "test"):
            axes.scatter(points[name][:, 0], model.predict(splits[name][1]), s=12, alpha=0.6, label=name)
        axes.plot(line, answers, color="black", label="model")
    else:
        for number, name in enumerate(model.target["classes"]):
            axes.plot(line, answers[:, number], color=COLORS[number % len(COLORS)], label=f"P({name})")
    axes.grid(alpha=0.3)


def _draw_map(axes: Any, figure: Figure, model: TabularModel, lines: list[Numbers], answers: Numbers) -> None:
    shape = (len(lines[1]), len(lines[0]))
    if model.target["classes"] is None:
        drawn = axes.contourf(*lines, answers.reshape(shape), levels=30, cmap="viridis")
        figure.colorbar(drawn, label=model.target["name"])
        return
    classes = len(model.target["classes"])
    regions = answers.argmax(axis=1).reshape(shape)
    palette = ListedColormap([COLORS[number % len(COLORS)] for number in range(classes)])
    axes.pcolormesh(*lines, regions, cmap=palette, vmin=-0.5, vmax=classes - 0.5, alpha=0.3, rasterized=True)
    axes.contour(*lines, regions, levels=np.arange(classes - 1) + 0.5, colors="black", linewidths=1)


def linear_layer(network: nn.Module) -> nn.Linear | None:
    """The layer of a network that consists of one linear layer; None for other networks."""
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def weights_table(model: TabularModel, splits: Splits, preprocessing: dict[str, Any]) -> pd.DataFrame | None:
    """The weights of a linear model in the columns' units, beside least squares and the truth if known.

    Returns:
        One row per column and one for the bias; None for other networks and for classes.
    """
    columns = numeric_inputs(preprocessing)
    target = model.target
    layer = linear_layer(model.network)
    if columns is None or target["classes"] is not None or target["log"] or layer is None:
        return None
    scale, center = (np.array([column[key] for column in columns]) for key in ("scale", "center"))
    weight = layer.weight.detach().numpy()[0] * target["scale"] / scale  # (F,)
    bias = (
        (0.0 if layer.bias is None else layer.bias.item()) * target["scale"]
        + target["center"]
        - weight @ center
    )
    features, values = splits["train"]
    squares = LinearRegression().fit(raw_values(features, columns), model.predict(values).numpy())
    table = pd.DataFrame(
        {"learnt": [*weight, bias], "least squares": [*squares.coef_, squares.intercept_]},
        index=[*(column["name"] for column in columns), "bias"],
    )
    if preprocessing["truth"]:
        table["truth"] = [preprocessing["truth"].get(name, 0.0) for name in table.index]
    return table


def separable(features: Tensor, target: Tensor) -> bool:
    """Whether a line (a plane, ...) has all points of class 0 on one side and all of class 1 on the other.

    A linear programme without an aim: is there a w with sign (w x + b) >= 1 for every point?

    Args:
        features: (B, F).
        target: (B,), classes 0 and 1.
    """
    points = np.hstack([features.numpy().astype(float), np.ones((len(features), 1))])  # (B, F + 1)
    sign = 2.0 * target.numpy()[:, np.newaxis] - 1
    wanted = -np.ones(len(points))
    answer = linprog(np.zeros(points.shape[1]), A_ub=-sign * points, b_ub=wanted, bounds=(None, None))
    return bool(answer.status == 0)


def forecast(model: TabularModel, features: Tensor, preprocessing: dict[str, Any], steps: int) -> Tensor:
    """Values of a series `steps` rows ahead, the later ones from forecasts of the earlier ones.

    Args:
        model: trained on the `lags` of its own target.
        features: (B, lags), the newest value first.
        preprocessing: the content of preprocessing.json.
        steps: 1 is the model's own answer, for the row of the features.

    Returns:
        (B,) in the unit of the target, for the rows `steps - 1` after those of the features.
    """
    columns = preprocessing["columns"]
    scale, center = (torch.tensor([column[key] for column in columns]) for key in ("scale", "center"))
    values = features * scale + center  # (B, lags)
    with torch.inference_mode():
        for _ in range(steps):
            newest = model.predict(model((values - center) / scale))  # (B,)
            values = torch.cat([newest[:, None], values[:, :-1]], dim=1)
    return values[:, 0]


def forecast_errors(
    model: TabularModel, splits: Splits, preprocessing: dict[str, Any], path: Path
) -> dict[str, float]:
    """Draw the series of the test part beside forecasts one and more steps ahead.

    Returns:
        The RMSE of those of more than one step, by name.
    """
    features, target = splits["test"]
    actual = model.predict(target)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    start = sum(len(part) for part, _ in splits.values()) - len(features) + preprocessing["lags"] + 1
    rows = np.arange(start, start + len(features))
    axes.plot(rows, actual, color="lightgrey", label="data")
    errors = {}
    for steps in (steps for steps in STEPS_AHEAD if steps < len(rows)):
        values = forecast(model, features, preprocessing, steps)[: len(rows) - steps + 1]
        axes.plot(rows[steps - 1 :], values, linewidth=1, label=f"{steps} ahead")
        if steps > 1:
            error = values - actual[steps - 1 :]
            errors[f"test_{steps}_steps/rmse"] = error.square().mean().sqrt().item()
    axes.set(xlabel="row", ylabel=preprocessing["target"]["name"], title="Test rows")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
    return errors
