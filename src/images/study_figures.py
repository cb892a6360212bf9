"""Figures of a study that need no data, by the last part of the key that the study varies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from src.reporting.figures import save_figure

STEPS = np.logspace(-1, -12, 23)


def difference_errors(steps: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """The error of finite differences as the gradient of a small network's loss, in float64.

    The error of the forward difference falls with the step h, that of the central difference with h^2, until
    rounding errors, which grow with 1 / h, dominate (Press et al. 2007, Numerical Recipes, section 5.7).

    Args:
        steps: values of h.

    Returns:
        For each h the largest error of a forward and of a central difference, over the first layer's weights.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, first, second = (
        torch.randn(size, generator=generator, dtype=torch.float64) for size in ((20, 4), (5, 4), (3, 5))
    )
    target = torch.arange(20) % 3

    def loss(weight: Tensor) -> Tensor:
        hidden = functional.linear(inputs, weight).sigmoid()
        return functional.cross_entropy(functional.linear(hidden, second), target)

    weight = nn.Parameter(first)
    (exact,) = torch.autograd.grad(loss(weight), weight)
    forward, central = [], []
    with torch.no_grad():
        here = loss(first)
        for step in steps.tolist():
            moves = step * torch.eye(first.numel(), dtype=torch.float64).view(-1, *first.shape)
            above = torch.stack([loss(first + move) for move in moves])
            below = torch.stack([loss(first - move) for move in moves])
            forward.append(((above - here) / step - exact.flatten()).abs().max().item())
            central.append(((above - below) / (2 * step) - exact.flatten()).abs().max().item())
    return forward, central


def plot_difference_errors(path: Path) -> None:
    """Plot the errors of forward and central differences for h from 0.1 to 1e-12."""
    forward, central = difference_errors(STEPS)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(STEPS, forward, "-o", markersize=3, label="forward difference")
    axes.loglog(STEPS, central, "-o", markersize=3, label="central difference")
    axes.axvline(1e-4, color="grey", linestyle=":", label="h of `gradient: numerical`")
    axes.set(xlabel="h", ylabel="largest error", title="Gradient by finite differences, float64")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


FIGURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "gradient": ("differences.png", plot_difference_errors)
}
