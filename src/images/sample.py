"""The sample of fashion_mnist: drawn garments in the four files of Fashion-MNIST."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FINER = 4  # drawn in this many times the size and averaged, so that edges are smooth
BRIGHTEST = 255


def write_sample(description: Path, folder: Path) -> None:
    """Draw the images of a description and write the files of Fashion-MNIST, with an empty labels.json.

    Args:
        description: data/samples/fashion_mnist.yaml; its first lines explain the keys.
        folder: an existing folder.
    """
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    seed, size, classes = content["seed"], content["size"], list(content["drawings"].values())
    for number, (prefix, count) in enumerate(content["images"].items()):
        labels = np.arange(count) % len(classes)
        np.random.default_rng([seed, number]).shuffle(labels)
        images = np.empty((count, size, size), np.uint8)
        for row, label in enumerate(labels):
            # A generator per image: an image does not depend on the images before it.
            generator = np.random.default_rng([seed, number, row])
            images[row] = _draw(classes[label], size, content["variation"], generator)
        _write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    (folder / "labels.json").write_text("{}\n", encoding="utf-8")


def _draw(
    shapes: list[dict[str, Any]], size: int, variation: dict[str, float], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """One image (size, size): the shapes moved, scaled, rotated and shaded at random, with noise."""
    names = ("size", "size", "stretch", "rotation", "shift", "shift", "shade")
    limits = np.array([variation[name] for name in names])
    width, height, stretch, degrees, left, top, shade = generator.uniform(-limits, limits).tolist()
    x_scale, y_scale = (1 + width) * (1 + stretch), 1 + height
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    brightness = BRIGHTEST * (1 - variation["shade"] + shade)
    middle = size / 2

    def place(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        centred = [((x - middle) * x_scale, (y - middle) * y_scale) for x, y in points]
        rotated = [(x * cosine - y * sine, x * sine + y * cosine) for x, y in centred]
        return [((x + middle + left) * FINER, (y + middle + top) * FINER) for x, y in rotated]

    image = Image.new("L", (size * FINER, size * FINER))
    pencil = ImageDraw.Draw(image)
    for shape in shapes:
        fill = round(brightness * shape.get("shade", 1))
        if generator.random() >= shape.get("chance", 1):
            continue
        if "polygon" in shape:
            pencil.polygon(place(shape["polygon"]), fill=fill)
        elif "ellipse" in shape:
            pencil.ellipse(place(shape["ellipse"]), fill=fill)
        else:
            line_width = round(shape.get("width", 1) * FINER)
            pencil.line(place(shape["line"]), fill=fill, width=line_width, joint="curve")
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=float)
    # The noise is proportional to the brightness: cloth is rough, the background is not.
    noisy = pixels * (1 + generator.normal(0, variation["noise"], pixels.shape))
    return np.rint(noisy.clip(0, BRIGHTEST)).astype(np.uint8)


def _write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """The idx format of MNIST: two zero bytes, the type, the number of dimensions, each size, the values."""
    header = bytes([0, 0, 0x08, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    # gzip.compress() would write the operating system into the header.
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
        stream.write(header + values.tobytes())
