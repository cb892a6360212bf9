"""Titles and descriptions of the pictures and tables in reports/, by file name.

Those that every kind of data or study has are here; a kind of data has its own in src/<kind>/captions.py.
"""

from pipelines.parameters import part_of

PICTURES = {
    "learning_curve": (
        "Learning curve",
        "Training and validation loss of {name} over {epochs} epochs, on a logarithmic scale; the lowest"
        " validation loss, {lowest}, is marked at epoch {best}. A dotted line marks the epoch that was kept,"
        " if another metric has chosen it.",
    ),
    "metric": (
        "Mean and 95 % interval",
        "A row a setting of the study {name}: the mean of the metric as a point with its 95 % interval; a"
        " dotted line marks the first setting. The table has the numbers.",
    ),
    "curves": (
        "Metric by epoch",
        "The metric on the validation rows over the epochs, a line a cell of the study {name}, as a mean over"
        " its runs.",
    ),
    "weights": ("Trained weights", "A histogram of the trained weights of each cell of the study {name}."),
    "gradients": (
        "Gradient norms",
        "The norm of each layer's gradient in the first epoch, on a logarithmic scale, from the input to the"
        " output, for the cells of the study {name}.",
    ),
}

TABLES = {"cells": "Cells"}


def pictures_of(kind: str) -> dict[str, tuple[str, str]]:
    """Title and description of the pictures in reports on a kind of data, in the order of the page."""
    return {**PICTURES, **getattr(part_of(kind, "captions"), "PICTURES", {})}


def tables_of(kind: str) -> dict[str, str]:
    """Titles of the tables in reports on a kind of data."""
    return {**TABLES, **getattr(part_of(kind, "captions"), "TABLES", {})}
