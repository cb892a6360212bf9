"""Predictions of a trained model for raw rows, chunk by chunk.

B rows of a batch, F features, C classes
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pyarrow import compute
from torch import Tensor

from src.bundle.progress import prediction_progress
from src.bundle.spreadsheets import as_text
from src.core.atomic import file_written_whole
from src.core.errors import ConfigurationError, DataError
from src.tabular.blocks import ahead, characters_of
from src.tabular.column_files import numbers_among
from src.tabular.data import densify
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing, transform_parts
from src.tabular.reading import table_chunks, typed_table, without_targets
from src.tabular.values import is_numeric, require_columns, with_lags

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 8192  # of the network
CHUNKS = 8  # of these rows are read at once
SMALLEST_PLAIN, LARGEST_PLAIN = 1e-3, 1e6  # float32 between them has no exponent
ROWS = Path("the rows")  # the place in messages about rows in memory


def write_predictions(
    model: TabularModel,
    preprocessing: Preprocessing,
    input: Path,
    output: Path = Path("predictions.csv"),
    escape_formulas: bool = False,
    all_probabilities: bool = False,
) -> int:
    """Write a CSV file with one row per prediction: id or row number, targets and, for classes, probability.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training rows.
        input: a raw table (CSV, Excel or JSON) with at least the columns of training.
        output: the CSV file to write.
        escape_formulas: put an apostrophe before ids, classes and column names that a spreadsheet would
            compute, such as =A1.
        all_probabilities: add a column `probability_<class>` for each class of the target.

    Returns:
        The number of predictions.

    Raises:
        ConfigurationError: `all_probabilities` of a quantity.
        DataError: a column is missing, a cell is invalid, or a series has too few rows.
    """
    _require_classes(model, all_probabilities)
    rows, tables = read_rows(input, preprocessing)
    unseen: Counter[str] = Counter()
    done, threads = 0, torch.get_num_threads()

    def predicted() -> Iterator[pd.DataFrame]:
        torch.set_num_threads(threads)  # MKL has a number for each thread, on which the last bits depend
        yield from predictions(model, preprocessing, tables, input, unseen, all_probabilities)

    with file_written_whole(output) as file, prediction_progress(rows) as advance:
        for frame in ahead(predicted()):
            if escape_formulas:
                texts = frame.select_dtypes(exclude="number").columns
                frame = frame.assign(**{name: frame[name].map(as_text, na_action="ignore") for name in texts})
                frame = frame.rename(columns=as_text)
            if not done:
                frame.head(0).to_csv(file, index=False, lineterminator="\n")
            if (lines := csv_lines(frame)) is not None:
                file.write(lines)
            else:
                frame.to_csv(file, index=False, header=False, lineterminator="\n")
            done += len(frame)
            advance(len(frame))
    _warn_of_unseen(unseen, done, preprocessing, input)
    return done


def csv_lines(table: pd.DataFrame) -> str | None:
    """The rows as `DataFrame.to_csv` writes them, by pyarrow in less time; None if that is not sure."""
    columns = []
    for _, cells in table.items():
        texts = pa.array(cells).cast(pa.string())
        if cells.dtype == np.float32:
            size = cells.abs()
            if not ((size >= SMALLEST_PLAIN) & (size < LARGEST_PLAIN)).all():  # numpy writes 1e+06
                return None
            whole = compute.binary_join_element_wise(texts, ".0", "")
            texts = compute.if_else(compute.match_substring(texts, "."), texts, whole)
        elif cells.dtype.kind in "fb" or _is_quoted(texts):  # pyarrow writes 1 and true for 1.0 and True
            return None
        columns.append(texts)
    rows = compute.binary_join_element_wise(*columns, ",")
    return str(characters_of(compute.binary_join_element_wise(rows, "", "\n")), "utf-8")


def _is_quoted(texts: pa.Array) -> bool:
    """Whether a cell is missing, or has a character for which it is quoted."""
    special = compute.match_substring_regex(texts, '[",\\r\\n]')
    return bool(texts.null_count or compute.any(special).as_py())


WRITERS = {TabularModel: write_predictions}


def predict_rows(
    model: TabularModel,
    preprocessing: Preprocessing,
    rows: pd.DataFrame | Path | str,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Predict the rows of a table in memory, as `write_predictions` those of a file.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training rows.
        rows: with at least the columns of training, but the id, whose place row numbers from 1 take; or the
            path of a raw table.
        all_probabilities: as in `write_predictions`.

    Returns:
        The columns and the order of the file of predictions.

    Raises:
        ConfigurationError: `all_probabilities` of a quantity.
        DataError: as `write_predictions`.
    """
    _require_classes(model, all_probabilities)
    if isinstance(rows, pd.DataFrame):
        path, tables = ROWS, _in_memory(rows, preprocessing)
    else:
        path = Path(rows)
        _, tables = read_rows(path, preprocessing)
    unseen: Counter[str] = Counter()
    frames = predictions(model, preprocessing, tables, path, unseen, all_probabilities)
    found = pd.concat(frames, ignore_index=True)
    _warn_of_unseen(unseen, len(found), preprocessing, path)
    return found


def _in_memory(rows: pd.DataFrame, preprocessing: Preprocessing) -> Iterator[pd.DataFrame]:
    """The columns that a prediction needs, with cells as those of a file, in chunks."""
    numbers, texts, ids = _needed(preprocessing)
    if preprocessing.id and preprocessing.id not in rows:
        rows = rows.assign(**{preprocessing.id: range(1, len(rows) + 1)})
    names = [*ids, *texts, *numbers]
    require_columns(rows, names, ROWS)
    table = rows[names].reset_index(drop=True)
    marks = numbers_among(preprocessing.missing)
    for name in table.columns if marks else ():
        if is_numeric(table[name]):
            table[name] = table[name].mask(table[name].isin(marks))
    table = typed_table(table, [*texts, *ids], preprocessing.missing, preprocessing.reading, ids, ROWS)
    chunks = (table.iloc[start : start + ROWS_AT_ONCE] for start in range(0, len(table), ROWS_AT_ONCE))
    return _with_lags(len(table), chunks, preprocessing, ROWS)[1]


PREDICTORS = {TabularModel: predict_rows}


def _warn_of_unseen(unseen: Counter[str], done: int, preprocessing: Preprocessing, path: Path) -> None:
    """Say which categories of `done` rows were never seen in training."""
    for column in preprocessing.categorical:
        if unseen[column.name] == done > 1:
            known = ", ".join(repr(text) for text in list(column.codes)[:3])
            logger.warning(
                "%s: no cell of column '%s' is a category of training (%s, ...): predicted without it",
                path,
                column.name,
                known,
            )
            del unseen[column.name]
    if unseen:
        counts = ", ".join(f"{name} ({count})" for name, count in sorted(unseen.items()))
        logger.warning("%s: categories never seen in training, ignored: %s", path, counts)


def read_rows(path: Path, preprocessing: Preprocessing) -> tuple[int | None, Iterator[pd.DataFrame]]:
    """Read the columns that a prediction needs.

    Args:
        path: a raw table.
        preprocessing: of the training rows.

    Returns:
        The number of predictions, None for a large table, and the rows in chunks.

    Raises:
        DataError: as `table_chunks`, or a series has fewer rows than lags.
    """
    numbers, texts, ids = _needed(preprocessing)
    reading = without_targets(path, preprocessing.reading, [target.name for target in preprocessing.targets])
    rows, tables = table_chunks(
        path, numbers, texts, preprocessing.missing, CHUNKS * ROWS_AT_ONCE, reading, ids
    )
    return _with_lags(rows, tables, preprocessing, path)


def _needed(preprocessing: Preprocessing) -> tuple[list[str], list[str], list[str]]:
    """The columns of numbers, of texts and of ids that a prediction needs."""
    target, lags = preprocessing.target.name, preprocessing.lags
    lagged = {f"{target}_{lag}" for lag in range(1, lags + 1)}
    names = {column.name: column.of_texts for column in preprocessing.columns if column.name not in lagged}
    numbers = [name for name, of_texts in names.items() if not of_texts]
    texts = [name for name, of_texts in names.items() if of_texts]
    if lags:
        numbers.insert(0, target)
    return numbers, texts, [preprocessing.id] if preprocessing.id else []


def _with_lags(
    rows: int | None, tables: Iterator[pd.DataFrame], preprocessing: Preprocessing, path: Path
) -> tuple[int | None, Iterator[pd.DataFrame]]:
    """The number of predictions, if known, and the tables; those of a series with the lags of the target."""
    lags = preprocessing.lags
    if not lags:
        return rows, tables
    if rows is not None and rows < lags:
        raise DataError(f"{path}: {rows} rows, a forecast needs at least {lags}")
    target = preprocessing.target.name
    lagged = {f"{target}_{lag}" for lag in range(1, lags + 1)}
    others = {column.name for column in preprocessing.columns} - lagged
    if others:
        logger.warning("%s: nothing is forecast after the last row, as %s is not known", path, min(others))
    return rows and rows + (not others) - lags, _with_history(tables, target, lags, not others)


def _with_history(
    tables: Iterator[pd.DataFrame], target: str, lags: int, forecast: bool
) -> Iterator[pd.DataFrame]:
    """Add the lags of the target, and with `forecast` one row after the last: the value to forecast."""
    before: pd.DataFrame | None = None
    for table in tables:
        series = table if before is None else pd.concat([before, table])
        yield with_lags(series, target, lags).iloc[lags:]
        before = series.tail(lags)
    if before is None or not forecast:
        return
    series = before.reindex(range(before.index[0], before.index[-1] + 2))
    yield with_lags(series, target, lags).iloc[lags:]


def predictions(
    model: TabularModel,
    preprocessing: Preprocessing,
    tables: Iterable[pd.DataFrame],
    path: Path,
    unseen: Counter[str],
    all_probabilities: bool = False,
) -> Iterator[pd.DataFrame]:
    """Predict raw rows.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training rows.
        tables: chunks of raw rows.
        path: the source of the rows, for error messages.
        unseen: is increased, by column, by the number of cells whose category no training row has.
        all_probabilities: add the probabilities of all classes of a target.

    Yields:
        A table per chunk: the id or the number of the row from 1; the targets in their units, with the ends
        `lower` and `upper` of their intervals if the model has them; or the class that the model decides for,
        and its probability. With several targets there are `lower_<target>` and so on, and
        `probability_<target>` is that of the second class, such as 1 of 0 and 1. The columns `row`,
        `probability`, `lower` and `upper` get a `_` at their end if a target or the id has that name.
    """
    identifier, targets = preprocessing.id, [target.name for target in preprocessing.targets]
    for table in tables:
        if table.empty:
            continue
        numbers, codes = map(torch.from_numpy, transform_parts(table, preprocessing, path, unseen))
        outputs = outputs_of(model, numbers, codes, preprocessing)
        columns, further = _answers(model, outputs)
        taken = {*targets, identifier}
        columns |= {free_name(name, taken): values for name, values in further.items()}
        ids = table[identifier] if identifier else table.index + 1
        frame = pd.DataFrame({identifier or free_name("row", columns): ids, **columns})
        names = preprocessing.prediction_columns
        frame = frame.iloc[:, : len(names)].set_axis(names, axis=1) if names else frame
        if all_probabilities and len(targets) == 1:  # of several ones each has that of its second class
            for label, values in zip(model.target.classes or (), model.predict(outputs).T, strict=True):
                frame[free_name(f"probability_{label}", frame.columns)] = values.cpu().numpy()
        yield frame


def _answers(model: TabularModel, outputs: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of the targets (B,) for outputs (B, O), and the further ones of their certainty."""
    values = model.predict(outputs)
    columns, further = dict[str, Any](), dict[str, Any]()
    several = len(model.targets) > 1
    parts = [values]
    if model.target.classes is not None:
        parts.append(model.decide(values))
    elif model.margin is not None:
        parts += model.interval_of(outputs)
    for target, (answers, *others) in model.by_target(*parts):
        ending = f"_{target.name}" if several else ""
        if target.classes is not None:
            (code,) = others
            columns[target.name] = [target.classes[number] for number in code.tolist()]
            probability = answers[:, 1] if several else answers.gather(1, code[:, None])[:, 0]
            further[f"probability{ending}"] = probability.cpu().numpy()
        else:
            columns[target.name] = answers.cpu().numpy()
            for name, end in zip(("lower", "upper"), others, strict=False):
                further[f"{name}{ending}"] = end.cpu().numpy()
    return columns, further


def _require_classes(model: TabularModel, all_probabilities: bool) -> None:
    if all_probabilities and model.target.classes is None:
        raise ConfigurationError(f"all_probabilities: '{model.target.name}' is a quantity, without classes")


def free_name(name: str, taken: Collection[str | None]) -> str:
    """The name of a column, with a `_` at its end for each column that has it already."""
    while name in taken:
        name += "_"
    return name


@torch.inference_mode()
def outputs_of(model: TabularModel, numbers: Tensor, codes: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Map prepared numbers (B, N) and codes (B, C) to the outputs of the network (B, O)."""
    pieces = zip(numbers.split(ROWS_AT_ONCE), codes.split(ROWS_AT_ONCE), strict=True)
    moved = ((some.to(model.device), ones.to(model.device)) for some, ones in pieces)
    return torch.cat([model(densify(some, ones, preprocessing)) for some, ones in moved])
