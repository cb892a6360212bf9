"""The progress bar of predictions, on terminals only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from src.core.progress import progress_bar


@contextmanager
def prediction_progress(total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Draw a bar on a terminal; yield what moves it on by a number of predictions.

    Args:
        total: how many there will be, if that is known.
    """
    with progress_bar(shown=sys.stderr.isatty()) as progress:
        yield partial(progress.advance, progress.add_task("predict", total=total))
