"""Evaluation of a model of tables: metrics of the model and of baselines, figures and tables."""

from collections.abc import Mapping, Sequence
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
from src.reporting.tables import markdown_table, print_metrics, scores_of_classes
from src.tabular.baselines import ROWS_AT_ONCE, baseline_outputs, sampled_rows, trees_of_round
from src.tabular.data import Splits, TabularData, data_of, load_rows, load_split, mapped_split
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

# in the table of several targets, with their headings
QUANTITY_METRICS = {"rmse": "RMSE", "mae": "MAE", "r2": "R²"}
CLASS_METRICS = {
    "accuracy": "accuracy",
    "recall": "balanced accuracy",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log loss",
}


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Evaluate a trained model on the test rows of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: of metrics.json, plots/ and tables/; it exists and is empty.
    """
    model = bundle.model_of(TabularModel)
    preprocessing: Preprocessing = bundle.preprocessing
    data = data_of(bundle, prepared)
    splits, train = _rows_of(data, prepared, preprocessing)
    test, target = splits["test"]
    with torch.inference_mode():
        outputs = torch.cat([model(part) for part in test.split(ROWS_AT_ONCE)])
    rare = rare_classes(model, train)
    metrics = scores(model, *model.validation_outputs(data), rare, "validation")
    metrics |= scores(model, outputs, target, rare, "test")
    metrics |= _baselines(model, splits, train, outputs, rare)
    metrics |= _repeated(prepared)
    metrics |= _intervals(model, outputs, target)
    sampled = len(splits["train"][1]) < len(train)
    if rare[0] is not None and len(rare) == 1 and not sampled and linear_layer(model.network) is not None:
        metrics["train/separable"] = float(separable(*splits["train"]))
        number = "a" if metrics["train/separable"] else "no"
        print(f"{number} hyperplane separates the two classes of the training rows")

    plots, tables = begin_report(bundle.folder, folder)
    write_losses(_losses(model, outputs, target), tables)
    if preprocessing.lags and preprocessing.lags == len(preprocessing.columns) and preprocessing.is_linear:
        metrics |= forecast_errors(model, splits, preprocessing, plots / "forecast.png")
    elif preprocessing.is_linear and len(preprocessing.columns) <= 2 and len(preprocessing.targets) == 1:
        plot_function(model, splits, preprocessing, plots / "function.png")
    _draw_answers(model, preprocessing, outputs, target, rare, plots, tables)
    rows = _row_numbers(prepared)
    with threadpool_limits(limits=1):
        write_explanations(model, preprocessing, rows, test, outputs, target, plots, tables)
    (tables / "columns.md").write_text(_columns_table(preprocessing), encoding="utf-8")
    weights = weights_table(model, splits, preprocessing)
    if weights is not None:
        _write_weights(weights, tables / "weights.md")
    written = write_metrics(metrics, folder)
    if len(model.targets) > 1:
        (tables / "targets.md").write_text(_targets_table(model, written), encoding="utf-8")
    print_metrics(f"{_label(preprocessing)}, test rows", written)


def _label(preprocessing: Preprocessing) -> str:
    """The labels of the targets."""
    return ", ".join(preprocessing.label(target.name) for target in preprocessing.targets)


def _rows_of(data: TabularData, prepared: Path, preprocessing: Preprocessing) -> tuple[Splits, Tensor]:
    """The rows of each split, those of the training as the baselines have them; the targets of all of these.

    The training rows are a sample where they are many.
    """
    train = mapped_split(prepared, "train")[-1]
    sample = sampled_rows(len(train), len(preprocessing.features), trees_of_round(preprocessing.targets))
    splits = {name: load_split(prepared, name) for name in ("validation", "test")}
    if sample is not None:
        return {"train": (load_rows(prepared, "train", sample), train[sample]), **splits}, train
    # the model may be trained on the validation rows, too
    features, train, *_ = data.tensors("train")
    return {"train": (features, train), **splits}, train


def _baselines(
    model: TabularModel, splits: Splits, train: Tensor, outputs: Tensor, rare: Sequence[int | None]
) -> dict[str, float]:
    """The metrics of baselines on the test rows, and whether the model is better than the trivial answer.

    Args:
        model: trained.
        splits: features and targets of the rows.
        train: the targets of all training rows.
        outputs: of the model for the test rows (B, O).
        rare: as `rare_classes`.
    """
    test, target = splits["test"]
    metrics = dict[str, float]()
    # one thread: the sums are the same on every machine, and a training at the same time keeps its cores
    with threadpool_limits(limits=1):
        baselines = baseline_outputs(model, *splits["train"], test)
    if (sampled := len(splits["train"][1])) < len(train):
        metrics["baseline_training_rows"] = sampled
        print(f"the baselines are fitted on {sampled} of {len(train)} training rows, drawn at random")
    baselines["trivial"] = model.trivial_outputs(train).expand(len(test), -1)
    for name, found in baselines.items():
        metrics |= scores(model, found, target, rare, f"baseline/{name}", of_model=False)
    return metrics | noise_of(_gains(model, outputs, baselines["trivial"], target))


def _draw_answers(
    model: TabularModel,
    preprocessing: Preprocessing,
    outputs: Tensor,
    target: Tensor,
    rare: Sequence[int | None],
    plots: Path,
    tables: Path,
) -> None:
    """Write the figures of predicted and actual values or classes, and of probabilities; scores by class."""
    predicted, classes = model.predict(outputs), model.target.classes
    if classes is None:
        parts = model.by_target(predicted, model.predict(target))
        columns = [(found, actual, one.log) for one, (found, actual) in parts]
        labels = [preprocessing.label(one.name) for one in model.targets]
        plot_predictions(columns, labels, plots / "predicted_vs_actual.png")
    elif len(model.targets) == 1:
        codes = model.decide(predicted).numpy()
        label = _label(preprocessing)
        plot_confusion_matrix(target.numpy(), codes, classes, label, plots / "confusion_matrix.png")
        scores = scores_of_classes(target.numpy(), codes, len(classes))
        rows = [[name, *row] for name, row in zip(classes, scores, strict=True)]
        table = markdown_table([label, "rows", "precision", "recall", "F1"], rows)
        (tables / "classes.md").write_text(table, encoding="utf-8")
        if model.loss != "perceptron":
            write_probabilities(model, predicted, target, rare[0], plots, tables)


def _targets_table(model: TabularModel, metrics: Mapping[str, float]) -> str:
    """The metrics of each of several targets, of the model and of the baselines, as Markdown."""
    kinds = QUANTITY_METRICS if model.target.classes is None else CLASS_METRICS
    baselines = sorted({name.split("/")[1] for name in metrics if name.startswith("baseline/")})
    prefixes = {"model": "test"} | {name: f"baseline/{name}" for name in baselines}
    rows = []
    for target in model.targets:
        for shown, prefix in prefixes.items():
            values = [metrics.get(f"{prefix}/{target.name}/{metric}") for metric in kinds]
            cells = ["" if value is None else f"{value:.4g}" for value in values]
            rows.append([target.name if shown == "model" else "", shown, *cells])
    return markdown_table(["target", "", *kinds.values()], rows)


def _row_numbers(prepared: Path) -> list[int]:
    """The number of each test row in its file, from 1."""
    rows: list[int]
    if (official := prepared / "test_rows.npy").is_file():
        rows = np.load(official).tolist()
    else:
        split = pd.read_csv(prepared / "split.csv")
        rows = split.loc[split["split"] == "test", "row"].tolist()
    return rows


def rare_class(target: Tensor) -> int:
    """The class with fewer rows of two, which is usually the one that is looked for; the second if equal."""
    counts = target.bincount(minlength=2)
    return int(counts[1] <= counts[0])


def rare_classes(model: TabularModel, target: Tensor) -> list[int | None]:
    """The rare class of each target by the prepared targets of training rows; None if it has not two."""
    return [
        rare_class(codes) if one.classes is not None and len(one.classes) == 2 else None
        for one, (codes,) in model.by_target(target)
    ]


def scores(
    model: TabularModel,
    outputs: Tensor,
    target: Tensor,
    rare: Sequence[int | None],
    prefix: str,
    of_model: bool = True,
) -> dict[str, float]:
    """Metrics of outputs (B, O) of the model, or of a baseline, which has no temperature and no threshold.

    `rare` is that of `rare_classes`.
    """
    answers = model.predict(outputs) if of_model else model.answers(outputs)
    codes = model.decide(answers) if of_model and model.threshold is not None else None
    metrics = model.metrics_of_answers(answers, target, codes)
    if model.target.classes is not None and model.loss != "perceptron":
        parts = zip(model.by_target(answers, target), rare, strict=True)
        metrics |= model.over_targets(
            [probability_metrics(found, codes, one) for (_, (found, codes)), one in parts]
        )
    if model.loss == "quantile":
        columns = model.by_target(answers, model.predict(target))
        metrics |= model.over_targets(
            [
                {"quantile_loss": quantile_loss(found, actual, model.quantile)}
                for _, (found, actual) in columns
            ]
        )
    return {f"{prefix}/{name}": float(value) for name, value in metrics.items()}


def _intervals(model: TabularModel, outputs: Tensor, target: Tensor) -> dict[str, float]:
    """The share of test rows whose value is in its interval, and the mean width; none without intervals."""
    if model.margin is None or model.interval is None:
        return {}
    found = [
        {
            "coverage": float(((lower <= actual) & (actual <= upper)).double().mean()),
            "mean_width": float((upper - lower).double().mean()),
        }
        for _, (lower, upper, actual) in model.by_target(*model.interval_of(outputs), model.predict(target))
    ]
    metrics = {f"interval/{name}": value for name, value in model.over_targets(found).items()}
    return {"interval/wanted_coverage": model.interval, **metrics}


def _gains(model: TabularModel, outputs: Tensor, trivial: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, the right answers or the decrease of the loss against the trivial answer."""
    if model.target.classes is not None:
        answers, ignorant = model.decide(model.predict(outputs)), model.answers(trivial).argmax(dim=-1)
        parts = [part for _, part in model.by_target(answers, ignorant, target)]
        return np.mean([gains_of_classes(*(one.numpy() for one in part)) for part in parts], axis=0)
    gains: NDArray[Any] = _losses(model, trivial, target) - _losses(model, outputs, target)
    return gains


def _losses(model: TabularModel, outputs: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, 1 for a wrong class, or the squared error or quantile loss in the unit of the target.

    Of several targets it is the mean over them, of quantities in units of their standard deviation.
    """
    answers, losses = model.predict(outputs), list[NDArray[Any]]()
    if model.target.classes is not None:
        wrong = (model.decide(answers) != target).numpy().astype(np.float64)
        return wrong.reshape(len(wrong), -1).mean(axis=1)
    for _, (found, actual) in model.by_target(answers.double(), model.predict(target).double()):
        unit = float(actual.std()) or 1.0 if len(model.targets) > 1 else 1.0
        if model.loss == "quantile":
            losses.append(quantile_losses(found, actual, model.quantile).numpy() / unit)
        else:
            losses.append((found.numpy() - actual.numpy()) ** 2 / unit**2)
    return np.mean(losses, axis=0)


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
    headings = ["column", "label", "名称", "kind", "missing in training", "learnt"]
    return markdown_table(headings, rows, optional=("label", "名称"))


def _write_weights(weights: pd.DataFrame, path: Path) -> None:
    shown = weights.map(lambda value: f"{value:.5g}")
    path.write_text(markdown_table(["", *shown.columns], shown.itertuples()), encoding="utf-8")
    print(shown.to_string())
