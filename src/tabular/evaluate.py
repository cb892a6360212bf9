"""Evaluation of a model of tables: metrics of the model and of baselines, figures and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from src.bundle.bundle import Bundle
from src.reporting.figures import plot_confusion_matrix
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.noise import gains_of_classes, noise_of, write_losses
from src.reporting.tables import markdown_table, print_metrics
from src.tabular.baselines import ROWS_AT_ONCE, baseline_outputs, sampled_rows
from src.tabular.data import FoldedData, data_of, load_rows, load_split, mapped_split
from src.tabular.explanations import write_explanations
from src.tabular.figures import plot_function, plot_predictions
from src.tabular.linear import linear_layer, separable, weights_table
from src.tabular.losses import quantile_loss, quantile_losses
from src.tabular.metrics import probability_metrics
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing
from src.tabular.probabilities import write_probabilities
from src.tabular.series import forecast_errors

ACCEPTS = TabularModel  # other modules are evaluated by their own steps


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Evaluate a trained model on the test rows of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: of metrics.json, plots/ and tables/; it exists and is empty.
    """
    model = bundle.model_of(TabularModel)
    preprocessing: Preprocessing = bundle.preprocessing
    classes = preprocessing.target.classes
    train = mapped_split(prepared, "train")[-1]
    sample = sampled_rows(len(train), len(preprocessing.features), len(classes or ()))
    features = load_rows(prepared, "train", np.arange(len(train)) if sample is None else sample)
    # all rows, unless the baselines are fitted on a sample
    splits = {
        "train": (features, train if sample is None else train[sample]),
        **{name: load_split(prepared, name) for name in ("validation", "test")},
    }
    data = data_of(bundle, prepared)
    if isinstance(data, FoldedData) and sample is None:  # the model was trained on the validation rows, too
        features, train, _ = data.tensors("train")
        splits["train"] = features, train
    test, target = splits["test"]
    with torch.inference_mode():
        outputs = torch.cat([model(part) for part in test.split(ROWS_AT_ONCE)])
    rare = rare_class(train) if classes is not None and len(classes) == 2 else None
    metrics = scores(model, *model.validation_outputs(data), rare, "validation")
    metrics |= scores(model, outputs, target, rare, "test")
    # one thread: the sums are the same on every machine, and a training at the same time keeps its cores
    with threadpool_limits(limits=1):
        baselines = baseline_outputs(model, *splits["train"], test)
    if sample is not None:
        metrics["baseline_training_rows"] = len(sample)
        print(f"the baselines are fitted on {len(sample)} of {len(train)} training rows, drawn at random")
    trivial = model.trivial_outputs(train)
    baselines["trivial"] = trivial.expand(len(test), -1)
    for name, found in baselines.items():
        metrics |= scores(model, found, target, rare, f"baseline/{name}", of_model=False)
    metrics |= noise_of(_gains(model, outputs, baselines["trivial"], target))
    metrics |= _repeated(prepared)
    metrics |= _intervals(model, outputs, target)
    if rare is not None and sample is None and linear_layer(model.network) is not None:
        metrics["train/separable"] = float(separable(*splits["train"]))
        number = "a" if metrics["train/separable"] else "no"
        print(f"{number} hyperplane separates the two classes of the training rows")

    plots, tables = begin_report(bundle.folder, folder)
    write_losses(_losses(model, outputs, target), tables)
    if preprocessing.lags and preprocessing.lags == len(preprocessing.columns) and preprocessing.is_linear:
        metrics |= forecast_errors(model, splits, preprocessing, plots / "forecast.png")
    elif preprocessing.is_linear and len(preprocessing.columns) <= 2:
        plot_function(model, splits, preprocessing, plots / "function.png")
    label = preprocessing.label(preprocessing.target.name)
    predicted = model.predict(outputs)
    if classes is None:
        actual, logarithmic = model.predict(target).numpy(), preprocessing.target.log
        plot_predictions(actual, predicted.numpy(), label, logarithmic, plots / "predicted_vs_actual.png")
    else:
        codes = model.decide(predicted).numpy()
        plot_confusion_matrix(target.numpy(), codes, classes, label, plots / "confusion_matrix.png")
        if model.loss != "perceptron":
            write_probabilities(model, predicted, target, rare, plots, tables)
    rows = _row_numbers(prepared, len(test))
    with threadpool_limits(limits=1):
        write_explanations(model, preprocessing, rows, test, outputs, target, plots, tables)
    (tables / "columns.md").write_text(_columns_table(preprocessing), encoding="utf-8")
    weights = weights_table(model, splits, preprocessing)
    if weights is not None:
        _write_weights(weights, tables / "weights.md")
    print_metrics(f"{label}, test rows", write_metrics(metrics, folder))


def _row_numbers(prepared: Path, count: int) -> list[int]:
    """The number of each test row in its file, from 1; of a test file of its own the place in it."""
    split = pd.read_csv(prepared / "split.csv")
    rows: list[int] = split.loc[split["split"] == "test", "row"].tolist()
    return rows if len(rows) == count else list(range(1, count + 1))


def rare_class(target: Tensor) -> int:
    """The class with fewer rows of two, which is usually the one that is looked for; the second if equal."""
    counts = target.bincount(minlength=2)
    return int(counts[1] <= counts[0])


def scores(
    model: TabularModel,
    outputs: Tensor,
    target: Tensor,
    rare: int | None,
    prefix: str,
    of_model: bool = True,
) -> dict[str, float]:
    """Metrics of outputs (B, O) of the model, or of a baseline, which has no temperature and no threshold."""
    answers = model.predict(outputs) if of_model else model.answers(outputs)
    codes = model.decide(answers) if of_model and model.threshold is not None else None
    metrics = {name: float(value) for name, value in model.metrics_of_answers(answers, target, codes).items()}
    if model.target.classes is not None and model.loss != "perceptron":
        metrics |= probability_metrics(answers, target, rare)
    if model.loss == "quantile":
        metrics["quantile_loss"] = float(quantile_loss(answers, model.predict(target), model.quantile))
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def _intervals(model: TabularModel, outputs: Tensor, target: Tensor) -> dict[str, float]:
    """The share of test rows whose value is in its interval, and the mean width; none without intervals."""
    if model.margin is None or model.interval is None:
        return {}
    lower, upper = model.interval_of(outputs)
    actual = model.predict(target)
    inside = (lower <= actual) & (actual <= upper)
    return {
        "interval/wanted_coverage": model.interval,
        "interval/coverage": float(inside.double().mean()),
        "interval/mean_width": float((upper - lower).double().mean()),
    }


def _gains(model: TabularModel, outputs: Tensor, trivial: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, the right answers or the decrease of the loss against the trivial answer."""
    if model.target.classes is not None:
        answers, ignorant = model.decide(model.predict(outputs)), model.answers(trivial).argmax(dim=1)
        return gains_of_classes(answers.numpy(), ignorant.numpy(), target.numpy())
    gains: NDArray[Any] = _losses(model, trivial, target) - _losses(model, outputs, target)
    return gains


def _losses(model: TabularModel, outputs: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, 1 for a wrong class, or the squared error or quantile loss in the unit of the target."""
    answers = model.predict(outputs)
    if model.target.classes is not None:
        return (model.decide(answers) != target).numpy().astype(np.float64)
    if model.loss == "quantile":
        actual = model.predict(target).double()
        return quantile_losses(answers.double(), actual, model.quantile).numpy()
    squared: NDArray[Any] = (answers.double().numpy() - model.predict(target).double().numpy()) ** 2
    return squared


def _repeated(prepared: Path) -> dict[str, float]:
    """The number of prepared rows that repeat another one, and of test rows that repeat a training row."""
    hashes = {name: _hashes(prepared, name) for name in ("train", "validation", "test")}
    numbers = np.concatenate(list(hashes.values()))
    known = np.isin(hashes["test"], hashes["train"])
    found = {
        "repeated/rows": len(numbers) - len(np.unique(numbers)),
        "repeated/test_rows_of_training": known.sum(),
    }
    return {name: float(value) for name, value in found.items() if value}


def _hashes(prepared: Path, split: str) -> NDArray[np.uint64]:
    """A number for each row of a split, the same for equal rows."""
    parts = []
    arrays = mapped_split(prepared, split)
    for blocks in zip(*(array.split(ROWS_AT_ONCE) for array in arrays), strict=True):
        table = np.hstack([block.reshape(len(block), -1).double().numpy() for block in blocks])
        parts.append(pd.util.hash_pandas_object(pd.DataFrame(table), index=False).to_numpy())
    return np.concatenate(parts)


def _columns_table(preprocessing: Preprocessing) -> str:
    """The learnt transformation of each column, with its English and Chinese label."""
    rows = []
    for column in preprocessing.columns:
        labels = preprocessing.labels.get(column.name, {})
        names = [column.name, labels.get("en", ""), labels.get("zh", "")]
        rows.append([*names, column.kind, str(column.missing), column.learnt])
    return markdown_table(["column", "label", "名称", "kind", "missing in training", "learnt"], rows)


def _write_weights(weights: pd.DataFrame, path: Path) -> None:
    shown = weights.map(lambda value: f"{value:.5g}")
    path.write_text(markdown_table(["", *shown.columns], shown.itertuples()), encoding="utf-8")
    print(shown.to_string())
