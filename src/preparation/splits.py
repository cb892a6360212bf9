"""Test and validation rows: the settings that all kinds of data share, and cross-validation folds."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from src.core.errors import ConfigurationError

Rows = NDArray[np.int64]


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


def cut_fold(rows: Rows, settings: Splitting, stratum: NDArray[Any] | None = None) -> tuple[Rows, Rows]:
    """Split off one fold of a K-fold cross-validation.

    Args:
        rows: (N,) all rows, in increasing order.
        settings: `folds`, the number `fold` of the fold, and the seed of the shuffling.
        stratum: (N,) classes whose shares each fold keeps; None for no stratification.

    Returns:
        The other rows and those of the fold, each in increasing order. Each row is in exactly one of the
        folds 1 to `folds`.

    Raises:
        ConfigurationError: there are more folds than rows, or than rows of the largest class.
    """
    smallest, of = len(rows), "rows"
    if stratum is not None:
        smallest, of = max(np.unique(stratum, return_counts=True)[1]), "rows of the largest class"
    if settings.folds > smallest:
        raise ConfigurationError(f"prepare.folds: {settings.folds} folds of {smallest} {of}")
    kind = KFold if stratum is None else StratifiedKFold
    parts = kind(settings.folds, shuffle=True, random_state=settings.seed).split(rows, stratum)
    rest, held_out = list(parts)[settings.fold - 1]
    return rows[rest], rows[held_out]
