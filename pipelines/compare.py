"""Tables of runs and of changes.

Of the runs on this machine: the keys of the configuration that differ, metrics, time, date. With `--against`:
the models and studies whose metrics differ from those of another revision of git.
"""

import math
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from yaml import safe_load

from pipelines.against import changed_metrics, commit_of, markdown_of
from pipelines.parameters import read_parameters, studies_of
from pipelines.report.scores import USUAL
from src.core.atomic import file_written_whole
from src.core.documents import flat_keys, read_json
from src.core.errors import ConfigurationError, exit_with_message
from src.core.outputs import check_output
from src.core.paths import CELLS, MANIFEST, MODELS, RECORD, RUNS
from src.core.scores import higher_is_better
from src.reporting.noise import usual_metric
from src.reporting.tables import markdown_table

PARTS = ("model.", "data.", "trainer.callbacks", "trainer.logger")  # of several classes
TEST = ("test/", "test_")  # what the metrics of the test begin with, those of most ordinary modules, too
DIGEST = 8  # characters shown of the digest of the data
Format = Literal["table", "csv", "md", "json"]


def compare(
    name: str | None = None,
    against: str | None = None,
    sort: str | None = None,
    filter: list[str] | None = None,
    columns: list[str] | None = None,
    format: Format = "table",
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Compare the finished runs of a task, a model or a study: the settings that differ, and the metrics.

    With `against`, show what differs between the metrics of reports/ and those that another revision of git
    has committed; it is no error if something does.

    Args:
        name: a task, whose models all are compared, or a model or study of params.yaml. With `against` it may
            be left out for all.
        against: a branch, tag or commit.
        sort: a column; `-column` puts the largest first.
        filter: conditions such as `activation=relu` or `test/rmse<0.2`; the last part of a column's name is
            enough.
        columns: the columns to show, in this order; the last part of a name is enough.
        format: table (for the terminal), csv, md (Markdown) or json.
        output: a file to write in addition; its ending chooses the format unless `format` is given.
        overwrite: replace that file if it exists.
    """
    if output is not None:
        check_output(output, overwrite)
    records: dict[str, dict[str, Any]] = {}
    if against is not None:
        commit = commit_of(against)
        table = changed_metrics(commit, name)
    elif name is not None:
        records = _records(name)
        table = runs_table(records)
    else:
        raise ConfigurationError("expected the NAME of a task, model or study, or --against REVISION")
    for condition in filter or []:
        table = _filtered(table, condition)
    if sort:
        column = _column(table, sort.removeprefix("-"))
        rising = not sort.startswith("-")
        table = table.sort_values(
            column, ascending=rising, kind="stable", na_position="last", key=_comparable
        )
    if columns:
        table = table[[_column(table, column) for column in columns]]

    def text_of(format: str) -> str:
        text = as_text(table, format)
        if against is None or format != "md":
            return text
        return markdown_of(text, list(dict.fromkeys(table.index)), against, commit)

    if format != "table":
        print(text_of(format), end="")
    elif against is not None:
        if table.empty:
            print(f"no metric differs from {against}")
        else:
            _print(table, f"{len(table)} changes against {against}", sort)
    else:
        metrics = {metric for record in records.values() for metric in record["metrics"]}
        shown = table if columns else table[_usual_columns(table, metrics, str(name))]
        _print(shown, f"{len(table)} run{'s' * (len(table) != 1)} of {name}", sort)
        _print_trivial({run: records[run] for run in table.index})
    if output is not None:
        text = text_of(output.suffix.removeprefix(".") if format == "table" else format)
        with file_written_whole(output) as file:
            file.write(text)


def _records(name: str) -> dict[str, dict[str, Any]]:
    """The records of the runs, by their names."""
    parameters = read_parameters()
    studies = studies_of(parameters)
    listed = RUNS / "studies" / f"{name}.txt"
    if name in studies and not listed.is_file():
        raise ConfigurationError(f"the study {name} has not run; run: python -m pipelines.study {name}")
    if listed.is_file() and name not in parameters["tasks"]:
        lines = (line.split("\t") for line in listed.read_text(encoding="utf-8").splitlines())
        found = ((title, sorted((CELLS / cell).glob(f"runs/*/*/{RECORD}"))) for cell, title in lines)
        places = {title: paths[-1] for title, paths in found if paths}
        return {title: _record(path, f"study@{name}") for title, path in places.items()}
    every = [_record(path, f"train@{path.parents[1].name}") for path in sorted(RUNS.glob(f"*/*/{RECORD}"))]
    chosen = {record["run"]: record for record in every if name in (record["task"], record["model"])}
    if not chosen:
        models = parameters.get("models") or {}
        if name in {**parameters["tasks"], **models}:
            raise ConfigurationError(f"no run of {name} has ended; run: dvc repro -f train@{name}")
        known = ", ".join(dict.fromkeys([*parameters["tasks"], *models, *studies]))
        raise ConfigurationError(f"there is no task, model or study '{name}'; there are: {known}")
    for model in {record["model"] for record in chosen.values()}:
        for run in _current(model, chosen):
            chosen[run]["current"] = True
    return chosen


def _record(path: Path, stage: str) -> dict[str, Any]:
    """The content of run.json, with the run's name, model, task and date."""
    record = read_json(path, stage)
    task = record["configuration"]["task"]
    date = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    model = record["configuration"].pop("name", None) or task
    return {**record, "run": path.parent.name, "model": model, "task": task, "date": date}


def _current(model: str, records: dict[str, dict[str, Any]]) -> list[str]:
    """The newest run whose configuration and data are those of models/<model>; none without that bundle."""
    bundle = MODELS / model
    if not (bundle / MANIFEST).is_file():
        return []
    prepared = read_json(bundle / MANIFEST, f"train@{model}")["prepared"] or ""
    configuration = safe_load((bundle / "config.yaml").read_text(encoding="utf-8"))
    configuration.pop("name", None)
    found = [
        title
        for title, record in records.items()
        if record["model"] == model and record["configuration"] == configuration and _data(record) == prepared
    ]
    return sorted(found, key=lambda title: str(records[title]["date"]))[-1:]


def _data(record: dict[str, Any]) -> str:
    """The sha256 over the prepared data of a run."""
    return str(record.get("provenance", {}).get("prepared_sha256") or "")


def runs_table(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row a run.

    Args:
        records: the content of run.json of the runs, by their names.

    Returns:
        `model` and the keys of the configuration in which runs differ, `data` if the prepared data do, the
        metrics of the best epoch and of the test, `seconds`, `date`, and `current` for the run whose model is
        models/<model>; the names are the index.
    """
    flat = {name: flat_keys(record["configuration"]) for name, record in records.items()}
    settings = pd.DataFrame.from_dict(flat, orient="index", dtype=object)
    texts = settings.map(str)
    differing = settings[[column for column in settings if texts[column].nunique() > 1]]
    models = [record.get("model", "") for record in records.values()]
    if len(set(models)) > 1:
        differing.insert(0, "model", models)
    data = [_data(record)[:DIGEST] for record in records.values()]
    if len(set(data)) > 1:
        differing = differing.assign(data=data)
    metrics = pd.DataFrame.from_dict(
        {name: record["metrics"] for name, record in records.items()}, orient="index"
    )
    table = differing.join(metrics)
    table["seconds"] = [round(record["seconds"], 2) for record in records.values()]
    table["date"] = [record.get("date", "") for record in records.values()]
    if any("current" in record for record in records.values()):
        table["current"] = ["yes" if "current" in record else "" for record in records.values()]
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


def _usual_columns(table: pd.DataFrame, metrics: set[str], name: str) -> list[str]:
    """The columns for a terminal: metrics of the test, time, and the keys that differ.

    Of ordinary modules, which name their metrics as they like, all metrics. The runs of a study have names
    that say their settings. Of a task, keys of classes that some runs do not have, such as the arguments of
    one of several optimizers, are left out.

    Args:
        table: of the runs.
        metrics: the names of its columns that are metrics.
        name: of the task, model or study.
    """
    hidden = ("train/", "validation/", "gradient_norm/", "dead/", "epoch", "learning_rate")
    known = {"model", "data", "best_epoch", "seconds", "date", "current"}
    is_study = name in studies_of(read_parameters())

    def is_shown(column: str) -> bool:
        if column in known or column in metrics:
            return not column.startswith(hidden)
        return not (is_study or (column.startswith(PARTS) and table[column].isna().any()))

    return [str(column) for column in table if is_shown(str(column))]


def _comparable(values: pd.Series) -> pd.Series:
    """Values that can be sorted: numbers come before values of other kinds, which are sorted as texts."""

    def key(value: Any) -> tuple[int, float, str]:
        return (0, value, "") if isinstance(value, int | float) else (1, 0, str(value))

    places = {found: place for place, found in enumerate(sorted(set(map(key, values.dropna()))))}
    return values.map(lambda value: places[key(value)], na_action="ignore")


def _short_names(columns: list[str]) -> dict[str, str]:
    """The last part of each name, or all of it where others end alike."""
    ends = Counter(column.rpartition(".")[2] for column in columns)
    return {column: end if ends[end := column.rpartition(".")[2]] == 1 else column for column in columns}


def _print(table: pd.DataFrame, title: str, sort: str | None) -> None:
    """Print a table, each column whole; on a terminal those that fit, the metrics first."""
    sorted_by = _column(table, sort.removeprefix("-")) if sort else None
    names = _short_names([str(column) for column in table])
    cells = {names[str(column)]: [_shown(value) for value in table[column]] for column in table}
    index = str(table.index.name)
    cells = {index: list(map(str, table.index)), **cells}
    widths = {column: max(map(len, [column, *rows])) + 3 for column, rows in cells.items()}
    left_out: list[str] = []
    console = Console() if sys.stdout.isatty() else Console(width=sum(widths.values()) + 1)
    first = {index: 0, names.get(str(sorted_by), ""): 1}
    room = console.width - 1
    for column in sorted(cells, key=lambda column: first.get(column, 2 if column.startswith(TEST) else 3)):
        if widths[column] <= room or column in first:
            room -= widths[column]
        else:
            left_out.append(column)
    shown = Table(title=title)
    for column in (column for column in cells if column not in left_out):
        width = None if column == index else widths[column] - 3  # only the name may be cut
        shown.add_column(column, no_wrap=True, min_width=width)
    for row in zip(*(rows for column, rows in cells.items() if column not in left_out), strict=True):
        shown.add_row(*row)
    console.print(shown)
    if left_out:
        print(f"not shown for want of room: {', '.join(left_out)}; see --columns and --format csv")


def _print_trivial(records: dict[str, dict[str, Any]]) -> None:
    """Name the runs that are not better than the trivial answer, for accuracy beyond two standard errors."""
    found = []
    for run, record in records.items():
        trivial = record.get("trivial", {})
        metrics = record["metrics"] | {f"baseline/trivial/{key}": value for key, value in trivial.items()}
        metric = usual_metric(metrics, USUAL)
        if metric is None or metric not in trivial:
            continue
        score, other = float(metrics[f"test/{metric}"]), float(trivial[metric])
        gain = score - other if higher_is_better(metric) else other - score
        noise = 0.0
        if metric == "accuracy":
            variance = score * (1 - score) + other * (1 - other)
            noise = 2 * math.sqrt(variance / record["test_rows"])
        if gain <= noise:
            found.append(f"{run} ({metric} {score:.4g}, trivial {other:.4g})")
    if found:
        print(f"not better than the trivial answer beyond noise: {', '.join(found)}")


def main() -> None:
    """The command line of `compare`."""
    parser = ArgumentParser(prog="python -m pipelines.compare", description=__doc__)
    parser.add_argument(
        "name",
        nargs="?",
        help="A task, whose models all are compared, or a model or study; with --against by default all.",
    )
    parser.add_function_arguments(compare, skip={"name"})
    compare(**parser.parse_args().as_dict())


if __name__ == "__main__":
    exit_with_message(main)
