"""Evaluation of a model of tables: metrics of the model and of baselines, figures and tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from threadpoolctl import threadpool_limits
from torch import Tensor

from src.bundle.bundle import Bundle
from src.reporting.figures import plot_confusion_matrix
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.noise import gains_of_classes, noise_of, write_losses
from src.reporting.tables import markdown_table, print_metrics
from src.tabular.columns import NumericColumn
from src.tabular.data import Splits, load_split
from src.tabular.figures import plot_function, plot_predictions
from src.tabular.linear import linear_layer, separable, weights_table
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing
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
    splits = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    target = splits["test"][1]
    with torch.inference_mode():
        outputs = model(splits["test"][0])
    metrics = _scores(model.metrics_of(*model.validation_outputs(prepared)), "validation")
    metrics |= _scores(model.metrics_of(outputs, target), "test")
    # one thread: the sums are the same on every machine, and a training at the same time keeps its cores
    with threadpool_limits(limits=1):
        baselines = _baseline_outputs(model, splits)
    trivial = model.trivial_outputs(splits["train"][1])
    baselines["trivial"] = trivial.expand(len(splits["test"][0]), -1)
    for name, found in baselines.items():
        metrics |= _scores(model.metrics_of_answers(model.answers(found), target), f"baseline/{name}")
    metrics |= noise_of(_gains(model, outputs, baselines["trivial"], target))
    metrics |= _repeated(splits)
    if classes is not None and len(classes) == 2 and linear_layer(model.network) is not None:
        metrics["train/separable"] = float(separable(*splits["train"]))
        number = "a" if metrics["train/separable"] else "no"
        print(f"{number} hyperplane separates the two classes of the training rows")

    plots, tables = begin_report(bundle.folder, folder)
    write_losses(_losses(model, outputs, target), tables)
    if preprocessing.lags and preprocessing.lags == len(preprocessing.columns):
        metrics |= forecast_errors(model, splits, preprocessing, plots / "forecast.png")
    elif not preprocessing.categorical and len(preprocessing.columns) <= 2:
        plot_function(model, splits, preprocessing, plots / "function.png")
    label = preprocessing.label(preprocessing.target.name)
    predicted = model.predict(outputs)
    if classes is None:
        actual, logarithmic = model.predict(target).numpy(), preprocessing.target.log
        plot_predictions(actual, predicted.numpy(), label, logarithmic, plots / "predicted_vs_actual.png")
    else:
        codes = model.decide(predicted).numpy()
        plot_confusion_matrix(target.numpy(), codes, classes, label, plots / "confusion_matrix.png")
    (tables / "columns.md").write_text(_columns_table(preprocessing), encoding="utf-8")
    weights = weights_table(model, splits, preprocessing)
    if weights is not None:
        _write_weights(weights, tables / "weights.md")
    print_metrics(f"{label}, test rows", write_metrics(metrics, folder))


def _scores(metrics: Mapping[str, Tensor], prefix: str) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in metrics.items()}


def _gains(model: TabularModel, outputs: Tensor, trivial: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, the right answers or the decrease of the squared error against the trivial answer."""
    if model.target.classes is not None:
        answers, ignorant = model.decide(model.predict(outputs)), model.answers(trivial).argmax(dim=1)
        return gains_of_classes(answers.numpy(), ignorant.numpy(), target.numpy())
    gains: NDArray[Any] = _losses(model, trivial, target) - _losses(model, outputs, target)
    return gains


def _losses(model: TabularModel, outputs: Tensor, target: Tensor) -> NDArray[Any]:
    """By test row, 1 for a wrong class, or the squared error in the unit of the target."""
    answers = model.predict(outputs)
    if model.target.classes is not None:
        return (model.decide(answers) != target).numpy().astype(np.float64)
    squared: NDArray[Any] = (answers.double().numpy() - model.predict(target).double().numpy()) ** 2
    return squared


def _repeated(splits: Splits) -> dict[str, float]:
    """The number of prepared rows that repeat another one, and of test rows that repeat a training row."""
    hashes = {
        name: pd.util.hash_pandas_object(
            pd.DataFrame(features.numpy()).assign(target=target.flatten().numpy()), index=False
        ).to_numpy()
        for name, (features, target) in splits.items()
    }
    numbers = np.concatenate(list(hashes.values()))
    known = np.isin(hashes["test"], hashes["train"])
    found = {
        "repeated/rows": len(numbers) - len(np.unique(numbers)),
        "repeated/test_rows_of_training": known.sum(),
    }
    return {name: float(value) for name, value in found.items() if value}


def _baseline_outputs(model: TabularModel, splits: Splits) -> dict[str, Tensor]:
    """Predict the test rows by scikit-learn's models, fitted on the training rows.

    Returns:
        (B, O) by name, with the meaning of the outputs of the network: the transformed target, or logits.
    """
    (train, target), (test, _) = splits["train"], splits["test"]
    if model.target.classes is None:
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
        # for `bce` and `perceptron` the output is one number, the log-odds of the second class
        outputs[name] = logits if model.loss == "cross_entropy" else logits[:, 1:] - logits[:, :1]
    return outputs


def _columns_table(preprocessing: Preprocessing) -> str:
    """The learnt transformation of each column, with its English and Chinese label."""
    rows = []
    for column in preprocessing.columns:
        labels = preprocessing.labels.get(column.name, {})
        if isinstance(column, NumericColumn):
            fill = "none" if column.fill is None else f"{column.fill:.6g}"
            learnt = f"missing {fill}, center {column.center:.6g}, scale {column.scale:.6g}"
        else:
            learnt = f"{len(column.categories)} categories, {len(column.rare)} rare"
        names = [column.name, labels.get("en", ""), labels.get("zh", "")]
        rows.append([*names, column.kind, str(column.missing), learnt])
    return markdown_table(["column", "label", "名称", "kind", "missing in training", "learnt"], rows)


def _write_weights(weights: pd.DataFrame, path: Path) -> None:
    shown = weights.map(lambda value: f"{value:.5g}")
    path.write_text(markdown_table(["", *shown.columns], shown.itertuples()), encoding="utf-8")
    print(shown.to_string())
