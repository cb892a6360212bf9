"""Preparation: raw images to uint8 arrays and preprocessing.json, learnt from the training images."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.model_selection import train_test_split

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.images.preprocessing import (
    WHITE,
    Pixels,
    Preprocessing,
    as_picture,
    brightest_of,
    class_folders,
    labels_path,
    read_idx,
    read_picture,
    read_pictures,
    read_pixel_csv,
    resized,
    to_shape,
)
from src.preparation.splits import check_splitting, cut_fold

Codes = NDArray[np.int64]

SHEET = (2, 9)
SHEET_ZOOM = 84


@dataclass
class Preparation:
    """The section `<task>.prepare` of params.yaml.

    Args:
        train: the labelled images: an idx file (with its file of labels in the same folder), a CSV file of
            pixels, or a folder of class folders ("." is the raw folder of the task).
        test: the official test set, likewise; null splits it from `train`.
        label: the column of a CSV file with the class codes.
        classes: the names of the classes in the order of their codes, as `{en: Dress, zh: 连衣裙}`; empty
            uses the codes, or the names of the class folders.
        resize: the height and width to which all images are resized; null keeps their size.
        scale: the input of the network: none (the pixels), range (divided by the largest pixel of the
            training images), per_pixel (each pixel from its minimum to its maximum is scaled to 0..1),
            standardize (mean 0 and standard deviation 1 of each channel of the training images).
        prediction_columns: of the file that predict writes: identifier, class and optionally probability.
        test_share: the share of `train` that is the test set if `test` is null.
        validation_share: the share of the remaining images that is the validation set.
        folds: the number of folds of a cross-validation; one of them is the test set instead of `test` and
            `test_share`. 0 for none.
        fold: the number of that fold, from 1.
        seed: of the split.
    """

    train: str
    test: str | None = None
    label: str = "label"
    classes: list[dict[str, str]] = field(default_factory=list)
    resize: int | None = None
    scale: Literal["none", "range", "per_pixel", "standardize"] = "standardize"
    prediction_columns: list[str] = field(default_factory=lambda: ["id", "class", "probability"])
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    fold: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.folds:
            self.test = None
        if self.resize is not None and self.resize < 1:
            raise ConfigurationError(f"prepare.resize: {self.resize}, expected at least 1")
        if len(self.prediction_columns) not in (2, 3):
            raise ConfigurationError(
                f"prepare.prediction_columns: {self.prediction_columns}, expected two or three names"
            )
        if any("en" not in names for names in self.classes):
            raise ConfigurationError("prepare.classes: a class has no name `en`")


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the raw images of a task and learn their scaling from the training images.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write: `<split>_images.npy` (N, C, H, W) uint8 and `<split>_target.npy`
            (N,) int64 for the splits train, validation and test; split.csv; preprocessing.json;
            sheet.png, some training images with the names of their classes; manifest.json.
        settings: the section `prepare` of the task.

    Raises:
        DataError: a file or row cannot be used; then nothing is written.
    """
    images, target, names = _read(raw / settings.train, settings)
    official = _read(raw / settings.test, settings, names, images) if settings.test else None
    labels = {names_of["en"]: names_of for names_of in settings.classes}
    if settings.classes:
        names = list(labels)
    _check_classes(target, names, raw / settings.train)

    rows, parts = np.arange(len(images)), {}
    if settings.folds:
        rows, parts["test"] = cut_fold(rows, settings, target)
    elif not official:
        rows, parts["test"] = _cut(rows, target, settings.test_share, settings, raw)
    parts["train"], parts["validation"] = _cut(rows, target, settings.validation_share, settings, raw)
    splits = {name: (images[part], target[part]) for name, part in parts.items()}
    if official:
        _check_codes(official[1], len(names), raw / str(settings.test))
        splits["test"] = official[:2]
    learnt = _learn(splits["train"][0], settings, names, labels)

    with written_whole(prepared) as folder:
        for name, (pixels, codes) in sorted(splits.items()):
            np.save(folder / f"{name}_images.npy", pixels)
            np.save(folder / f"{name}_target.npy", codes)
        lines = sorted((int(row), name) for name, part in parts.items() for row in part)
        text = "".join(f"{row},{name}\n" for row, name in lines)
        (folder / "split.csv").write_text(f"row,split\n{text}", encoding="utf-8")
        learnt.save(folder)
        _draw_sheet(*splits["train"], names, folder / "sheet.png")
        write_manifest(folder)


def _read(
    path: Path, settings: Preparation, names: list[str] | None = None, like: Pixels | None = None
) -> tuple[Pixels, Codes, list[str]]:
    """Read the images (N, C, H, W), class codes (N,) and class names of a labelled source.

    Args:
        path: an idx file, a CSV file or a folder.
        settings: of the task.
        names: the classes of the training images, for the test set.
        like: the training images, whose shape the test images must have.
    """
    if path.is_dir():
        images, target, found = _read_folders(path, settings, names, like)
    else:
        if path.suffix == ".csv":
            images, codes = read_pixel_csv(path, settings.label)
            assert codes is not None
            target = codes
        else:
            images, target = _read_idx_pair(path)
        if settings.resize:
            images = resized(images, (1, settings.resize, settings.resize))
        found = [str(code) for code in range(int(target.max()) + 1)]
    if like is not None and images.shape[1:] != like.shape[1:]:
        raise DataError(f"{path}: images of {images.shape[1:]}, expected {like.shape[1:]} as in training")
    return images, target, names or found


def _read_idx_pair(path: Path) -> tuple[Pixels, Codes]:
    images, labels = read_idx(path), read_idx(labels_path(path))
    for pixels, dimensions, file in ((images, 3, path), (labels, 1, labels_path(path))):
        if pixels.ndim != dimensions:
            raise DataError(f"{file}: {pixels.ndim} dimensions, expected {dimensions}")
    if len(images) != len(labels):
        raise DataError(
            f"{path}: {len(images)} images, but {labels_path(path).name} has {len(labels)} labels"
        )
    if not len(images):
        raise DataError(f"{path}: no images")
    return images[:, None], labels.astype(np.int64)


def _read_folders(
    folder: Path, settings: Preparation, names: list[str] | None, like: Pixels | None
) -> tuple[Pixels, Codes, list[str]]:
    files = class_folders(folder)
    found = names or list(files)
    unknown = [name for name in files if name not in found]
    if unknown:
        raise DataError(f"{folder / unknown[0]}: a class without training images")
    paths = [path for members in files.values() for path in members]
    if like is None:
        images = read_pictures(paths, settings.resize)
    else:
        shape = (like.shape[1], like.shape[2], like.shape[3])
        images = np.stack([to_shape(read_picture(path), shape) for path in paths])
    codes = [found.index(name) for name, members in files.items() for _ in members]
    return images, np.array(codes, dtype=np.int64), found


def _check_classes(target: Codes, names: list[str], path: Path) -> None:
    _check_codes(target, len(names), path)
    absent = sorted(set(range(len(names))) - set(target.tolist()))
    if len(set(target.tolist())) < 2:
        raise DataError(f"{path}: all images are of one class, {names[target[0]]}, expected at least two")
    if absent:
        raise DataError(f"{path}: no image of class {names[absent[0]]} ({absent[0]})")


def _check_codes(target: Codes, classes: int, path: Path) -> None:
    wrong = np.flatnonzero(target >= classes)
    if len(wrong):
        raise DataError(
            f"{path}: image {wrong[0] + 1} has label {target[wrong[0]]}, expected less than {classes}"
        )


def _cut(rows: Codes, target: Codes, share: float, settings: Preparation, raw: Path) -> tuple[Codes, Codes]:
    """Split a share of the rows off, stratified by class."""
    try:
        rest, part = train_test_split(
            rows, test_size=share, random_state=settings.seed, stratify=target[rows]
        )
    except ValueError as error:
        counts = Counter(target[rows].tolist())
        raise DataError(
            f"{raw / settings.train}: {len(rows)} images, {min(counts.values())} of the rarest class, "
            f"are too few for the split: {error}"
        ) from None
    return np.sort(rest), np.sort(part)


def _learn(
    images: Pixels, settings: Preparation, classes: list[str], labels: dict[str, dict[str, str]]
) -> Preprocessing:
    """Learn the scaling from the training images (N, C, H, W)."""
    mean, deviation = _moments(images)
    low, high = images.min(axis=0).astype(float), images.max(axis=0).astype(float)
    center, scale = {
        "none": (np.zeros((1, 1, 1)), np.ones((1, 1, 1))),
        "range": (np.zeros((1, 1, 1)), np.full((1, 1, 1), float(images.max()))),
        "per_pixel": (low, high - low),
        "standardize": (mean, deviation),
    }[settings.scale]
    return Preprocessing(
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        brightest=brightest_of(images),
        mean=mean.ravel().tolist(),
        standard_deviation=deviation.ravel().tolist(),
        scaling=settings.scale,
        center=center.tolist(),
        scale=np.where(scale == 0, 1.0, scale).tolist(),  # a constant pixel becomes 0
        classes=classes,
        labels=labels,
        prediction_columns=settings.prediction_columns,
    )


def _moments(images: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (C, 1, 1) of each channel, from exact counts of the pixel values."""
    moments = []
    values = np.arange(WHITE + 1, dtype=float)
    for channel in range(images.shape[1]):
        shares = np.bincount(images[:, channel].ravel(), minlength=WHITE + 1) / images[:, channel].size
        mean = float(shares @ values)
        moments.append((mean, float(shares @ (values - mean) ** 2) ** 0.5))
    mean, deviation = np.array(moments).T
    return mean[:, None, None], deviation[:, None, None]


def _draw_sheet(images: Pixels, target: Codes, names: list[str], path: Path) -> None:
    """Draw the first training images, 2 x 9 as in the course, each below the name of its class."""
    rows, columns = SHEET
    line, font = 14, ImageFont.load_default(11)
    sheet = Image.new("RGB", (columns * SHEET_ZOOM, rows * (SHEET_ZOOM + line)), "white")
    draw = ImageDraw.Draw(sheet)
    brightest = max(int(images.max()), 1)
    for number, (image, code) in enumerate(zip(images[: rows * columns], target, strict=False)):
        left, top = number % columns * SHEET_ZOOM, number // columns * (SHEET_ZOOM + line)
        draw.text((left + 2, top), names[code], fill="black", font=font)
        shown = (image.astype(float) * (WHITE / brightest)).astype(np.uint8)
        picture = as_picture(shown).resize((SHEET_ZOOM - 4, SHEET_ZOOM - 4), Image.Resampling.NEAREST)
        sheet.paste(picture.convert("RGB"), (left + 2, top + line))
    sheet.save(path)
