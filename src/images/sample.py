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
MOST_CLASSES = 256  # a label is one byte
SHAPES = ("polygon", "ellipse", "line")
FILES = {"train": "train", "test": "t10k"}
KEYS = {"seed", "size", "images", "variation", "drawings"}
# how far each may go: at a size of 1 a garment vanishes, at a shade above a half it turns blacker than black
MOST_VARIATION = {"shift": 100, "size": 0.9, "stretch": 0.9, "rotation": 180, "shade": 0.5, "noise": 10}


def write_sample(description: Path, folder: Path) -> None:
    """Write the files that a description asks for.

    Args:
        description: a YAML file with `drawings` (four idx files as those of Fashion-MNIST) or with
            `dataset: digits` (train.csv in the form of Kaggle's Digit Recognizer).
        folder: where to write.

    Raises:
        ValueError: the description cannot be used; the message names the file and the key.
    """
    try:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{description} is no YAML: {error}") from None
    if content == {"dataset": "digits"}:
        _write_digits(folder / "train.csv")
    elif isinstance(content, dict) and "drawings" in content:
        try:
            _check(content)
        except ValueError as error:
            raise ValueError(f"{description}: {error}") from None
        _write_drawings(content, folder)
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
    classes, size = list(content["drawings"].values()), content["size"]
    for number, (split, prefix) in enumerate(FILES.items()):
        count = content["images"][split]
        labels = np.arange(count) % len(classes)
        np.random.default_rng([content["seed"], number]).shuffle(labels)
        images = np.empty((count, size, size), np.uint8)
        for row, label in enumerate(labels):
            # a stream of its own, so that an image does not depend on those before it
            stream = np.random.default_rng([content["seed"], number, row])
            images[row] = _draw(classes[label], size, content["variation"], stream)
        _write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))


def _kind(shape: dict[str, Any]) -> str:
    return next(kind for kind in SHAPES if kind in shape)


def _check(content: dict[str, Any]) -> None:
    _check_keys("the description", content, KEYS)
    _check_keys("images", content["images"], set(FILES))
    _check_keys("variation", content["variation"], set(MOST_VARIATION))
    _check_number("seed", content["seed"], 0, whole=True)
    _check_number("size", content["size"], 1, whole=True)
    for name, most in MOST_VARIATION.items():
        _check_number(f"variation.{name}", content["variation"][name], 0, most)
    drawings = content["drawings"]
    if not isinstance(drawings, dict) or not 0 < len(drawings) <= MOST_CLASSES:
        raise ValueError(f"drawings: expected 1 to {MOST_CLASSES} classes, each with a list of shapes")
    for name, shapes in drawings.items():
        if not isinstance(shapes, list) or not shapes:
            raise ValueError(f"drawings.{name}: expected a list of shapes, found {shapes!r}")
        for number, shape in enumerate(shapes, start=1):
            _check_shape(f"drawings.{name}, shape {number}", shape)
    for split, count in content["images"].items():
        _check_number(f"images.{split}", count, 1, whole=True)
        if count % len(drawings):
            raise ValueError(f"images.{split}: {count} is no multiple of the {len(drawings)} classes")


def _check_keys(place: str, value: Any, keys: set[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected the keys {', '.join(sorted(keys))}, found {value!r}")
    if lacking := keys - set(value):
        raise ValueError(f"{place}: lacks {', '.join(sorted(lacking))}")
    if stray := set(value) - keys:
        raise ValueError(f"{place}: does not take {', '.join(sorted(map(str, stray)))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(place: str, value: Any, low: float, high: float = math.inf, whole: bool = False) -> None:
    if not _is_number(value) or not low <= value <= high or (whole and not isinstance(value, int)):
        bounds = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{place}: expected a {'whole ' * whole}number, {bounds}, found {value!r}")


def _check_shape(place: str, shape: Any) -> None:
    if not isinstance(shape, dict) or sum(kind in shape for kind in SHAPES) != 1:
        raise ValueError(f"{place}: expected one of {', '.join(SHAPES)}, found {shape!r}")
    kind = _kind(shape)
    allowed = {kind, "shade", "chance"} | ({"width"} if kind == "line" else set())
    _check_keys(place, shape, allowed & set(shape))
    points = shape[kind]
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise ValueError(f"{place}, {kind}: expected a list of points [x, y], found {points!r}")
    if len(points) < (3 if kind == "polygon" else 2) or (kind == "ellipse" and len(points) > 2):
        raise ValueError(f"{place}, {kind}: wrong number of points: {len(points)}")
    for key, low, high in (("shade", 0, 1), ("chance", 0, 1), ("width", 1 / FINER, math.inf)):
        _check_number(f"{place}, {key}", shape.get(key, 1), low, high)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


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
    # without a time or a name, so that the bytes repeat; gzip.compress() would name the operating system too
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
        stream.write(header + values.tobytes())
