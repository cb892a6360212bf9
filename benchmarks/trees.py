"""Boosted trees and TabICL on the rows of a trained model of a table.

    python -m benchmarks.trees MODEL [--tabicl WEIGHTS]

CatBoost, LightGBM and XGBoost, those that are installed (`make setup EXTRAS=tables`), with their defaults, on
the prepared training rows, categories as categories; and TabICL (Qu et al. 2025), a transformer whose context
are the training rows, where a file of its weights is given. Prints their metrics on the test rows beside
those of reports/MODEL/metrics.json. It writes nothing: a report is the same with and without these packages.
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from numpy.typing import NDArray
from torch import Tensor

from src.bundle.bundle import Bundle
from src.core.documents import read_json
from src.core.errors import ConfigurationError, exit_with_message
from src.core.paths import MODELS, PREPARED, REPORTS, require_name
from src.reporting.tables import print_metrics
from src.tabular.baselines import log_odds, sampled_rows, trees_of_round
from src.tabular.data import mapped_split
from src.tabular.evaluate import rare_classes, scores
from src.tabular.model import TabularModel

OPTIONS: dict[str, dict[str, Any]] = {
    "catboost": {"random_seed": 0, "thread_count": 1, "verbose": 0, "allow_writing_files": False},
    "lightgbm": {"random_state": 0, "n_jobs": 1, "verbose": -1},
    "xgboost": {"random_state": 0, "n_jobs": 1, "enable_categorical": True},
    "tabicl": {"random_state": 0, "n_jobs": 1, "device": "cpu", "allow_auto_download": False},
}
PREFIXES = {"catboost": "CatBoost", "lightgbm": "LGBM", "xgboost": "XGB", "tabicl": "TabICL"}


def trees(model: str, tabicl: Path | None = None) -> None:
    """Print the metrics of boosted trees, of TabICL and of a model on its test rows.

    Args:
        model: the name of an evaluated model of a table.
        tabicl: a file of TabICL's weights, for classes or for a quantity as the target of the model is, from
            https://huggingface.co/jingang/TabICL; nothing is downloaded. Without it TabICL is left out.
    """
    require_name(model, "model")
    bundle = Bundle.open(MODELS / model)
    prepared = PREPARED / bundle.task
    bundle.require_data(prepared)
    trained = bundle.model_of(TabularModel)
    if len(trained.targets) > 1:
        raise ConfigurationError(f"{model}: expected a model of one target, found {len(trained.targets)}")
    packages = [name for name in OPTIONS if importlib.util.find_spec(name)]
    if not packages:
        raise ConfigurationError(f"found none of {', '.join(OPTIONS)}; run: make setup EXTRAS=tables")
    if tabicl is None:
        packages = [name for name in packages if name != "tabicl"]
    elif not tabicl.is_file():
        raise ConfigurationError(f"--tabicl: there is no such file: {tabicl}")
    splits = {split: mapped_split(prepared, split) for split in ("train", "test")}
    rows, features = len(splits["train"][0]), len(bundle.preprocessing.features)
    sample = sampled_rows(rows, features, trees_of_round(trained.targets))
    if sample is not None:
        splits["train"] = tuple(part[torch.from_numpy(sample)] for part in splits["train"])
        print(f"the trees are fitted on {len(sample)} of {rows} training rows, drawn at random")
    (train, target), (test, wanted) = (table_of(*splits[split]) for split in splits)
    rare = rare_classes(trained, target)
    report = read_json(REPORTS / model / "metrics.json", f"evaluate@{model}")
    metrics = {name: value for name, value in report.items() if name.startswith("test/")}
    for name in packages:
        start = time.process_time()
        options = {"model_path": tabicl} if name == "tabicl" else {}
        found = outputs_of(name, trained, train, target, test, **options)
        metrics |= scores(trained, found, wanted, rare, f"baseline/{name}", of_model=False)
        print(f"{name}: {time.process_time() - start:.1f} s of processor time")
    print_metrics(f"{model}, test rows", metrics)


def table_of(numbers: Tensor, codes: Tensor, target: Tensor) -> tuple[pd.DataFrame, Tensor]:
    """Prepared numbers (rows, N) and codes of categories (rows, C) as a table, and the target."""
    table = pd.DataFrame(numbers.numpy()).add_prefix("number_")
    categories = pd.DataFrame(codes.numpy()).add_prefix("category_").astype(np.int64)
    return table.join(categories), target


def outputs_of(
    package: str,
    model: TabularModel,
    train: pd.DataFrame,
    target: Tensor,
    test: pd.DataFrame,
    **further: Any,
) -> Tensor:
    """What an estimator of a package predicts for the test rows, as the outputs of the model (B, O)."""
    names = [str(name) for name in train if str(name).startswith("category_")]
    options = OPTIONS[package] | further
    if package == "catboost":
        options["cat_features"] = names
    else:  # the categories of both tables have the same numbers
        most = {name: int(train[name].max()) for name in names}
        train, test = _with_categories(train, most), _with_categories(test, most)
    kind = "Regressor" if model.target.classes is None else "Classifier"
    estimator = getattr(importlib.import_module(package), PREFIXES[package] + kind)(**options)
    estimator.fit(train, target.flatten().numpy())
    if model.target.classes is None:
        return torch.from_numpy(np.asarray(estimator.predict(test))).float()[:, None]
    probabilities: NDArray[Any] = np.zeros((len(test), len(model.target.classes)))
    probabilities[:, np.asarray(estimator.classes_, dtype=int)] = estimator.predict_proba(test)
    return log_odds(model, probabilities)


def _with_categories(table: pd.DataFrame, most: dict[str, int]) -> pd.DataFrame:
    """A table whose codes up to the largest ones of the training rows are categories; others are missing."""
    categories = {}
    for name, last in most.items():
        codes = table[name].to_numpy(np.int64)
        known = np.where(codes <= last, codes, -1).astype(np.int64)
        categories[name] = pd.Categorical.from_codes(known, categories=pd.RangeIndex(last + 1))
    return table.assign(**categories)


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(trees, as_positional=True))
