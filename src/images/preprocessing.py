"""Raw images in, uint8 arrays out: idx, pixel CSV and picture files, brought to the size of the data.

`preprocessing.json` is all that the transformation needs, so that training data and the raw images of a
prediction go through the same code. Nothing is learnt here; that is `prepare.py`.

N images, C channels, H height, W width
"""

import gzip
import math
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from src.core.errors import DataError

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]

PICTURES = (".png", ".jpg", ".jpeg")
CSV_CHUNK_ROWS = 5000
BYTE_TYPE = 0x08
MOST_BYTES = 4 << 30
BRIGHTEST = 255
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError)


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
    """All images and labels of a CSV file, as `pixel_csv_chunks`."""
    images, labels = zip(*pixel_csv_chunks(path, label, CSV_CHUNK_ROWS), strict=True)
    return np.concatenate(images), None if label is None else np.concatenate(labels)


def pixel_csv_chunks(
    path: Path, label: str | None, size: int
) -> Iterator[tuple[Pixels, NDArray[np.int64] | None]]:
    """Read a CSV file with one image a row: a label column, and a pixel in each other column, row by row.

    Args:
        path: the file.
        label: the column with the class code; None for a file of images alone.
        size: rows of a chunk.

    Yields:
        Images (N, 1, H, W), square, and labels (N,).

    Raises:
        DataError: a row of another length, a pixel outside 0..255, or a number of pixels that is no square.
    """
    _require_file(path)
    rows = 0
    try:
        for chunk in pd.read_csv(path, chunksize=size, index_col=False, encoding="utf-8-sig"):
            labels = None
            if label is not None:
                if label not in chunk.columns:
                    raise DataError(f"{path}: there is no column '{label}'")
                labels = _whole_numbers(chunk.pop(label).to_frame(), path, rows, 0, None)[:, 0]
            side = math.isqrt(chunk.shape[1])
            if side == 0 or side * side != chunk.shape[1]:
                raise DataError(f"{path}: {chunk.shape[1]} pixels a row make no square image")
            values = _whole_numbers(chunk, path, rows, 0, BRIGHTEST)
            yield values.astype(np.uint8).reshape(-1, 1, side, side), labels
            rows += len(chunk)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if not rows:
        raise DataError(f"{path}: there are no rows below the header")


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
        DataError: neither PNG nor JPEG, or more pixels than `Image.MAX_IMAGE_PIXELS`.
    """
    _require_file(path)
    try:
        with warnings.catch_warnings():
            # the header tells the size, before memory is taken; above Image.MAX_IMAGE_PIXELS is too much
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # other formats stay closed: some are programs
            file = Image.open(path, formats=("PNG", "JPEG"))
        with file:
            file.load()
            image = file.convert("RGBA") if file.has_transparency_data else file
            if image.mode == "RGBA":
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image).convert("RGB")
            return image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    except UNREADABLE as error:
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


def read_inputs(
    path: Path, preprocessing: dict[str, Any], size: int
) -> Iterator[tuple[Pixels, list[str], int]]:
    """Raw images of any kind, brought to the size and the brightness range of the training data.

    Args:
        path: a picture, a folder of pictures, an idx file, or a CSV file of pixels.
        preprocessing: the content of preprocessing.json.
        size: images of a chunk; an idx file is read whole all the same.

    Yields:
        Images (N, C, H, W), their names (file names, or row numbers from 1), and how many were adapted.

    Raises:
        DataError: no such file, no image, a picture with too many pixels, or a link to outside the folder.
    """
    if path.is_dir() or path.suffix.lower() in PICTURES:
        paths = pictures_of(path) if path.is_dir() else [path]
        if not paths:
            raise DataError(f"{path}: there is no {', '.join(PICTURES)} file in this folder")
        if path.is_dir():
            _refuse_links_to_outside(path, paths)
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            pictures = [from_picture(read_picture(file), preprocessing) for file in part]
            adapted = sum(different for _, different in pictures)
            yield np.stack([image for image, _ in pictures]), [file.name for file in part], adapted
        return
    shape = shape_of(preprocessing)
    row = 1
    for images in _raw_chunks(path, size):
        adapted = 0 if images.shape[1:] == shape else len(images)
        yield resized(images, shape), [str(number) for number in range(row, row + len(images))], adapted
        row += len(images)


def _raw_chunks(path: Path, size: int) -> Iterator[Pixels]:
    """The images of an idx file or a CSV file of pixels."""
    if ".idx" not in path.name and "-idx" not in path.name:
        yield from (images for images, _ in pixel_csv_chunks(path, None, size))
        return
    images = read_idx(path)
    if images.ndim != 3:
        raise DataError(f"{path}: these are labels, not images")
    for start in range(0, len(images), size):
        yield images[start : start + size, None]


def from_picture(picture: Image.Image, preprocessing: dict[str, Any]) -> tuple[Pixels, bool]:
    """A picture ("L" or "RGB") as (C, H, W) like those of training, and whether it was adapted."""
    shape = shape_of(preprocessing)
    wanted = ("L" if shape[0] == 1 else "RGB", (shape[2], shape[1]))
    image = to_shape(picture, shape)
    # picture files reach from black to white in 0..255, whatever the data of training do
    brightest = preprocessing["brightest"]
    if brightest != BRIGHTEST:
        image = np.rint(image * (brightest / BRIGHTEST)).astype(np.uint8)
    return image, (picture.mode, picture.size) != wanted


def _refuse_links_to_outside(folder: Path, paths: list[Path]) -> None:
    for path in paths:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path}: a link to outside the folder; copy the picture into it")


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
