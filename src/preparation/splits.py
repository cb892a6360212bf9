"""Test and validation rows: the settings that all kinds of data share, shares and folds of rows or groups."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from src.core.errors import ConfigurationError

Rows = NDArray[np.integer]

ROWS_AT_ONCE = 1 << 20
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # an odd number: hashes of columns in another order differ


class Splitting(Protocol):
    """The settings of a preparation about test and validation rows."""

    test_share: float
    validation_share: float
    folds: int
    fold: int
    seed: int


def check_splitting(settings: Splitting) -> None:
    """Check the shares and folds.

    Raises:
        ConfigurationError: a value is out of range.
    """
    for name in ("test_share", "validation_share"):
        if not 0 < getattr(settings, name) < 1:
            raise ConfigurationError(f"prepare.{name} must be between 0 and 1: {getattr(settings, name)}")
    if settings.folds < 0 or settings.folds == 1:
        raise ConfigurationError(f"prepare.folds must be 0 or at least 2: {settings.folds}")
    if settings.folds and not 1 <= settings.fold <= settings.folds:
        raise ConfigurationError(f"prepare.fold must be 1 to {settings.folds}: {settings.fold}")


def repeated(table: Any, names: Sequence[str]) -> tuple[Rows, bool]:
    """Find equal rows of a table.

    Args:
        table: `table[name]` is a column (rows,) of pandas.
        names: the columns to look at, one after the other.

    Returns:
        (N,) a number by row, the same for equal rows; and whether repetitions are bound to occur, since the
        columns have fewer combinations of values than there are rows.
    """
    hashes: NDArray[Any] = np.zeros(len(table), dtype=np.uint64)
    for name in names:
        column = table[name]
        hashes *= FACTOR
        for start in range(0, len(hashes), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            hashes[block] ^= pd.util.hash_pandas_object(column.iloc[block], index=False).to_numpy()
        del column
    ordered = np.sort(hashes)
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(hashes)), False
    del ordered
    codes = pd.factorize(hashes)[0]
    del hashes
    numbers = codes.astype(smallest(len(codes)))
    del codes
    combinations = 1
    for name in names:
        combinations *= int(table[name].nunique(dropna=False))
        if combinations >= len(table):
            return numbers, False
    return numbers, True


def smallest(rows: int) -> type[np.signedinteger]:
    """The integers that number rows in half of the memory, where they can."""
    return np.int32 if rows <= np.iinfo(np.int32).max else np.int64


def cut_share(
    rows: Rows,
    share: float,
    seed: int | None,
    stratum: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Split off a share of the rows, or of the groups of rows as GroupShuffleSplit does.

    Args:
        rows: (N,) numbers of rows, in increasing order.
        share: of the rows or groups in the second part.
        seed: of the shuffling; None takes the last rows.
        stratum: (all rows,) classes whose shares both parts keep: with groups, of the most frequent class of
            each group, and where a class has too few groups only one of them is sure to be in the first part.
            None for no stratification.
        groups: (all rows,) rows of equal values stay in one part; None for single rows.

    Returns:
        The other rows and those of the part, each in increasing order.

    Raises:
        ValueError: there are too few rows or groups, or too few of a class.
    """
    unit, classes = _units(rows, stratum, groups)
    units, size = unit if groups is None else np.arange(unit.max() + 1), share
    chosen = np.zeros(len(units), dtype=bool)
    if groups is not None and classes is not None and not can_be_stratified(classes, share):
        # one group of each class stays in the first part, since what has no training row cannot be learnt
        size = math.ceil(share * len(units))
        units = np.delete(units, np.unique(classes, return_index=True)[1])
        classes = None
    shuffle = seed is not None
    part = train_test_split(units, test_size=size, random_state=seed, shuffle=shuffle, stratify=classes)[1]
    chosen[part] = True
    held_out = chosen[unit]
    return rows[~held_out], rows[held_out]


def _units(
    rows: Rows, stratum: NDArray[Any] | None, groups: NDArray[Any] | None
) -> tuple[Rows, NDArray[Any] | None]:
    """The number of the unit of each row, in the order of the rows, and the class of each unit."""
    classes = None if stratum is None else stratum[rows]
    if groups is None:
        return np.arange(len(rows), dtype=smallest(len(rows))), classes
    unit = _numbered(rows, groups)
    if classes is not None:
        sizes = pd.DataFrame({"unit": unit, "class": classes}).groupby(["unit", "class"]).size()
        largest = sizes.sort_values(ascending=False, kind="stable").reset_index().drop_duplicates("unit")
        classes = largest.sort_values("unit")["class"].to_numpy()
    return unit, classes


def _numbered(rows: Rows, groups: NDArray[Any]) -> Rows:
    """The numbers 0, 1, ... of the groups of rows, in the order in which the groups appear first.

    They are those of `pandas.factorize(groups[rows])`, which takes four times the memory.
    """
    if not np.issubdtype(groups.dtype, np.integer):
        groups = pd.factorize(groups)[0]
    number_type = smallest(len(rows))
    numbers = np.full(int(groups.max()) + 1, -1, dtype=number_type)
    unit = np.empty(len(rows), dtype=number_type)
    known = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = groups[rows[start : start + ROWS_AT_ONCE]]
        new = pd.unique(block)
        new = new[numbers[new] < 0]
        numbers[new] = np.arange(known, known + len(new))
        known += len(new)
        unit[start : start + ROWS_AT_ONCE] = numbers[block]
    return unit


def can_be_stratified(classes: NDArray[Any], share: float) -> bool:
    """Whether both parts of a split can have all classes (N,)."""
    counts = np.unique(classes, return_counts=True)[1]
    part = math.ceil(share * len(classes))
    return bool(counts.min() >= 2 and min(part, len(classes) - part) >= len(counts))


def cut_fold(
    rows: Rows,
    settings: Splitting,
    stratum: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Split off one fold of a K-fold cross-validation.

    Args:
        rows: (N,) all rows, in increasing order.
        settings: `folds`, the number `fold` of the fold, and the seed of the shuffling.
        stratum: (all rows,) classes whose shares each fold keeps; None for no stratification.
        groups: (all rows,) rows of equal values stay in one fold; None for single rows.

    Returns:
        The other rows and those of the fold, each in increasing order. Each row is in exactly one of the
        folds 1 to `folds`.

    Raises:
        ConfigurationError: there are more folds than rows or groups, or than those of the largest class.
    """
    unit, classes = _units(rows, stratum, groups)
    units = np.arange(unit.max() + 1)
    fewest, of = len(units), "rows" if groups is None else "groups of rows"
    if classes is not None:
        fewest, of = max(np.unique(classes, return_counts=True)[1]), f"{of} of the largest class"
    if settings.folds > fewest:
        raise ConfigurationError(f"prepare.folds: {settings.folds} folds of {fewest} {of}")
    kind = KFold if classes is None else StratifiedKFold
    parts = kind(settings.folds, shuffle=True, random_state=settings.seed).split(units, classes)
    held_out = np.isin(unit, list(parts)[settings.fold - 1][1])
    return rows[~held_out], rows[held_out]
