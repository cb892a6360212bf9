"""The report of a study: a table of differences with their noise, figures, and a summary."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines.parameters import part_of, read_parameters
from pipelines.study.cells import Cell
from src.bundle.bundle import WEIGHTS
from src.core.paths import HISTORY
from src.core.scores import USUAL_MONITORS
from src.reporting.figures import save_figure
from src.reporting.history import read_history
from src.reporting.metrics import write_metrics
from src.reporting.noise import interval
from src.reporting.tables import markdown_table

MOST_CURVES = 20
TRAINING_LOSSES = ("train/loss", "train_loss", "train_loss_epoch", "train/loss_epoch", "training_loss")

Numbers = NDArray[np.float64]
Row = dict[str, Any]


def compare(values: dict[str, Numbers]) -> list[Row]:
    """Mean, spread and the paired difference to the first cell.

    Args:
        values: the metric of each cell, one number per seed and fold in the same order for all cells; NaN if
            a training diverged.

    Returns:
        One row per cell: `cell`, `runs`, `diverged`, `mean`, `sd` (n - 1), `ci` and, except for the first,
        `difference` and `difference_ci` over the runs that both have (`ci`: half the width at 95 %).
    """
    rows: list[Row] = []
    first = next(iter(values.values()))
    for name, found in values.items():
        there = found[~np.isnan(found)]
        row: Row = {"cell": name, "runs": len(there), "diverged": len(found) - len(there)}
        row["mean"] = float(there.mean()) if len(there) else float("nan")
        row["sd"] = float(there.std(ddof=1)) if len(there) > 1 else float("nan")
        row["ci"] = interval(there)
        if rows:
            differences = found - first
            differences = differences[~np.isnan(differences)]
            row["difference"] = float(differences.mean()) if len(differences) else float("nan")
            row["difference_ci"] = interval(differences)
        rows.append(row)
    return rows


def sentence(rows: list[Row], metric: str, mode: str) -> str:
    """Summarise which differences to the first cell exceed the noise: their 95 % interval excludes 0."""
    first, *others = rows
    if not others or first["runs"] < 2:
        single = " in one run, without noise to compare with"
        noise = f" ± {first['ci']:.2g}" if first["runs"] > 1 else single
        return f"{metric} of {first['cell']}: {first['mean']:.4g}{noise}."
    sign = 1 if mode == "max" else -1
    better: list[str] = []
    worse: list[str] = []
    open_: list[str] = []
    gone: list[str] = []
    for row in others:
        size, noise = row["difference"], row["difference_ci"]
        if not row["runs"]:
            gone.append(row["cell"])
            continue
        if not abs(size) > noise:  # also where there is no interval
            open_.append(row["cell"])
            continue
        text = f"{row['cell']} ({size:+.3g} ± {noise:.2g})"
        (better if sign * size > 0 else worse).append(text)
    parts = [f"{metric}, against {first['cell']} ({first['mean']:.4g})"]
    if better:
        parts.append(f"better beyond the noise: {', '.join(better)}")
    if worse:
        parts.append(f"worse beyond the noise: {', '.join(worse)}")
    if open_:
        parts.append(f"no difference that exceeds the noise of {first['runs']} runs: {', '.join(open_)}")
    if gone:
        parts.append(f"diverged in every run: {', '.join(gone)}")
    return "; ".join(parts) + "."


def write_findings(title: str, metric: str, mode: str, cells: dict[str, list[Cell]], folder: Path) -> None:
    """Write the report of a study whose cells are trained.

    Args:
        title: of the study.
        metric: the metric to compare.
        mode: whether a low (min) or a high (max) metric is better.
        cells: by name, all with the same seeds and folds in the same order.
        folder: for metrics.json, tables/ and plots/; it exists and is empty.
    """
    records = {name: [cell.record() for cell in group] for name, group in cells.items()}
    values = {
        name: np.array([record["metrics"][metric] if record else np.nan for record in group])
        for name, group in records.items()
    }
    rows = compare(values)
    for row, group in zip(rows, records.values(), strict=True):
        gaps = [_gap(record["metrics"]) for record in group if record]
        row["gap"] = float(np.mean(gaps)) if gaps else float("nan")
        norms = [_weight_norm(cell.bundle) for cell in cells[row["cell"]] if cell.record()]
        row["weight_norm"] = float(np.mean(norms)) if norms else float("nan")
    finding = sentence(rows, metric, mode)
    metrics = {
        f"{row['cell']}/{name}": value
        for row in rows
        for name, value in row.items()
        if name != "cell" and np.isfinite(value)  # a single run has no spread, a diverged one no mean
    }
    write_metrics(metrics, folder)
    for name in ("plots", "tables"):
        (folder / name).mkdir()
    (folder / "tables" / "cells.md").write_text(_markdown(title, metric, rows, finding), encoding="utf-8")
    _plot_metric(rows, metric, folder / "plots" / "metric.png")
    histories = {name: [_history(cell) for cell in group if cell.record()] for name, group in cells.items()}
    histories = {name: group for name, group in histories.items() if group}
    if histories:
        shared = set.intersection(*(set(history) for group in histories.values() for history in group))
        if (curve := _curve(shared, metric)) is not None:
            _plot_curves(histories, curve, mode, folder / "plots" / "curves.png")
        _plot_weights({name: cells[name] for name in histories}, folder / "plots" / "weights.png")
    varied = {key.rpartition(".")[2] for group in cells.values() for key in group[0].settings}
    (task,) = {cell.task for group in cells.values() for cell in group}
    figures = getattr(part_of(read_parameters()["tasks"].get(task, ""), "study_figures"), "FIGURES", {})
    for key, (name, plot) in figures.items():
        if key in varied:
            plot(folder / "plots" / name)
    if any("gradient_norm/" in column for group in histories.values() for column in group[0]):
        _plot_gradients(histories, folder / "plots" / "gradients.png")
    _print(title, metric, rows, finding)


def _gap(metrics: dict[str, float]) -> float:
    """The validation loss of the best epoch minus the training loss; NaN if one of them is not logged."""
    training = next((metrics[name] for name in TRAINING_LOSSES if name in metrics), np.nan)
    return next((metrics[name] for name in USUAL_MONITORS if name in metrics), np.nan) - training


def _weight_norm(bundle: Path) -> float:
    """The Euclidean norm of all weights: tensors of two or more dimensions."""
    weights = _weights(bundle)
    return float(np.sqrt(sum(float((weight.astype(float) ** 2).sum()) for weight in weights.values())))


def _weights(bundle: Path) -> dict[str, NDArray[np.floating]]:
    from src.bundle.bundle import arrays_of

    tensors = arrays_of(bundle / WEIGHTS)
    return {name: tensor for name, tensor in tensors.items() if tensor.ndim > 1}


def _history(cell: Cell) -> dict[str, Numbers]:
    """The columns of the history of a cell's training."""
    rows = read_history(cell.bundle / HISTORY)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _number(value: float, plus: str = "") -> str:
    return "" if np.isnan(value) else f"{value:{plus}.4g}"


def _cells_of_row(row: Row) -> list[str]:
    difference = ""
    if "difference" in row:
        noise = _number(row["difference_ci"])  # none of a single run
        difference = _number(row["difference"], "+") + (f" ± {noise}" if noise else "")
    runs = f"{row['runs']} ({row['diverged']} diverged)" if row["diverged"] else str(row["runs"])
    spread = [_number(row[name]) for name in ("mean", "sd", "ci")]
    return [row["cell"], runs, *spread, difference, _number(row["gap"], "+"), _number(row["weight_norm"])]


HEADINGS = ["", "runs", "mean", "sd", "± 95 %", "difference", "validation - train/loss", "norm of weights"]
PRINTED = ["", "runs", "mean", "sd", "difference"]


def _markdown(title: str, metric: str, rows: list[Row], finding: str) -> str:
    table = markdown_table(HEADINGS, map(_cells_of_row, rows))
    return f"# {title}: {metric}\n\n{table}\n{finding}\n"


def _print(title: str, metric: str, rows: list[Row], finding: str) -> None:
    table = Table(title=f"{title}: {metric}")
    for heading in PRINTED:
        # a long name is wrapped, so that no number is cut off
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for row in rows:
        by_heading = dict(zip(HEADINGS, _cells_of_row(row), strict=True))
        table.add_row(*(by_heading[heading] for heading in PRINTED))
    Console().print(table)
    print(finding)


def _plot_metric(rows: list[Row], metric: str, path: Path) -> None:
    """The mean of each cell with its 95 % interval."""
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows), 0, -1)
    means = [row["mean"] for row in rows]
    errors = [0 if np.isnan(row["ci"]) else row["ci"] for row in rows]
    axes.errorbar(means, places, xerr=errors, fmt="o", capsize=3)
    axes.axvline(means[0], color="grey", linewidth=1, linestyle=":")
    axes.set_yticks(places, [row["cell"] for row in rows])
    axes.set(xlabel=metric, title="mean and 95 % interval")
    shown = [mean for mean in means if np.isfinite(mean)]
    if shown and min(shown) > 0 and max(shown) > 20 * min(shown):
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _curve(columns: set[str], metric: str) -> str | None:
    """The column of a history to draw: the study's metric on the validation rows, else a loss.

    Losses of different kinds could not share an axis.
    """
    names = [f"validation/{metric.rpartition('/')[2]}"]
    names += [metric.replace("test", part) for part in ("validation", "val", "valid")]
    usual = [name for name in (*names, *USUAL_MONITORS) if name in columns]
    return next(iter(usual + sorted(name for name in columns if name.endswith("loss"))), None)


def _plot_curves(histories: dict[str, list[dict[str, Numbers]]], column: str, mode: str, path: Path) -> None:
    """A column of the histories over the epochs, as a mean over the runs of a cell."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, group) in enumerate(list(histories.items())[:MOST_CURVES]):
        epochs = min(len(history["epoch"]) for history in group)
        curves = np.stack([history[column][:epochs] for history in group])  # (runs, epochs)
        style = ("-", "--")[number // 10 % 2]
        known = ~np.isnan(curves).any(axis=0)  # no value in an epoch without validation
        numbers, means = group[0]["epoch"][:epochs][known], curves.mean(axis=0)[known]
        axes.plot(numbers, means, style, linewidth=1.2, label=name)
    positive = not any((history[column] <= 0).any() for group in histories.values() for history in group)
    scale = "log" if mode == "min" and positive else "linear"
    axes.set(xlabel="epoch", ylabel=column, yscale=scale, title="mean of the runs")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    save_figure(figure, path)


def _plot_weights(cells: dict[str, list[Cell]], path: Path) -> None:
    """A histogram of the trained weights of each cell's first run."""
    columns = min(4, len(cells))
    lines = -(-min(len(cells), MOST_CURVES) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, group) in zip(panels, cells.items(), strict=False):
        trained = next(cell for cell in group if cell.record())
        weights = [weight.ravel() for weight in _weights(trained.bundle).values()]
        if weights:  # a point on a surface has none
            axes.hist(np.concatenate(weights), bins=50)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[len(cells) :]:
        axes.set_axis_off()
    figure.suptitle("trained weights, first run", fontsize=10)
    save_figure(figure, path)


def _plot_gradients(histories: dict[str, list[dict[str, Numbers]]], path: Path) -> None:
    """The gradient norm of each layer in the first epoch, as a mean over the runs of a cell.

    Cells whose names differ in the last part only share a panel.
    """
    panels: dict[str, list[str]] = {}
    for name in histories:
        panels.setdefault(name.rpartition(", ")[0], []).append(name)
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * lines), layout="constrained")
    drawn = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, (title, names) in zip(drawn, panels.items(), strict=False):
        for name in names:
            group = histories[name]
            layers = [column for column in group[0] if column.startswith("gradient_norm/")]
            layers.sort(key=lambda layer: [int(part) for part in layer.split(".") if part.isdigit()])
            norms = np.array([[history[layer][0] for layer in layers] for history in group]).mean(axis=0)
            label = name.rpartition(", ")[2]
            axes.plot(range(1, len(layers) + 1), norms, "-o", markersize=2.5, linewidth=1, label=label)
        axes.set_title(title, fontsize=9)
        axes.set(xlabel="layer, from the input", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)
    for axes in drawn[len(panels) :]:
        axes.set_axis_off()
    figure.supylabel("gradient norm, first epoch")
    save_figure(figure, path)
