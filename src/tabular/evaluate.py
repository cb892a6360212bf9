"""Bundle and prepared arrays -> metrics beside baselines, plots and tables for people."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from threadpoolctl import threadpool_limits
from torch import Tensor

from src.bundle.bundle import Bundle
from src.reporting.figures import readable_logarithm, save_figure
from src.reporting.metrics import begin_report, write_metrics
from src.tabular.data import load_split
from src.tabular.model import TabularModel
from src.tabular.points import (
    forecast_errors,
    linear_layer,
    numeric_inputs,
    plot_function,
    separable,
    weights_table,
)


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Judge a trained model on the test rows of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: where metrics.json, plots/ and tables/ go; it exists and is empty.
    """
    model = bundle.model_of(TabularModel)
    preprocessing = bundle.preprocessing
    splits = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    metrics: dict[str, float] = {}
    for name in ("validation", "test"):
        features, target = splits[name]
        with torch.inference_mode():
            metrics |= _scores(model, model(features), target, name)
    # one thread: the same sums on every machine, and no fight with a training beside it
    with threadpool_limits(limits=1):
        baselines = _baseline_outputs(model, splits)
    trivial = model.trivial_outputs(splits["train"][1])
    baselines["trivial"] = trivial.expand(len(splits["test"][0]), -1)
    for name, outputs in baselines.items():
        metrics |= _scores(model, outputs, splits["test"][1], f"baseline/{name}")
    linear = linear_layer(model.network) is not None
    if linear and model.target["classes"] is not None and len(model.target["classes"]) == 2:
        apart = separable(*splits["train"])
        metrics["train/separable"] = float(apart)
        print(f"{'a' if apart else 'no'} line (or plane) separates the two classes of the training rows")
    plots, tables = begin_report(bundle.folder, folder)
    if preprocessing["lags"] and preprocessing["lags"] == len(preprocessing["columns"]):
        metrics |= forecast_errors(model, splits, preprocessing, plots / "forecast.png")
    elif numeric_inputs(preprocessing) and len(preprocessing["columns"]) <= 2:
        plot_function(model, splits, preprocessing, plots / "function.png")
    _plot_predictions(model, *splits["test"], preprocessing, plots)
    (tables / "columns.md").write_text(_columns_table(preprocessing), encoding="utf-8")
    weights = weights_table(model, splits, preprocessing)
    if weights is not None:
        _write_weights(weights, tables / "weights.md")
    _print_metrics(write_metrics(metrics, folder), preprocessing)


def _scores(model: TabularModel, outputs: Tensor, target: Tensor, prefix: str) -> dict[str, float]:
    """Metrics of outputs (B, O) against the prepared target, by name."""
    metrics = model.metrics_of(outputs, target)
    return {f"{prefix}/{name}": float(value) for name, value in metrics.items()}


def _baseline_outputs(model: TabularModel, splits: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What classic models, fitted on the same training rows, answer for the test rows.

    The answers have the form of the network's outputs: the transformed target, or log-probabilities.
    """
    (train, target), (test, _) = splits["train"], splits["test"]
    if model.target["classes"] is None:
        regressors = {
            "ridge": RidgeCV(alphas=np.logspace(-2, 4, 13)),
            "boosting": HistGradientBoostingRegressor(random_state=0),
        }
        fitted = {name: m.fit(train.numpy(), target[:, 0].numpy()) for name, m in regressors.items()}
        answers = {name: m.predict(test.numpy()) for name, m in fitted.items()}
        return {name: torch.from_numpy(answer).float()[:, None] for name, answer in answers.items()}
    classifiers = {
        "logistic": LogisticRegression(max_iter=1000),
        "boosting": HistGradientBoostingClassifier(random_state=0),
    }
    outputs = {}
    for name, classifier in classifiers.items():
        probabilities = classifier.fit(train.numpy(), target.numpy()).predict_proba(test.numpy())
        logits = torch.from_numpy(probabilities).float().clamp(min=1e-12).log()  # (B, C)
        # the networks of `bce` and `perceptron` have one output, the log-odds of the second class
        outputs[name] = logits if model.loss == "cross_entropy" else logits[:, 1:] - logits[:, :1]
    return outputs


def _label(preprocessing: dict[str, Any], name: str) -> str:
    label: str = preprocessing["labels"].get(name, {}).get("en", name)
    return label


def _plot_predictions(
    model: TabularModel,
    features: Tensor,
    target: Tensor,
    preprocessing: dict[str, Any],
    folder: Path,
) -> None:
    """Predicted against actual values, or the confusion matrix of classes."""
    with torch.inference_mode():
        predicted = model.predict(model(features)).numpy()
    label = _label(preprocessing, preprocessing["target"]["name"])
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    if model.target["classes"] is None:
        actual = model.predict(target).numpy()
        logarithmic = bool(preprocessing["target"]["log"])
        _scatter(axes, actual, predicted, logarithmic)
        axes.set(xlabel=f"{label}, actual", ylabel=f"{label}, predicted", title="Test rows")
        save_figure(figure, folder / "predicted_vs_actual.png")
    else:
        _confusion(axes, target.numpy(), predicted.argmax(axis=1), model.target["classes"])
        axes.set(xlabel=f"{label}, predicted", ylabel=f"{label}, actual", title="Test rows")
        save_figure(figure, folder / "confusion_matrix.png")


def _scatter(
    axes: Any, actual: NDArray[np.floating], predicted: NDArray[np.floating], logarithmic: bool
) -> None:
    low, high = float(min(actual.min(), predicted.min())), float(max(actual.max(), predicted.max()))
    axes.plot([low, high], [low, high], color="grey", linewidth=1)
    axes.scatter(actual, predicted, s=12, alpha=0.6)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        readable_logarithm(axes.xaxis)
        readable_logarithm(axes.yaxis)
    axes.grid(alpha=0.3)


def _confusion(
    axes: Any, actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: list[str]
) -> None:
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for row, column in np.ndindex(*counts.shape):
        shade = "white" if counts[row, column] > counts.max() / 2 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade)


def _columns_table(preprocessing: dict[str, Any]) -> str:
    """What was learnt of each column, with its English and Chinese label."""
    lines = [
        "| column | label | 名称 | kind | missing in training | learnt |",
        "|---|---|---|---|---|---|",
    ]
    for column in preprocessing["columns"]:
        labels = preprocessing["labels"].get(column["name"], {})
        if column["kind"] == "numeric":
            fill = "none" if column["fill"] is None else f"{column['fill']:.6g}"
            learnt = f"missing {fill}, center {column['center']:.6g}, scale {column['scale']:.6g}"
        else:
            learnt = f"{len(column['categories'])} categories, {len(column['rare'])} rare"
        cells = [column["name"], labels.get("en", ""), labels.get("zh", ""), column["kind"]]
        lines.append(f"| {' | '.join([*cells, str(column['missing']), learnt])} |")
    return "\n".join(lines) + "\n"


def _write_weights(weights: pd.DataFrame, path: Path) -> None:
    shown = weights.map(lambda value: f"{value:.5g}")
    lines = [f"| | {' | '.join(shown.columns)} |", "|---|" + "---|" * len(shown.columns)]
    lines += [f"| {name} | {' | '.join(row)} |" for name, *row in shown.itertuples()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(shown.to_string())


def _print_metrics(metrics: dict[str, float], preprocessing: dict[str, Any]) -> None:
    names = sorted(name.removeprefix("test/") for name in metrics if name.startswith("test/"))
    table = Table(title=f"{_label(preprocessing, preprocessing['target']['name'])}, test rows")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    rows = {key.rsplit("/", 1)[0] for key in metrics if key.startswith("baseline/")}
    for row in ["test", *sorted(rows)]:
        values = [f"{metrics[f'{row}/{name}']:.5g}" for name in names]
        table.add_row("model" if row == "test" else row.removeprefix("baseline/"), *values)
    Console().print(table)
