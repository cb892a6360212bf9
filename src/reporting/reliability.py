"""What the probabilities of a classifier mean: the accuracy over the confidence.

N examples, C classes
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from src.reporting.figures import save_figure


def plot_reliability(
    probabilities: Tensor, target: Tensor, bins: int, path: Path, examples: str = "rows"
) -> None:
    """Plot the accuracy over the confidence of the test examples, in bins, and the number of those of each.

    Args:
        probabilities: (N, C).
        target: classes (N,).
        bins: how many of equal width there are between 0 and 1.
        path: of the figure.
        examples: what they are called.
    """
    found = probabilities.double().numpy()
    confidence, hits = found.max(axis=1), found.argmax(axis=1) == target.numpy()
    number = np.clip(np.ceil(confidence * bins).astype(int), 1, bins) - 1
    counts = np.bincount(number, minlength=bins)
    full = np.flatnonzero(counts)
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="grey", linewidth=1)
    means = (
        np.bincount(number, values, minlength=bins)[full] / counts[full] for values in (confidence, hits)
    )
    upper.plot(*means, "o-")
    upper.set(ylabel="accuracy", title=f"Test {examples}", xlim=(0, 1), ylim=(0, 1))
    lower.bar((np.arange(bins) + 0.5) / bins, counts, width=0.9 / bins)
    lower.set(xlabel="probability of the most probable class", ylabel=examples)
    upper.grid(alpha=0.3)
    save_figure(figure, path)
