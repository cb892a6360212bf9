"""The split of a table: test and validation rows by classes, groups, equal rows or the order of a series."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.preparation.proposals import listed
from src.preparation.splits import Rows, cut_fold, cut_share, repeated, smallest
from src.tabular.columns import COLUMNS
from src.tabular.rules import PLAIN, Kind, Rules, Values
from src.tabular.stored_table import StoredTable
from src.tabular.values import is_numeric, refuse_cells, text_values

if TYPE_CHECKING:
    from src.tabular.prepare import Preparation

logger = logging.getLogger(__name__)

EACH_PART = 3  # rows of a class, so that training, validation and test can have one each
# the spellings of the parts in a column that says the split, in any case
SPELLINGS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Raw:
    """A raw table.

    Args:
        path: of the file.
        table: its columns.
        known: which rows have all targets (rows,).
        classes: of each target of classes its texts (rows,), None if missing; nothing of quantities.
        rules: of columns that the split reads.
    """

    path: Path
    table: pd.DataFrame | StoredTable
    known: NDArray[np.bool_]
    classes: Sequence[Values]
    rules: Mapping[str, Rules] = field(default_factory=dict)

    @property
    def labelled(self) -> Rows:
        """The rows with all targets, counted from 0."""
        return np.arange(len(self.known), dtype=smallest(len(self.known)))[self.known]


def refuse_missing(column: "pd.Series[Any]", path: Path, what: str) -> None:
    """Raise DataError for the first row without a value."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(f"{path}: row {missing.argmax() + 1}: {what} is missing")


def split_rows(train: Raw, test: Raw, settings: "Preparation") -> dict[str, Rows]:
    """Assign the rows (0, 1, ... of the file) to the parts; each part has the shares of the classes.

    Rows with classes of several targets are assigned as those with quantities, by chance.

    Args:
        train: the raw table of the labelled rows.
        test: the official test table, or `train`.
        settings: the section `prepare` of the task.

    Returns:
        The rows of train, validation and test, each in increasing order.

    Raises:
        DataError: there are too few rows, or too few of a class.
    """
    stratum = train.classes[0] if len(train.classes) == 1 else None
    groups = _groups(train, test, settings)
    rows, held_out = _usable_rows(train, test, settings, stratum, groups)

    def cut(rows: Rows, share: float) -> tuple[Rows, Rows]:
        try:
            return cut_share(rows, share, None if settings.lags else settings.seed, stratum, groups)
        except ValueError as error:
            if rare := _single_classes(rows, settings, stratum, groups):
                raise DataError(
                    f"{train.path}: the target '{settings.target}': fewer than {EACH_PART} rows, one for "
                    f"each part of the split, of {listed(rare)}; `drop_rare_classes: {EACH_PART}` leaves "
                    "such classes out"
                ) from None
            message = f"{train.path}: {len(train.table)} rows are too few for the split: {error}"
            raise DataError(message) from None

    if settings.split_column:
        training, validation, held_out = _given(train, rows, settings.split_column)
        if not len(validation):
            training, validation = cut(training, settings.validation_share)
    elif settings.time:
        times = _times(train, settings.time)
        if not settings.test:
            rows, held_out = cut_last(rows, settings.test_share, times)
        training, validation = cut_last(rows, settings.validation_share, times)
    else:
        if settings.folds:
            rows, held_out = cut_fold(rows, settings, stratum, groups)
        elif not settings.test:
            rows, held_out = cut(rows, settings.test_share)
        training, validation = cut(rows, settings.validation_share)
    parts = {"train": training, "validation": validation, "test": held_out}
    _check_parts(parts, train, test, settings)
    if settings.time or settings.split_column:
        _warn_of_known_rows(parts, train, settings)
    return parts


def _usable_rows(
    train: Raw, test: Raw, settings: "Preparation", stratum: Values | None, groups: Values | None
) -> tuple[Rows, Rows]:
    """Return the rows to divide and the held-out ones, without those of rare classes if settings say so.

    Raises:
        DataError: a class has one row.
    """
    rows = train.labelled[settings.lags :]
    held_out = test.labelled if settings.test else rows
    if settings.drop_rare_classes:
        sizes = _class_sizes(train.classes[0], groups, settings)
        rare = list(map(str, sizes.index[sizes < settings.drop_rare_classes]))
        kept = rows[~np.isin(train.classes[0][rows], rare)]
        held_out = held_out[~np.isin(test.classes[0][held_out], rare)]
        if len(kept) < len(rows):
            logger.warning(
                "%s: %d rows of rare classes left out: %s", train.path, len(rows) - len(kept), listed(rare)
            )
        rows = kept
    if not settings.group and (single := _single_classes(rows, settings, stratum, groups)):
        raise DataError(
            f"{train.path}: the target '{settings.target}': expected at least 2 different rows of each "
            f"class, found 1 of {listed(single)}; `drop_rare_classes: 2` leaves such classes out; for a "
            "quantity set `task: regression`, or predict another column"
        )
    return rows, held_out


def _single_classes(
    rows: Rows, settings: "Preparation", stratum: Values | None, groups: Values | None
) -> list[str]:
    """Return the classes of a stratified split of which two parts cannot both have a row."""
    if stratum is None:
        return []
    sizes = _class_sizes(stratum[rows], None if groups is None else groups[rows], settings)
    return sorted(map(str, sizes.index[sizes < 2]))


def cut_last(rows: Rows, share: float, times: NDArray[np.float64]) -> tuple[Rows, Rows]:
    """Split off the rows of the latest times.

    Args:
        rows: (N,) numbers of rows, in increasing order.
        share: of the rows; more where several have the earliest of the latest times, since equal times stay
            together.
        times: (all rows,).

    Returns:
        The other rows and the latest ones, each in increasing order.
    """
    if not len(rows):
        return rows, rows
    of_rows = times[rows]
    latest = math.ceil(share * len(rows))
    late = of_rows >= np.sort(of_rows)[len(rows) - latest]
    return rows[~late], rows[late]


def _times(raw: Raw, name: str) -> NDArray[np.float64]:
    """The times of all rows: numbers, or seconds of dates."""
    cells = raw.table[name]
    refuse_missing(cells, raw.path, f"the time '{name}'")
    kind: Kind = "numeric" if is_numeric(cells) else "date"
    return COLUMNS[kind].read(cells, raw.path, raw.rules.get(name, PLAIN))


def _given(train: Raw, rows: Rows, name: str) -> list[Rows]:
    """The rows of train, validation and test as a column says."""
    cells = train.table[name]
    refuse_missing(cells, train.path, f"the part of the split '{name}'")
    found = np.array([SPELLINGS.get(text.strip().lower(), "") for text in text_values(cells)])
    refuse_cells(cells, found == "", train.path, f"is no part of a split: {', '.join(SPELLINGS)}")
    return [rows[found[rows] == part] for part in ("train", "validation", "test")]


def _warn_of_known_rows(parts: dict[str, Rows], train: Raw, settings: "Preparation") -> None:
    """Count the rows outside of training that repeat a training row, features and target at any time."""
    left_out = {settings.id, settings.split_column, settings.time, *settings.drop}
    numbers, _ = repeated(train.table, [name for name in train.table.columns if name not in left_out])
    for name in ("validation", "test") if not settings.test else ("validation",):
        known = int(np.isin(numbers[parts[name]], numbers[parts["train"]]).sum())
        if known:
            logger.warning("%s: %d %s rows repeat a training row", train.path, known, name)


def _groups(train: Raw, test: Raw, settings: "Preparation") -> Values | None:
    """What rows that stay together have in common (rows,): the group, or all their values."""
    if settings.lags or settings.time or settings.split_column:
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
    numbers, bound_to_occur = repeated(train.table, columns)
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


def _class_sizes(classes: Values, groups: NDArray[Any] | None, settings: "Preparation") -> "pd.Series[int]":
    """The number of different rows of each class."""
    if groups is not None and not settings.group:
        classes = classes[np.unique(groups, return_index=True)[1]]
    return pd.Series(classes).value_counts()


def _check_parts(parts: dict[str, Rows], train: Raw, test: Raw, settings: "Preparation") -> None:
    """Refuse parts of one row, which have no score, and name the classes without a test row."""
    for name, rows in parts.items():
        if len(rows) < 2:
            raise DataError(
                f"{train.path}: {len(train.table)} rows are too few for the split: expected at least 2 "
                f"{name} rows, found {len(rows)}; add rows, or raise its share"
            )
    for known, tested in zip(train.classes, test.classes, strict=True):
        absent = sorted(set(known[parts["train"]]) - set(tested[parts["test"]]))
        if absent:
            logger.warning(
                "%s: no test row has the class %s: the scores say nothing about it; raise test_share, or "
                "set drop_rare_classes",
                test.path,
                listed(absent),
            )
