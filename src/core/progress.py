"""The progress bars of all commands: on standard error."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


def progress_bar(
    *more: ProgressColumn, description: str = "{task.description}", shown: bool = True
) -> Progress:
    """A bar with the number of completed steps and the remaining time.

    Args:
        more: further columns, at the end of the line.
        description: the text at the beginning of the line; it may name fields of the task.
        shown: whether the bar is drawn at all.
    """
    columns = TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, *more, console=Console(stderr=True), disable=not shown)
