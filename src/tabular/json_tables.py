"""Tables in JSON files, in the forms in which they are usual."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.errors import DataError
from src.tabular.dialect import (
    Reading,
    open_text,
)
from src.tabular.header import complete_names, refuse_doubled


def read_json_table(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    """Read a JSON file; the arguments are those of every reader of `read_table`."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        refuse_doubled(path, [name for name, _ in pairs])
        return dict(pairs)

    with open_text(path, reading) as file:
        text = file.read()
    try:
        content = _json_content(text, object_of)
        if isinstance(content, dict) and {".jsonl", ".ndjson"} & set(path.suffixes):  # of one row
            content = [content]
        table = _json_table(content)
        if table is not None and re.search(r"\\ud[89a-f]", text, re.I):
            "".join(map(str, [*table.columns, *table.to_numpy().ravel()])).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: invalid JSON: {error}") from None
    except (RecursionError, ValueError) as error:  # too deep, too many digits, or half of a character
        raise DataError(f"{path}: unusable JSON: {str(error)[:200]}") from None
    if table is None:
        raise DataError(
            f"{path}: expected a list of objects, one per row, or an object of columns, found "
            f"{'an object' if isinstance(content, dict) else 'a list'} of another form"
        )
    for name in table.columns:
        nested = table[name].map(lambda cell: isinstance(cell, dict | list)).to_numpy()
        if nested.any():
            raise DataError(
                f"{path}: row {nested.argmax() + 1}, column '{name}': expected a number or a text, found "
                f"{'an object' if isinstance(table[name].iloc[nested.argmax()], dict) else 'a list'}"
            )
    names = [str(name).strip() if reading.strip else str(name) for name in table.columns]
    return table.set_axis(complete_names(path, names), axis=1)


def _json_content(text: str, object_of: Any) -> Any:
    """The document, or the list of the documents if there is one on each line (JSON Lines)."""
    try:
        return json.loads(text, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        # not splitlines: texts may have other signs that end a line
        lines = [line for line in text.split("\n") if line.strip()]
        if not error.msg.startswith("Extra data") or len(lines) < 2:
            raise
    return [json.loads(line, object_pairs_hook=object_of) for line in lines]


def _json_table(content: Any) -> pd.DataFrame | None:
    """The table of a JSON document; None if it has none of these forms.

    A list of objects, one per row, alone or as the one list of objects in an object; an object with a list,
    or with an object of row labels, for each column; an object of numbered rows; pandas' form `split`.
    """
    if isinstance(content, list):
        if not all(isinstance(record, dict) for record in content):
            return None
        return pd.DataFrame(content, dtype=object)
    if not isinstance(content, dict) or not content:
        return None
    if {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}:
        return pd.DataFrame(content["data"], columns=content["columns"], dtype=object)
    values = list(content.values())
    if all(isinstance(value, dict) for value in values):
        labels = values[0].keys()
        if all(value.keys() == labels for value in values) and all(map(str.isdigit, labels)):
            return pd.DataFrame({name: list(value.values()) for name, value in content.items()}, dtype=object)
        if all(value.keys() == labels for value in values) and all(map(str.isdigit, content)):
            return pd.DataFrame(values, dtype=object)
        return None
    records = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(records) == 1 and all(isinstance(record, dict) for record in records[0]):
        return pd.DataFrame(records[0], dtype=object)
    if all(isinstance(value, list) for value in values) and not records:
        return pd.DataFrame(content, dtype=object)
    return None
