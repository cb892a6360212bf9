"""Raw tables -> split, number arrays and preprocessing.json; everything is learnt from training rows."""

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.preparation.splits import check_splitting, cut_fold
from src.tabular.preprocessing import (
    MISSING,
    chunks,
    feature_names,
    is_numeric,
    numeric_values,
    read_table,
    require_columns,
    text_values,
    transform,
    with_lags,
)

logger = logging.getLogger(__name__)

Kind = Literal["numeric", "categorical"]
TargetTransform = Literal["none", "log", "standardize"]

# scaler, and its attribute that holds what becomes 0
SCALERS = {
    "standard": (StandardScaler, "mean_"),
    "minmax": (MinMaxScaler, "data_min_"),
    "robust": (RobustScaler, "center_"),
}
MOSTLY = 0.9


@dataclass
class Preparation:
    """How a raw table becomes number arrays: the section `<task>.prepare` of params.yaml.

    Args:
        target: the column to predict.
        task: what the target is, a quantity or a class.
        train: the raw file with the labelled rows.
        test: a raw file with the official, labelled test rows; null cuts them from `train`.
        id: a column that names the rows of a prediction; never a feature.
        drop: columns to leave out.
        target_transform: log (natural), standardize (mean 0, deviation 1 over training rows), both, or none.
        impute: what stands for a missing number: mean, median, most_frequent or constant of the
            training rows; drop leaves incomplete rows out.
        impute_constant: the number that `impute: constant` puts there.
        scale: standard (mean 0, deviation 1), minmax (0 to 1), robust (median 0, quartile range 1), none.
        min_frequency: categories with fewer training rows than this (or, below 1, a smaller share of
            them) become one common category.
        column_types: columns whose kind should not be inferred, such as classes written as numbers.
        missing: the cell texts that mean "no value".
        lags: so many of the target's own values, of the rows before, become features: a series, in which
            the last rows are the test part, and the last of the others validate.
        test_share: the share of the rows of `train` that is held out for the test.
        validation_share: the share of the remaining rows that chooses the best epoch.
        folds: for cross-validation, so many parts of the rows of `train`, one of which is the test part in
            place of `test` and `test_share`; 0 for none.
        fold: which part that is, from 1.
        seed: decides which row goes where.
    """

    target: str
    task: Literal["regression", "classification"] = "regression"
    train: str = "train.csv"
    test: str | None = None
    id: str | None = None
    drop: list[str] = field(default_factory=list)
    target_transform: TargetTransform | list[TargetTransform] = "none"
    impute: Literal["mean", "median", "most_frequent", "constant", "drop"] = "mean"
    impute_constant: float = 0.0
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"
    min_frequency: int | float = 1
    column_types: dict[str, Kind] = field(default_factory=dict)
    missing: list[str] = field(default_factory=lambda: list(MISSING))
    lags: int = 0
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    fold: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.min_frequency <= 0 or (self.min_frequency > 1 and self.min_frequency % 1):
            raise ConfigurationError(
                f"prepare.min_frequency must be a number of rows or a share below 1: {self.min_frequency}"
            )
        if self.lags < 0 or (self.lags and (self.task == "classification" or self.test)):
            raise ConfigurationError(
                f"prepare.lags must be at least 0, and 0 for classes or with a test file: {self.lags}"
            )
        if self.folds and self.lags:
            raise ConfigurationError(f"prepare.folds cannot cut a series (prepare.lags): {self.folds}")
        if self.folds:
            self.test = None
        if self.min_frequency >= 1:
            self.min_frequency = int(self.min_frequency)

    @property
    def target_steps(self) -> list[str]:
        """The target transforms as a list."""
        steps = self.target_transform
        return list(steps) if isinstance(steps, list) else [steps]

    @property
    def text_columns(self) -> list[str]:
        """The columns to read as text."""
        text = [name for name, kind in self.column_types.items() if kind == "categorical"]
        return [*text, self.target] if self.task == "classification" else text


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split, learn and transform the raw table of a task.

    Args:
        raw: the folder with the raw files, and labels.json if the columns have labels for people.
        prepared: the folder to write: `<split>_features.npy` (rows, features) float32,
            `<split>_target.npy` (rows, 1) float32 or, for classes, (rows,) int64, for the splits
            train, validation and test; split.csv; preprocessing.json; manifest.json.
        settings: what to do.

    Raises:
        DataError: a file, row or column cannot be used; nothing is written then.
    """
    train_path = raw / settings.train
    table = read_table(train_path, settings.text_columns, settings.missing)
    require_columns(table, [settings.target], train_path)
    table = with_lags(table, settings.target, settings.lags)
    tables = dict.fromkeys(("train", "validation", "test"), (table, train_path))
    if settings.test:
        test_path = raw / settings.test
        # what is text in the training file is text here, even where every cell looks like a number
        text_columns = [name for name in table.columns if not is_numeric(table[name])]
        tables["test"] = (read_table(test_path, text_columns, settings.missing), test_path)
    for source, path in tables.values():
        named = [*settings.drop, *settings.column_types, *([settings.id] if settings.id else [])]
        require_columns(source, [settings.target, *named], path)

    rows = _split(tables, settings)
    targets = {name: _raw_target(*tables[name], settings) for name in rows}
    learnt = _learn(table, rows["train"], train_path, settings)
    if settings.impute == "drop":
        rows = {name: _complete(*tables[name], rows[name], learnt) for name in rows}
        learnt = _learn(table, rows["train"], train_path, settings)
    learnt["target"] = _learn_target(targets["train"][rows["train"]], train_path, settings)
    labels = raw / "labels.json"
    learnt["lags"] = settings.lags
    truth = raw / "truth.json"
    truths = json.loads(truth.read_text(encoding="utf-8")) if truth.is_file() else {}
    learnt["truth"] = truths.get(settings.target)
    learnt["labels"] = json.loads(labels.read_text(encoding="utf-8")) if labels.is_file() else {}

    with written_whole(prepared) as folder:
        for name, (source, path) in tables.items():
            _write_features(folder / f"{name}_features.npy", source, rows[name], learnt, path)
            target = _encode_target(targets[name], rows[name], learnt["target"], path)
            np.save(folder / f"{name}_target.npy", target)
        _write_split(folder / "split.csv", rows, settings)
        text = json.dumps(learnt, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
        (folder / "preprocessing.json").write_text(text + "\n", encoding="utf-8")
        write_manifest(folder)


def _split(
    tables: dict[str, tuple[pd.DataFrame, Path]], settings: Preparation
) -> dict[str, NDArray[np.int64]]:
    """Which rows (0, 1, ... in the file) belong to which split; classes keep their shares."""
    table, path = tables["train"]
    stratum = table[settings.target].to_numpy() if settings.task == "classification" else None

    def cut(rows: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        try:
            rest, part = train_test_split(
                rows,
                test_size=share,
                random_state=None if settings.lags else settings.seed,
                shuffle=not settings.lags,
                stratify=None if stratum is None else stratum[rows],
            )
        except ValueError as error:
            raise DataError(f"{path}: {len(table)} rows are too few for the split: {error}") from None
        return np.sort(rest), np.sort(part)

    if stratum is not None:
        _refuse_missing_target(table, path, settings.target)
    rows = np.arange(settings.lags, len(table))
    if settings.test:
        test = np.arange(len(tables["test"][0]))
    elif settings.folds:
        rows, test = cut_fold(rows, settings, stratum)
    else:
        rows, test = cut(rows, settings.test_share)
    train, validation = cut(rows, settings.validation_share)
    return {"train": train, "validation": validation, "test": test}


def _refuse_missing_target(table: pd.DataFrame, path: Path, target: str) -> None:
    missing = table[target].isna().to_numpy()
    if missing.any():
        raise DataError(f"{path}: row {missing.argmax() + 1}: the target '{target}' is missing")


def _raw_target(table: pd.DataFrame, path: Path, settings: Preparation) -> NDArray[Any]:
    """The target column of all rows: numbers (log taken if asked for) or class texts."""
    _refuse_missing_target(table, path, settings.target)
    column = table[settings.target]
    if settings.task == "classification":
        return text_values(column)
    values = numeric_values(column, path)
    if "log" in settings.target_steps and (values <= 0).any():
        row = int((values <= 0).argmax())
        raise DataError(
            f"{path}: row {row + 1}: the target '{settings.target}' is {values[row]:g}; "
            "`target_transform: log` needs numbers above 0"
        )
    return values


def _learn(
    table: pd.DataFrame, train: NDArray[np.int64], path: Path, settings: Preparation
) -> dict[str, Any]:
    """Learn every feature column from the training rows."""
    left_out = {settings.target, settings.id, *settings.drop}
    columns = []
    for name in table.columns:
        if name in left_out:
            continue
        training = table[name].iloc[train]
        if training.isna().all():
            logger.warning("column '%s' is missing in every training row: left out", name)
        elif _kind(table[name], train, path, settings) == "numeric":
            if training.nunique() == 1:
                logger.warning("column '%s' has one number only in the training rows", name)
            columns.append(_learn_numeric(training, path, settings))
        else:
            columns.append(_learn_categories(training, settings))
    if not columns:
        raise DataError(f"{path}: no feature column is left beside the target '{settings.target}'")
    learnt = {
        "columns": columns,
        "id": settings.id,
        "missing": settings.missing,
        "task": settings.task,
    }
    return learnt | {"features": feature_names(learnt)}


def _kind(column: "pd.Series[Any]", train: NDArray[np.int64], path: Path, settings: Preparation) -> Kind:
    """Numeric if every value is a number; a stray text among numbers is an error, not a category."""
    if column.name in settings.column_types:
        return settings.column_types[str(column.name)]
    if is_numeric(column):
        return "numeric"
    counts = column.iloc[train].value_counts()
    numbers = pd.to_numeric(counts.index.to_series(), errors="coerce").notna().to_numpy()
    if counts.to_numpy()[numbers].sum() / counts.sum() > MOSTLY:
        # one text, in any row, makes pandas read the whole column as text
        stray = column[column.notna() & pd.to_numeric(column, errors="coerce").isna()]
        if len(stray):
            raise DataError(
                f"{path}: row {stray.index[0] + 1}, column '{column.name}': {stray.iloc[0]!r} stands "
                "among numbers; mend it, add it to `missing`, or name the column's kind in `column_types`"
            )
    return "categorical"


def _learn_numeric(column: "pd.Series[Any]", path: Path, settings: Preparation) -> dict[str, Any]:
    values = numeric_values(column, path)[:, np.newaxis]
    typical = float(np.nanmedian(values))
    fill = None
    if settings.impute != "drop":
        imputer = SimpleImputer(strategy=settings.impute, fill_value=settings.impute_constant)
        values = imputer.fit_transform(values)
        fill = float(imputer.statistics_[0])
    center, scale = 0.0, 1.0
    if settings.scale != "none":
        scaler_class, center_name = SCALERS[settings.scale]
        scaler = scaler_class().fit(values)
        center = float(getattr(scaler, center_name)[0])
        # scikit-learn's MinMaxScaler multiplies by scale_, the others divide by it
        scale = float(1 / scaler.scale_[0] if settings.scale == "minmax" else scaler.scale_[0])
    return {
        "name": column.name,
        "kind": "numeric",
        "fill": fill,
        "center": center,
        "scale": scale,
        "missing": int(column.isna().sum()),
        "typical": typical,
    }


def _learn_categories(column: "pd.Series[Any]", settings: Preparation) -> dict[str, Any]:
    texts = text_values(column)
    # scikit-learn counts numbers a hundred times faster than texts; missing is the last category
    codes, known = pd.factorize(texts, sort=True)
    codes = np.where(codes < 0, len(known), codes)
    minimum = None if settings.min_frequency == 1 else settings.min_frequency
    encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=minimum).fit(codes[:, np.newaxis])
    names = [*known, None]
    categories = [names[code] for code in encoder.categories_[0]]
    rare_codes = encoder.infrequent_categories_[0] if minimum else None
    rare = [] if rare_codes is None else [names[code] for code in rare_codes]
    if len(categories) > max(50, len(texts) // 2):
        logger.warning(
            "column '%s' has %d categories in %d rows: consider `drop` or `min_frequency`",
            column.name,
            len(categories),
            len(texts),
        )
    return {
        "name": column.name,
        "kind": "categorical",
        "categories": [category for category in categories if category not in rare],
        "rare": rare,
        "missing": int(column.isna().sum()),
        "typical": names[np.bincount(codes).argmax()],
    }


def _complete(
    table: pd.DataFrame, path: Path, rows: NDArray[np.int64], learnt: dict[str, Any]
) -> NDArray[np.int64]:
    """The rows in which no number is missing."""
    numeric = [column["name"] for column in learnt["columns"] if column["kind"] == "numeric"]
    require_columns(table, numeric, path)
    complete = table[numeric].notna().all(axis=1).to_numpy()[rows]
    if not complete.any():
        raise DataError(f"{path}: `impute: drop` leaves no row of a split")
    if not complete.all():
        logger.warning("%s: %d incomplete rows left out", path, (~complete).sum())
    return rows[complete]


def _learn_target(values: NDArray[Any], path: Path, settings: Preparation) -> dict[str, Any]:
    learnt: dict[str, Any] = {"name": settings.target, "classes": None}
    if settings.task == "classification":
        classes = sorted(set(values), key=_class_order)
        if len(classes) < 2:
            raise DataError(f"{path}: the target '{settings.target}' has one class only: {classes[0]!r}")
        return learnt | {"classes": classes}
    log = "log" in settings.target_steps
    steps = np.log(values) if log else values
    center, scale = 0.0, 1.0
    if "standardize" in settings.target_steps:
        scaler = StandardScaler().fit(steps[:, np.newaxis])
        center, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    return learnt | {
        "log": log,
        "center": center,
        "scale": scale,
        "at_least_one": bool(values.min() >= 1),
    }


def _class_order(text: str) -> tuple[int, float, str]:
    """Numbers in the order of their values, then texts in the order of their letters."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _encode_target(
    values: NDArray[Any], rows: NDArray[np.int64], target: dict[str, Any], path: Path
) -> NDArray[Any]:
    values = values[rows]
    if target["classes"] is None:
        if target["log"]:
            values = np.log(values)
        return ((values - target["center"]) / target["scale"]).astype(np.float32)[:, np.newaxis]
    codes = pd.Index(target["classes"], dtype=object).get_indexer(values)
    if (codes < 0).any():
        position = int((codes < 0).argmax())
        raise DataError(
            f"{path}: row {rows[position] + 1}: no training row has the class {values[position]!r} "
            f"of the target '{target['name']}'"
        )
    return codes.astype(np.int64)


def _write_features(
    path: Path,
    table: pd.DataFrame,
    rows: NDArray[np.int64],
    learnt: dict[str, Any],
    source: Path,
) -> None:
    """Transform the rows chunk by chunk straight into the file."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), len(learnt["features"]))}
    # not a memory map: where the disk is full, writing to one kills the process
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks(table, rows):
            file.write(transform(chunk, learnt, source, Counter()).astype("<f4").tobytes())


def _write_split(path: Path, rows: dict[str, NDArray[np.int64]], settings: Preparation) -> None:
    """row (from 1, below the header), split; rows that `impute: drop` left out are not listed."""
    names = ["train", "validation"] if settings.test else ["train", "validation", "test"]
    parts = [pd.DataFrame({"row": rows[name] + 1, "split": name}) for name in names]
    pd.concat(parts).sort_values("row").to_csv(path, index=False, lineterminator="\n")
