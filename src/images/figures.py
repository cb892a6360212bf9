"""Figures of the report: the confusion matrix, the most confident mistakes, feature maps.

N images, C channels, H height, W width, K classes
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from src.reporting.figures import save_figure
from src.reporting.rows import evenly

MOST_WRONG = (4, 6)  # rows, columns
MAPS_SHOWN = 8
MOST_LAYERS = 16  # from the first to the last; a figure of all 100 and more of a deep network is too long
OCCLUDED = 8
MOST_NUMBERS = 90  # classes of a confusion matrix with numbers and names
SIDE_WITHOUT = 12.0  # inches


def plot_confusion(target: Tensor, probabilities: Tensor, classes: list[str], path: Path) -> None:
    """Plot how many images of each class are predicted as each class.

    Args:
        target: classes (N,).
        probabilities: (N, K).
        classes: their names.
        path: the PNG file to write.
    """
    # imported here: it takes half a second, and predict uses the feature maps of this module only
    from sklearn.metrics import ConfusionMatrixDisplay

    side = max(5.0, 0.55 * len(classes)) if len(classes) <= MOST_NUMBERS else SIDE_WITHOUT
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        target.numpy(),
        probabilities.argmax(dim=1).numpy(),
        labels=range(len(classes)),
        display_labels=classes,
        xticks_rotation=45,
        cmap="Blues",
        colorbar=False,
        include_values=len(classes) <= MOST_NUMBERS,
        ax=axes,
    )
    if len(classes) > MOST_NUMBERS:
        axes.set(xticks=[], yticks=[])
    axes.set(xlabel="predicted", ylabel="actual", title="Test images")
    save_figure(figure, path)


def plot_most_wrong(
    images: Tensor, target: Tensor, probabilities: Tensor, classes: list[str], path: Path
) -> None:
    """Show the misclassified images with the highest predicted probability.

    Args:
        images: (N, C, H, W) uint8.
        target: classes (N,).
        probabilities: (N, K).
        classes: their names.
        path: the PNG file to write.
    """
    confidence, answers = probabilities.max(dim=1)
    confidence = torch.where(answers == target, -1.0, confidence)
    names = [
        f"{classes[answer]} {share:.0%}\n({classes[actual]})"
        for answer, share, actual in zip(answers, confidence, target, strict=True)
    ]
    plot_largest(images, confidence, names, path, "Most wrong: answer (actual)")


def plot_largest_errors(images: Tensor, target: Tensor, numbers: Tensor, path: Path) -> None:
    """Show the images whose number is furthest from the actual one.

    Args:
        images: (N, C, H, W) uint8.
        target: actual numbers (N,).
        numbers: predicted ones (N,).
        path: the PNG file to write.
    """
    names = [f"{found:.4g}\n({actual:.4g})" for found, actual in zip(numbers, target, strict=True)]
    plot_largest(images, (numbers - target).abs(), names, path)


def plot_largest(
    images: Tensor,
    errors: Tensor,
    names: list[str],
    path: Path,
    title: str = "Largest errors: answer (actual)",
) -> None:
    """Show the images with the largest errors.

    Args:
        images: (N, C, H, W) uint8.
        errors: (N,); images below 0 are not shown.
        names: above each image: its predicted and its actual answer.
        path: the PNG file to write.
        title: above all images.
    """
    rows, columns = MOST_WRONG
    order = errors.argsort(descending=True, stable=True)[: rows * columns]
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, columns).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, number in zip(panels, order[errors[order] >= 0].tolist(), strict=False):
        axes.imshow(_for_display(images[number].numpy()), cmap="gray")
        axes.set_title(names[number], fontsize=8)
    save_figure(figure, path)


def plot_numbers(target: Tensor, numbers: Tensor, name: str, path: Path) -> None:
    """Plot predicted over actual numbers of test images.

    Args:
        target: actual numbers (N,).
        numbers: predicted ones (N,).
        name: of the numbers.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(target.numpy(), numbers.numpy(), s=8, alpha=0.5)
    ends = [float(target.min()), float(target.max())]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.set(xlabel=f"actual {name}", ylabel="predicted", title="Test images")
    save_figure(figure, path)


def occlusion(
    probabilities_of: Callable[[Tensor], Tensor], image: Tensor, cells: int = OCCLUDED
) -> NDArray[np.float32]:
    """How much of the probability of the answer each part of an image carries (Zeiler and Fergus 2014).

    Args:
        probabilities_of: from images (B, C, H, W) uint8 to probabilities (B, K).
        image: (C, H, W) uint8.
        cells: parts along each side; an area of twice their side is covered by the mean of the image.

    Returns:
        (cells, cells): the probability of the answer minus that with this part covered.
    """
    _, height, width = image.shape
    mean = image.float().mean(dim=(1, 2), keepdim=True).round().to(image.dtype)
    covered = image.repeat(cells * cells, 1, 1, 1)
    for number in range(cells * cells):
        row, column = divmod(number, cells)
        top, bottom = ((2 * row + each) * height // (2 * cells) for each in (-1, 3))
        left, right = ((2 * column + each) * width // (2 * cells) for each in (-1, 3))
        covered[number, :, max(top, 0) : bottom, max(left, 0) : right] = mean
    (whole,) = probabilities_of(image[None])
    answer = int(whole.argmax())
    loss = whole[answer] - probabilities_of(covered)[:, answer]
    return loss.reshape(cells, cells).cpu().numpy()


def plot_occlusion(
    probabilities_of: Callable[[Tensor], Tensor], images: Tensor, names: list[str], path: Path
) -> None:
    """Show images and, below each, which parts carry the probability of the answer.

    Args:
        probabilities_of: as `occlusion` takes it.
        images: (N, C, H, W) uint8.
        names: above each.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(1.6 * len(images), 3.6), layout="constrained")
    panels = figure.subplots(2, len(images), squeeze=False)
    for (above, below), image, name in zip(panels.T, images, names, strict=True):
        for axes in (above, below):
            axes.set_axis_off()
            axes.imshow(_for_display(image.numpy()), cmap="gray")
        above.set_title(name, fontsize=8)
        height, width = image.shape[1:]
        heat = occlusion(probabilities_of, image)
        most = max(float(np.abs(heat).max()), 1e-6)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        below.imshow(heat, cmap="coolwarm", alpha=0.6, vmin=-most, vmax=most, extent=extent)
    save_figure(figure, path)


def feature_maps(network: nn.Module, image: Tensor) -> list[tuple[str, NDArray[np.float32]]]:
    """The outputs of the convolution and pooling layers for one image; of many layers, of `MOST_LAYERS`.

    Args:
        network: in evaluation mode.
        image: (1, C, H, W), scaled.

    Returns:
        For each layer its description with the formula of its output height, and its maps (C, H, W).
    """
    found: list[tuple[str, NDArray[np.float32]]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        found.append((_size_formula(layer, inputs[0], output), output[0].cpu().numpy()))

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    shown = [layers[row] for row in evenly(len(layers), MOST_LAYERS)]
    hooks = [layer.register_forward_hook(note) for layer in shown]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _size_formula(layer: nn.Module, input: Tensor, output: Tensor) -> str:
    """The size, with the formula of its height, (H + 2 padding - kernel) / stride + 1, if that holds."""

    def first(value: Any) -> int:
        return int(value[0] if isinstance(value, tuple) else value)

    name = type(layer).__name__
    size = " x ".join(map(str, output.shape[1:]))
    if isinstance(layer.padding, str):  # "same" or "valid"
        return f"{name}: {size}"
    kernel, stride, padding = (first(getattr(layer, key)) for key in ("kernel_size", "stride", "padding"))
    if (input.shape[2] + 2 * padding - kernel) // stride + 1 != output.shape[2]:  # dilated, or rounded up
        return f"{name}: {size}"
    return f"{name}: {size}; ({input.shape[2]} + 2*{padding} - {kernel}) / {stride} + 1 = {output.shape[2]}"


def plot_feature_maps(
    image: NDArray[np.uint8], maps: list[tuple[str, NDArray[np.float32]]], path: Path
) -> None:
    """Show an image and, below it, the first maps of each layer.

    Args:
        image: (C, H, W).
        maps: as `feature_maps` returns them.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(MAPS_SHOWN * 1.1, 1.5 * (len(maps) + 1)), layout="constrained")
    parts = figure.subfigures(len(maps) + 1, 1, squeeze=False)[:, 0]
    title = "image: " + " x ".join(map(str, image.shape))
    rows: list[tuple[str, Any]] = [(title, [_for_display(image)]), *maps]
    for part, (title, shown) in zip(parts, rows, strict=True):
        part.suptitle(title, fontsize=9)
        for axes in part.subplots(1, MAPS_SHOWN):
            axes.set_axis_off()
        for axes, channel in zip(part.axes, shown, strict=False):
            axes.imshow(channel, cmap="gray" if channel.ndim == 2 else None)
    save_figure(figure, path)


def _for_display(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C, H, W) as (H, W) or (H, W, 3), which matplotlib shows."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
