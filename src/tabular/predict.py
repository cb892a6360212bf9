"""Predictions of a trained model for raw rows, chunk by chunk.

B rows of a batch, F features, C classes
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from src.bundle.progress import prediction_progress
from src.bundle.spreadsheets import as_text
from src.core.atomic import file_written_whole
from src.core.errors import DataError
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing, transform
from src.tabular.reading import table_chunks, without_target
from src.tabular.values import with_lags

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 8192


def write_predictions(
    model: TabularModel,
    preprocessing: Preprocessing,
    input: Path,
    output: Path = Path("predictions.csv"),
    escape_formulas: bool = False,
) -> int:
    """Write a CSV file with one row per prediction: id or row number, target and, for classes, probability.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training rows.
        input: a raw table (CSV, Excel or JSON) with at least the columns of training.
        output: the CSV file to write.
        escape_formulas: put an apostrophe before ids, classes and column names that a spreadsheet would
            compute, such as =A1.

    Returns:
        The number of predictions.

    Raises:
        DataError: a column is missing, a cell is invalid, or a series has too few rows.
    """
    rows, tables = read_rows(input, preprocessing)
    unseen: Counter[str] = Counter()
    done = 0
    with file_written_whole(output) as file, prediction_progress(rows) as advance:
        for frame in predictions(model, preprocessing, tables, input, unseen):
            if escape_formulas:
                texts = frame.select_dtypes(exclude="number").columns
                frame = frame.assign(**{name: frame[name].map(as_text, na_action="ignore") for name in texts})
                frame = frame.rename(columns=as_text)
            frame.to_csv(file, index=False, header=not done, lineterminator="\n")
            done += len(frame)
            advance(len(frame))
    for column in preprocessing.categorical:
        if unseen[column.name] == done > 1:
            known = ", ".join(repr(text) for text in list(column.codes)[:3])
            logger.warning(
                "%s: no cell of column '%s' is a category of training (%s, ...): predicted without it",
                input,
                column.name,
                known,
            )
            del unseen[column.name]
    if unseen:
        counts = ", ".join(f"{name} ({count})" for name, count in sorted(unseen.items()))
        logger.warning("%s: categories never seen in training, ignored: %s", input, counts)
    return done


WRITERS = {TabularModel: write_predictions}


def read_rows(path: Path, preprocessing: Preprocessing) -> tuple[int, Iterator[pd.DataFrame]]:
    """Read the columns that a prediction needs.

    Args:
        path: a raw table.
        preprocessing: of the training rows.

    Returns:
        The number of predictions, and the rows in chunks.

    Raises:
        DataError: as `table_chunks`, or a series has fewer rows than lags.
    """
    target, lags = preprocessing.target.name, preprocessing.lags
    lagged = {f"{target}_{lag}" for lag in range(1, lags + 1)}
    numbers = [column.name for column in preprocessing.numeric if column.name not in lagged]
    texts = [column.name for column in preprocessing.categorical if column.name not in lagged]
    if lags:
        numbers.insert(0, target)
    ids = [preprocessing.id] if preprocessing.id else []
    reading = without_target(path, preprocessing.reading, target)
    rows, tables = table_chunks(path, numbers, texts, preprocessing.missing, ROWS_AT_ONCE, reading, ids)
    if not lags:
        return rows, tables
    if rows < lags:
        raise DataError(f"{path}: {rows} rows, a forecast needs at least {lags}")
    return rows + 1 - lags, _with_history(tables, target, lags)


def _with_history(tables: Iterator[pd.DataFrame], target: str, lags: int) -> Iterator[pd.DataFrame]:
    """Add the lags of the target, and one row after the last: the value to forecast."""
    before: pd.DataFrame | None = None
    for table in tables:
        series = table if before is None else pd.concat([before, table])
        yield with_lags(series, target, lags).iloc[lags:]
        before = series.tail(lags)
    assert before is not None
    series = before.reindex(range(before.index[0], before.index[-1] + 2))
    yield with_lags(series, target, lags).iloc[lags:]


def predictions(
    model: TabularModel,
    preprocessing: Preprocessing,
    tables: Iterable[pd.DataFrame],
    path: Path,
    unseen: Counter[str],
) -> Iterator[pd.DataFrame]:
    """Predict raw rows.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training rows.
        tables: chunks of raw rows.
        path: the source of the rows, for error messages.
        unseen: is increased, by column, by the number of cells whose category no training row has.

    Yields:
        A table per chunk: the id or the number of the row from 1; the target in its unit, or the most
        probable class and its probability. The columns `row` and `probability` get a `_` at their end if the
        target or the id has that name.
    """
    identifier, target = preprocessing.id, preprocessing.target
    for table in tables:
        if table.empty:
            continue
        values = answers(model, torch.from_numpy(transform(table, preprocessing, path, unseen)))
        columns: dict[str, Any] = {target.name: values.numpy()}
        if target.classes is not None:
            probability, code = values.max(dim=1)
            classes = [target.classes[number] for number in code.tolist()]
            name = free_name("probability", {target.name, identifier})
            columns = {target.name: classes, name: probability.numpy()}
        ids = table[identifier] if identifier else table.index + 1
        frame = pd.DataFrame({identifier or free_name("row", columns): ids, **columns})
        names = preprocessing.prediction_columns
        yield frame.iloc[:, :2].set_axis(names, axis=1) if names else frame


def free_name(name: str, taken: Collection[str | None]) -> str:
    """The name of a column, with a `_` at its end for each column that has it already."""
    while name in taken:
        name += "_"
    return name


@torch.inference_mode()
def answers(model: TabularModel, features: Tensor) -> Tensor:
    """Map features (B, F) to values in the unit of the target (B,) or to class probabilities (B, C)."""
    return model.predict(model(features.to(model.device))).cpu()
