"""A table of the runs on this machine: the keys of the configuration that differ, metrics, time."""

import sys
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from pipelines.parameters import read_parameters, studies_of
from src.core.documents import flat_keys, read_json
from src.core.errors import ConfigurationError, exit_with_message
from src.core.paths import RECORD, RUNS
from src.reporting.tables import markdown_table

CELLS = RUNS / "cells"
PIPE_WIDTH = 160
Format = Literal["table", "csv", "md", "json"]


def compare(
    name: str,
    sort: str | None = None,
    filter: list[str] | None = None,
    format: Format = "table",
    output: Path | None = None,
) -> None:
    """Compare the finished runs of a task or of a study: the settings that differ, and the metrics.

    Args:
        name: a task, or a study of params.yaml.
        sort: a column; `-column` puts the largest first.
        filter: conditions such as `activation=relu` or `test/rmse<0.2`; the last part of a column's name is
            enough.
        format: table (for the terminal), csv, md (Markdown) or json.
        output: a file to write in addition; its ending chooses the format unless `format` is given.
    """
    table = runs_table(_records(name))
    for condition in filter or []:
        table = _filtered(table, condition)
    if sort:
        column = _column(table, sort.removeprefix("-"))
        rising = not sort.startswith("-")
        table = table.sort_values(column, ascending=rising, kind="stable", na_position="last")
    if format == "table":
        _print(table, name)
    else:
        print(as_text(table, format), end="")
    if output is not None:
        ending = output.suffix.removeprefix(".") if format == "table" else format
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(as_text(table, ending), encoding="utf-8")


def _records(name: str) -> dict[str, dict[str, Any]]:
    """The records of the runs, by their names."""
    parameters = read_parameters()
    listed = RUNS / "studies" / f"{name}.txt"
    if name in parameters["tasks"]:
        places = {path.parent.name: path for path in (RUNS / name).glob(f"*/{RECORD}")}
    elif listed.is_file():
        lines = (line.split("\t") for line in listed.read_text(encoding="utf-8").splitlines())
        found = ((title, sorted((CELLS / cell).glob(f"runs/*/*/{RECORD}"))) for cell, title in lines)
        places = {title: paths[-1] for title, paths in found if paths}
    else:
        studies = studies_of(parameters)
        if name in studies:
            raise ConfigurationError(f"the study {name} has not run; run: python -m pipelines.study {name}")
        known = ", ".join([*parameters["tasks"], *studies])
        raise ConfigurationError(f"there is no task or study '{name}'; there are: {known}")
    if not places:
        raise ConfigurationError(f"no run of {name} has ended; run: dvc repro -f train@{name}")
    return {title: read_json(path, f"train@{name}") for title, path in places.items()}


def runs_table(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row a run.

    Args:
        records: the content of run.json of the runs, by their names.

    Returns:
        The keys of the configuration in which runs differ, the metrics of the best epoch and of the test, and
        `seconds`; the names are the index.
    """
    flat = {name: flat_keys(record["configuration"]) for name, record in records.items()}
    settings = pd.DataFrame.from_dict(flat, orient="index", dtype=object)
    texts = settings.map(str)
    differing = settings[[column for column in settings if texts[column].nunique() > 1]]
    metrics = pd.DataFrame.from_dict(
        {name: record["metrics"] for name, record in records.items()}, orient="index"
    )
    table = differing.join(metrics)
    table["seconds"] = [round(record["seconds"], 2) for record in records.values()]
    table.index.name = "run"
    return table


def _column(table: pd.DataFrame, name: str) -> str:
    """The column of that name, or the one whose last part it is."""
    if name in table:
        return name
    found = [column for column in table if str(column).rpartition(".")[2] == name]
    if len(found) != 1:
        raise ConfigurationError(f"there is no column '{name}'; there are: {', '.join(map(str, table))}")
    return str(found[0])


def _filtered(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    for sign in ("<", ">", "="):
        name, found, wanted = condition.partition(sign)
        if found:
            column = table[_column(table, name)]
            if sign == "=":
                return table[column.map(str) == wanted]
            try:
                limit = float(wanted)
            except ValueError:
                raise ConfigurationError(f"filter: '{wanted}' in '{condition}' is not a number") from None
            numbers = pd.to_numeric(column, errors="coerce")
            return table[numbers < limit if sign == "<" else numbers > limit]
    raise ConfigurationError(f"filter: expected column=value, column<number or column>number: '{condition}'")


def as_text(table: pd.DataFrame, format: str) -> str:
    """The table as CSV, Markdown or JSON (a list of objects).

    Raises:
        ConfigurationError: there is no such format.
    """
    whole = table.reset_index()
    if format == "csv":
        return whole.to_csv(index=False, lineterminator="\n")
    if format == "json":
        return whole.to_json(orient="records", indent=1, force_ascii=False) + "\n"
    if format == "md":
        rows = ([_shown(value) for value in row] for _, *row in whole.itertuples())
        return markdown_table([str(column) for column in whole.columns], rows)
    raise ConfigurationError(f"output: a file ends with .csv, .md or .json, not .{format}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.5g}"  # NaN is not itself
    return str(value)


def _print(whole: pd.DataFrame, name: str) -> None:
    """Print the keys that differ, the test metrics and the time; the other formats have every column."""
    hidden = ("train/", "validation/", "gradient_norm/", "dead/", "epoch", "learning_rate")
    shown = whole[[column for column in whole if not str(column).startswith(hidden)]]
    shown = shown.rename(columns=lambda column: str(column).rpartition(".")[2]).reset_index()
    table = Table(title=f"{len(whole)} runs of {name}")
    for column in shown:
        table.add_column(str(column), no_wrap=True)
    for _, *row in shown.itertuples():
        table.add_row(*map(_shown, row))
    # the width of a pipe is not limited
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(compare, as_positional=True))
