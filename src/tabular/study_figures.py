"""Figures that explain what a study varies; they need no data."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from src.reporting.figures import save_figure
from src.training.networks import ACTIVATIONS

POINTS = 1000
RANGE = 5.0
COLUMNS = 4


def plot_activations(path: Path) -> None:
    """Plot each activation function and its derivative by autograd, at 1,000 points from -5 to 5.

    Softmax is a function of all its inputs: its Jacobian at five inputs from -2 to 2 is shown.
    """
    inputs = torch.linspace(-RANGE, RANGE, POINTS)
    lines = math.ceil(len(ACTIVATIONS) / COLUMNS)
    figure = Figure(figsize=(2.7 * COLUMNS, 2.1 * lines), layout="constrained")
    panels = figure.subplots(lines, COLUMNS).ravel()
    for axes, (name, function_of) in zip(panels, ACTIVATIONS.items(), strict=True):
        function = function_of().eval()
        axes.set_title(name, fontsize=9)
        if name == "softmax":
            jacobian = torch.autograd.functional.jacobian(function, torch.linspace(-2, 2, 5))  # (5, 5)
            drawn = axes.imshow(jacobian, cmap="coolwarm", vmin=-0.25, vmax=0.25)
            figure.colorbar(drawn, ax=axes)
            axes.set(xlabel="input", ylabel="output")
            continue
        points = inputs.clone().requires_grad_()
        outputs = function(points)
        # the output of the step function has no graph: its derivative is 0
        slopes = torch.zeros(POINTS)
        if outputs.requires_grad:
            (slopes,) = torch.autograd.grad(outputs.sum(), points)
        axes.plot(inputs, outputs.detach(), label="function")
        axes.plot(inputs, slopes, "--", label="derivative")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    save_figure(figure, path)


# by the last part of the key that a study varies: the file name, and the function that writes it
FIGURES: dict[str, tuple[str, Callable[[Path], None]]] = {"activation": ("activations.png", plot_activations)}
