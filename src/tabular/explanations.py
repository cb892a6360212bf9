"""Explanations of a model of a table: what its columns are worth, and where it errs.

All of it is a function of the model and the test rows, on at most `MOST_ROWS` of them where many passes are
needed, and fewer for a large network: a report takes seconds.

B rows, F features, C classes, T targets
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from src.reporting.figures import save_figure
from src.reporting.tables import markdown_table
from src.tabular.columns import CategoricalColumn, Column
from src.tabular.metrics import SMALLEST
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, places

Numbers = NDArray[np.floating]

MOST_ROWS, LEAST_ROWS = 2000, 100
MOST_COLUMNS = 200
REPEATS = 5
PRODUCTS = 4e10  # multiplications for all permutations: some seconds
SHOWN_COLUMNS = 6  # of partial dependence, and of the worst rows
POINTS = 20  # of a curve
MOST_CURVES = 6  # classes
WORST = 10  # rows
GROUPED_COLUMNS, GROUPS = 3, 5


@dataclass(frozen=True)
class Importance:
    """What a column is worth: the increase of the mean loss when its cells are permuted.

    Args:
        column: with its name.
        place: of its features.
        mean: over the permutations.
        spread: the standard deviation over them.
    """

    column: Column
    place: slice
    mean: float
    spread: float


def row_losses(model: TabularModel, outputs: Tensor, target: Tensor) -> Numbers:
    """The loss of each row (B,): -log of the probability of its class, or the absolute error in its unit.

    Of a perceptron, which has no probabilities, 1 for a wrong class. Of several targets it is the mean over
    them, of quantities in units of their standard deviations among the rows.
    """
    answers = model.predict(outputs)
    if model.target.classes is None:
        found = (answers.double() - model.predict(target).double()).abs()
        if len(model.targets) > 1:
            found = (found / _deviations(model.predict(target))).mean(dim=1)
        return found.numpy()
    if model.loss == "perceptron":
        return (model.decide(answers) != target).double().numpy()
    right = answers.double().gather(-1, target[..., None])[..., 0]  # (B,) or (B, T)
    losses = -right.clamp(min=SMALLEST).log()
    return losses.view(len(losses), -1).mean(dim=1).numpy()


def _deviations(values: Tensor) -> Tensor:
    """The standard deviations (T,) of values (B, T), 1 where all are the same."""
    found = values.double().std(dim=0, correction=0)
    return found.where(found > 0, 1)


def loss_name(model: TabularModel) -> str:
    """What `row_losses` are."""
    if model.target.classes is None:
        return "absolute error" + (" in standard deviations" if len(model.targets) > 1 else "")
    return "error" if model.loss == "perceptron" else "log loss"


def sample_of(model: TabularModel, rows: int, columns: int) -> NDArray[np.int64]:
    """The test rows, in increasing order, for which the columns are permuted.

    Args:
        model: with its number of weights, about the products of a row.
        rows: of the test.
        columns: to permute.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    affordable = int(PRODUCTS / (weights * columns * REPEATS))
    most = min(rows, max(LEAST_ROWS, min(MOST_ROWS, affordable)))
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


@torch.inference_mode()
def importances(
    model: TabularModel, features: Tensor, target: Tensor, columns: list[Column]
) -> list[Importance]:
    """Permutation importance (Breiman 2001) of each column, the most important one first.

    Args:
        model: trained.
        features: of test rows (B, F).
        target: prepared, of these rows.
        columns: of the features; all features of one are permuted together.
    """
    before = row_losses(model, model(features), target).mean()
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(features), generator=generator) for _ in range(REPEATS)]
    found = []
    for column, place in places(columns):
        changed = features.clone()
        rises = []
        for order in orders:
            changed[:, place] = features[order, place]
            rises.append(row_losses(model, model(changed), target).mean() - before)
        found.append(Importance(column, place, float(np.mean(rises)), float(np.std(rises, ddof=1))))
    return sorted(found, key=lambda one: -one.mean)


def importance_table(found: list[Importance], model: TabularModel, rows: int, of_rows: int) -> str:
    """The importances as Markdown."""
    what = loss_name(model)
    text = (
        f"By how much the mean {what} rises when the cells of a column are permuted among {rows} of the "
        f"{of_rows} test rows: mean and standard deviation of {REPEATS} permutations. Columns that say the "
        "same share their importance.\n\n"
    )
    cells = [[one.column.name, f"{one.mean:.4g}", f"{one.spread:.2g}"] for one in found]
    return text + markdown_table(["column", f"rise of the {what}", "deviation"], cells)


def plot_partial_dependence(
    model: TabularModel, features: Tensor, found: list[Importance], labels: list[str], path: Path
) -> None:
    """Plot the mean prediction over the values of the most important columns (Friedman 2001).

    Of several quantities it is in standard deviations of the predictions from their mean.

    Args:
        model: trained.
        features: of test rows (B, F).
        found: the columns, the most important one first.
        labels: of the targets.
        path: of the figure.
    """
    chosen = found[:SHOWN_COLUMNS]
    rows = -(-len(chosen) // 3)
    figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False, sharey=True).ravel()
    curves, shown = _curves(model, labels)
    for one, axes in zip(chosen, panels, strict=False):
        points, values = _grid(one.column, features[:, one.place])
        means = _means(model, features, one.place, points)
        for number in shown:
            if isinstance(values, list):
                axes.plot(range(len(values)), means[:, number], "o", label=curves[number])
                axes.set_xticks(
                    range(len(values)), [_short(value) for value in values], rotation=45, ha="right"
                )
            else:
                axes.plot(values, means[:, number], label=curves[number])
                axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(one.column.name)
        axes.grid(alpha=0.3)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    several = "standard deviations from the mean" if model.target.classes is None else "probability"
    for axes in panels[::3]:
        axes.set_ylabel(curves[shown[0]] if len(shown) == 1 else several)
    if len(shown) > 1:
        panels[0].legend()
    save_figure(figure, path)


def _curves(model: TabularModel, labels: list[str]) -> tuple[list[str], list[int]]:
    """The names of the values that `_means` has, and the numbers of those to draw."""
    classes = model.target.classes
    if classes is None:
        return labels, list(range(min(len(labels), MOST_CURVES)))
    if len(labels) == 1:
        curves = [f"P({name})" for name in classes[:MOST_CURVES]]
        # of two classes one says it all
        return curves, [1] if len(classes) == 2 else list(range(len(curves)))
    named = zip(labels, model.targets, strict=True)
    curves = [f"P({label}: {name})" for label, target in named for name in target.classes or ()]
    return curves, list(range(1, len(curves), 2))[:MOST_CURVES]


def _short(text: str) -> str:
    return text if len(text) <= 12 else f"{text[:11]}…"


def _grid(column: Column, block: Tensor) -> tuple[Tensor, Numbers | list[str]]:
    """Points of a column as features (points, width), and their values: numbers, or texts of categories."""
    if type(column) is NumericColumn:
        low, high = np.quantile(block[:, 0].double().numpy(), [0.02, 0.98])
        points = torch.zeros(POINTS, block.shape[1], dtype=block.dtype)
        points[:, 0] = torch.from_numpy(np.linspace(low, high, POINTS))
        return points, column.decoded(points.numpy())
    points, counts = block.unique(dim=0, return_counts=True)
    points = points[counts.argsort(descending=True, stable=True)[: POINTS // 2]]
    return points, column.shown(points.numpy())


@torch.inference_mode()
def _means(model: TabularModel, features: Tensor, place: slice, points: Tensor) -> Numbers:
    """The mean answer (points, 1, C or T) where all rows have the features of a point."""
    changed, means = features.clone(), []
    for point in points:
        changed[:, place] = point
        answers = model.predict(model(changed)).double().numpy()
        means.append(answers.reshape(len(features), -1).mean(axis=0))
    if model.target.classes is None and len(model.targets) > 1:
        usual = model.predict(model(features)).double()
        return (np.stack(means) - usual.mean(dim=0).numpy()) / _deviations(usual).numpy()
    return np.stack(means)


def worst_table(
    model: TabularModel, rows: list[int], features: Tensor, outputs: Tensor, target: Tensor, found: list[Any]
) -> str:
    """The test rows with the largest losses, as Markdown.

    Args:
        model: trained.
        rows: the number of each test row in its file.
        features: of the test rows (B, F).
        outputs: of the model (B, O).
        target: prepared.
        found: the importances; the cells of the most important columns are shown.
    """
    losses = row_losses(model, outputs, target)
    worst = np.argsort(-losses, kind="stable")[:WORST]
    actual, predicted = _shown_answers(model, outputs[worst], target[worst])
    chosen = found[:SHOWN_COLUMNS]
    columns = [one.column.shown(features[worst][:, one.place].numpy()) for one in chosen]
    numbers = [str(rows[row]) for row in worst]
    cells = zip(numbers, actual, predicted, (f"{losses[row]:.4g}" for row in worst), *columns, strict=True)
    names = [one.column.name for one in chosen]
    what = loss_name(model)
    text = (
        f"The test rows with the largest {what}; a row number counts from 1 below the header of the file.\n\n"
    )
    return text + markdown_table(["row", "actual", "predicted", what, *names], cells)


def _shown_answers(model: TabularModel, outputs: Tensor, target: Tensor) -> tuple[list[str], list[str]]:
    """The actual and predicted values or classes of rows as texts, those of several targets in one."""
    answers = model.predict(outputs)
    columns = list[tuple[list[str], list[str]]]()
    if model.target.classes is None:
        for _, part in model.by_target(model.predict(target), answers):
            actual, predicted = ([f"{value:.5g}" for value in values] for values in part)
            columns.append((actual, predicted))
    else:
        for one, (wanted, found, codes) in model.by_target(target, answers, model.decide(answers)):
            classes = one.classes or []
            shares = found.gather(1, codes[:, None])[:, 0]
            answered = zip(codes, shares, strict=True)
            predicted = [f"{classes[code]} ({share:.2f})" for code, share in answered]
            columns.append(([classes[code] for code in wanted], predicted))
    actual, predicted = (
        [", ".join(cells) for cells in zip(*part, strict=True)] for part in zip(*columns, strict=True)
    )
    return actual, predicted


def groups_table(
    model: TabularModel, features: Tensor, outputs: Tensor, target: Tensor, found: list[Importance]
) -> str | None:
    """The errors of the test rows by category, as Markdown; None without a column of categories.

    Args:
        model: trained.
        features: of the test rows (B, F).
        outputs: of the model (B, O).
        target: prepared.
        found: the importances.
    """
    chosen = [one for one in found if isinstance(one.column, CategoricalColumn)][:GROUPED_COLUMNS]
    if not chosen:
        return None
    answers = model.predict(outputs)
    losses = row_losses(model, outputs, target)
    if model.target.classes is not None:
        right = (model.decide(answers) == target).double().view(len(target), -1).mean(dim=1).numpy()
        values = [right, losses]
        headings, text = ["accuracy", f"mean {loss_name(model)}"], ""
    elif len(model.targets) > 1:
        headings, values, text = [f"mean {loss_name(model)}"], [losses], ""
    else:
        residuals = (model.predict(target).double() - answers.double()).numpy()
        headings = ["mean residual", "mean absolute error"]
        values = [residuals, np.abs(residuals)]
        text = (
            "A residual is the actual minus the predicted value: above 0 the model predicts too little.\n\n"
        )
    cells = []
    for one in chosen:
        group = pd.Series(one.column.shown(features[:, one.place].numpy()), dtype=object)
        counts = Counter(group.tolist())
        for name, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:GROUPS]:
            inside = (group == name).to_numpy()
            means = [f"{column[inside].mean():.4g}" for column in values]
            cells.append([one.column.name, name, str(rows), *means])
    return text + markdown_table(["column", "category", "test rows", *headings], cells)


def write_explanations(
    model: TabularModel,
    preprocessing: Preprocessing,
    rows: list[int],
    features: Tensor,
    outputs: Tensor,
    target: Tensor,
    plots: Path,
    tables: Path,
) -> None:
    """Write importance.md, worst_rows.md, groups.md and partial_dependence.png.

    A function of one or two numbers is plotted whole, so their partial dependence is left out.

    Args:
        model: trained.
        preprocessing: of the training rows.
        rows: the number of each test row in its file.
        features: of the test rows (B, F).
        outputs: of the model (B, O).
        target: prepared.
        plots: folder of the pictures.
        tables: folder of the tables.
    """
    columns = list(preprocessing.columns)[:MOST_COLUMNS]
    sample = sample_of(model, len(features), len(columns))
    few = features[sample]
    found = importances(model, few, target[sample], columns)
    documents = {
        "importance": importance_table(found, model, len(sample), len(features)),
        "worst_rows": worst_table(model, rows, features, outputs, target, found),
        "groups": groups_table(model, features, outputs, target, found),
    }
    for name, text in documents.items():
        if text is not None:
            (tables / f"{name}.md").write_text(text, encoding="utf-8")
    if len(preprocessing.columns) > 2 or not preprocessing.is_linear:
        labels = [preprocessing.label(one.name) for one in preprocessing.targets]
        plot_partial_dependence(model, few, found, labels, plots / "partial_dependence.png")
