"""The targets of a table: how their cells are read, what is learnt from training rows, the prepared arrays.

T targets
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from src.core.errors import DataError
from src.preparation.proposals import listed
from src.preparation.splits import Rows
from src.tabular.columns import warn_of_case
from src.tabular.preprocessing import Target
from src.tabular.rules import Values
from src.tabular.splitting import Raw
from src.tabular.values import is_numeric, numeric_values, refuse_other_notation, take_rows, text_values

if TYPE_CHECKING:
    from src.tabular.prepare import Preparation

logger = logging.getLogger(__name__)

TargetTransform = Literal["none", "log", "standardize"]


def parse_targets(table: Any, path: Path, settings: "Preparation") -> tuple[NDArray[np.bool_], list[Values]]:
    """Check the cells of the targets.

    Returns:
        Which rows have all targets (rows,). Of each target of classes the texts (rows,); nothing of
        quantities, which `target_values` reads.

    Raises:
        DataError: a target is missing, or is no number that can be transformed.
    """
    known, classes = np.ones(len(table), dtype=bool), []
    for name in settings.targets:
        column = table[name]
        _check_target(column, path, settings)
        known &= column.notna().to_numpy()
        if settings.task == "classification":
            classes.append(text_values(column))
    return known, classes


def _check_target(column: "pd.Series[Any]", path: Path, settings: "Preparation") -> None:
    missing = column.isna().to_numpy()
    if missing.any():
        where = f"the target '{column.name}' is missing in {missing.sum()} of {len(missing)} rows"
        if settings.missing_target == "error" or missing.all():
            way = "" if missing.all() else "; `missing_target: drop` leaves such rows out"
            raise DataError(f"{path}: row {missing.argmax() + 1}: {where}{way}")
        logger.warning("%s: %s: left out", path, where)
    if settings.task == "classification":
        return
    if not is_numeric(column):
        refuse_other_notation(column, path, settings.reading)
    values = numeric_values(column, path)
    if "log" in settings.target_steps and (values <= 0).any():
        row = int((values <= 0).argmax())
        raise DataError(
            f"{path}: row {row + 1}: the target '{column.name}' is {values[row]:g}; "
            "`target_transform: log` needs numbers above 0"
        )


def target_values(raw: Raw, name: str, place: int, rows: Rows) -> Values:
    """The numbers or texts of the target `name` of rows, which is the one at `place` among the targets."""
    if raw.classes:
        return take_rows(raw.classes[place], rows)
    return take_rows(numeric_values(raw.table[name], raw.path), rows)


def learn_targets(raw: Raw, rows: Rows, settings: "Preparation") -> list[Target]:
    """Learn the classes, or center and scale, of each target from the training rows.

    Raises:
        DataError: a target has one class, or is one of several and has more than two.
    """
    learn = _learn_classes if settings.task == "classification" else _learn_quantity
    targets = [
        learn(name, target_values(raw, name, place, rows), raw.path, settings)
        for place, name in enumerate(settings.targets)
    ]
    for target in targets if len(targets) > 1 else []:
        if target.classes is not None and len(target.classes) > 2:
            raise DataError(
                f"{raw.path}: the target '{target.name}': expected two classes, as of each of several "
                f"targets, found {len(target.classes)}: {listed(target.classes)}; give it a task of its own"
            )
    return targets


def _learn_classes(name: str, training: Values, path: Path, settings: "Preparation") -> Target:
    classes = sorted(set(training), key=_class_order)
    warn_of_case(f"the target '{name}'", classes)
    if len(classes) < 2:
        raise DataError(
            f"{path}: the target '{name}': expected two classes or more, found only {classes[0]!r}"
        )
    return Target(name, classes)


def _class_order(text: str) -> tuple[int, float, str]:
    """Sort key of classes: numbers by value, then texts in alphabetical order."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _learn_quantity(name: str, training: Values, path: Path, settings: "Preparation") -> Target:
    log, at_least_one = "log" in settings.target_steps, bool(training.min() >= 1)
    values = np.log(training) if log else training
    del training  # a large table has hardly the memory for both
    center, scale = 0.0, 1.0
    if "standardize" in settings.target_steps:
        scaler = StandardScaler().fit(values[:, np.newaxis])
        center, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    return Target(name, None, log, center, scale, at_least_one)


def encode_targets(source: Raw, rows: Rows, targets: Sequence[Target]) -> NDArray[Any]:
    """The prepared targets of rows.

    Returns:
        (rows, T) float32; the codes of classes (rows, T) int64, of one target (rows,).

    Raises:
        DataError: a class has no training row.
    """
    columns = [
        _encode_target(source.path, rows, target_values(source, target.name, place, rows), target)
        for place, target in enumerate(targets)
    ]
    one_of_classes = len(targets) == 1 and targets[0].classes is not None
    return columns[0] if one_of_classes else np.stack(columns, axis=1)


def _encode_target(path: Path, rows: Rows, values: Values, target: Target) -> NDArray[Any]:
    if target.classes is None:
        values = np.log(values) if target.log else values
        values -= target.center
        values /= target.scale
        return values.astype(np.float32)
    codes = pd.Index(target.classes, dtype=object).get_indexer(pd.Index(values, dtype=object))
    if (codes < 0).any():
        position = int((codes < 0).argmax())
        raise DataError(
            f"{path}: row {rows[position] + 1}: the class {values[position]!r} of the target "
            f"'{target.name}' has no training row"
        )
    return codes.astype(np.int64)
