"""Preparation: raw images to uint8 arrays and preprocessing.json, learnt from the training images."""

import csv
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.core.shards import cut_evenly, write_shards
from src.images.folders import class_folders, links_to_outside
from src.images.labelled import (
    Codes,
    Labelled,
    check_classes,
    check_variety,
    groups_of_copies,
    warn_of_copies,
    white_of,
)
from src.images.labels import as_numbers, groups_of_rows, in_order, labelled_pictures, marked_pictures
from src.images.pictures import (
    WHITE,
    Decoding,
    Pixels,
    blocks,
    read_pictures,
    unreadable_error,
    unreadable_files,
)
from src.images.preprocessing import (
    IMAGENET,
    WHOLE_BYTES,
    Preprocessing,
    Quantity,
    labels_path,
    read_idx,
    read_pixel_csv,
    resized,
)
from src.images.sheet import SHEET, draw_sheet
from src.preparation.proposals import listed
from src.preparation.splits import Rows, check_splitting, cut_fold, cut_share

logger = logging.getLogger(__name__)

DRAFTED = 2  # times `resize`, so that the last reduction averages pixels
EACH_PART = 3  # images of a class, so that training, validation and test can have one each
LEFT_OUT = "left_out.csv"
PREDICTION_COLUMNS = ["id", "class", "probability"]


@dataclass
class Preparation:
    """The section `<task>.prepare` of params.yaml.

    Args:
        train: the labelled images: an idx file (with its file of labels in the same folder), a CSV file of
            pixels, or a folder of class folders ("." is the raw folder of the task).
        test: the official test set, likewise; null splits it from `train`.
        labels: a CSV file with the labels of the pictures in the folder `train`, which then needs no class
            folders.
        file: the column of `labels` with the file names, relative to `train`.
        label: the column of `labels`, or of a CSV file of pixels, with the labels; for several labels an
            image that of their lists, or the columns of all labels, with 0 and 1 (or 0.0 and 1.0, -1 and 1,
            False and True).
        group: a column of `labels` that names the person or thing of each picture: all pictures of one value
            are in one part of the split; null for none.
        missing_label: error refuses rows of `labels` without a label; drop leaves them out.
        separator: between the labels of a list.
        task: classification; for `labels` also regression (they are numbers) or multilabel (several or none
            an image).
        classes: the names of the classes in the order of their codes, as `{en: Dress, zh: 连衣裙}`; empty
            uses the codes, or the names of the class folders. Codes that do not count from 0 are ordered.
        resize: the height and width to which all images are resized; null keeps their size.
        draft: whether JPEG files are reduced to 1/2, 1/4 or 1/8 while they are decoded, to at least twice
            `resize`; it takes a fraction of the time for large ones, and pixels differ a little.
        background: the colour below the transparent pixels of pictures: a name or #rrggbb. A white shape on
            nothing needs another one than white.
        grey_range: the two values that become black and white in pictures of more than 8 bits a pixel; null
            finds the depth that the training pictures use, see `pictures.depth_of`.
        unreadable: pictures that cannot be read: refuse, or skip (they are listed in left_out.csv).
        scale: the input of the network: none (the pixels), range (divided by the largest pixel of the
            training images), per_pixel (each pixel from its minimum to its maximum is scaled to 0..1),
            standardize (mean 0 and standard deviation 1 of each channel of the training images), imagenet
            (as torchvision's pretrained networks want it; grey images are shown in colour), or other values
            of pretrained networks, such as `{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}`.
        weights: a raw file of pretrained weights, .safetensors or torch's .pt or .pth; null for none.
        prediction_columns: of the file that predict writes: identifier, class and optionally probability; of
            a regression identifier and number, by default `id` and the value of `label`; of several labels an
            image the identifier and then the name of each label, whatever follows here.
        test_share: the share of `train` that is the test set if `test` is null.
        validation_share: the share of the remaining images that is the validation set.
        folds: the number of folds of a cross-validation; one of them is the test set instead of `test` and
            `test_share`. 0 for none.
        fold: the number of that fold, from 1.
        duplicates: whether equal images (after `resize`) fall into any part of the split, or stay together in
            one. Copies in two parts are counted in a warning.
        seed: of the split.
    """

    train: str
    test: str | None = None
    labels: str | None = None
    file: str = "file"
    label: str | list[str] = "label"
    group: str | None = None
    missing_label: Literal["error", "drop"] = "error"
    separator: str = ";"
    task: Literal["classification", "regression", "multilabel"] = "classification"
    classes: list[dict[str, str]] = field(default_factory=list)
    resize: int | None = None
    draft: bool = False
    background: str = "white"
    grey_range: list[float] | None = None
    unreadable: Literal["refuse", "skip"] = "refuse"
    scale: Literal["none", "range", "per_pixel", "standardize", "imagenet"] | dict[str, list[float]] = (
        "standardize"
    )
    weights: str | None = None
    prediction_columns: list[str] = field(default_factory=lambda: [*PREDICTION_COLUMNS])
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    fold: int = 1
    duplicates: Literal["apart", "together"] = "apart"
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.folds:
            self.test = None
        if self.resize is not None and self.resize < 1:
            raise ConfigurationError(f"prepare.resize: {self.resize}, expected at least 1")
        if isinstance(self.scale, dict) and not _is_normalization(self.scale):
            raise ConfigurationError(
                f"prepare.scale: {self.scale}, expected a name, or mean and std with three numbers each, "
                "those of std above 0"
            )
        if self.draft and self.resize is None:
            raise ConfigurationError("prepare.draft: it needs prepare.resize, the size of the images")
        if not _is_colour(self.background):
            raise ConfigurationError(
                f"prepare.background: '{self.background}', expected a colour such as white or #808080"
            )
        if self.labels is not None and self.test is not None:
            raise ConfigurationError(
                "prepare.test: the rows of prepare.labels are split by prepare.test_share; leave test out "
                "or make class folders of both parts"
            )
        if self.task != "classification" and (self.labels is None or self.classes):
            raise ConfigurationError(
                f"prepare.task: {self.task} needs prepare.labels, a table, and no prepare.classes"
            )
        if self.task != "multilabel" and not isinstance(self.label, str):
            raise ConfigurationError(
                f"prepare.label: {self.label}, expected one column for prepare.task: {self.task}"
            )
        if self.group is not None and (self.labels is None or self.duplicates == "together"):
            raise ConfigurationError(
                "prepare.group: it needs prepare.labels, a table, and no prepare.duplicates: together"
            )
        if not self.separator:
            raise ConfigurationError("prepare.separator: found nothing, expected a text such as ;")
        if self.grey_range is not None and not _is_range(self.grey_range):
            raise ConfigurationError(
                f"prepare.grey_range: {self.grey_range}, expected two numbers, the smaller one first"
            )
        if len(self.prediction_columns) not in (2, 3):
            raise ConfigurationError(
                f"prepare.prediction_columns: {self.prediction_columns}, expected two or three names"
            )
        if any("en" not in names for names in self.classes):
            raise ConfigurationError("prepare.classes: a class has no name `en`")


def _is_colour(text: str) -> bool:
    try:
        return len(ImageColor.getrgb(text)) == 3  # a fourth value is transparency
    except ValueError:
        return False


def _is_normalization(scale: dict[str, list[float]]) -> bool:
    numbers = [number for values in scale.values() for number in values]
    return (
        scale.keys() == {"mean", "std"}
        and all(len(values) == 3 for values in scale.values())
        and all(map(math.isfinite, numbers))
        and min(scale["std"]) > 0
    )


def _is_range(limits: list[float]) -> bool:
    return len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the raw images of a task and learn their scaling from the training images.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write: `<split>_images.npy` (N, C, H, W) uint8 and `<split>_target.npy`
            (N,) int64, float32 for a regression, or (N, K) uint8 for several labels, for the splits train,
            validation and test; of splits above `WHOLE_BYTES` shards.json, and the training images of such
            a split in random order; split.csv; preprocessing.json; sheet.png, some training images with their
            classes or numbers; left_out.csv, the unreadable files, if there are any; manifest.json.
        settings: the section `prepare` of the task.

    Raises:
        DataError: a file or row cannot be used; then nothing is written.
    """
    prepared.parent.mkdir(parents=True, exist_ok=True)
    source = _read(raw, settings.train, prepared.parent, settings)
    official = _read(raw, settings.test, prepared.parent, settings, source) if settings.test else None
    target, names = source.target, source.names
    labels = {names_of["en"]: names_of for names_of in settings.classes}
    stratum: NDArray[Any] | None = target if settings.task == "classification" else None
    if stratum is not None:
        check_classes(stratum, names, raw / settings.train)
    rows_of = check_variety(source, raw / settings.train)
    groups = groups_of_copies(rows_of) if settings.duplicates == "together" else source.groups

    def cut(rows: Rows, share: float) -> tuple[Rows, Rows]:
        return _cut(rows, stratum, groups, share, settings, raw, names)

    rows: Rows = np.arange(len(target))
    parts = dict[str, Rows]()
    if settings.folds:
        rows, parts["test"] = cut_fold(rows, settings, stratum, groups)
    elif not official:
        rows, parts["test"] = cut(rows, settings.test_share)
    parts["train"], parts["validation"] = cut(rows, settings.validation_share)
    if stratum is not None and (absent := {*stratum.tolist()} - {*stratum[parts["train"]].tolist()}):
        raise DataError(
            f"{raw / settings.train}: {listed([names[code] for code in sorted(absent)])}: no training image; "
            "all are in groups of the other parts; set another prepare.seed, or a smaller share"
        )
    warn_of_copies(parts, official, rows_of, raw / settings.train)
    splits = {name: (source, part) for name, part in parts.items()}
    if official:
        splits["test"] = official, np.arange(len(official.target))
    learnt, largest = _learn(parts["train"], settings, source, labels)
    unreadable = source.unreadable | (official.unreadable if official else {})

    with written_whole(prepared) as folder:
        _save_splits(folder, splits, settings.seed)
        lines = sorted((int(row), name) for name, part in parts.items() for row in part)
        text = "".join(f"{row},{name}\n" for row, name in lines)
        (folder / "split.csv").write_text(f"row,split\n{text}", encoding="utf-8")
        if unreadable:
            with (folder / LEFT_OUT).open("w", encoding="utf-8", newline="") as file:
                left = [(path.relative_to(raw).as_posix(), unreadable[path]) for path in sorted(unreadable)]
                csv.writer(file, lineterminator="\n").writerows([("file", "reason"), *left])
        learnt.save(folder)
        if settings.weights:
            from src.images.pretrained import copy_weights  # needs torch, which takes two seconds

            copy_weights(raw / settings.weights, folder)
        shown = parts["train"][: math.prod(SHEET)]
        captions = [_caption(each, names) for each in target[shown]]
        draw_sheet(source.images[shown], captions, largest, folder / "sheet.png")
        write_manifest(folder)


def _caption(target: Any, names: list[str]) -> str:
    """The class, number or labels of an image in words."""
    if np.ndim(target):
        return ", ".join(names[label] for label in np.flatnonzero(target)) or "-"
    return names[target] if names else f"{target:g}"


def _save_splits(folder: Path, splits: dict[str, tuple[Labelled, Rows]], seed: int) -> None:
    """Write the images and targets of each split, and the shards of large ones."""
    cuts = {}
    for name, (labelled, part) in sorted(splits.items()):
        rows, size = part, labelled.images[:1].nbytes
        if len(part) * size > WHOLE_BYTES:
            cuts[f"{name}_images.npy"] = cut_evenly(len(part), size)
            if name == "train":  # those of a class are neighbours, and a training mixes some shards at a time
                rows = np.random.default_rng(seed).permutation(part)
        _save_images(labelled.images, rows, folder / f"{name}_images.npy")
        np.save(folder / f"{name}_target.npy", labelled.target[rows])
    write_shards(folder, cuts)


def _save_images(images: Pixels, rows: Rows, path: Path) -> None:
    """Write some images (N, C, H, W) as numpy.save does, block by block."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks(images, rows):
            file.write(block.data)


def _read(
    raw: Path, name: str, store: Path, settings: Preparation, training: Labelled | None = None
) -> Labelled:
    """Read a labelled source.

    Args:
        raw: the folder with the raw files.
        name: in it, of an idx file, a CSV file or a folder.
        store: a folder for the file of decoded pictures.
        settings: of the task.
        training: for the test set: its images get the same shape, classes and decoding.
    """
    path = raw / name
    if path.is_dir():
        return _read_folders(path, store, settings, raw, training)
    if settings.labels:
        raise DataError(f"{path}: not a folder, expected that of the pictures of prepare.labels")
    if ".csv" in path.name.lower():
        assert isinstance(settings.label, str)
        images, labels = read_pixel_csv(path, settings.label)
        assert labels is not None
    else:
        images, labels = _read_idx_pair(path)
    if settings.resize:
        images = resized(images, (1, settings.resize, settings.resize))
    if training is not None and images.shape[1:] != training.images.shape[1:]:
        shape = training.images.shape[1:]
        raise DataError(f"{path}: images of {images.shape[1:]}, expected {shape} as in training")
    values = training.values if training else _labels_in_order(labels, settings, path)
    codes = {value: code for code, value in enumerate(values)}
    for row, label in enumerate(labels.tolist()):
        if label not in codes:
            raise DataError(f"{path}: image {row + 1} has label {label}, a class without training images")
    target = np.array([codes[label] for label in labels.tolist()], dtype=np.int64)
    return Labelled(images, target, _names(settings, values), values, [], None, {})


def _names(settings: Preparation, values: Sequence[int | str]) -> list[str]:
    return [names_of["en"] for names_of in settings.classes] or list(map(str, values))


def _labels_in_order(labels: Codes, settings: Preparation, path: Path) -> Sequence[int]:
    """The label of each class: 0, 1, ... as `classes` counts them, or the labels that occur, in order."""
    found, named = np.unique(labels).tolist(), len(settings.classes)
    if named and found[-1] < named:
        return range(named)
    if named and len(found) != named:
        row = int(np.flatnonzero(labels >= named)[0])
        raise DataError(
            f"{path}: image {row + 1} has label {labels[row]}, expected less than {named}, the number of "
            f"prepare.classes, or as many different labels, found {len(found)}"
        )
    return found


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


def _class_folders(folder: Path, training: Labelled | None) -> tuple[list[Path], list[str], list[str]]:
    """Picture files, the class of each, and all classes."""
    folders, left = class_folders(folder)
    if str(left):
        logger.warning("%s: left out: %s", folder, left)
    values = list(map(str, training.values)) if training else list(folders)
    unknown = [name for name in folders if name not in values]
    if unknown:
        raise DataError(f"{folder / unknown[0]}: a class without training images")
    paths = [path for members in folders.values() for path in members]
    return paths, [name for name, members in folders.items() for _ in members], values


def _labels(
    folder: Path, settings: Preparation, raw: Path, training: Labelled | None
) -> tuple[list[Path], NDArray[Any], list[str], NDArray[Any] | None]:
    """Picture files, the target of each, all classes or labels (none of a regression), and the groups."""
    groups = None
    if settings.labels:
        table = raw / settings.labels
        groups = groups_of_rows(table, settings.group) if settings.group else None
        if settings.task == "multilabel":
            paths, values, marks = marked_pictures(
                folder, table, settings.file, settings.label, settings.separator
            )
            return paths, marks, values, groups
        assert isinstance(settings.label, str)
        drop = settings.missing_label == "drop"
        paths, cells = labelled_pictures(folder, table, settings.file, settings.label, drop)
        if groups is not None:
            groups = groups[cells.index.to_numpy() - 1]
        if settings.task == "regression":
            return paths, as_numbers(cells, table, settings.label), [], groups
        labels = cells.tolist()
        values = in_order(labels)
    else:
        paths, labels, values = _class_folders(folder, training)
    numbers = {value: number for number, value in enumerate(values)}
    return paths, np.array([numbers[label] for label in labels]), values, groups


def _read_folders(
    folder: Path, store: Path, settings: Preparation, raw: Path, training: Labelled | None
) -> Labelled:
    paths, target, values, groups = _labels(folder, settings, raw, training)
    names = _names(settings, values)
    if len(names) != len(values):
        what = "labels" if settings.labels else "class folders"
        raise DataError(f"{folder}: {len(values)} {what}, prepare.classes has {len(names)} names")
    if outside := links_to_outside(folder, paths):
        logger.warning(
            "%s: %d pictures are links to outside the folder, such as %s", folder, len(outside), outside[0]
        )
    if training is None:
        limits = settings.grey_range
        draft = DRAFTED * settings.resize if settings.draft and settings.resize else None
        decoding = Decoding(settings.background, (limits[0], limits[1]) if limits else None, draft)
        found = read_pictures(paths, store, decoding, settings.resize)
    else:
        channels, height, width = training.images.shape[1:]
        found = read_pictures(paths, store, training.decoding or Decoding(), shape=(channels, height, width))
    if found.unreadable:
        if settings.unreadable == "refuse":
            raise unreadable_error(found.unreadable, len(paths))
        logger.warning("left out, see %s: %s", LEFT_OUT, unreadable_files(found.unreadable, len(paths)))
    files = [paths[row] for row in found.rows]
    groups = None if groups is None else groups[found.rows]
    decoding, unreadable = found.decoding, found.unreadable
    return Labelled(found.images, target[found.rows], names, values, files, decoding, unreadable, groups)


def _cut(
    rows: Rows,
    stratum: NDArray[Any] | None,
    groups: NDArray[Any] | None,
    share: float,
    settings: Preparation,
    raw: Path,
    names: list[str],
) -> tuple[Rows, Rows]:
    """Split a share of the rows or groups off, stratified by class if there are classes.

    Where a part is too small for all classes, it is drawn by chance from all images but one of each class.

    Raises:
        DataError: there are too few images, groups or images of a class.
    """
    path, size = raw / settings.train, math.ceil(share * len(rows))
    try:
        return cut_share(rows, share, settings.seed, stratum, groups)
    except ValueError as error:
        if stratum is None or groups is not None:
            what = "images" if groups is None else "images, in groups or with copies,"
            raise DataError(f"{path}: {len(rows)} {what} are too few for the split: {error}") from None
    code, number = min(Counter(stratum.tolist()).items(), key=lambda item: item[1])
    if number < EACH_PART or not 2 <= size < len(rows) - len(names):
        raise DataError(
            f"{path}: {len(stratum)} images, {number} of the rarest class, {names[code]}, are too few for "
            f"the split: expected at least {EACH_PART} of each class; add images, or leave the class out"
        )
    logger.warning(
        "%s: a part of %d images cannot have all %d classes: it is drawn by chance, and each class keeps an "
        "image for training",
        *(path, size, len(names)),
    )
    # each image as its own group, as a cut of groups does not need all classes in both parts
    return cut_share(rows, share, settings.seed, stratum, np.arange(len(stratum)))


def _learn(
    rows: Rows, settings: Preparation, source: Labelled, labels: dict[str, dict[str, str]]
) -> tuple[Preprocessing, int]:
    """Learn the scaling from the training rows; also returns their largest pixel."""
    images = source.images
    low = high = np.array(images[rows[0]])
    counts = np.zeros((images.shape[1], WHITE + 1), np.int64)
    for block in blocks(images, rows):
        if settings.scale == "per_pixel":
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        for channel, count in enumerate(counts):
            count += _histogram(block[:, channel])
    largest = int(np.flatnonzero(counts.any(axis=0))[-1])
    brightest = white_of(source, largest)
    mean, deviation = _moments(counts)
    low, high = low.astype(float), high.astype(float)
    of_colours = settings.scale if isinstance(settings.scale, dict) else IMAGENET
    scaling = "normalize" if isinstance(settings.scale, dict) else settings.scale
    colours = [brightest * np.reshape(of_colours[name], (-1, 1, 1)) for name in ("mean", "std")]
    center, scale = {
        "none": (np.zeros((1, 1, 1)), np.ones((1, 1, 1))),
        "range": (np.zeros((1, 1, 1)), np.full((1, 1, 1), float(largest))),
        "per_pixel": (low, high - low),
        "standardize": (mean, deviation),
        "imagenet": colours,
        "normalize": colours,
    }[scaling]
    quantity, columns = None, settings.prediction_columns
    if settings.task == "multilabel":
        columns = [columns[0], *source.names]
    if settings.task == "regression":
        assert isinstance(settings.label, str)
        known = source.target[rows].astype(np.float64)
        quantity = Quantity(settings.label, float(known.mean()), float(known.std()))
        if quantity.standard_deviation == 0:
            raise DataError(
                f"prepare.label: all training images have the same '{settings.label}', {known[0]:g}"
            )
        columns = columns[:2] if columns != PREDICTION_COLUMNS else [columns[0], settings.label]
    learnt = Preprocessing(
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        brightest=brightest,
        mean=mean.ravel().tolist(),
        standard_deviation=deviation.ravel().tolist(),
        scaling=scaling,
        center=center.tolist(),
        scale=np.where(scale == 0, 1.0, scale).tolist(),  # a constant pixel becomes 0
        classes=source.names,
        labels=labels,
        prediction_columns=columns,
        decoding=source.decoding,
        task=settings.task,
        quantity=quantity,
    )
    return learnt, largest


def _histogram(pixels: Pixels) -> Codes:
    """How many pixels have each value (256,)."""
    # a third of the time of numpy.bincount, which makes integers of 8 bytes of them
    return np.array(Image.fromarray(pixels.reshape(len(pixels), -1)).histogram())


def _moments(counts: Codes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (C, 1, 1) of each channel, from exact counts of its values (C, 256)."""
    moments = []
    values = np.arange(WHITE + 1, dtype=float)
    for count in counts:
        shares = count / count.sum()
        mean = float(shares @ values)
        moments.append((mean, float(shares @ (values - mean) ** 2) ** 0.5))
    mean, deviation = np.array(moments).T
    return mean[:, None, None], deviation[:, None, None]
