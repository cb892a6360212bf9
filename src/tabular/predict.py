"""A trained model and raw rows -> predictions, a bounded number of rows at a time.

B rows of a batch, F features, C classes
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from src.bundle.progress import prediction_progress
from src.core.atomic import file_written_whole
from src.core.errors import DataError
from src.tabular.model import TabularModel
from src.tabular.preprocessing import table_chunks, transform, with_lags

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 8192


def write_predictions(
    model: TabularModel,
    preprocessing: dict[str, Any],
    input: Path,
    output: Path = Path("predictions.csv"),
) -> int:
    """Write one row a prediction: the id (or the row number) and the target, of classes the probability, too.

    Args:
        model: a trained one, in evaluation mode.
        preprocessing: the content of its preprocessing.json.
        input: a raw table (CSV, Excel or JSON) with at least the columns of training.
        output: the CSV file to write.

    Returns:
        How many predictions there are.

    Raises:
        DataError: the input lacks a needed column, holds a wrong cell or too few rows of a series.
    """
    rows, tables = read_rows(input, preprocessing)
    unseen: Counter[str] = Counter()
    done = 0
    with file_written_whole(output) as file, prediction_progress(rows) as advance:
        for frame in predictions(model, preprocessing, tables, input, unseen):
            frame.to_csv(file, index=False, header=not done, lineterminator="\n")
            done += len(frame)
            advance(len(frame))
    if unseen:
        counts = ", ".join(f"{name} ({count})" for name, count in sorted(unseen.items()))
        logger.warning("%s: categories never seen in training, ignored: %s", input, counts)
    return done


WRITERS = {TabularModel: write_predictions}


def read_rows(path: Path, preprocessing: dict[str, Any]) -> tuple[int, Iterator[pd.DataFrame]]:
    """How many predictions the rows of a file are for, and these rows with the columns that they need.

    Args:
        path: a raw table.
        preprocessing: the content of preprocessing.json.
    """
    target, lags = preprocessing["target"]["name"], preprocessing["lags"]
    lagged = {f"{target}_{lag}" for lag in range(1, lags + 1)}
    names: dict[str, list[str]] = {"numeric": [target] if lags else [], "categorical": []}
    for column in preprocessing["columns"]:
        if column["name"] not in lagged:
            names[column["kind"]].append(column["name"])
    texts = [*([preprocessing["id"]] if preprocessing["id"] else []), *names["categorical"]]
    rows, tables = table_chunks(path, names["numeric"], texts, preprocessing["missing"], ROWS_AT_ONCE)
    if not lags:
        return rows, tables
    if rows < lags:
        raise DataError(f"{path}: {rows} rows, a forecast needs {lags} at least")
    return rows + 1 - lags, _with_history(tables, target, lags)


def _with_history(tables: Iterator[pd.DataFrame], target: str, lags: int) -> Iterator[pd.DataFrame]:
    """Rows with the target's values of the rows before, and one row more: the value not known yet."""
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
    preprocessing: dict[str, Any],
    tables: Iterable[pd.DataFrame],
    path: Path,
    unseen: Counter[str],
) -> Iterator[pd.DataFrame]:
    """The predictions of raw rows.

    Args:
        model: a trained one, in evaluation mode.
        preprocessing: the content of its preprocessing.json.
        tables: raw rows, as `transform` takes them.
        path: where they come from, for error messages.
        unseen: counts, by column, the cells whose category training never saw.

    Yields:
        A table a table: the id or the row's number from 1, the target in its own unit or as the likeliest
        class, and the class's probability.
    """
    identifier, target = preprocessing["id"], preprocessing["target"]
    for table in tables:
        if table.empty:
            continue
        values = answers(model, torch.from_numpy(transform(table, preprocessing, path, unseen)))
        columns: dict[str, Any] = {target["name"]: values.numpy()}
        if target["classes"] is not None:
            probability, code = values.max(dim=1)
            classes = [target["classes"][number] for number in code.tolist()]
            columns = {target["name"]: classes, "probability": probability.numpy()}
        ids = table[identifier] if identifier else table.index + 1
        yield pd.DataFrame({identifier or "row": ids, **columns})


@torch.inference_mode()
def answers(model: TabularModel, features: Tensor) -> Tensor:
    """Features (B, F) to values in the target's unit (B,), or to class probabilities (B, C)."""
    return model.predict(model(features.to(model.device))).cpu()
