"""Raw images to uint8 arrays: idx files and CSV files of pixels; picture files are read by `pictures.py`.

Training data and the input of `predict` are read by the same code. `prepare.py` learns the `Preprocessing`.

N images, C channels, H height, W width
"""

import gzip
import logging
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from src.core.documents import read_json, write_json
from src.core.errors import DataError
from src.images.csv_files import encoding_error, require_csv
from src.images.folders import PICTURES, LeftOut, links_to_outside, require_pictures, require_utf8
from src.images.pictures import (
    WHITE,
    Decoding,
    Pixels,
    Shape,
    as_picture,
    read_picture,
    require_file,
    to_shape,
    unreadable_files,
    warn_of_losses,
)

logger = logging.getLogger(__name__)

# the class of src.images for each task
MODELS = {
    "classification": "model.ImageModel",
    "multilabel": "tags.ImageTagger",
    "regression": "regression.ImageRegressor",
}
FILE = "preprocessing.json"
IDX_IMAGES = re.compile(r"images([-.])idx3")  # in the names of MNIST; with a dot on Kaggle
WHOLE_BYTES = 1 << 30  # of the images of a split, up to which they are kept on the device that trains
CSV_CHUNK_ROWS = 5000
BYTE_TYPE = 0x08
MOST_BYTES = 4 << 30
LARGEST = 1 << 53  # whole number that is exact as a float
# of red, green and blue with values from 0 to 1, as in torchvision
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclass(frozen=True)
class Quantity:
    """The number that a model of regression finds in an image.

    Args:
        name: of the column of labels.
        mean: of the training images.
        standard_deviation: likewise.
    """

    name: str
    mean: float
    standard_deviation: float


@dataclass(frozen=True)
class Preprocessing:
    """What the preparation has learnt from the training images: the content of preprocessing.json.

    Args:
        shape: (C, H, W) of the prepared images.
        brightest: the pixel value of white: 255 if training read picture files, else as `brightest_of` finds
            it.
        mean: of each channel.
        standard_deviation: of each channel.
        scaling: the name of the scaling, `prepare.scale` in params.yaml; normalize for values of one's own.
        center: subtracted from the pixels; nested lists that broadcast to (C, H, W).
        scale: the divisor after that, likewise.
        classes: the names of the classes or labels, in the order of their codes; none of a regression.
        labels: the names of a class in each language, by its name in `classes`.
        prediction_columns: of the file that predict writes.
        decoding: of picture files; None for idx and CSV files, and then no key of preprocessing.json.
        task: classification, regression or multilabel.
        quantity: of a regression; None for classes, and then no key of preprocessing.json.
    """

    shape: Shape
    brightest: int
    mean: list[float]
    standard_deviation: list[float]
    scaling: str
    center: list[list[list[float]]]
    scale: list[list[list[float]]]
    classes: list[str]
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    prediction_columns: list[str] = field(default_factory=lambda: ["id", "class", "probability"])
    decoding: Decoding | None = None
    task: str = "classification"
    quantity: Quantity | None = None

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read preprocessing.json in data/prepared/<task> or models/<model>.

        Raises:
            ConfigurationError: there is no such file.
            IntegrityError: it is not a JSON object.
        """
        content = read_json(folder / FILE, f"prepare@{folder.name}")
        decoding = content.get("decoding")
        if decoding is not None:
            limits = decoding["grey_range"]
            limits = None if limits is None else (limits[0], limits[1])
            decoding = Decoding(**decoding | {"grey_range": limits})
        quantity = content.get("quantity")
        if quantity is not None:
            quantity = Quantity(**quantity)
        shape = tuple(content["shape"])
        return cls(**content | {"shape": shape, "decoding": decoding, "quantity": quantity})

    def save(self, folder: Path) -> None:
        """Write preprocessing.json."""
        content = asdict(self)
        for name in ("decoding", "quantity"):
            if content[name] is None:
                del content[name]
        if self.decoding is not None and self.decoding.draft is None:
            del content["decoding"]["draft"]
        write_json(folder / FILE, content)

    @property
    def dark(self) -> bool:
        """Whether the mean of the training images is nearer to black than to white."""
        return bool(np.mean(self.mean) < self.brightest / 2)


def brightest_of(largest: int) -> int:
    """The pixel value of white: 255, or the largest value of all images if that is less than half of it.

    It is for idx and CSV files: `from_picture` scales picture files, in which white is 255, to this range.
    """
    return largest if largest < WHITE // 2 else WHITE


def read_idx(path: Path) -> Pixels:
    """Read an idx file of bytes (the format of MNIST, LeCun), gzipped if its name ends with .gz.

    Returns:
        An array with the dimensions of the file: (N, H, W) of images, (N,) of labels.

    Raises:
        DataError: the file is missing, not idx, of another length than its header says, or larger than
            `MOST_BYTES`.
    """
    require_file(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            dimensions = start[3] if len(start) == 4 else 0
            header = file.read(4 * dimensions)
            whole = len(header) == 4 * dimensions  # the file may end within the header
            shape = tuple(int(size) for size in np.frombuffer(header.ljust(4 * dimensions, b"\0"), ">u4"))
            size = math.prod(shape)
            # not more than the header says: a small gzip file may expand to many gigabytes
            content = file.read(size + 1) if size <= MOST_BYTES else b""
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}; fetch it again") from None
    if start[:3] != bytes([0, 0, BYTE_TYPE]) or dimensions not in (1, 3):
        raise DataError(
            f"{path}: not an idx file of bytes: starts with {start.hex()}, "
            "expected 00000803 for images or 00000801 for labels"
        )
    expected = " x ".join(map(str, shape))
    if size > MOST_BYTES:
        raise DataError(f"{path}: the header says {expected} bytes, expected at most {MOST_BYTES:,}")
    if len(content) != size or not whole:
        found = f"more than {size}" if len(content) > size else len(content)
        raise DataError(f"{path}: {found} values, the header says {expected}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def labels_path(images: Path) -> Path:
    """The path of the labels of an idx file of images, named as those of MNIST."""
    return images.with_name(IDX_IMAGES.sub(r"labels\1idx1", images.name))


def read_pixel_csv(path: Path, label: str | None) -> tuple[Pixels, NDArray[np.int64] | None]:
    """Read all images and labels of a CSV file, as `pixel_csv_chunks` does."""
    images, labels = zip(*pixel_csv_chunks(path, label, CSV_CHUNK_ROWS), strict=True)
    return np.concatenate(images), None if label is None else np.concatenate(labels)


def pixel_csv_chunks(
    path: Path, label: str | None, size: int
) -> Iterator[tuple[Pixels, NDArray[np.int64] | None]]:
    """Read a CSV file with one image per row: a label column, and one column for each pixel, row by row.

    Args:
        path: the file.
        label: the column with the class code; None for a file without labels.
        size: rows per chunk.

    Yields:
        Images (N, 1, H, W), square, and labels (N,).

    Raises:
        DataError: the file is missing or not CSV, a row has another length, a pixel is not in 0..255, or the
            number of pixels is not a square.
    """
    rows = 0
    try:
        require_csv(path)
        for chunk in pd.read_csv(path, chunksize=size, index_col=False, encoding="utf-8-sig"):
            if not rows:
                refuse_names_of_pictures(chunk, path)
            labels = None
            if label is not None:
                if label not in chunk.columns:
                    raise DataError(f"{path}: column '{label}' is missing")
                labels = _whole_numbers(chunk.pop(label).to_frame(), path, rows, None)[:, 0]
            side = math.isqrt(chunk.shape[1])
            if side == 0 or side * side != chunk.shape[1]:
                raise DataError(f"{path}: {chunk.shape[1]} pixels per row, expected a square number")
            values = _whole_numbers(chunk, path, rows, WHITE)
            yield values.astype(np.uint8).reshape(-1, 1, side, side), labels
            rows += len(chunk)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except UnicodeDecodeError:
        raise encoding_error(path) from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if not rows:
        raise DataError(f"{path}: no rows below the header")


def refuse_names_of_pictures(table: pd.DataFrame, path: Path) -> None:
    """Raise a DataError if a cell of the first row is the name of a picture: labels beside picture files."""
    for column, cell in zip(table.columns, table.head(1).to_numpy().ravel(), strict=False):
        if str(cell).lower().endswith(PICTURES):
            if "\\" in str(cell):
                raise DataError(f"{path}: column '{column}': {cell}: write / between folders, not \\")
            raise DataError(
                f"{path}: column '{column}' names pictures ({cell}): a table of labels; set prepare.labels "
                "to it and prepare.train to the folder of the pictures (docs/data.md, Labels in a table)"
            )


def _whole_numbers(table: pd.DataFrame, path: Path, first: int, high: int | None) -> NDArray[np.int64]:
    """The cells as integers from 0 to high; the error names row and column of the first other cell."""
    values = table.to_numpy()
    if values.dtype.kind not in "iu":
        values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    wrong = ~(values >= 0) | (values != np.floor(values))  # ~(>=) is true of a missing cell, too
    wrong |= values > (LARGEST if high is None else high)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = table.iloc[row, column]
        bound = f"0 to {high}" if high is not None else "0 or more"
        raise DataError(
            f"{path}: row {first + row + 1}, column '{table.columns[column]}': "
            f"{'an empty cell' if pd.isna(found) else repr(str(found))}, expected a whole number, {bound}"
        )
    return values.astype(np.int64)


def resized(images: Pixels, shape: Shape) -> Pixels:
    """Convert images (N, C, H, W) of another size or colour to (N, *shape)."""
    if images.shape[1:] == shape:
        return images
    return np.stack([to_shape(as_picture(image), shape) for image in images])


def read_inputs(
    path: Path, preprocessing: Preprocessing, size: int, skip_unreadable: bool = False
) -> Iterator[tuple[Pixels, list[str], int]]:
    """Read raw images of any format and convert them to the shape and the range of the training images.

    Args:
        path: a picture, a folder of pictures, an idx file, or a CSV file of pixels.
        preprocessing: of the training data.
        size: images per chunk; an idx file is read as a whole.
        skip_unreadable: leave pictures of a folder that cannot be read out, with a warning.

    Yields:
        Images (N, C, H, W), their names (file names, or row numbers from 1), and the number of images whose
        size or colour was changed.

    Raises:
        DataError: the file is missing or cannot be read, its name is not UTF-8, a folder has no pictures, or
            a link in it leads out of it.
    """
    if path.is_dir():
        left = LeftOut()
        paths = require_pictures(path, left)
        if str(left):
            logger.warning("%s: without a prediction: %s", path, left)
        for link in links_to_outside(path, paths):
            raise DataError(f"{link}: a link to outside the folder; copy the picture into the folder")
        yield from _picture_chunks(paths, preprocessing, size, skip_unreadable)
        return
    if path.suffix.lower() in PICTURES:
        require_utf8(path)
        yield from _picture_chunks([path], preprocessing, size, skip=False)
        return
    row = 1
    for images in _raw_chunks(path, size):
        names = [str(number) for number in range(row, row + len(images))]
        adapted = 0 if images.shape[1:] == preprocessing.shape else len(images)
        yield resized(images, preprocessing.shape), names, adapted
        row += len(images)


def _picture_chunks(
    paths: list[Path], preprocessing: Preprocessing, size: int, skip: bool
) -> Iterator[tuple[Pixels, list[str], int]]:
    lost, unreadable = Counter[str](), dict[Path, str]()
    for start in range(0, len(paths), size):
        part = []
        for path in paths[start : start + size]:
            try:
                picture = read_picture(path, preprocessing.decoding, lost)
            except DataError as error:
                if not skip:
                    raise
                unreadable[path] = str(error)
            else:
                part.append((path.name, *from_picture(picture, preprocessing)))
        if part:
            names, images, different = zip(*part, strict=True)
            yield np.stack(images), list(names), sum(different)
    warn_of_losses(lost, len(paths) - len(unreadable))
    if unreadable:
        logger.warning("left out, %s", unreadable_files(unreadable, len(paths)))


def _raw_chunks(path: Path, size: int) -> Iterator[Pixels]:
    """The images of an idx file or a CSV file of pixels."""
    if ".idx" not in path.name and "-idx" not in path.name:
        if path.is_file() and ".csv" not in path.name.lower():
            raise DataError(
                f"{path}: expected a picture ({', '.join(PICTURES)}), an idx file or a CSV file of pixels; "
                "convert another picture to PNG"
            )
        yield from (images for images, _ in pixel_csv_chunks(path, None, size))
        return
    images = read_idx(path)
    if images.ndim != 3:
        raise DataError(f"{path}: an idx file of labels, expected images")
    for start in range(0, len(images), size):
        yield images[start : start + size, None]


def from_picture(picture: Image.Image, preprocessing: Preprocessing) -> tuple[Pixels, bool]:
    """Convert a picture ("L" or "RGB") to an image (C, H, W) like those of training.

    Returns:
        The image, and whether its size or colour was changed.
    """
    channels, height, width = preprocessing.shape
    image = to_shape(picture, preprocessing.shape)
    if preprocessing.brightest != WHITE:
        image = np.rint(image * (preprocessing.brightest / WHITE)).astype(np.uint8)
    return image, (picture.mode, picture.size) != ("L" if channels == 1 else "RGB", (width, height))
