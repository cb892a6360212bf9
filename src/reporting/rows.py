"""Which rows stand for all."""

import numpy as np
from numpy.typing import NDArray


def evenly(rows: int, most: int) -> NDArray[np.int64]:
    """The numbers of at most `most` rows, in even distances from the first to the last."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)
