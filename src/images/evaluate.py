"""Evaluation: bundle and prepared images to metrics.json, plots and tables.

N images, C channels, H height, W width, K classes
"""

import copy
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from src.bundle.bundle import Bundle
from src.core.progress import progress_bar
from src.images.backprop import BackpropMLP, central_differences
from src.images.data import images_at_once, load_split
from src.images.figures import (
    feature_maps,
    plot_confusion,
    plot_feature_maps,
    plot_largest,
    plot_largest_errors,
    plot_most_wrong,
    plot_numbers,
    plot_occlusion,
)
from src.images.model import ImageModel
from src.images.pictures import as_picture
from src.images.regression import ImageRegressor
from src.images.tags import ImageTagger
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.noise import gains_of_classes, noise_of, write_losses
from src.reporting.reliability import plot_reliability
from src.reporting.rows import evenly
from src.reporting.tables import markdown_table, print_metrics, scores_of_classes
from src.training.metrics import CALIBRATION_BINS, calibration_error

Evaluated = dict[str, tuple[Tensor, Tensor]]

ACCEPTS = ImageModel  # other modules are evaluated by their own steps
BASELINE_IMAGES = 5000
BASELINE_SIDE = 32
BASELINE_PRODUCTS = 200_000_000  # of a step; a thousand of them take half a minute on one core
BASELINE_VALUES = 1 << 25  # of test images that are predicted at once
CONFUSED = 10
OCCLUSIONS = 6
SHIFTS = (1, 2)
SHIFTED_IMAGES = 2000  # eight passes over all test images would take most of an evaluation
GRADIENT_SAMPLES = 50
GRADIENT_IMAGES = 10
SAMPLES = 100


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Evaluate a trained model on the validation and test images of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: an empty folder, to which metrics.json, plots/ and tables/ are written.
    """
    model = bundle.model_of(ImageModel)
    splits = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    images, target = splits["test"]
    evaluated = {
        "validation": (_logits(model, splits["validation"][0], "validation images"), splits["validation"][1]),
        "test": (_logits(model, images, "test images"), target),
    }
    if model.task == "classification":
        baseline = _logistic_regression(*splits["train"], images, len(model.classes))
        evaluated["baseline/logistic"] = baseline, target
    trivial = model.trivial_outputs(splits["train"][1]).expand(len(target), -1)
    evaluated["baseline/trivial"] = trivial, target
    metrics = {
        f"{prefix}/{name}": float(value)
        for prefix, (outputs, targets) in evaluated.items()
        for name, value in model.metrics_of(outputs, targets).items()
    }
    plots, tables = begin_report(bundle.folder, folder)
    shutil.copyfile(prepared / "sheet.png", plots / "sheet.png")
    maps = feature_maps(model.network, model.scaled(images[:1]))
    if maps:
        plot_feature_maps(images[0].numpy(), maps, plots / "feature_maps.png")
    if isinstance(model, ImageRegressor):
        metrics |= _report_numbers(model, evaluated, images, plots, tables)
    elif isinstance(model, ImageTagger):
        metrics |= _report_labels(model, evaluated, images, plots, tables)
    else:
        metrics |= _report_classes(model, evaluated, images, plots, tables, bundle.preprocessing.labels)
    metrics = write_metrics(metrics, folder)
    print_metrics("Test images", metrics)
    if model.task == "classification":
        shifted = ", ".join(f"{pixels} px {metrics[f'shifted/{pixels}/accuracy']:.4f}" for pixels in SHIFTS)
        print(f"accuracy on shifted test images: {shifted}")


def _report_classes(
    model: ImageModel,
    evaluated: Evaluated,
    images: Tensor,
    plots: Path,
    tables: Path,
    labels: dict[str, dict[str, str]],
) -> dict[str, float]:
    """Further metrics, plots and tables of one class an image.

    Args:
        model: trained.
        evaluated: outputs and targets by the prefix of their metrics.
        images: those of the test, (N, C, H, W) uint8.
        plots: a folder to write to.
        tables: likewise.
        labels: the names of a class in each language, by its name.
    """
    metrics = {
        # a baseline has no temperature
        f"{prefix}/ece": calibration_error(
            outputs.softmax(dim=1) if prefix.startswith("baseline/") else model.predict(outputs), codes
        )
        for prefix, (outputs, codes) in evaluated.items()
    }
    logits, target = evaluated["test"]
    trivial, _ = evaluated["baseline/trivial"]
    answers, ignorant = (outputs.argmax(dim=1).numpy() for outputs in (logits, trivial))
    metrics |= noise_of(gains_of_classes(answers, ignorant, target.numpy()))
    for pixels in _with_progress(SHIFTS, "shifted test images"):
        metrics[f"shifted/{pixels}/accuracy"] = _accuracy_of_shifted(model, images, target, pixels)

    write_losses(answers != target.numpy(), tables)
    probabilities = model.predict(logits)
    plot_confusion(target, probabilities, model.classes, plots / "confusion_matrix.png")
    plot_reliability(probabilities, target, CALIBRATION_BINS, plots / "reliability.png", "images")
    plot_most_wrong(images, target, probabilities, model.classes, plots / "most_wrong.png")
    shown = _first_of_each_class(answers, OCCLUSIONS)
    plot_occlusion(
        lambda some: model.predict(_logits(model, some)),
        images[shown],
        [model.classes[code] for code in answers[shown]],
        plots / "occlusion.png",
    )
    report = _classes_table(target, probabilities, model.classes, labels)
    (tables / "classes.md").write_text(report, encoding="utf-8")
    confused = _confused_table(answers, target.numpy(), model.classes)
    if confused:
        (tables / "confused.md").write_text(confused, encoding="utf-8")
    if isinstance(model.network, BackpropMLP):
        inputs = model.scaled(images[:GRADIENT_IMAGES])
        gradients = _gradients_table(model.network, inputs, target[:GRADIENT_IMAGES])
        (tables / "gradients.md").write_text(gradients, encoding="utf-8")
    return metrics


def _report_numbers(
    model: ImageRegressor, evaluated: Evaluated, images: Tensor, plots: Path, tables: Path
) -> dict[str, float]:
    """Further metrics, plots and tables of a regression, as `_report_classes`."""
    outputs, target = evaluated["test"]
    numbers, trivial = (model.predict(part) for part in (outputs, evaluated["baseline/trivial"][0]))
    squared, ignorant = ((part.double() - target.double()).square().numpy() for part in (numbers, trivial))
    write_losses(squared, tables)
    plot_numbers(target, numbers, model.quantity.name, plots / "predictions.png")
    plot_largest_errors(images, target, numbers, plots / "most_wrong.png")
    return noise_of(ignorant - squared)


def _report_labels(
    model: ImageTagger, evaluated: Evaluated, images: Tensor, plots: Path, tables: Path
) -> dict[str, float]:
    """Further metrics, plots and tables of several labels an image, as `_report_classes`."""
    outputs, target = evaluated["test"]
    trivial, _ = evaluated["baseline/trivial"]
    # the share of the labels of each image that are wrong
    wrong, ignorant = (
        ((part > 0) != target.bool()).double().mean(dim=1).numpy() for part in (outputs, trivial)
    )
    write_losses(wrong, tables)
    probabilities = model.predict(outputs)
    surprise = (probabilities - target).abs().amax(dim=1)
    names = [
        f"{_listed(probabilities[row] > 0.5, model.classes)}\n({_listed(target[row], model.classes)})"
        for row in range(len(target))
    ]
    plot_largest(images, surprise, names, plots / "most_wrong.png")
    report = _labels_table(target, probabilities, model.classes)
    (tables / "classes.md").write_text(report, encoding="utf-8")
    return noise_of(ignorant - wrong)


def _listed(marks: Tensor, classes: list[str]) -> str:
    """The labels (K,) of an image that are marked, in words."""
    return ", ".join(classes[label] for label in marks.nonzero()[:, 0].tolist()) or "-"


def _labels_table(target: Tensor, probabilities: Tensor, classes: list[str]) -> str:
    """Precision, recall, F1 and average precision of each label."""
    known, found = target.numpy(), (probabilities > 0.5).numpy()
    rows = []
    for number, name in enumerate(classes):
        scores = precision_recall_fscore_support(
            known[:, number], found[:, number], average="binary", zero_division=0
        )
        occurs = known[:, number].any()
        precise = average_precision_score(known[:, number], probabilities[:, number]) if occurs else np.nan
        numbers = [f"{value:.4f}" for value in (*scores[:3], precise)]
        rows.append([name, str(int(known[:, number].sum())), *numbers])
    return markdown_table(["label", "images", "precision", "recall", "F1", "average precision"], rows)


def samples(bundle: Bundle, prepared: Path) -> tuple[list[str], list[list[Any]]]:
    """The first test images with their predictions, for a table of W&B.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.

    Returns:
        Headings, and a row for each image; the image is one of Pillow.
    """
    model = bundle.model_of(ImageModel)
    images, target = (part[:SAMPLES] for part in load_split(prepared, "test"))
    if isinstance(model, ImageRegressor):
        numbers = model.predict(_logits(model, images))
        found = zip(images, target.tolist(), numbers.tolist(), strict=True)
        rows = [[as_picture(image.numpy()), actual, number] for image, actual, number in found]
        return ["image", model.quantity.name, "predicted"], rows
    probabilities = model.predict(_logits(model, images))
    if isinstance(model, ImageTagger):
        rows = [
            [as_picture(image.numpy()), _listed(marks, model.classes), _listed(chances > 0.5, model.classes)]
            for image, marks, chances in zip(images, target, probabilities, strict=True)
        ]
        return ["image", "labels", "predicted"], rows
    likeliest, answers = probabilities.max(dim=1)
    rows = [
        [
            as_picture(image.numpy()),
            model.classes[actual],
            model.classes[answer],
            probability,
        ]
        for image, actual, answer, probability in zip(
            images, target.tolist(), answers.tolist(), likeliest.tolist(), strict=True
        )
    ]
    return ["image", "class", "predicted", "probability"], rows


def _first_of_each_class(answers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The first rows of different answers, then further ones, in the order of the rows."""
    first = np.unique(answers, return_index=True)[1]
    others = np.setdiff1d(np.arange(len(answers)), first)
    return np.sort(np.concatenate([np.sort(first), others])[:most])


def _confused_table(answers: NDArray[np.int64], target: NDArray[np.int64], classes: list[str]) -> str:
    """The pairs of actual and predicted class with the most images; empty without mistakes."""
    wrong = answers != target
    pairs, counts = np.unique(np.stack([target[wrong], answers[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CONFUSED]
    rows = []
    for actual, predicted, count in zip(*pairs[:, order], counts[order], strict=True):
        share = count / (target == actual).sum()
        rows.append([classes[actual], classes[predicted], str(count), f"{share:.1%}"])
    return markdown_table(["actual", "predicted", "images", "of the actual class"], rows) if rows else ""


def _with_progress(parts: Sequence[Any], name: str) -> Iterator[Any]:
    """The parts, on a terminal with a progress bar of this name."""
    with progress_bar(shown=sys.stderr.isatty()) as bar:
        yield from bar.track(parts, description=name)


def _logits(model: ImageModel, images: Tensor, name: str | None = None) -> Tensor:
    """Logits (N, K), computed in batches that fit into memory; with the progress bar of a name, if any."""
    parts = images.split(images_at_once(*images.shape[2:]))
    with torch.inference_mode():
        return torch.cat([model(part) for part in (_with_progress(parts, name) if name else parts)])


def _logistic_regression(train: Tensor, target: Tensor, test: Tensor, classes: int) -> Tensor:
    """Log-probabilities (N, K) of multinomial logistic regression on `BASELINE_IMAGES` training images.

    It takes fewer or smaller ones where it would take hours, see `_baseline_size`, and one of each class.
    """
    number, side, values = _baseline_size(train, classes)
    some = evenly(len(train), number)  # the rows of a class may be neighbours
    first = np.unique(target.numpy(), return_index=True)[1]
    some = np.union1d(some, first[~np.isin(target[first], target[some])])
    images, codes = train[some], target[some]
    brightest = float(images.max())

    def rows(part: Tensor) -> NDArray[np.float32]:
        if side is not None:
            parts = part.split(images_at_once(*part.shape[2:]))
            part = torch.cat([functional.adaptive_avg_pool2d(each.float(), side) for each in parts])
        return part.flatten(1).numpy().astype(np.float32) / brightest

    # one thread: the sums do not depend on the number of cores
    with threadpool_limits(limits=1):
        fitted = LogisticRegression(C=0.1, max_iter=1000).fit(rows(images), codes.numpy())
        parts = test.split(max(BASELINE_VALUES // values, 1))
        probabilities = np.concatenate([fitted.predict_proba(rows(part)) for part in parts])
    answers = torch.zeros(len(test), classes)
    answers[:, fitted.classes_] = torch.from_numpy(probabilities).float()
    return answers.clamp(min=1e-12).log()


def _baseline_size(train: Tensor, classes: int) -> tuple[int, int | None, int]:
    """The images of the logistic regression, the side to which they are reduced, and the values of each.

    Images above twice `BASELINE_SIDE` are reduced to it, others and further only where a step would have more
    than `BASELINE_PRODUCTS` multiplications (images x values x classes). Where that is still too much, fewer
    images are taken.
    """
    channels, height, width = train.shape[1:]
    large = max(height, width) > 2 * BASELINE_SIDE
    smaller = [side for side in (BASELINE_SIDE, BASELINE_SIDE // 2) if large or side < min(height, width)]
    number, values = min(len(train), BASELINE_IMAGES), channels * height * width
    for side in smaller if large else [None, *smaller]:
        values = channels * (height * width if side is None else side**2)
        if number * values * classes <= BASELINE_PRODUCTS:
            return number, side, values
    return min(number, max(BASELINE_PRODUCTS // (values * classes), 1)), side, values


def _accuracy_of_shifted(model: ImageModel, images: Tensor, target: Tensor, pixels: int) -> float:
    """Mean accuracy on the images (N, C, H, W) shifted left, right, up and down; the border becomes black.

    Of more than `SHIFTED_IMAGES` images every second, third, ... is taken.
    """
    step = math.ceil(len(images) / SHIFTED_IMAGES)
    images, target = images[::step], target[::step]
    found = []
    for left, top in ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels)):
        answers = [
            _logits(model, functional.pad(part, (left, -left, top, -top))).argmax(dim=1)
            for part in images.split(images_at_once(*images.shape[2:]))
        ]
        found.append((torch.cat(answers) == target).float().mean().item())
    return sum(found) / len(found)


def _classes_table(
    target: Tensor, probabilities: Tensor, classes: list[str], labels: dict[str, dict[str, str]]
) -> str:
    """Precision, recall and F1 of each class, with its Chinese name."""
    scores = scores_of_classes(target.numpy(), probabilities.argmax(dim=1).numpy(), len(classes))
    names = [[name, labels.get(name, {}).get("zh", "")] for name in classes]
    rows = [[*name, *row] for name, row in zip(names, scores, strict=True)]
    return markdown_table(["class", "名称", "images", "precision", "recall", "F1"], rows, optional=["名称"])


def _gradients_table(network: BackpropMLP, inputs: Tensor, target: Tensor) -> str:
    """Compare the three gradients of the loss for some weights of the first layer, in float64.

    The times are printed and not written: a file with times would differ from run to run.

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W), scaled.
        target: classes (N,).
    """
    inputs = inputs.detach().double()
    slopes: dict[str, Tensor] = {}
    seconds = {}
    for name in ("autograd", "manual", "numerical"):
        doubles = copy.deepcopy(network).double()
        doubles.gradient = name
        weight = next(doubles.parameters())
        generator = torch.Generator().manual_seed(0)
        elements = torch.randperm(weight.numel(), generator=generator)[:GRADIENT_SAMPLES].tolist()
        start = time.perf_counter()
        if name == "numerical":
            slopes[name] = central_differences(
                lambda network=doubles: functional.cross_entropy(network(inputs), target),  # type: ignore[misc]
                weight.detach(),
                elements,
            )
        else:
            doubles.loss(doubles(inputs), target).backward()
            assert weight.grad is not None
            slopes[name] = weight.grad.view(-1)[elements]
        seconds[name] = time.perf_counter() - start
    rows = []
    for name, found in slopes.items():
        passes = 2 * len(elements) if name == "numerical" else 1
        error = (found - slopes["autograd"]).abs().max().item()
        rows.append([name, str(passes), f"{error:.0e}"])
    print("gradients: " + ", ".join(f"{name} {1000 * took:.2f} ms" for name, took in seconds.items()))
    return (
        f"Gradient of {len(elements)} weights of the first layer, {len(inputs)} test images, float64.\n\n"
        + markdown_table(["gradient", "forward passes", "largest difference from autograd"], rows)
    )
