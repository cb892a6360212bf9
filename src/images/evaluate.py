"""Bundle and prepared images -> metrics beside baselines, plots and tables for people."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from src.bundle.bundle import Bundle
from src.images.data import EVALUATION_IMAGES, load_split
from src.images.model import ImageModel
from src.images.networks import MLP, central_differences, feature_maps
from src.reporting.figures import plot_feature_maps, save_figure
from src.reporting.metrics import begin_report, write_metrics

BASELINE_IMAGES = 5000
MOST_WRONG = (4, 6)
SHIFTS = (1, 2)
GRADIENT_SAMPLES = 50
GRADIENT_IMAGES = 10


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Judge a trained model on the test images of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: where metrics.json, plots/ and tables/ go; it exists and is empty.
    """
    model = bundle.model_of(ImageModel)
    preprocessing = bundle.preprocessing
    splits = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    images, target = splits["test"]
    metrics: dict[str, float] = {}
    for name in ("validation", "test"):
        outputs = _outputs(model, splits[name][0])
        metrics |= _scores(model, outputs, splits[name][1], name)
    baselines = {
        "logistic": _logistic_regression(*splits["train"], images, len(model.classes)),
        "trivial": model.trivial_outputs(splits["train"][1]).expand(len(target), -1),
    }
    for name, answers in baselines.items():
        metrics |= _scores(model, answers, target, f"baseline/{name}")
    for pixels in SHIFTS:
        metrics[f"shifted/{pixels}/accuracy"] = _accuracy_of_shifted(model, images, target, pixels)

    plots, tables = begin_report(bundle.folder, folder)
    shutil.copyfile(prepared / "sheet.png", plots / "sheet.png")
    probabilities = model.predict(outputs)
    _plot_confusion(target, probabilities, model.classes, plots / "confusion_matrix.png")
    _plot_most_wrong(images, target, probabilities, model.classes, plots / "most_wrong.png")
    maps = feature_maps(model.network, model.scaled(images[:1]))
    if maps:
        plot_feature_maps(images[0].numpy(), maps, plots / "feature_maps.png")
    report = _classes_table(target, probabilities, preprocessing)
    (tables / "classes.md").write_text(report, encoding="utf-8")
    if isinstance(model.network, MLP):
        shape = (images.shape[1], images.shape[2], images.shape[3])
        gradients = _gradients_table(model, images[:GRADIENT_IMAGES], target[:GRADIENT_IMAGES], shape)
        (tables / "gradients.md").write_text(gradients, encoding="utf-8")
    _print_metrics(write_metrics(metrics, folder))


def _outputs(model: ImageModel, images: Tensor) -> Tensor:
    """Logits (N, K), in parts that fit into memory."""
    with torch.inference_mode():
        return torch.cat([model(part) for part in images.split(EVALUATION_IMAGES)])


def _scores(model: ImageModel, outputs: Tensor, target: Tensor, prefix: str) -> dict[str, float]:
    metrics = model.metrics_of(outputs, target)
    return {f"{prefix}/{name}": float(value) for name, value in metrics.items()}


def _logistic_regression(train: Tensor, target: Tensor, test: Tensor, classes: int) -> Tensor:
    """Log-probabilities (N, K) of multinomial logistic regression on the first training images."""
    images, codes = train[:BASELINE_IMAGES], target[:BASELINE_IMAGES]
    brightest = float(images.max())

    def rows(part: Tensor) -> NDArray[np.float32]:
        return part.flatten(1).numpy().astype(np.float32) / brightest

    # one thread: the same sums on every machine, and no fight with a training beside it
    with threadpool_limits(limits=1):
        fitted = LogisticRegression(C=0.1, max_iter=1000).fit(rows(images), codes.numpy())
        probabilities = fitted.predict_proba(rows(test))
    answers = torch.zeros(len(test), classes)
    answers[:, fitted.classes_] = torch.from_numpy(probabilities).float()
    return answers.clamp(min=1e-12).log()


def _accuracy_of_shifted(model: ImageModel, images: Tensor, target: Tensor, pixels: int) -> float:
    """Mean accuracy over test images moved left, right, up and down, black coming in."""
    found = []
    for left, top in ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels)):
        moved = functional.pad(images, (left, -left, top, -top))
        found.append((_outputs(model, moved).argmax(dim=1) == target).float().mean().item())
    return sum(found) / len(found)


def _plot_confusion(target: Tensor, probabilities: Tensor, classes: list[str], path: Path) -> None:
    side = max(5.0, 0.55 * len(classes))
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
        ax=axes,
    )
    axes.set(xlabel="predicted", ylabel="actual", title="Test images")
    save_figure(figure, path)


def _plot_most_wrong(
    images: Tensor, target: Tensor, probabilities: Tensor, classes: list[str], path: Path
) -> None:
    """The images whose wrong answer the model is surest of."""
    confidence, answers = probabilities.max(dim=1)
    confidence = torch.where(answers == target, -1.0, confidence)
    rows, columns = MOST_WRONG
    order = confidence.argsort(descending=True, stable=True)[: rows * columns]
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    figure.suptitle("Most wrong: answer (actual)")
    panels = figure.subplots(rows, columns).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, number in zip(panels, order.tolist(), strict=False):
        if answers[number] == target[number]:
            break  # there are fewer mistakes than panels
        image = images[number].numpy()
        axes.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray")
        title = f"{classes[answers[number]]} {confidence[number]:.0%}\n({classes[target[number]]})"
        axes.set_title(title, fontsize=8)
    save_figure(figure, path)


def _classes_table(target: Tensor, probabilities: Tensor, preprocessing: dict[str, Any]) -> str:
    """Precision, recall and F1 of each class."""
    classes = preprocessing["classes"]
    report = classification_report(
        target.numpy(),
        probabilities.argmax(dim=1).numpy(),
        labels=range(len(classes)),
        target_names=classes,
        output_dict=True,
        zero_division=0,
    )
    lines = ["| class | 名称 | images | precision | recall | F1 |", "|---|---|---|---|---|---|"]
    for name in classes:
        row = report[name]
        numbers = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1-score")]
        chinese = preprocessing["labels"].get(name, {}).get("zh", "")
        lines.append(f"| {' | '.join([name, chinese, str(int(row['support'])), *numbers])} |")
    return "\n".join(lines) + "\n"


def _gradients_table(model: ImageModel, images: Tensor, target: Tensor, shape: tuple[int, int, int]) -> str:
    """The three gradients of the network's loss on some parameters, in float64: errors and forward passes.

    Seconds go to the terminal only: a file with times would differ from run to run.
    """
    assert isinstance(model.network, MLP)
    inputs = model.scaled(images).detach().double()
    linears = [layer for layer in model.network if isinstance(layer, torch.nn.Linear)]
    activation = "relu" if any("ReLU" in type(layer).__name__ for layer in model.network) else "sigmoid"
    hidden = [layer.out_features for layer in linears[:-1]]
    generator = torch.Generator().manual_seed(0)
    elements = torch.randperm(linears[0].weight.numel(), generator=generator)[:GRADIENT_SAMPLES].tolist()
    slopes: dict[str, Tensor] = {}
    seconds = {}
    for name in ("autograd", "manual", "numerical"):
        network = MLP(shape, len(model.classes), hidden, activation, gradient=name)  # type: ignore[arg-type]
        network.load_state_dict(model.network.state_dict())
        network.double().eval()
        start = time.perf_counter()
        weight = next(layer for layer in network if isinstance(layer, torch.nn.Linear)).weight
        if name == "numerical":
            slopes[name] = central_differences(
                lambda network=network: functional.cross_entropy(network(inputs), target),  # type: ignore[misc]
                weight.detach(),
                elements,
            )
        else:
            network.loss(network(inputs), target, 0.0).backward()
            assert weight.grad is not None
            slopes[name] = weight.grad.view(-1)[elements]
        seconds[name] = time.perf_counter() - start
    lines = [
        f"Gradient of {len(elements)} weights of the first layer, {len(images)} test images, float64.",
        "",
        "| gradient | forward passes | largest difference from autograd |",
        "|---|---|---|",
    ]
    for name, found in slopes.items():
        passes = 2 * len(elements) if name == "numerical" else 1
        error = (found - slopes["autograd"]).abs().max().item()
        lines.append(f"| {name} | {passes} | {error:.0e} |")
    print("gradients: " + ", ".join(f"{name} {1000 * took:.2f} ms" for name, took in seconds.items()))
    return "\n".join(lines) + "\n"


def _print_metrics(metrics: dict[str, float]) -> None:
    names = sorted(name.removeprefix("test/") for name in metrics if name.startswith("test/"))
    table = Table(title="Test images")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row in ("test", "baseline/logistic", "baseline/trivial"):
        values = [f"{metrics[f'{row}/{name}']:.4f}" for name in names]
        table.add_row("model" if row == "test" else row.removeprefix("baseline/"), *values)
    Console().print(table)
    shifted = ", ".join(f"{pixels} px {metrics[f'shifted/{pixels}/accuracy']:.4f}" for pixels in SHIFTS)
    print(f"accuracy of moved test images: {shifted}")
