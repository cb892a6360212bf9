"""Evaluation: the descent of a bundle compared with those of the course's optimizers and schedules."""

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from src.bundle.bundle import Bundle
from src.core.paths import HISTORY
from src.descent.model import Descent
from src.descent.optimizers import AdaGrad, Adam, GradientDescent, Momentum, RMSprop
from src.descent.surfaces import SURFACES, Surface
from src.reporting.figures import save_figure
from src.reporting.history import read_history
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.tables import markdown_table, print_metrics

LEVELS = 30
GRID = 200
MOST_ZOOM = 2

Points = NDArray[np.float64]  # (steps + 1, 2), or one point (2,)


class Setting(NamedTuple):
    """An optimizer with its number of steps and its schedule."""

    optimizer: Any
    steps: int
    schedule: Any = None


OPTIMIZERS = {
    "sgd": Setting(partial(GradientDescent, lr=0.01), 500),
    "momentum": Setting(partial(Momentum, lr=0.01, momentum=0.9), 500),
    "adagrad": Setting(partial(AdaGrad, lr=0.9), 500),
    "rmsprop": Setting(partial(RMSprop, lr=0.1, alpha=0.99), 1000),
    "adam": Setting(partial(Adam, lr=0.1), 1000),
}
_sgd = partial(torch.optim.SGD, lr=0.9)
SCHEDULES = {
    "StepLR": Setting(_sgd, 1000, partial(lr_scheduler.StepLR, step_size=20, gamma=0.7)),
    "MultiStepLR": Setting(_sgd, 400, partial(lr_scheduler.MultiStepLR, milestones=[10, 50, 200], gamma=0.7)),
    "ExponentialLR": Setting(_sgd, 400, partial(lr_scheduler.ExponentialLR, gamma=0.99)),
    "warm-up": Setting(_sgd, 400, partial(lr_scheduler.LinearLR, start_factor=0.01, total_iters=100)),
    # cycle_momentum would change the momentum, too
    "CyclicLR": Setting(
        _sgd,
        400,
        partial(lr_scheduler.CyclicLR, base_lr=0.09, max_lr=0.9, step_size_up=50, cycle_momentum=False),
    ),
    "OneCycleLR": Setting(
        _sgd, 400, partial(lr_scheduler.OneCycleLR, max_lr=0.9, total_steps=400, cycle_momentum=False)
    ),
}


def descend(surface: Surface, start: list[float], setting: Setting) -> tuple[Points, list[float]]:
    """Minimise a surface with a plain loop.

    Args:
        surface: to minimise.
        start: the first point, x1 and x2.
        setting: the optimizer, steps and schedule.

    Returns:
        The points (steps + 1, 2) and the learning rate of each step.
    """
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer: Optimizer = setting.optimizer([x])
    schedule = setting.schedule(optimizer) if setting.schedule else None
    points, rates = [x.detach().numpy().copy()], []
    for _ in range(setting.steps):
        optimizer.zero_grad()
        surface.height(x).backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
        points.append(x.detach().numpy().copy())
    return np.array(points), rates


ACCEPTS = Descent  # other modules are evaluated by their own steps


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Compare a descent with those of the course's optimizers from the same start on the same surface.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: an empty folder, to which metrics.json, plots/ and tables/ are written.
    """
    model = bundle.model_of(Descent)
    surface = SURFACES[model.surface]
    start: list[float] = np.load(prepared / "start.npy")[0].tolist()
    paths = {name: descend(surface, start, setting)[0] for name, setting in OPTIMIZERS.items()}
    trained = model.x.detach().numpy()
    ends = {"test": trained, "validation": trained, "trivial": np.array(start)}
    ends |= {name: path[-1] for name, path in paths.items()}
    metrics = {}
    for name, end in ends.items():
        prefix = name if name in ("test", "validation") else f"baseline/{name}"
        for metric, value in model.metrics_of(torch.from_numpy(end)).items():
            metrics[f"{prefix}/{metric}"] = float(value)
    metrics = write_metrics(metrics, folder)
    plots, tables = begin_report(bundle.folder, folder)
    way, rate = _trained_path(bundle.folder / HISTORY)
    _plot_paths({f"trained, {len(way) - 1} steps": way}, surface, plots / "path.png")
    titles = {f"{name}, {OPTIMIZERS[name].steps} steps": path for name, path in paths.items()}
    _plot_paths(titles, surface, plots / "optimizers.png")
    _plot_schedules(surface, start, plots / "schedules.png")
    lowest = int(np.abs(way - trained).max(axis=1).argmin())  # the bundle holds the best step, not the last
    rows = [["trained", f"{rate:g}", str(lowest), *_end(trained, metrics, "test")]]
    for name, path in paths.items():
        optimizer, steps, _ = OPTIMIZERS[name]
        cells = _end(path[-1], metrics, f"baseline/{name}")
        rows.append([name, f"{optimizer.keywords['lr']:g}", str(steps), *cells])
    headings = ["", "lr", "steps", "end", "height", "distance"]
    (tables / "optimizers.md").write_text(markdown_table(headings, rows), encoding="utf-8")
    print_metrics("Height and distance at the end of each path", metrics)


def _end(point: Points, metrics: dict[str, float], prefix: str) -> list[str]:
    """The cells for the last point (2,) of a path, its height and its distance to the minimum."""
    end = f"({point[0]:.3g}, {point[1]:.3g})"
    if not math.isfinite(metrics[f"{prefix}/loss"]):
        return [end, "diverged", ""]
    found = (metrics.get(f"{prefix}/{name}") for name in ("loss", "distance"))
    return [end, *("" if value is None else f"{value:.4g}" for value in found)]


def _trained_path(history: Path) -> tuple[Points, float]:
    """The points of the training from the start on, and its first learning rate."""
    rows = read_history(history)
    points = [[row["train/x1"], row["train/x2"]] for row in rows]
    end = [rows[-1]["validation/x1"], rows[-1]["validation/x2"]]
    if not np.isnan(end).any():  # as after a last epoch without validation
        points.append(end)
    return np.array(points), rows[0]["learning_rate"]


def _window(surface: Surface, paths: Iterable[Points]) -> tuple[float, float]:
    """The largest |x1| and |x2| to show: those of the surface, or more for starts and nearby ends outside."""
    zoom = 1.0
    for path in paths:
        start, end = (float((np.abs(point) / surface.window).max()) for point in (path[0], path[-1]))
        zoom = max(zoom, start)
        if end <= MOST_ZOOM * max(start, 1):  # neither far away nor NaN
            zoom = max(zoom, end)
    wide, high = surface.window
    return zoom * wide, zoom * high


def _draw_path(axes: Any, surface: Surface, window: tuple[float, float], path: Points, title: str) -> None:
    wide, high = window
    x1, x2 = np.meshgrid(np.linspace(-wide, wide, GRID), np.linspace(-high, high, GRID))
    heights = surface.height(torch.from_numpy(np.stack([x1, x2], axis=-1))).numpy()
    levels: Any = LEVELS
    walls = heights.max() > 100 * np.median(np.abs(heights)) or heights.max() > 1000
    if walls:  # linear levels would not show the valley
        levels = np.geomspace(max(heights.min(), 1e-2), heights.max(), LEVELS)
    axes.contour(x1, x2, heights, levels=levels, linewidths=0.6, norm="log" if walls else None)
    # matplotlib overflows for points very far outside of the axes
    shown = path[np.abs(path).max(axis=1) < 1e6]
    axes.plot(shown[:, 0], shown[:, 1], "-o", color="tab:red", markersize=2, linewidth=0.8)
    if surface.minimum is not None:
        axes.plot(*surface.minimum, "*", color="black")
    axes.set(xlim=(-wide * 1.05, wide * 1.05), ylim=(-high * 1.05, high * 1.05))
    axes.set_title(title, fontsize=9)


def _plot_paths(paths: dict[str, Points], surface: Surface, path: Path) -> None:
    columns = min(len(paths), 3)
    lines = math.ceil(len(paths) / columns)
    figure = Figure(figsize=(max(6.4, 4 * columns), 3.2 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    window = _window(surface, paths.values())
    for axes, (title, points) in zip(panels, paths.items(), strict=False):
        _draw_path(axes, surface, window, points, title)
    for axes in panels[len(paths) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def _plot_schedules(surface: Surface, start: list[float], path: Path) -> None:
    """Plot the learning rate of each schedule over the steps, and the path that it leads to."""
    figure = Figure(figsize=(2.6 * len(SCHEDULES), 5), layout="constrained")
    panels = figure.subplots(2, len(SCHEDULES))
    walks = {name: descend(surface, start, setting) for name, setting in SCHEDULES.items()}
    window = _window(surface, [points for points, _ in walks.values()])
    for (upper, lower), (name, (points, rates)) in zip(panels.T, walks.items(), strict=True):
        upper.plot(rates)
        upper.set_title(name, fontsize=9)
        upper.set_xlabel("step")
        upper.grid(alpha=0.3)
        height = surface.height(torch.from_numpy(points[-1])).item()
        end = f"height {height:.2g}" if math.isfinite(height) else "diverged"
        _draw_path(lower, surface, window, points, f"{len(rates)} steps of SGD: {end}")
    panels[0, 0].set_ylabel("learning rate")
    save_figure(figure, path)
