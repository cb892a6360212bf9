"""The built-in images: drawn garments in the files of Fashion-MNIST, and scikit-learn's digits as a CSV file.

The language of the descriptions is explained at the top of `data/samples/fashion_mnist.yaml`.
"""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = list[tuple[float, float]]

FINER = 4
BRIGHTEST = 255
SHAPES = ("polygon", "ellipse", "line")
FILES = {"train": "train", "test": "t10k"}


def write_sample(description: Path, folder: Path) -> None:
    """Write the files that a description asks for.

    Args:
        description: a YAML file with `drawings` (four idx files as those of Fashion-MNIST) or with
            `dataset: digits` (train.csv in the form of Kaggle's Digit Recognizer).
        folder: where to write.

    Raises:
        ValueError: the description cannot be used; the message names the key.
    """
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    if isinstance(content, dict) and set(content) == {"dataset"} and content["dataset"] == "digits":
        _write_digits(folder / "train.csv")
    elif isinstance(content, dict) and "drawings" in content:
        try:
            _write_drawings(content, folder)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{description}: a key is missing or has another form: {error}") from None
        except ValueError as error:
            raise ValueError(f"{description}: {error}") from None
    else:
        raise ValueError(f"{description}: expected `drawings`, or `dataset: digits` alone")


def _write_digits(path: Path) -> None:
    from sklearn.datasets import load_digits  # the drawings do without

    digits = load_digits()
    header = ",".join(["label", *(f"pixel{number}" for number in range(digits.data.shape[1]))])
    rows = np.column_stack([digits.target, digits.data]).astype(int)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())
    path.write_text(f"{header}\n{text}", encoding="utf-8", newline="\n")


def _write_drawings(content: dict[str, Any], folder: Path) -> None:
    variation = {name: float(value) for name, value in content["variation"].items()}
    wanted = {"shift", "size", "stretch", "rotation", "shade", "noise"}
    if set(variation) != wanted:
        raise ValueError(f"variation: expected the keys {', '.join(sorted(wanted))}")
    drawings: dict[str, list[dict[str, Any]]] = content["drawings"]
    for name, shapes in drawings.items():
        for shape in shapes:
            _check(name, shape)
    classes, size = list(drawings.values()), int(content["size"])
    for number, (split, prefix) in enumerate(FILES.items()):
        count = int(content["images"][split])
        labels = np.arange(count) % len(classes)
        np.random.default_rng([content["seed"], number]).shuffle(labels)
        images = np.empty((count, size, size), np.uint8)
        for row, label in enumerate(labels):
            # a stream of its own, so that an image does not depend on those before it
            stream = np.random.default_rng([content["seed"], number, row])
            images[row] = _draw(classes[label], size, variation, stream)
        _write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))


def _kind(shape: dict[str, Any]) -> str:
    return next(kind for kind in SHAPES if kind in shape)


def _check(name: str, shape: dict[str, Any]) -> None:
    allowed = {*SHAPES, "shade", "width", "chance"}
    if sum(kind in shape for kind in SHAPES) != 1 or not set(shape) <= allowed:
        raise ValueError(f"drawings.{name}: expected one of {', '.join(SHAPES)}, found {sorted(shape)}")
    points = shape[_kind(shape)]
    if len(points) < 2 or any(len(point) != 2 for point in points):
        raise ValueError(f"drawings.{name}: expected a list of points [x, y], found {points}")


def _draw(
    shapes: list[dict[str, Any]], size: int, variation: dict[str, float], stream: np.random.Generator
) -> NDArray[np.uint8]:
    """One image (size, size): the shapes moved, stretched, turned, shaded and noisy at random."""

    def around(middle: float, name: str) -> float:
        return float(middle + stream.uniform(-variation[name], variation[name]))

    width, height = around(1, "size"), around(1, "size")
    stretch, angle = around(1, "stretch"), math.radians(around(0, "rotation"))
    left, top, brightness = around(0, "shift"), around(0, "shift"), around(1 - variation["shade"], "shade")
    middle, sine, cosine = size / 2, math.sin(angle), math.cos(angle)
    width *= stretch

    def place(points: Points) -> Points:
        placed = []
        for x, y in points:
            x, y = (x - middle) * width, (y - middle) * height
            placed.append((x * cosine - y * sine + middle + left, x * sine + y * cosine + middle + top))
        return [(x * FINER, y * FINER) for x, y in placed]

    image = Image.new("L", (size * FINER, size * FINER))
    pencil = ImageDraw.Draw(image)
    for shape in shapes:
        present = stream.random() < shape.get("chance", 1)
        shade = round(BRIGHTEST * brightness * shape.get("shade", 1))
        if present:
            _pencil_stroke(pencil, shape, place(shape[_kind(shape)]), shade)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=float)
    # cloth is rough, the background is clean, as in the real photographs
    rough = pixels * (1 + stream.normal(0, variation["noise"], pixels.shape))
    return np.rint(rough.clip(0, BRIGHTEST)).astype(np.uint8)


def _pencil_stroke(pencil: ImageDraw.ImageDraw, shape: dict[str, Any], points: Points, shade: int) -> None:
    if "polygon" in shape:
        pencil.polygon(points, fill=shade)
    elif "line" in shape:
        pencil.line(points, fill=shade, width=round(shape.get("width", 1) * FINER), joint="curve")
    else:
        (left, right), (top, bottom) = map(sorted, zip(*points, strict=True))
        pencil.ellipse([left, top, right, bottom], fill=shade)


def _write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """LeCun's idx format: two zero bytes, the type, the number of dimensions, each size, the values."""
    header = bytes([0, 0, 0x08, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    # without a time or a name, so that the bytes repeat
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=6, mtime=0))
