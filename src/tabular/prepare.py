"""Preparation of a raw table: split, arrays and preprocessing.json, learnt from training rows only."""

import ctypes
import json
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import listed
from src.preparation.splits import Rows, check_splitting
from src.tabular.column_files import Stretch, TemporaryArrays
from src.tabular.columns import COLUMNS, CategoricalColumn, Column, inferred_kind
from src.tabular.dialect import Reading
from src.tabular.preprocessing import Preprocessing
from src.tabular.reading import open_table
from src.tabular.rules import ColumnKeys, Encoding, Impute, Kind, Rules, Scale, Transform, Values
from src.tabular.splitting import Raw, split_rows
from src.tabular.stored_table import StoredTable
from src.tabular.targets import TargetTransform, encode_targets, learn_targets, parse_targets
from src.tabular.values import (
    MISSING,
    is_numeric,
    require_columns,
    take_rows,
    with_lags,
)

logger = logging.getLogger(__name__)

CHUNK_ROWS = 50_000
SPLIT_BY = ("group", "time", "split_column")  # the keys that say which rows are in one part


@dataclass
class Preparation:
    """The section `<task>.prepare` of params.yaml for a table.

    Args:
        target: the column to predict, or a list of several, which one model predicts at once.
        task: regression for quantities, classification for classes; each of several targets has two.
        train: the raw file of the labelled rows.
        test: the raw file of an official test set with labels; null splits the test set from `train`.
        id: the column that identifies the rows of a prediction; it is not a feature.
        prediction_columns: the names of the columns of predictions: of the id or row number, and of each
            target. null names them so, with a further column `probability` for classes.
        drop: columns to leave out.
        target_transform: log (natural), standardize (mean 0, standard deviation 1 over the training rows),
            a list of both, or none.
        impute: the value that replaces a missing number: mean, median or most_frequent of the training rows,
            or constant; drop leaves incomplete rows out.
        impute_constant: the value of `impute: constant`.
        missing_indicators: whether each column of numbers that has missing training values gets a further
            feature, 1 where the cell is missing.
        transform: of numbers, before the scale: log1p (log(1 + |x|) with the sign of x), yeo_johnson (with
            the most likely exponent), quantile (to a normal distribution), none, or auto: log1p where the
            training rows have no number below 0 and a skewness above 0.75.
        scale: of numbers: standard (mean 0, standard deviation 1), minmax (0 to 1), robust (median 0,
            interquartile range 1; the standard deviation where that range is 0) or none.
        min_frequency: categories with fewer training rows than this, or below 1 a smaller share of the
            training rows, share one feature.
        column_types: by column, the kind where it is not to be inferred: numeric, categorical, boolean,
            ordered, date or text; or keys of its own, such as `{kind: ordered, order: [low, high]}` or
            `{transform: log1p, impute: median}` (class ColumnKeys).
        encode: of categories: one_hot, a feature of 0 or 1 for each; ordinal, one feature, the place of the
            category in alphabetical order; embedding, one feature, its code, by which the network looks up a
            vector.
        missing: the texts of cells without a value; they do not apply to `id`.
        reading: how the raw files hold their tables, for predictions too.
        missing_target: error refuses a table with rows that have no target; drop leaves them out.
        lags: the number of earlier values of the target that become features. The table is then a series: the
            last rows are the test set, the last of the other rows the validation set.
        test_share: the share of the rows of `train` in the test set.
        validation_share: the share of the other rows in the validation set, which chooses the best epoch.
        group: the column of the person, object or place that a row is about; the rows of one value stay in
            one part of the split. It is not a feature.
        time: a column of numbers or dates: the latest rows are the test set, the latest of the others the
            validation set; rows of the same time stay in one part.
        split_column: a column that says the part of each row: train, validation or test. Without validation
            rows they are cut from the training rows. It is not a feature.
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

    target: str | list[str]
    task: Literal["regression", "classification"] = "regression"
    train: str = "train.csv"
    test: str | None = None
    id: str | None = None
    prediction_columns: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    target_transform: TargetTransform | list[TargetTransform] = "none"
    impute: Impute = "mean"
    impute_constant: float = 0.0
    missing_indicators: bool = False
    transform: Transform = "none"
    scale: Scale = "standard"
    min_frequency: int | float = 1
    column_types: dict[str, Kind | ColumnKeys] = field(default_factory=dict)
    encode: Encoding = "one_hot"
    missing: list[str] = field(default_factory=lambda: list(MISSING))
    reading: Reading = field(default_factory=Reading)
    missing_target: Literal["error", "drop"] = "error"
    lags: int = 0
    test_share: float = 0.2
    validation_share: float = 0.1
    group: str | None = None
    time: str | None = None
    split_column: str | None = None
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
        self._check_targets()
        if self.folds and self.lags:
            raise ConfigurationError(f"prepare.folds must be 0 for a series (prepare.lags): {self.folds}")
        if self.group and (self.lags or self.group in (*self.targets, self.id)):
            raise ConfigurationError(
                "prepare.group must be another column than the target and the id, and null for a series: "
                f"{self.group}"
            )
        ways = ["group", "time", "split_column", "lags", "folds"]
        if (self.time or self.split_column) and len(given := [way for way in ways if getattr(self, way)]) > 1:
            raise ConfigurationError(
                f"prepare.{given[0]} and prepare.{given[1]} exclude each other: each says how rows are split"
            )
        if self.split_column and (self.test or self.split_column in (*self.targets, self.id)):
            raise ConfigurationError(
                "prepare.split_column must be another column than the target and the id, and null with a "
                f"test file: {self.split_column}"
            )
        if self.time in self.targets:
            raise ConfigurationError(f"prepare.time and prepare.target are the same column: {self.time}")
        needed = 1 + len(self.targets)
        names = self.prediction_columns
        if names is not None and (len(names) != needed or len(set(names)) != needed):
            raise ConfigurationError(f"prepare.prediction_columns must be {needed} different names: {names}")
        if self.drop_rare_classes < 0 or (self.drop_rare_classes and self.task == "regression"):
            raise ConfigurationError(
                "prepare.drop_rare_classes must be a number of rows, and 0 for regression: "
                f"{self.drop_rare_classes}"
            )
        for name in self.column_types:
            rules = self.rules_of(name)
            if rules.kind == "ordered" and not rules.order:
                raise ConfigurationError(
                    f"prepare.column_types.{name}: an ordered column needs `order`, its texts from the "
                    "lowest to the highest"
                )
        if self.folds:
            self.test = None
        if self.min_frequency >= 1:
            self.min_frequency = int(self.min_frequency)

    def _check_targets(self) -> None:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ConfigurationError(
                f"prepare.target must be the name of a column, or a list of different names: {self.target}"
            )
        if self.id in self.targets:
            raise ConfigurationError(f"prepare.id and prepare.target are the same column: {self.id}")
        given = "lags" if self.lags else "drop_rare_classes" if self.drop_rare_classes else None
        if given and len(self.targets) > 1:
            raise ConfigurationError(f"prepare.{given} must be 0 for several targets: {getattr(self, given)}")

    @property
    def targets(self) -> list[str]:
        """The columns to predict as a list."""
        return list(self.target) if isinstance(self.target, list) else [self.target]

    @property
    def target_steps(self) -> list[str]:
        """The target transforms as a list."""
        steps = self.target_transform
        return list(steps) if isinstance(steps, list) else [steps]

    def rules_of(self, column: str) -> Rules:
        """How a column is learnt."""
        given = self.column_types.get(column, {})
        keys: ColumnKeys = {"kind": given} if isinstance(given, str) else given
        names = [one.name for one in fields(Rules) if hasattr(self, one.name)]
        return replace(Rules(**{name: getattr(self, name) for name in names}), **keys)

    @property
    def text_columns(self) -> list[str]:
        """The columns of `train` to read as text."""
        text = [name for name in self.column_types if COLUMNS[self.rules_of(name).kind or "numeric"].of_texts]
        return [*text, *self.targets] if self.task == "classification" else text


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Prepare the raw table of a task.

    Args:
        raw: the folder of the raw files; labels.json and truth.json of a sample are optional.
        prepared: the folder to write, for the splits train, validation and test: `<split>_numbers.npy`
            (rows, N) float32, `<split>_codes.npy` (rows, C), unsigned integers, and `<split>_target.npy`
            (rows, T) float32 or, for classes, int64, of one target (rows,); split.csv; of an official test
            file, test_rows.npy (rows,) int64, their numbers from 1; preprocessing.json; manifest.json.
        settings: the section `prepare` of the task.

    Raises:
        DataError: a file, row or column cannot be used; nothing is written then.
    """
    scratch = next(folder for folder in prepared.parents if folder.is_dir())
    train = _read(raw / settings.train, settings.text_columns, settings, scratch)
    require_columns(train.table, settings.drop, train.path)  # an official test file needs none of them
    test = train
    if settings.test:
        # a column of texts in the training file may look like one of numbers in the test file
        text_columns = [name for name in train.table.columns if not is_numeric(train.table[name])]
        test = _read(raw / settings.test, text_columns, settings, scratch)
    sources = {"train": train, "validation": train, "test": test}
    rows = split_rows(train, test, settings)
    release_memory()
    kinds: dict[str, Kind] = {}
    if any(settings.rules_of(name).impute == "drop" for name in train.table.columns):
        kinds = column_kinds(train.table, rows["train"], train.path, settings)
        rows = _complete_rows(sources, rows, kinds, settings)
    with written_whole(prepared) as folder:
        targets = learn_targets(train, rows["train"], settings)
        for name, source in sources.items():
            release_memory()
            np.save(folder / f"{name}_target.npy", encode_targets(source, rows[name], targets))
        # columns are learnt one at a time, and the targets would be another one in memory
        train, test = (replace(one, known=one.known[:0].copy(), classes=()) for one in (train, test))
        del sources, source
        release_memory()
        arrays = SplitArrays(scratch, rows)
        columns: list[Column] = []
        for name in kinds or feature_names(train.table, settings):
            learnt = learn_column(train.table, name, rows["train"], train.path, settings, kinds.get(name))
            if learnt:
                column, values = learnt
                columns.append(column)
                if values is None:
                    values = type(column).read(train.table[name], train.path, settings.rules_of(name))
                arrays.append(column, values, ["train", "validation"])
                if settings.test:
                    require_columns(test.table, [name], test.path)
                    values = type(column).read(test.table[name], test.path, settings.rules_of(name))
                arrays.append(column, values, ["test"])
                del learnt, values
            release_memory()  # before the next column is read
        if not columns:
            raise DataError(
                f"{train.path}: expected a feature column, found only the target {listed(settings.targets)}"
            )
        preprocessing = Preprocessing(
            columns=columns,
            targets=targets,
            missing=settings.missing,
            reading=_with_names(settings, train),
            id=settings.id,
            prediction_columns=settings.prediction_columns,
            lags=settings.lags,
            split_by=next((way for way in SPLIT_BY if getattr(settings, way)), None),
            truth=_document(raw / "truth.json").get(settings.targets[0]),
            labels=_document(raw / "labels.json"),
        )
        arrays.write(folder, preprocessing.code_type)
        _write_split(folder / "split.csv", rows, settings)
        if settings.test:
            np.save(folder / "test_rows.npy", rows["test"].astype("<i8") + 1)
        preprocessing.save(folder)
        write_manifest(folder)


def release_memory() -> None:
    """Return the memory of freed arrays to the system, of which glibc and pyarrow keep some for later.

    Of 10,000,000 rows it is 130 MiB, which the largest column would come on top of.
    """
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _document(path: Path) -> dict[str, Any]:
    """The content of an optional JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _read(path: Path, text_columns: Collection[str], settings: Preparation, folder: Path) -> Raw:
    """Read a raw file, add the lags, and parse the target; a large table is kept on the disk of `folder`."""
    identifier = [settings.id] if settings.id else []
    table = open_table(path, text_columns, settings.missing, settings.reading, identifier, folder)
    release_memory()  # that of the blocks
    require_columns(table, settings.targets, path)
    if settings.lags:
        whole = table.frame() if isinstance(table, StoredTable) else table
        if doubled := {f"{settings.targets[0]}_{lag}" for lag in range(1, settings.lags + 1)} & {*whole}:
            raise DataError(f"{path}: column '{min(doubled)}' has the name of a lag; rename it")
        table = with_lags(whole, settings.targets[0], settings.lags)
    named = [*settings.column_types, *settings.reading.units, *identifier]
    named += [name for name in (settings.group, settings.time, settings.split_column) if name]
    require_columns(table, named, path)
    rules = {settings.time: settings.rules_of(settings.time)} if settings.time else {}
    return Raw(path, table, *parse_targets(table, path, settings), rules)


def feature_names(table: pd.DataFrame | StoredTable, settings: Preparation) -> list[str]:
    """The columns that are features."""
    left_out = {*settings.targets, settings.id, settings.group, settings.split_column, *settings.drop}
    return [name for name in table.columns if name not in left_out]


def column_kinds(
    table: pd.DataFrame | StoredTable, train: Rows, path: Path, settings: Preparation
) -> dict[str, Kind]:
    """The kind of each feature column that has a value in a training row.

    Raises:
        DataError: a column has a few texts among numbers.
    """
    kinds = {name: _kind(table[name], train, path, settings) for name in feature_names(table, settings)}
    return {name: kind for name, kind in kinds.items() if kind}


def _kind(cells: "pd.Series[Any]", train: Rows, path: Path, settings: Preparation) -> Kind | None:
    """The kind of a column; None where all training rows are missing."""
    if take_rows(cells.isna().to_numpy(), train).all():
        _warn_of_missing(str(cells.name))
        return None
    if cells.name == settings.time and not is_numeric(cells):
        return "date"
    return settings.rules_of(str(cells.name)).kind or inferred_kind(cells, train, path, settings.reading)


def _with_names(settings: Preparation, train: Raw) -> Reading:
    """The keys of the reading, with the names of the columns if the file has none."""
    if settings.reading.header != "none":
        return settings.reading
    names = [str(name) for name in train.table.columns]
    return replace(settings.reading, header=names[: len(names) - settings.lags])


def _warn_of_missing(name: str) -> None:
    logger.warning("column '%s' is missing in every training row: left out", name)


def _complete_rows(
    sources: Mapping[str, Raw],
    rows: Mapping[str, Rows],
    kinds: Mapping[str, Kind],
    settings: Preparation,
) -> dict[str, Rows]:
    """The rows of each split in which no value of a column with `impute: drop` is missing."""
    found = {}
    for split, source in sources.items():
        require_columns(source.table, kinds, source.path)
        complete = np.ones(len(rows[split]), dtype=bool)
        for name, kind in kinds.items():
            rules = settings.rules_of(name)
            if rules.impute == "drop" and kind not in ("categorical", "text"):
                values = COLUMNS[kind].read(source.table[name], source.path, rules)
                complete &= ~pd.isna(values[rows[split]])
        if not complete.any():
            raise DataError(f"{source.path}: `impute: drop` leaves no row of a split")
        if not complete.all():
            logger.warning("%s: %d incomplete rows left out", source.path, (~complete).sum())
        found[split] = rows[split][complete]
    return found


def learn_column(
    table: pd.DataFrame | StoredTable,
    name: str,
    train: Rows,
    path: Path,
    settings: Preparation,
    kind: Kind | None = None,
) -> tuple[Column, Values | None] | None:
    """Learn the transformation of a feature column from its training rows.

    Args:
        table: the raw table.
        name: of the column.
        train: the training rows.
        path: of the table, for messages.
        settings: how it is learnt.
        kind: of the column; None infers it.

    Returns:
        The learnt column, and the values of all rows (rows,), but None for numbers: they are read again,
        since learning from them takes several times their memory. None where all training rows are missing.

    Raises:
        DataError: the column has a few texts among numbers, or a number that is not finite.
    """
    cells, rules = table[name], settings.rules_of(name)
    kind = kind or _kind(cells, train, path, settings)
    if kind is None:
        return None
    values: Values | None = COLUMNS[kind].read(cells, path, rules)
    release_memory()  # that of finding the kind
    training = take_rows(values, train)
    if pd.isna(training).all():
        _warn_of_missing(name)
        return None
    if is_numeric(cells):
        del cells
        values = None
        release_memory()
    return COLUMNS[kind].learn(name, training, rules), values


class SplitArrays:
    """The features of the splits, gathered column by column on a disk and written row by row.

    Args:
        folder: of the temporary file.
        rows: of each split, of its raw table.
    """

    def __init__(self, folder: Path, rows: Mapping[str, Rows]) -> None:
        self.rows = rows
        self.arrays = TemporaryArrays(folder)
        self.places: dict[tuple[str, str], list[Stretch]] = {}

    def append(self, column: Column, values: Values, splits: Sequence[str]) -> None:
        """Append a learnt column of splits, from the values of all raw rows (rows,)."""
        codes = isinstance(column, CategoricalColumn)
        part, dtype = ("codes", np.uint32) if codes else ("numbers", np.float32)
        for split in splits:
            rows = self.rows[split]
            width = 1 if codes else len(column.feature_names)
            encoded: NDArray[Any] = np.zeros((len(rows), width), dtype)
            for start in range(0, len(rows), CHUNK_ROWS):
                block = slice(start, start + CHUNK_ROWS)
                if isinstance(column, CategoricalColumn):
                    encoded[block, 0] = column.code(values[rows[block]])
                else:
                    column.encode(values[rows[block]], encoded[block])
            self.places.setdefault((split, part), []).append(self.arrays.append(encoded))

    def write(self, folder: Path, code_type: np.dtype[Any]) -> None:
        """Write `<split>_numbers.npy` and `<split>_codes.npy`, block by block."""
        types = {"numbers": np.dtype("<f4"), "codes": code_type.newbyteorder("<")}
        for split, rows in self.rows.items():
            for part, dtype in types.items():
                places = self.places.get((split, part), [])
                width = sum(place.shape[1] for place in places)
                header = {"descr": dtype.str, "fortran_order": False, "shape": (len(rows), width)}
                # not a memory map: if the disk is full, writing to a memory map ends the process with SIGBUS
                with (folder / f"{split}_{part}.npy").open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for start in range(0, len(rows) if width else 0, CHUNK_ROWS):
                        blocks = [self.arrays.read(place, start, start + CHUNK_ROWS) for place in places]
                        file.write(np.concatenate(blocks, axis=1).astype(dtype, copy=False).tobytes())


def _write_split(path: Path, rows: dict[str, Rows], settings: Preparation) -> None:
    """Write the row (from 1, below the header) and the split of each prepared row of `train`."""
    names = ["train", "validation"] if settings.test else ["train", "validation", "test"]
    places = np.full(max(rows[name].max() for name in names) + 1, len(names), dtype=np.uint8)
    for place, name in enumerate(names):
        places[rows[name]] = place
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("row,split\n")
        for start in range(0, len(places), CHUNK_ROWS):
            part = places[start : start + CHUNK_ROWS].tolist()
            cells = enumerate(part, start=start + 1)
            file.writelines(f"{row},{names[place]}\n" for row, place in cells if place < len(names))
