"""Labelled images, and checks that something in them can tell their labels.

N images, C channels, H height, W width
"""

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.core.errors import DataError
from src.images.pictures import WHITE, Decoding, Pixels, blocks
from src.images.preprocessing import brightest_of
from src.preparation.splits import Rows

logger = logging.getLogger(__name__)

Codes = NDArray[np.int64]
NEARLY_ALIKE = 1 / 32  # of the brightest pixel: the largest difference of images that are nearly alike


class Labelled(NamedTuple):
    """Labelled images.

    Args:
        images: (N, C, H, W).
        target: the number of the class of each (N,) int64, its number (N,) float32 for a regression, or 1 for
            each of its labels (N, K) uint8.
        names: of the classes; none for a regression.
        values: what stands for each class in the files: a label, or the name of a folder.
        files: the picture files (N,); none for idx and CSV files.
        decoding: of picture files.
        unreadable: files that are left out, each with the reason.
        groups: images of equal values (N,) stay in one part of the split; None for single images.
    """

    images: Pixels
    target: Codes | NDArray[np.float32] | NDArray[np.uint8]
    names: list[str]
    values: Sequence[int | str]
    files: list[Path]
    decoding: Decoding | None
    unreadable: dict[Path, str]
    groups: NDArray[Any] | None = None


def check_classes(target: Codes, names: list[str], path: Path) -> None:
    """Raise a DataError if there are images of one class only, or none of a class."""
    absent = sorted(set(range(len(names))) - set(target.tolist()))
    if len(set(target.tolist())) < 2:
        raise DataError(f"{path}: all images are of one class, {names[target[0]]}, expected at least two")
    if absent:
        raise DataError(f"{path}: no image of class {names[absent[0]]} ({absent[0]})")


def check_variety(source: Labelled, path: Path) -> dict[bytes, list[int]]:
    """Refuse or warn of images that tell no class: alike, of one colour, or also in another class.

    Returns:
        The rows of each different image, by the digest of its pixels.

    Raises:
        DataError: all images are alike, or each has a copy in another class.
    """
    number, way = len(source.images), ""
    if source.files:
        way = "; transparent or deep pictures need prepare.background or prepare.grey_range"
    low = high = np.array(source.images[0])
    one_colour = row = 0
    rows_of: dict[bytes, list[int]] = {}
    for block in blocks(source.images):
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        pixels = block.reshape(*block.shape[:2], -1)
        one_colour += int((pixels.max(axis=2) == pixels.min(axis=2)).all(axis=1).sum())
        for digest in digests_of(block):
            rows_of.setdefault(digest, []).append(row)
            row += 1
    difference = int((high - low).max())
    if difference == 0:
        raise DataError(f"{path}: all {number} images are the same{way}")
    if difference <= NEARLY_ALIKE * white_of(source, int(high.max())):
        logger.warning(
            "%s: the images are nearly alike: no pixel differs by more than %d%s", path, difference, way
        )
    if one_colour:
        logger.warning("%s: %d of %d images are of one colour%s", path, one_colour, number, way)

    target = source.target
    if not source.names or target.ndim > 1:  # numbers and lists of labels may differ a little
        return rows_of
    copies = [rows for rows in rows_of.values() if len(set(target[rows].tolist())) > 1]
    if copies:
        first = copies[0][0]
        other = next(row for row in copies[0] if target[row] != target[first])
        with_copies = sum(map(len, copies))
        message = (
            f"{path}: {with_copies} of {number} images have a copy in another class, such as "
            f"{_place(source, first)} and {_place(source, other)}"
        )
        if with_copies == number:
            raise DataError(f"{message}: nothing tells the classes apart{way}")
        logger.warning("%s", message)
    return rows_of


def warn_of_copies(
    parts: dict[str, Rows], official: Labelled | None, rows_of: dict[bytes, list[int]], path: Path
) -> None:
    """Count the images of the other parts that are equal to one of the training part: scores are too good.

    Args:
        parts: the rows of `train`, `validation` and, without an official test part, `test`.
        official: the official test part, compared with all images of the source.
        rows_of: as `check_variety` returns it.
        path: of the source.
    """
    numbers = _numbers(rows_of)
    for name in ("validation", "test"):
        if name in parts and (known := int(np.isin(numbers[parts[name]], numbers[parts["train"]]).sum())):
            logger.warning(
                "%s: %d of %d %s images are copies of training images; prepare.duplicates: together keeps "
                "equal images in one part",
                *(path, known, len(parts[name]), name),
            )
    if official is not None:
        known = sum(digest in rows_of for block in blocks(official.images) for digest in digests_of(block))
        if known:
            logger.warning(
                "%s: %d of %d images of the official test part are copies of images in it",
                *(path, known, len(official.images)),
            )


def groups_of_copies(rows_of: dict[bytes, list[int]]) -> Rows | None:
    """A number for each image (N,), the same for equal ones; None if all differ."""
    return _numbers(rows_of) if any(len(rows) > 1 for rows in rows_of.values()) else None


def _numbers(rows_of: dict[bytes, list[int]]) -> Rows:
    numbers = np.empty(sum(map(len, rows_of.values())), dtype=np.int64)
    for number, rows in enumerate(rows_of.values()):
        numbers[rows] = number
    return numbers


def digests_of(images: Pixels) -> list[bytes]:
    """The sha256 of the pixels of each image."""
    return [sha256(np.ascontiguousarray(image).data).digest() for image in images]


def _place(source: Labelled, row: int) -> str:
    return str(source.files[row]) if source.files else f"image {row + 1} ({source.names[source.target[row]]})"


def white_of(source: Labelled, largest: int) -> int:
    """The pixel value of white: 255 in picture files; else by the largest value."""
    return WHITE if source.files else brightest_of(largest)
