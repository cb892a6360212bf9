"""A proposal for the preparation and the training of a table."""

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import Noted, Proposal, count
from src.tabular.dialect import DEFAULT, Reading, ReadingError, as_flow, delimiter_of, format_of
from src.tabular.notation import plain_number
from src.tabular.proposed_columns import column_findings, column_keys, features_of
from src.tabular.proposed_files import read_again, refuse_mistyped, submission_columns, table_file, test_file
from src.tabular.proposed_targets import Task, chosen_targets, kind_of_targets, suspicious, target_keys
from src.tabular.proposed_training import training_of
from src.tabular.reading import CSV_ENDINGS, found_reading, read_table
from src.tabular.splitting import EACH_PART

DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_SEEN = 3
FEW_ROWS = 1000


def propose(path: Path, target: str | None, task: Task | None = None, reading: Reading = DEFAULT) -> Proposal:
    """Propose the preparation and the training of a table.

    Args:
        path: the file, or a folder with train.csv (and test.csv) or with one table.
        target: the column to predict, or several names between commas; None chooses the one that test.csv
            lacks, that of the submission, one with a usual name of targets, or the last one. Of several that
            test.csv lacks it is one of these; the others are left out.
        task: what the target is; None decides by its values and its name.
        reading: the keys of the file that are known; the others are found.

    Raises:
        ConfigurationError: there is no such column, or it cannot be a target, or files without names leave it
            open.
        DataError: the file cannot be read, or a column mixes numbers and texts.
    """
    file = table_file(path)
    try:
        reading, seen, table = found_reading(file, reading)
    except ReadingError as error:
        raise _choice(error, reading) from None
    _refuse_numbers(table, file)
    test = test_file(file)
    others_of_test = list(read_table(test, reading.units, reading=reading).columns) if test else None
    columns = list(map(str, table.columns))
    if test and others_of_test and reading.header == "none" and len(others_of_test) < len(columns):
        if target is None:
            raise ConfigurationError(
                f"--target: {test.name} has fewer columns than {file.name}, and neither has names: name the "
                f"target, one of {columns[0]} to {columns[-1]}"
            )
        others_of_test = None  # its column_1 may be another one
    lacking = [name for name in columns if others_of_test is not None and name not in others_of_test]
    submission = submission_columns(file)
    targets, reason = chosen_targets(columns, target, lacking, submission)
    table, unknown = read_again(file, table, targets, reading)
    others = table.drop(columns=targets)
    for column in table.columns:
        refuse_mistyped(table[column], file, reading)
    classes, target_findings = kind_of_targets(table[targets], reason, task, file)
    lacking = [name for name in lacking if name not in targets]
    official = test if others_of_test is not None and set(targets) <= set(others_of_test) else None
    answered_by = submission[0] if submission else None
    features = features_of(others, answered_by)
    if test and lacking:
        if not official:  # what is to be predicted needs no group, and no part of a split
            splitting = [found[0] for found in (features.group, features.split_column) if found]
            lacking = [name for name in lacking if name not in splitting]
        features = features_of(others.drop(columns=lacking), answered_by)
        features.drop |= dict.fromkeys(lacking, f"{test.name} does not have it")

    prepare: dict[str, Any] = {
        "target": Noted(targets[0] if len(targets) == 1 else targets, reason),
        "task": "classification" if classes else "regression",
        "train": file.name,
    }
    if official:
        prepare["test"] = Noted(official.name, "an official test set: it has the target")
    parts = EACH_PART - bool(official or features.split_column)
    keys, findings_of_rows = target_keys(table, targets, classes, parts)
    prepare |= keys | column_keys(others, features, unknown)
    if reading.changes():
        prepare["reading"] = reading.changes()
    answered = len(submission) == 1 + len(targets)
    not_ids = {*columns, *(others_of_test or ())} - {(features.id or ("",))[0]}
    if answered and submission[0] not in not_ids:  # in no table: predictions count the rows
        prepare["prediction_columns"] = Noted(submission, "those of the submission")
    few = Noted(0.2, "few rows: a tenth would choose the epoch by chance")
    prepare |= {"test_share": 0.2, "validation_share": few if len(table) < FEW_ROWS else 0.1, "seed": 42}

    findings = [
        _shape(file, table, reading),
        *_reading_findings(reading, seen),
        *target_findings,
        *findings_of_rows,
        *column_findings(others, features, unknown),
    ]
    if test and not official:
        findings.append(f"'{test.name}' has no target: it is what to predict")
    if answered and submission[0] in not_ids:
        findings.append(
            f"the submission begins with '{submission[0]}', which is not the id here: predictions begin with "
            "the id or the number of the row; paste the column, or set `id` and `prediction_columns`"
        )
    findings += suspicious(table, targets, features, classes)
    training, reasons = training_of(table, targets, classes, bool(features.group or features.split_column))
    return Proposal(
        source=file.parent,
        files=[file.name, *([official.name] if official else [])],
        prepare=prepare,
        configuration=training,
        findings=[*findings, *reasons],
        predict=f"--data.input {shlex.quote(str(test or file))}",
    )


def _refuse_numbers(table: pd.DataFrame, file: Path) -> None:
    """Refuse a table whose header is a row of numbers."""
    if all(plain_number(str(name)) is not None for name in table.columns):
        raise DataError(
            f"{file}: the header: expected the names of the columns, found numbers; if they are values: "
            "--reading '{header: none}'"
        )


def _shape(file: Path, table: pd.DataFrame, reading: Reading) -> str:
    shape = f"{file.name}: {count(len(table), 'row')}, {count(len(table.columns), 'column')}"
    if format_of(file) in CSV_ENDINGS:
        delimiter = delimiter_of(file, reading)
        shape += f", cut by {DELIMITER_NAMES.get(delimiter, repr(delimiter))}"
    return shape


def _choice(error: ReadingError, known: Reading) -> DataError:
    """The error of a table that several readings would read, with the options of `new_task` for them."""
    options = [json.dumps(known.changes() | keys, ensure_ascii=False) for keys in error.keys]
    ways = [f"--reading {shlex.quote(option)}" for option in options]
    return DataError(f"{error.found}; choose {' or '.join(ways)}")


def _reading_findings(reading: Reading, seen: list[str]) -> list[str]:
    if not reading.changes():
        return []
    more = f"; {len(seen) - MOST_SEEN} more" if len(seen) > MOST_SEEN else ""
    why = "; ".join(seen[:MOST_SEEN]) + more if seen else "by --reading"
    return [f"read with `reading: {as_flow(reading.changes())}`: {why}"]
