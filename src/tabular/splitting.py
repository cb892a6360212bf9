"""The split of a table: test and validation rows by classes, groups, equal rows or the order of a series."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.preparation.proposals import listed
from src.preparation.splits import Splitting, cut_fold, cut_share, repeated
from src.tabular.column_files import StoredTable
from src.tabular.columns import Values
from src.tabular.values import text_values

logger = logging.getLogger(__name__)


class TableSplitting(Splitting, Protocol):
    """The keys of `prepare` that the split of a table depends on."""

    target: str
    task: Literal["regression", "classification"]
    test: str | None
    id: str | None
    drop: list[str]
    lags: int
    group: str | None
    duplicates: Literal["auto", "together", "apart"]
    drop_rare_classes: int


@dataclass(frozen=True)
class Raw:
    """A raw table and its parsed target (rows,): numbers or the texts of classes; NaN or None if missing."""

    path: Path
    table: pd.DataFrame | StoredTable
    target: Values

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The rows with a target, counted from 0."""
        return np.flatnonzero(~pd.isna(self.target))


def refuse_missing(column: "pd.Series[Any]", path: Path, what: str) -> None:
    """Raise DataError for the first row without a value."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(f"{path}: row {missing.argmax() + 1}: {what} is missing")


def split_rows(train: Raw, test: Raw, settings: TableSplitting) -> dict[str, NDArray[np.int64]]:
    """Assign the rows (0, 1, ... of the file) to the parts; each part has the shares of the classes.

    Args:
        train: the raw table of the labelled rows.
        test: the official test table, or `train`.
        settings: the section `prepare` of the task.

    Returns:
        The rows of train, validation and test, each in increasing order.

    Raises:
        DataError: there are too few rows, or too few of a class.
    """
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


def _groups(train: Raw, test: Raw, settings: TableSplitting) -> Values | None:
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


def _class_sizes(classes: Values, groups: NDArray[Any] | None, settings: TableSplitting) -> "pd.Series[int]":
    """The number of different rows of each class."""
    if groups is not None and not settings.group:
        classes = classes[np.unique(groups, return_index=True)[1]]
    return pd.Series(classes).value_counts()


def _check_parts(
    parts: dict[str, NDArray[np.int64]], train: Raw, test: Raw, settings: TableSplitting
) -> None:
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
