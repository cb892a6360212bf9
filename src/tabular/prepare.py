"""Preparation of a raw table: split, arrays and preprocessing.json, learnt from training rows only."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import listed
from src.preparation.splits import check_splitting, cut_fold, cut_share, repeated
from src.tabular.dialect import Reading, ReadingError
from src.tabular.notation import is_date, missing_mark
from src.tabular.preprocessing import (
    CategoricalColumn,
    Column,
    Kind,
    NumericColumn,
    Preprocessing,
    Target,
    Values,
    encode,
)
from src.tabular.reading import read_table
from src.tabular.values import (
    MISSING,
    is_numeric,
    numeric_values,
    plain_texts,
    refuse_other_notation,
    require_columns,
    text_values,
    with_lags,
)

logger = logging.getLogger(__name__)

TargetTransform = Literal["none", "log", "standardize"]

CHUNK_ROWS = 50_000
# each scaler, and the name of its attribute that holds the value which becomes 0
SCALERS = {
    "standard": (StandardScaler, "mean_"),
    "minmax": (MinMaxScaler, "data_min_"),
    "robust": (RobustScaler, "center_"),
}
MOSTLY = 0.9  # a column whose cells are numbers beyond this share is a column of numbers


@dataclass
class Preparation:
    """The section `<task>.prepare` of params.yaml for a table.

    Args:
        target: the column to predict.
        task: regression for a quantity, classification for classes.
        train: the raw file of the labelled rows.
        test: the raw file of an official test set with labels; null splits the test set from `train`.
        id: the column that identifies the rows of a prediction; it is not a feature.
        prediction_columns: the names of the two columns of predictions: of the id or row number, and of the
            target. null names them so, with a third column `probability` for classes.
        drop: columns to leave out.
        target_transform: log (natural), standardize (mean 0, standard deviation 1 over the training rows),
            a list of both, or none.
        impute: the value that replaces a missing number: mean, median or most_frequent of the training rows,
            or constant; drop leaves incomplete rows out.
        impute_constant: the value of `impute: constant`.
        scale: of numbers: standard (mean 0, standard deviation 1), minmax (0 to 1), robust (median 0,
            interquartile range 1) or none.
        min_frequency: categories with fewer training rows than this, or below 1 a smaller share of the
            training rows, share one feature.
        column_types: the kind of columns for which it is not to be inferred, such as classes written as
            numbers.
        missing: the texts of cells without a value; they do not apply to `id`.
        reading: how the raw files hold their tables, for predictions too.
        missing_target: error refuses a table with rows that have no target; drop leaves them out.
        lags: the number of earlier values of the target that become features. The table is then a series: the
            last rows are the test set, the last of the other rows the validation set.
        test_share: the share of the rows of `train` in the test set.
        validation_share: the share of the other rows in the validation set, which chooses the best epoch.
        group: the column of the person, object or place that a row is about; the rows of one value stay in
            one part of the split. It is not a feature.
        duplicates: whether equal rows (features and target) stay together in one part of the split, or fall
            apart as other rows do. auto: together, unless the columns have fewer combinations of values than
            there are rows, so that equal rows are no copies.
        drop_rare_classes: leave out classes with fewer rows than this; 0 leaves none out.
        folds: for cross-validation, the number of parts of the rows of `train`; one part is the test set, in
            place of `test` and `test_share`. 0 is no cross-validation.
        fold: the number of that part, from 1.
        seed: of the split.

    Raises:
        ConfigurationError: a value is out of range, or two of them exclude each other.
    """

    target: str
    task: Literal["regression", "classification"] = "regression"
    train: str = "train.csv"
    test: str | None = None
    id: str | None = None
    prediction_columns: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    target_transform: TargetTransform | list[TargetTransform] = "none"
    impute: Literal["mean", "median", "most_frequent", "constant", "drop"] = "mean"
    impute_constant: float = 0.0
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"
    min_frequency: int | float = 1
    column_types: dict[str, Kind] = field(default_factory=dict)
    missing: list[str] = field(default_factory=lambda: list(MISSING))
    reading: Reading = field(default_factory=Reading)
    missing_target: Literal["error", "drop"] = "error"
    lags: int = 0
    test_share: float = 0.2
    validation_share: float = 0.1
    group: str | None = None
    duplicates: Literal["auto", "together", "apart"] = "auto"
    drop_rare_classes: int = 0
    folds: int = 0
    fold: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.min_frequency <= 0 or (self.min_frequency > 1 and self.min_frequency % 1):
            raise ConfigurationError(
                "prepare.min_frequency must be a whole number of rows or a share between 0 and 1: "
                f"{self.min_frequency}"
            )
        if self.lags < 0 or (self.lags and (self.task == "classification" or self.test)):
            raise ConfigurationError(
                "prepare.lags must be at least 0, and must be 0 for classification or with a test file: "
                f"{self.lags}"
            )
        if self.lags and self.missing_target == "drop":
            raise ConfigurationError("prepare.missing_target must be error for a series (prepare.lags): drop")
        if self.id == self.target:
            raise ConfigurationError(f"prepare.id and prepare.target are the same column: {self.id}")
        if self.folds and self.lags:
            raise ConfigurationError(f"prepare.folds must be 0 for a series (prepare.lags): {self.folds}")
        if self.group and (self.lags or self.group in (self.target, self.id)):
            raise ConfigurationError(
                "prepare.group must be another column than the target and the id, and null for a series: "
                f"{self.group}"
            )
        if self.prediction_columns is not None and len(set(self.prediction_columns)) != 2:
            raise ConfigurationError(
                f"prepare.prediction_columns must be two different names: {self.prediction_columns}"
            )
        if self.drop_rare_classes < 0 or (self.drop_rare_classes and self.task == "regression"):
            raise ConfigurationError(
                "prepare.drop_rare_classes must be a number of rows, and 0 for regression: "
                f"{self.drop_rare_classes}"
            )
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
        """The columns of `train` to read as text."""
        text = [name for name, kind in self.column_types.items() if kind == "categorical"]
        return [*text, self.target] if self.task == "classification" else text


@dataclass(frozen=True)
class Raw:
    """A raw table and its parsed target (rows,): numbers or the texts of classes; NaN or None if missing."""

    path: Path
    table: pd.DataFrame
    target: Values

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The rows with a target, counted from 0."""
        return np.flatnonzero(~pd.isna(self.target))


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Prepare the raw table of a task.

    Args:
        raw: the folder of the raw files; labels.json and truth.json of a sample are optional.
        prepared: the folder to write: `<split>_features.npy` (rows, F) float32 and `<split>_target.npy`
            (rows, 1) float32 or, for classes, (rows,) int64 for the splits train, validation and test;
            split.csv; preprocessing.json; manifest.json.
        settings: the section `prepare` of the task.

    Raises:
        DataError: a file, row or column cannot be used; nothing is written then.
    """
    train = _read(raw / settings.train, settings.text_columns, settings)
    test = train
    if settings.test:
        # a column of texts in the training file may look like one of numbers in the test file
        text_columns = [name for name in train.table.columns if not is_numeric(train.table[name])]
        test = _read(raw / settings.test, text_columns, settings)
    sources = {"train": train, "validation": train, "test": test}
    rows = _split(train, test, settings)

    kinds = column_kinds(train.table, rows["train"], train.path, settings)
    values = {"train": parse_columns(train.table, kinds, train.path)}
    values["validation"] = values["train"]
    values["test"] = values["train"] if test is train else parse_columns(test.table, kinds, test.path)
    if settings.impute == "drop":
        rows = {name: _complete(values[name], rows[name], sources[name].path) for name in rows}
    preprocessing = Preprocessing(
        columns=learn_columns(values["train"], rows["train"], train.path, settings),
        target=_learn_target(train.target[rows["train"]], train.path, settings),
        missing=settings.missing,
        reading=_with_names(settings, train),
        id=settings.id,
        prediction_columns=settings.prediction_columns,
        lags=settings.lags,
        truth=_document(raw / "truth.json").get(settings.target),
        labels=_document(raw / "labels.json"),
    )

    with written_whole(prepared) as folder:
        for name, source in sources.items():
            _write_features(folder / f"{name}_features.npy", preprocessing, values[name], rows[name])
            np.save(folder / f"{name}_target.npy", _encode_target(source, rows[name], preprocessing.target))
        _write_split(folder / "split.csv", rows, settings)
        preprocessing.save(folder)
        write_manifest(folder)


def _document(path: Path) -> dict[str, Any]:
    """The content of an optional JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _read(path: Path, text_columns: Collection[str], settings: Preparation) -> Raw:
    """Read a raw file, add the lags, and parse the target."""
    identifier = [settings.id] if settings.id else []
    table = read_table(path, text_columns, settings.missing, settings.reading, identifier)
    require_columns(table, [settings.target], path)
    table = with_lags(table, settings.target, settings.lags)
    named = [*settings.drop, *settings.column_types, *settings.reading.units, *identifier]
    require_columns(table, [*named, settings.group] if settings.group else named, path)
    return Raw(path, table, _parse_target(table[settings.target], path, settings))


def _parse_target(column: "pd.Series[Any]", path: Path, settings: Preparation) -> Values:
    """The target of all rows: numbers, or texts of classes."""
    missing = column.isna().to_numpy()
    if missing.any():
        where = f"the target '{settings.target}' is missing in {missing.sum()} of {len(missing)} rows"
        if settings.missing_target == "error" or missing.all():
            way = "" if missing.all() else "; `missing_target: drop` leaves such rows out"
            raise DataError(f"{path}: row {missing.argmax() + 1}: {where}{way}")
        logger.warning("%s: %s: left out", path, where)
    if settings.task == "classification":
        return text_values(column)
    if not is_numeric(column):
        refuse_other_notation(column, path, settings.reading)
    values = numeric_values(column, path)
    if "log" in settings.target_steps and (values <= 0).any():
        row = int((values <= 0).argmax())
        raise DataError(
            f"{path}: row {row + 1}: the target '{settings.target}' is {values[row]:g}; "
            "`target_transform: log` needs numbers above 0"
        )
    return values


def refuse_missing(column: "pd.Series[Any]", path: Path, what: str) -> None:
    """Raise DataError for the first row without a value."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(f"{path}: row {missing.argmax() + 1}: {what} is missing")


def _split(train: Raw, test: Raw, settings: Preparation) -> dict[str, NDArray[np.int64]]:
    """Assign the rows (0, 1, ... of the file) to the parts; each part has the shares of the classes."""
    stratum = train.target if settings.task == "classification" else None
    groups = _groups(train, test, settings)
    rows, held_out = train.labelled[settings.lags :], test.labelled
    if settings.drop_rare_classes:
        sizes = _class_sizes(train.target, groups, settings)
        rare = list(map(str, sizes.index[sizes < settings.drop_rare_classes]))
        kept = rows[~np.isin(train.target[rows], rare)]
        held_out = held_out[~np.isin(test.target[held_out], rare)]
        if len(kept) < len(rows):
            logger.warning(
                "%s: %d rows of rare classes left out: %s", train.path, len(rows) - len(kept), listed(rare)
            )
        rows = kept
    if stratum is not None:
        sizes = _class_sizes(stratum[rows], None if groups is None else groups[rows], settings)
        single = sorted(sizes.index[sizes < 2])
        if single and not settings.group:
            raise DataError(
                f"{train.path}: the target '{settings.target}': expected at least 2 different rows of each "
                f"class, found 1 of {listed(single)}; `drop_rare_classes: 2` leaves such classes out; for a "
                "quantity set `task: regression`, or predict another column"
            )

    def cut(rows: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        try:
            rest, part = cut_share(rows, share, None if settings.lags else settings.seed, stratum, groups)
        except ValueError as error:
            message = f"{train.path}: {len(train.table)} rows are too few for the split: {error}"
            raise DataError(message) from None
        return rest, part

    if settings.folds:
        rows, held_out = cut_fold(rows, settings, stratum, groups)
    elif not settings.test:
        rows, held_out = cut(rows, settings.test_share)
    training, validation = cut(rows, settings.validation_share)
    parts = {"train": training, "validation": validation, "test": held_out}
    _check_parts(parts, train, test, settings)
    return parts


def _groups(train: Raw, test: Raw, settings: Preparation) -> Values | None:
    """What rows that stay together have in common (rows,): the group, or all their values."""
    if settings.lags:
        return None
    if settings.group:
        column = train.table[settings.group]
        refuse_missing(column, train.path, f"the group '{settings.group}'")
        if settings.test and (known := test.table[settings.group].isin(column).sum()):
            logger.warning(
                "%s: %d rows are of groups that %s has, too: the score is that of known groups",
                test.path,
                known,
                train.path.name,
            )
        return text_values(column)
    left_out = {settings.id, *settings.drop}
    columns = [name for name in train.table.columns if name not in left_out]
    numbers, bound_to_occur = repeated(train.table[columns])
    copies = len(numbers) - numbers.max() - 1
    if not copies:
        return None
    apart = settings.duplicates == "apart" or (settings.duplicates == "auto" and bound_to_occur)
    logger.warning(
        "%s: %d rows repeat another row%s; prepare.duplicates changes it",
        train.path,
        copies,
        ": they are split as other rows" if apart else ": equal rows stay in one part of the split",
    )
    return None if apart else numbers


def _class_sizes(classes: Values, groups: NDArray[Any] | None, settings: Preparation) -> "pd.Series[int]":
    """The number of different rows of each class."""
    if groups is not None and not settings.group:
        classes = classes[np.unique(groups, return_index=True)[1]]
    return pd.Series(classes).value_counts()


def _check_parts(parts: dict[str, NDArray[np.int64]], train: Raw, test: Raw, settings: Preparation) -> None:
    """Refuse parts of one row, which have no score, and name the classes without a test row."""
    for name, rows in parts.items():
        if len(rows) < 2:
            raise DataError(
                f"{train.path}: {len(train.table)} rows are too few for the split: expected at least 2 "
                f"{name} rows, found {len(rows)}; add rows, or raise its share"
            )
    if settings.task == "classification":
        absent = sorted(set(train.target[parts["train"]]) - set(test.target[parts["test"]]))
        if absent:
            logger.warning(
                "%s: no test row has the class %s: the scores say nothing about it; raise test_share, or "
                "set drop_rare_classes",
                test.path,
                listed(absent),
            )


def column_kinds(
    table: pd.DataFrame, train: NDArray[np.int64], path: Path, settings: Preparation
) -> dict[str, Kind]:
    """The kind of each feature column that has a value in a training row.

    Raises:
        DataError: a column has a few texts among numbers.
    """
    left_out = {settings.target, settings.id, settings.group, *settings.drop}
    kinds: dict[str, Kind] = {}
    for name in table.columns:
        if name in left_out:
            continue
        if table[name].iloc[train].isna().all():
            _warn_of_missing(name)
        else:
            kinds[name] = settings.column_types.get(name) or _inferred_kind(
                table[name], train, path, settings.reading
            )
    return kinds


def _inferred_kind(column: "pd.Series[Any]", train: NDArray[np.int64], path: Path, reading: Reading) -> Kind:
    """Numeric if every value is a number, categorical if not; a few texts among numbers are an error."""
    if is_numeric(column):
        return "numeric"
    try:
        refuse_other_notation(column, path, reading)
    except ReadingError as error:
        raise DataError(f"{error}, or `column_types: {{{column.name}: categorical}}`") from None
    plain = plain_texts(column, reading)
    counts = plain[plain.index.isin(train)].value_counts()
    numbers = pd.to_numeric(counts.index.to_series(), errors="coerce").notna().to_numpy()
    mark = missing_mark(plain)
    if mark or counts.to_numpy()[numbers].sum() / counts.sum() > MOSTLY:
        # one text in any row makes pandas read the whole column as text
        texts = plain[pd.to_numeric(plain, errors="coerce").isna()]
        if len(texts):
            raise DataError(
                f"{path}: row {texts.index[0] + 1}, column '{column.name}': expected a number, found "
                f"{texts.iloc[0]!r}; correct it, add it to `missing` ({len(texts)} of {column.notna().sum()} "
                "cells are texts), or set the kind in `column_types`"
            )
    return "categorical"


def _with_names(settings: Preparation, train: Raw) -> Reading:
    """The keys of the reading, with the names of the columns if the file has none."""
    if settings.reading.header != "none":
        return settings.reading
    names = [str(name) for name in train.table.columns]
    return replace(settings.reading, header=names[: len(names) - settings.lags])


def _warn_of_missing(name: str) -> None:
    logger.warning("column '%s' is missing in every training row: left out", name)


def parse_columns(table: pd.DataFrame, kinds: Mapping[str, Kind], path: Path) -> dict[str, Values]:
    """Parse columns as numbers or texts; (rows,) by column.

    Raises:
        DataError: a column is missing, or a cell of a column of numbers is not a finite number.
    """
    require_columns(table, kinds, path)
    return {
        name: numeric_values(table[name], path) if kind == "numeric" else text_values(table[name])
        for name, kind in kinds.items()
    }


def _complete(values: dict[str, Values], rows: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """The rows in which no number is missing."""
    complete = np.ones(len(rows), dtype=bool)
    for column in values.values():
        if column.dtype != object:
            complete &= ~pd.isna(column[rows])
    if not complete.any():
        raise DataError(f"{path}: `impute: drop` leaves no row of a split")
    if not complete.all():
        logger.warning("%s: %d incomplete rows left out", path, (~complete).sum())
    return rows[complete]


def learn_columns(
    values: Mapping[str, Values], train: NDArray[np.int64], path: Path, settings: Preparation
) -> list[Column]:
    """Learn the transformation of each feature column from the training rows of its values (rows,).

    Raises:
        DataError: there is no feature column.
    """
    columns: list[Column] = []
    for name, parsed in values.items():
        training = parsed[train]
        missing = int(pd.isna(training).sum())
        if missing == len(training):
            _warn_of_missing(name)
        elif training.dtype == object:
            columns.append(_learn_categories(name, training, missing, settings))
        else:
            columns.append(_learn_numbers(name, training, missing, settings))
    if not columns:
        raise DataError(f"{path}: expected a feature column, found only the target '{settings.target}'")
    return columns


def _learn_numbers(name: str, training: Values, missing: int, settings: Preparation) -> NumericColumn:
    values = training[:, np.newaxis].astype(np.float64)
    typical = float(np.nanmedian(values))
    if np.nanmin(values) == np.nanmax(values):
        logger.warning("column '%s' has only one number in the training rows", name)
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
    return NumericColumn(name, fill, center, scale, missing, typical)


def _learn_categories(name: str, training: Values, missing: int, settings: Preparation) -> CategoricalColumn:
    # scikit-learn counts numbers a hundred times faster than texts; missing is the last category
    codes, known = pd.factorize(training, sort=True)
    codes = np.where(codes < 0, len(known), codes)
    minimum = None if settings.min_frequency == 1 else settings.min_frequency
    encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=minimum).fit(codes[:, np.newaxis])
    names = [*known, None]
    categories = [names[code] for code in encoder.categories_[0]]
    rare_codes = encoder.infrequent_categories_[0] if minimum else None
    rare = [] if rare_codes is None else [names[code] for code in rare_codes]
    _warn_of_case(f"column '{name}'", known)
    if len(known) > 2 and all(map(is_date, known)):
        logger.warning("column '%s' holds dates, taken as %d categories: consider `drop`", name, len(known))
    elif len(categories) > max(50, len(training) // 2):
        logger.warning(
            "column '%s' has %d categories in %d rows: consider `drop` or `min_frequency`",
            name,
            len(categories),
            len(training),
        )
    frequent = [category for category in categories if category not in rare]
    return CategoricalColumn(name, frequent, rare, missing, names[np.bincount(codes).argmax()])


def _learn_target(training: Values, path: Path, settings: Preparation) -> Target:
    if settings.task == "classification":
        classes = sorted(set(training), key=_class_order)
        _warn_of_case(f"the target '{settings.target}'", classes)
        if len(classes) < 2:
            raise DataError(
                f"{path}: the target '{settings.target}': expected two classes or more, "
                f"found only {classes[0]!r}"
            )
        return Target(settings.target, classes)
    log = "log" in settings.target_steps
    values = np.log(training) if log else training
    center, scale = 0.0, 1.0
    if "standardize" in settings.target_steps:
        scaler = StandardScaler().fit(values[:, np.newaxis])
        center, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    return Target(settings.target, None, log, center, scale, at_least_one=bool(training.min() >= 1))


def _warn_of_case(column: str, texts: Collection[str]) -> None:
    """Name the texts of a column that differ only in case."""
    alike = Counter(text.casefold() for text in texts)
    same = [text for text in texts if alike[text.casefold()] > 1]
    if same:
        logger.warning("%s has texts that differ only in case: %s", column, ", ".join(map(repr, same[:6])))


def _class_order(text: str) -> tuple[int, float, str]:
    """Sort key of classes: numbers by value, then texts in alphabetical order."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _encode_target(source: Raw, rows: NDArray[np.int64], target: Target) -> NDArray[Any]:
    """The prepared target of rows: (rows, 1) float32, or codes of classes (rows,) int64."""
    values = source.target[rows]
    if target.classes is None:
        if target.log:
            values = np.log(values)
        return ((values - target.center) / target.scale).astype(np.float32)[:, np.newaxis]
    codes = pd.Index(target.classes, dtype=object).get_indexer(pd.Index(values, dtype=object))
    if (codes < 0).any():
        position = int((codes < 0).argmax())
        raise DataError(
            f"{source.path}: row {rows[position] + 1}: the class {values[position]!r} of the target "
            f"'{target.name}' has no training row"
        )
    return codes.astype(np.int64)


def _write_features(
    path: Path, preprocessing: Preprocessing, values: dict[str, Values], rows: NDArray[np.int64]
) -> None:
    """Write the features of rows to a file, chunk by chunk."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), len(preprocessing.features))}
    # not a memory map: if the disk is full, writing to a memory map ends the process with SIGBUS
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            parsed = {column.name: values[column.name][chunk] for column in preprocessing.columns}
            features = encode(preprocessing.columns, parsed, Counter())
            file.write(features.astype("<f4").tobytes())


def _write_split(path: Path, rows: dict[str, NDArray[np.int64]], settings: Preparation) -> None:
    """Write the row (from 1, below the header) and the split of each prepared row of `train`."""
    names = ["train", "validation"] if settings.test else ["train", "validation", "test"]
    parts = [pd.DataFrame({"row": rows[name] + 1, "split": name}) for name in names]
    pd.concat(parts).sort_values("row", kind="stable").to_csv(path, index=False, lineterminator="\n")
