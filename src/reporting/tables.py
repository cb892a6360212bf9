"""Tables of results: as Markdown in files, as a grid on the terminal."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress

from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

from src.reporting.noise import P_VALUE

MOST_COLUMNS = 6  # of metrics on a terminal


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], optional: Collection[str] = ()
) -> str:
    """A Markdown table, one line a row, with a final newline.

    In a cell, a bar is escaped and a line break becomes a space.

    Args:
        headings: of the columns.
        rows: the cells of each.
        optional: columns that are left out if none of their cells has a text.
    """
    if optional:
        rows = [*rows]
        kept = [name not in optional or any(row[i] for row in rows) for i, name in enumerate(headings)]
        headings, *rows = ([*compress(cells, kept)] for cells in (headings, *rows))
    lines = [_line(headings), "|---" * len(headings) + "|", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.splitlines()).replace('|', chr(92) + '|') for cell in cells)} |"


def scores_of_classes(target: ArrayLike, answers: ArrayLike, count: int) -> list[list[str]]:
    """The cells of each class: its number of examples, precision, recall and F1.

    Args:
        target: actual classes (N,), as numbers.
        answers: predicted classes (N,).
        count: of classes.
    """
    from sklearn.metrics import precision_recall_fscore_support

    *scores, support = precision_recall_fscore_support(target, answers, labels=range(count), zero_division=0)
    return [
        [str(examples), *(f"{score:.4f}" for score in row)]
        for examples, *row in zip(support, *scores, strict=True)
    ]


def print_scores(title: str, scores: Mapping[str, float]) -> None:
    """Print a row for each score.

    Args:
        title: of the table.
        scores: by name.
    """
    table = Table("metric", "value", title=title)
    for name, value in sorted(scores.items()):
        table.add_row(name, f"{value:.5g}")
    Console().print(table)


def print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """Print the metrics of the model on test rows and those of the baselines beside one another.

    Args:
        title: of the table.
        metrics: by name: `test/<metric>` of the model, `baseline/<name>/<metric>` of the baselines.
    """
    names = sorted(name.removeprefix("test/") for name in metrics if name.startswith("test/"))
    baselines = sorted({"/".join(name.split("/")[:2]) for name in metrics if name.startswith("baseline/")})
    prefixes = {"model": "test"} | {prefix.removeprefix("baseline/"): prefix for prefix in baselines}
    values = {
        (shown, name): "" if (value := metrics.get(f"{prefix}/{name}")) is None else f"{value:.5g}"
        for shown, prefix in prefixes.items()
        for name in names
    }
    # many metrics have a line each, so that a terminal of 80 columns holds them
    lines, columns = (list(prefixes), names) if len(names) <= MOST_COLUMNS else (names, list(prefixes))
    table = Table(title=title)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for line in lines:
        cells = [values.get((line, column), values.get((column, line), "")) for column in columns]
        table.add_row(line, *cells)
    Console().print(table)
    if P_VALUE in metrics:
        print(
            "the model is not better than the trivial answer beyond noise "
            f"(paired t-test over the test rows, p = {metrics[P_VALUE]:.2g})"
        )
