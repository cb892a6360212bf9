"""What `new_task` proposes for a table, against boosted trees on the same folds.

    python -m benchmarks.tables --source FOLDER --fold_seed 42      House Prices, the ensemble alone
    python -m benchmarks.tables [--tables diabetes,wine]            further tables, all models, three seeds

Each fold is a new task: the rows of the other folds are its train.csv, those of the fold its test.csv.
`new_task` writes the section and the configuration, which are prepared and trained unchanged. The trees get
the raw columns (texts as categories) and the logarithm of the target where the proposal takes it. CatBoost
has its defaults; the others 500 trees at a rate of 0.05. Each model has one thread, and its time is processor
time: of the ensemble from reading the files to the predictions.
"""

import contextlib
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import KFold, StratifiedKFold

from src.core.errors import ConfigurationError
from src.tabular.values import MISSING

Numbers = NDArray[np.float64]
TREES, RATE = 500, 0.05
FOLDS = 5


@dataclass(frozen=True)
class Table:
    """A table, its target, and what the target is. `log`: errors are those of the logarithm."""

    rows: pd.DataFrame
    target: str
    task: Literal["regression", "classification"]
    log: bool = False

    def score(self, answers: Numbers, rows: NDArray[np.int64]) -> dict[str, float]:
        """The metrics of the predictions for some rows; the first is the one to compare, lower is better."""
        actual = self.rows[self.target].iloc[rows].to_numpy()
        if self.task == "classification":
            classes = np.unique(self.rows[self.target])
            found = classes[answers.argmax(axis=1)]
            loss = log_loss(actual, answers.clip(1e-7) / answers.clip(1e-7).sum(axis=1, keepdims=True))
            return {"log_loss": loss, "accuracy": float(accuracy_score(actual, found))}
        if self.log:
            return {"log_rmse": _rmse(np.log(answers), np.log(actual))}
        return {"rmse": _rmse(answers, actual)}


def _rmse(one: Numbers, other: Numbers) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def house_prices(source: Path) -> Table:
    """The table of Kaggle's competition.

    Args:
        source: the folder of train.csv.
    """
    file = source / "train.csv"
    if not file.is_file():
        raise ConfigurationError(
            f"--source: expected a folder with train.csv of House Prices, found {source}"
        )
    rows = pd.read_csv(file, keep_default_na=False, na_values=[*MISSING])
    return Table(rows, "SalePrice", "regression", log=True)


def _bundled(load: Callable[..., Any], task: Any, **options: Any) -> Table:
    loaded = load(as_frame=True, **options)
    rows = loaded.frame.rename(columns=lambda name: str(name).replace(" ", "_"))
    if task == "classification":
        rows["target"] = "class " + rows["target"].astype(str)
    return Table(rows, "target", task)


def _made(made: tuple[Any, Any], task: Any) -> Table:
    features, target = made
    rows = pd.DataFrame(features, columns=[f"x{number}" for number in range(features.shape[1])])
    target = pd.Series(target)
    rows["target"] = "class " + target.astype(str) if task == "classification" else target
    return Table(rows, "target", task)


def _clusters() -> Table:
    made = datasets.make_classification(2000, 20, n_informative=8, n_classes=3, flip_y=0.05, random_state=0)
    return _made(made, "classification")


TABLES: dict[str, Callable[[], Table]] = {
    "diabetes": lambda: _bundled(datasets.load_diabetes, "regression", scaled=False),
    "breast_cancer": lambda: _bundled(datasets.load_breast_cancer, "classification"),
    "wine": lambda: _bundled(datasets.load_wine, "classification"),
    "digits": lambda: _bundled(datasets.load_digits, "classification"),
    "friedman": lambda: _made(datasets.make_friedman1(2000, 10, noise=1.0, random_state=0), "regression"),
    "clusters": _clusters,
    "moons": lambda: _made(datasets.make_moons(2000, noise=0.3, random_state=0), "classification"),
}


def proposed(table: Table, train: NDArray[np.int64], test: NDArray[np.int64]) -> Numbers:
    """Predictions of the model that `new_task` proposes.

    Args:
        table: the whole table.
        train: the rows to learn from.
        test: the rows to predict.

    Returns:
        In the unit of the target (rows,), or probabilities (rows, C).
    """
    from pipelines.new_task import new_task
    from pipelines.parameters import checked, task_section
    from src.bundle.bundle import Bundle
    from src.cli import main
    from src.tabular.data import load_split
    from src.tabular.model import TabularModel
    from src.tabular.prepare import Preparation, prepare

    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        Path("params.yaml").write_text("tasks: {}\nmodels: {}\n", encoding="utf-8")
        Path("files").mkdir()
        for name, rows in (("train", train), ("test", test)):
            table.rows.iloc[rows].to_csv(f"files/{name}.csv", index=False)
        with contextlib.redirect_stdout(io.StringIO()):
            new_task("fold", "tabular", Path("files"), table.target, table.task)
            settings = checked(Preparation, task_section("fold")["prepare"], "fold.prepare")
            prepare(Path("files"), Path("data/prepared/fold"), settings)
            main(["fit", "--config", "configs/fold.yaml", "--trainer.accelerator", "cpu"])
        model = Bundle.open(Path("models/fold")).model_of(TabularModel)
        with torch.inference_mode():
            features, _ = load_split(Path("data/prepared/fold"), "test")
            answers: Numbers = model.predict(model(features)).double().numpy()
    return answers


def takes_logarithm(table: Table) -> bool:
    """Whether the proposal for the table takes the logarithm of the target."""
    from src.preparation.proposals import plain
    from src.tabular.propose import propose

    with tempfile.TemporaryDirectory() as place:
        table.rows.to_csv(Path(place, "table.csv"), index=False)
        prepare = plain(propose(Path(place, "table.csv"), table.target, table.task).prepare)
    return "log" in prepare.get("target_transform", ())


def boosted(name: str, table: Table, train: NDArray[np.int64], test: NDArray[np.int64], log: bool) -> Numbers:
    """Predictions of boosted trees; arguments and result as those of `proposed`.

    Args:
        name: of the library.
        table: the whole table.
        train: the rows to learn from.
        test: the rows to predict.
        log: fit the logarithm of the target.
    """
    features = table.rows.drop(columns=table.target)
    texts = [column for column in features.columns if not pd.api.types.is_numeric_dtype(features[column])]
    features[texts] = features[texts].astype(object).fillna("missing")
    categories = features.astype(dict.fromkeys(texts, "category"))
    target = table.rows[table.target].to_numpy()
    classes = table.task == "classification"
    target = np.unique(target, return_inverse=True)[1] if classes else np.log(target) if log else target
    model: Any
    if name == "HistGradientBoosting":
        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        options: dict[str, Any] = {"categorical_features": "from_dtype"} if texts else {}
        model = kind(max_iter=TREES, learning_rate=RATE, random_state=0, **options)
    elif name == "CatBoost":
        import catboost

        kind = catboost.CatBoostClassifier if classes else catboost.CatBoostRegressor
        model = kind(cat_features=texts, verbose=0, random_seed=0, thread_count=1, allow_writing_files=False)
        categories = features
    elif name == "LightGBM":
        import lightgbm

        kind = lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor
        model = kind(n_estimators=TREES, learning_rate=RATE, random_state=0, n_jobs=1, verbose=-1)
    else:
        import xgboost

        kind = xgboost.XGBClassifier if classes else xgboost.XGBRegressor
        model = kind(
            n_estimators=TREES, learning_rate=RATE, random_state=0, n_jobs=1, enable_categorical=True
        )
    model.fit(categories.iloc[train], target[train])
    if classes:
        return np.asarray(model.predict_proba(categories.iloc[test]), dtype=np.float64)
    answers = np.asarray(model.predict(categories.iloc[test]), dtype=np.float64)
    return np.exp(answers) if log else answers


def folds_of(table: Table, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows to learn from and to predict, of each fold."""
    kind = StratifiedKFold if table.task == "classification" else KFold
    splitter = kind(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(table.rows, table.rows[table.target]))


MODELS = ("ensemble", "HistGradientBoosting", "CatBoost", "LightGBM", "XGBoost")


def judge(name: str, table: Table, model: str, seed: int) -> dict[str, float]:
    """Print and return the metrics of a model, and its CPU seconds, as means over the folds of a seed."""
    log = model != "ensemble" and takes_logarithm(table)
    found: list[dict[str, float]] = []
    for number, (train, test) in enumerate(folds_of(table, seed), start=1):
        start = time.process_time()
        if model == "ensemble":
            answers = proposed(table, train, test)
        else:
            answers = boosted(model, table, train, test, log)
        seconds = time.process_time() - start
        found.append({**table.score(answers, test), "cpu_seconds": seconds})
        metric, value = next(iter(found[-1].items()))
        print(f"  fold {number}: {metric} {value:.4f}, {seconds:.1f} s", flush=True)
    means = {metric: float(np.mean([fold[metric] for fold in found])) for metric in found[0]}
    shown = ", ".join(f"{metric} {value:.4f}" for metric, value in means.items() if metric != "cpu_seconds")
    print(f"{name}, {model}, seed {seed}: {shown}, {means['cpu_seconds']:.1f} CPU seconds a fold", flush=True)
    return means


def compare(
    source: Path | None = None,
    fold_seed: int = 42,
    models: list[str] | None = None,
    tables: list[str] | None = None,
    rounds: int = 3,
    output: Path | None = None,
) -> None:
    """Print the score of what `new_task` proposes, and of boosted trees.

    Args:
        source: the folder of House Prices; without it, the further tables.
        fold_seed: of the folds of House Prices.
        models: of House Prices ensemble by default; of further tables all, HistGradientBoosting, CatBoost,
            LightGBM and XGBoost beside it.
        tables: names of further tables; all by default.
        rounds: the number of seeds, 0 on, of the folds of further tables.
        output: a JSON file for the scores of further tables; those that it has are not measured again.
    """
    os.environ["WANDB_MODE"] = "disabled"
    torch.set_num_threads(1)
    if source is not None:
        table = house_prices(source)
        means = {model: judge("house_prices", table, model, fold_seed) for model in models or ["ensemble"]}
        print(f"log_rmse {means[(models or ['ensemble'])[-1]]['log_rmse']:.4f}")
        return
    scores: dict[str, dict[str, list[dict[str, float]]]] = {}
    if output is not None and output.is_file():
        scores = json.loads(output.read_text(encoding="utf-8"))
    for name in tables or TABLES:
        table = TABLES[name]()
        for model in models or MODELS:
            done = scores.setdefault(name, {}).setdefault(model, [])
            for seed in range(len(done), rounds):
                done.append(judge(name, table, model, seed))
                if output is not None:
                    output.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    for line in as_table(scores):
        print(line)


def as_table(scores: dict[str, dict[str, list[dict[str, float]]]]) -> list[str]:
    """The scores as a table of Markdown: mean and standard deviation over the seeds, CPU seconds a fold."""
    lines = [f"| table | metric | {' | '.join(MODELS)} |", f"|---|---|{'---|' * len(MODELS)}"]
    for name, by_model in scores.items():
        metrics = [metric for metric in next(iter(by_model.values()))[0] if metric != "cpu_seconds"]
        for metric in metrics:
            cells = []
            for model in MODELS:
                values = [seed[metric] for seed in by_model.get(model, [])]
                spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
                cells.append(f"{np.mean(values):.4g} ± {spread:.1g}" if values else "")
            lines.append(f"| {name} | {metric} | {' | '.join(cells)} |")
        seconds = [
            f"{np.mean([seed['cpu_seconds'] for seed in by_model[model]]):.1f}" if by_model.get(model) else ""
            for model in MODELS
        ]
        lines.append(f"| | CPU seconds | {' | '.join(seconds)} |")
    return lines


if __name__ == "__main__":
    auto_cli(compare)
