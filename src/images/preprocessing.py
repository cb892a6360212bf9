"""Raw images in, uint8 arrays out: idx, pixel CSV and picture files, brought to the size of the data.

`preprocessing.json` is all that the transformation needs, so that training data and the raw images of a
prediction go through the same code. Nothing is learnt here; that is `prepare.py`.

N images, C channels, H height, W width
"""

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from src.shared.errors import DataError

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]

PICTURES = (".png", ".jpg", ".jpeg")
CSV_CHUNK_ROWS = 5000
BYTE_TYPE = 0x08
MOST_BYTES = 4 << 30
BRIGHTEST = 255


def read_idx(path: Path) -> Pixels:
    """Read an idx file of bytes (LeCun's format of MNIST), gzipped if its name ends with .gz.

    Returns:
        An array with the file's dimensions: (N, H, W) of images, (N,) of labels.

    Raises:
        DataError: no such file, not idx, another length than its header says, or above `MOST_BYTES`.
    """
    _require_file(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            dimensions = start[3] if len(start) == 4 else 0
            header = file.read(4 * dimensions)
            whole = len(header) == 4 * dimensions  # a file may end in it
            shape = tuple(int(size) for size in np.frombuffer(header.ljust(4 * dimensions, b"\0"), ">u4"))
            size = math.prod(shape)
            # no more than the header says: a small gzip file may hold many gigabytes
            content = file.read(size + 1) if size <= MOST_BYTES else b""
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}; fetch it again") from None
    if start[:3] != bytes([0, 0, BYTE_TYPE]) or dimensions not in (1, 3):
        raise DataError(
            f"{path}: not an idx file of bytes: it starts with {start.hex()}, "
            "expected 00000803 for images or 00000801 for labels"
        )
    expected = " x ".join(map(str, shape))
    if size > MOST_BYTES:
        raise DataError(f"{path}: the header says {expected} bytes, at most {MOST_BYTES:,} are read")
    if len(content) != size or not whole:
        found = f"more than {size}" if len(content) > size else len(content)
        raise DataError(f"{path}: {found} values, the header says {expected}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def labels_path(images: Path) -> Path:
    """Where the labels of an idx file of images lie: beside it, under the name that MNIST gave them."""
    return images.with_name(images.name.replace("images-idx3", "labels-idx1"))


def read_pixel_csv(path: Path, label: str | None) -> tuple[Pixels, NDArray[np.int64] | None]:
    """Read a CSV file with one image a row: a label column, and a pixel in each other column, row by row.

    Args:
        path: the file.
        label: the column with the class code; None for a file of images alone.

    Returns:
        Images (N, 1, H, W), square, and labels (N,).

    Raises:
        DataError: a row of another length, a pixel outside 0..255, or a number of pixels that is no square.
    """
    _require_file(path)
    images, labels, rows = [], [], 0
    try:
        for chunk in pd.read_csv(path, chunksize=CSV_CHUNK_ROWS, index_col=False, encoding="utf-8-sig"):
            if label is not None:
                if label not in chunk.columns:
                    raise DataError(f"{path}: there is no column '{label}'")
                labels.append(_whole_numbers(chunk.pop(label).to_frame(), path, rows, 0, None)[:, 0])
            side = math.isqrt(chunk.shape[1])
            if side == 0 or side * side != chunk.shape[1]:
                raise DataError(f"{path}: {chunk.shape[1]} pixels a row make no square image")
            values = _whole_numbers(chunk, path, rows, 0, BRIGHTEST)
            images.append(values.astype(np.uint8).reshape(-1, 1, side, side))
            rows += len(chunk)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if not rows:
        raise DataError(f"{path}: there are no rows below the header")
    return np.concatenate(images), np.concatenate(labels) if labels else None


def _whole_numbers(
    table: pd.DataFrame, path: Path, first: int, low: int, high: int | None
) -> NDArray[np.int64]:
    """The cells as integers within bounds; the error names row and column of the first that is not."""
    values = table.to_numpy()
    if values.dtype.kind not in "iu":
        values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    wrong = ~(values >= low) | (values != np.floor(values))  # a missing cell is not >= low
    if high is not None:
        wrong |= values > high
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = table.iloc[row, column]
        bound = f"{low} to {high}" if high is not None else f"{low} or more"
        raise DataError(
            f"{path}: row {first + row + 1}, column '{table.columns[column]}': "
            f"{'an empty cell' if pd.isna(found) else repr(str(found))}, expected a whole number, {bound}"
        )
    return values.astype(np.int64)


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The picture files of each class folder, all sorted by name.

    Raises:
        DataError: no class folders, or one without pictures.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    if not names:
        raise DataError(f"{folder}: there are no folders, one a class, in it")
    files = {name: pictures_of(folder / name) for name in names}
    for name, paths in files.items():
        if not paths:
            raise DataError(f"{folder / name}: there is no {', '.join(PICTURES)} file in this class folder")
    return files


def pictures_of(folder: Path) -> list[Path]:
    """The picture files that lie in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def read_picture(path: Path) -> Image.Image:
    """Read a picture file as grey ("L") or colour ("RGB"); transparency is laid on white.

    Raises:
        DataError: not an image.
    """
    _require_file(path)
    try:
        with Image.open(path) as file:
            file.load()
            image = file.convert("RGBA") if file.has_transparency_data else file
            if image.mode == "RGBA":
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image).convert("RGB")
            return image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image: {error}") from None


def to_shape(image: Image.Image, shape: Shape) -> Pixels:
    """A picture as (C, H, W): grey or colour as wanted, resized with antialiasing."""
    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resized(images: Pixels, shape: Shape) -> Pixels:
    """Images (N, C, H, W) of another size or colour as (N, *shape)."""
    if images.shape[1:] == shape:
        return images
    return np.stack([to_shape(as_picture(image), shape) for image in images])


def as_picture(image: Pixels) -> Image.Image:
    """An image (C, H, W) for Pillow."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def read_inputs(path: Path, preprocessing: dict[str, Any]) -> tuple[Pixels, list[str], int]:
    """Raw images of any kind, brought to the size and the brightness range of the training data.

    Args:
        path: a picture, a folder of pictures, an idx file, or a CSV file of pixels.
        preprocessing: the content of preprocessing.json.

    Returns:
        Images (N, C, H, W), their names (file names, or row numbers from 1), and how many were adapted.
    """
    shape = shape_of(preprocessing)
    if path.is_dir() or path.suffix.lower() in PICTURES:
        paths = pictures_of(path) if path.is_dir() else [path]
        if not paths:
            raise DataError(f"{path}: there is no {', '.join(PICTURES)} file in this folder")
        pictures = [read_picture(file) for file in paths]
        wanted = ("L" if shape[0] == 1 else "RGB", (shape[2], shape[1]))
        adapted = sum((picture.mode, picture.size) != wanted for picture in pictures)
        images = np.stack([to_shape(picture, shape) for picture in pictures])
        # picture files reach from black to white in 0..255, whatever the data of training do
        brightest = preprocessing["brightest"]
        if brightest != BRIGHTEST:
            images = np.rint(images * (brightest / BRIGHTEST)).astype(np.uint8)
        return images, [file.name for file in paths], adapted
    if ".idx" in path.name or "-idx" in path.name:
        images = read_idx(path)
        if images.ndim != 3:
            raise DataError(f"{path}: these are labels, not images")
        images = images[:, None]
    else:
        images, _ = read_pixel_csv(path, None)
    adapted = 0 if images.shape[1:] == shape else len(images)
    return resized(images, shape), [str(row) for row in range(1, len(images) + 1)], adapted


def shape_of(preprocessing: dict[str, Any]) -> Shape:
    """(C, H, W) of the prepared images."""
    channels, height, width = preprocessing["shape"]
    return channels, height, width


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")


def common_shape(pictures: Iterable[tuple[Path, Image.Image]], resize: int | None) -> Shape:
    """(C, H, W) that fits all pictures: colour if one is in colour; one size, or `resize` squared.

    Raises:
        DataError: the pictures have several sizes and `resize` is not set.
    """
    modes, first = set(), None
    for path, picture in pictures:
        modes.add(picture.mode)
        first = first or (path, picture.size)
        if resize is None and picture.size != first[1]:
            raise DataError(
                f"{path}: {picture.size[0]} x {picture.size[1]} pixels, {first[0].name} has "
                f"{first[1][0]} x {first[1][1]}; set prepare.resize to bring all to one size"
            )
    assert first is not None
    width, height = (resize, resize) if resize else first[1]
    return (3 if "RGB" in modes else 1), height, width
