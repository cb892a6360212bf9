"""Proposal of the preparation and the network for images without a task."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from src.core.digests import file_digest
from src.core.errors import ConfigurationError, DataError
from src.images.csv_files import encoding_error
from src.images.folders import (
    PICTURES,
    TEST_NAMES,
    TRAIN_NAMES,
    LeftOut,
    class_folders,
    pictures_of,
    split_of,
)
from src.images.label_columns import (
    LABEL_NAMES,
    Task,
    folder_of,
    group_findings,
    label_columns,
    other_columns,
    table_of_names,
    task_of,
)
from src.images.labelled import digests_of
from src.images.labels import in_order, labelled_pictures, marked_pictures, read_label_table
from src.images.pictures import (
    Decoding,
    Header,
    Pixels,
    cut_pictures,
    read_headers,
    read_picture,
    unreadable_error,
    unreadable_files,
)
from src.images.preprocessing import (
    IDX_IMAGES,
    MODELS,
    labels_path,
    read_idx,
    read_pixel_csv,
    refuse_names_of_pictures,
)
from src.images.propose_weights import Pretrained, find_pretrained
from src.preparation.proposals import Noted, Proposal, configuration, count, listed, one_cycle, plain

SUBMISSION = "submission"  # in the name of a table without labels

SIZES = (16, 32, 48, 64)
LARGEST_KEPT = 64
LARGE = 4  # times the side of the images: JPEG files are decoded to twice that
SMALLEST = 16  # for ConvNet
UNBALANCED = 3
FEW_IMAGES, MANY_IMAGES = 1000, 10_000
WIDTHS = (32, 16)
EPOCHS = 30
FEWEST_EPOCHS = 6
RATE = 0.01
TRANSPARENT_LOOKED_AT = 32
MOST_UNREADABLE = 0.1  # of the pictures
MULTIPLICATIONS = 1e13  # of a training, about 5 minutes on one core


class Seen(NamedTuple):
    """The images that were found: keys of `prepare`, files, their number by class and by size, and copies."""

    where: dict[str, Any]
    files: list[str]
    counts: Counter[str]
    sizes: Counter[tuple[int, int]]
    colour: bool
    findings: list[str]
    example: Path
    copies: int


def propose(path: Path, target: str | None, task: Task | None = None) -> Proposal:
    """Inspect images and propose their preparation and a training.

    Args:
        path: a folder with class folders, with the folders train and test that have class folders, with idx
            files, with pictures and a CSV file of their names and labels, or with train.csv (and test.csv)
            with one column per pixel; or such an idx or CSV file.
        target: the column of a CSV file with the classes; None looks for a usual name.
        task: what the labels of a table of pictures are; None decides by their values and name.

    Raises:
        ConfigurationError: there is no such column, or the labels cannot be of that task.
        DataError: there are no images, or they cannot be read.
    """
    folder, files = (path.parent, [path]) if path.is_file() else (path, sorted(path.iterdir()))
    idx = [file for file in files if _is_idx(file)]
    tables = [file for file in files if file.suffix.lower() == ".csv" and file.is_file()]
    tables = [file for file in tables if SUBMISSION not in file.name.lower()] or tables
    if target is not None and not tables:
        raise ConfigurationError("--target: only CSV files have a column of classes")
    if idx:
        seen = _idx_files(idx)
    elif tables:
        seen = _labelled_pictures(tables, target, task) or _tables_without_names(path, tables, target)
    elif path.is_dir():
        seen = _folders(path)
    else:
        raise DataError(f"{path}: expected an idx or CSV file, or the folder above the class folders")

    if task == "regression" and "labels" not in seen.where:
        raise ConfigurationError("--task: regression needs a table of labels beside the pictures")
    are_pictures = not idx and ("labels" in seen.where or "label" not in seen.where)
    pretrained, of_weights = find_pretrained(files if path.is_dir() else [], are_pictures)
    total = sum(seen.sizes.values())
    resize, why = _resize(seen.sizes)
    if pretrained:
        resize, why = pretrained.size[0], "the size for pretrained weights"
    prepare = dict(seen.where)
    if resize:
        prepare["resize"] = Noted(resize, why)
        if _are_large(seen.sizes, resize):
            prepare["draft"] = Noted(True, "JPEG files are reduced while they are decoded: much quicker")
    prepare["scale"] = "standardize"
    if pretrained:
        prepare["scale"] = Noted(pretrained.scale, "as the images of the weights")
        prepare["weights"] = pretrained.file
    if "test" not in prepare:
        prepare["test_share"] = 0.2
    prepare["validation_share"] = 0.2 if total < FEW_IMAGES else 0.1
    if seen.copies:
        prepare["duplicates"] = Noted("together", "equal images stay in one part of the split")
    prepare["seed"] = 42
    return Proposal(
        source=folder,
        files=[*seen.files, pretrained.file] if pretrained and seen.files else seen.files,
        prepare=prepare,
        configuration=_configuration(
            total,
            resize or max(next(iter(seen.sizes))),
            seen.colour,
            str(plain(seen.where.get("task", "classification"))),
            pretrained,
        ),
        findings=_findings(path, seen, resize, why) + of_weights,
        predict=f"--data.input {shlex.quote(str(seen.example))}",
    )


def _findings(path: Path, seen: Seen, resize: int | None, why: str) -> list[str]:
    total, rarest = sum(seen.sizes.values()), min(seen.counts.values())
    commonest = max(seen.counts.values())
    colour = "colour" if seen.colour else "grey"
    each = f"{rarest:,} to {commonest:,}" if rarest != commonest else f"{rarest:,}"
    training = " for training" if "test" in seen.where else ""
    findings = [
        f"{path.name or path}: {count(total, 'image')}{training}, {colour}, {_size_range(seen.sizes)}",
        *seen.findings,
    ]
    if seen.where.get("task") == "multilabel":
        labels = f"{count(len(seen.counts), 'label')} ({listed(list(seen.counts))}), {each} images each"
        findings.insert(1, f"{labels}; an image may have several or none")
    if "task" not in seen.where:
        classes = f"{count(len(seen.counts), 'class')} ({listed(list(seen.counts))}), {each} images each"
        findings.insert(1, classes)
    if "task" not in seen.where and commonest > UNBALANCED * rarest:
        findings.append("unbalanced classes: compare test/f1, the mean over classes, with test/accuracy")
    if seen.copies:
        repeat = "repeats" if seen.copies == 1 else "repeat"
        findings.append(
            f"{count(seen.copies, 'image')} {repeat} another one: equal images stay in one part of the "
            "split; see `duplicates`"
        )
    if resize:
        findings.append(f"resized to {resize} x {resize}: {why}")
    return findings


def _one_each(paths: list[Path], what: str) -> dict[str, Path]:
    """The training and the test part among some paths; a single path is the training part."""
    if len(paths) == 1:
        return {"train": paths[0]}
    parts: dict[str, Path] = {}
    names = (*TRAIN_NAMES, *TEST_NAMES)  # in this order: a test part is preferred to one for validation
    for path in sorted(paths, key=lambda path: _rank(path.name, names)):
        split = split_of(path.name)
        if split and split not in parts:
            parts[split] = path
    if "train" not in parts:
        found = listed([path.name for path in paths])
        raise DataError(f"{paths[0].parent}: {found}: no {what} is named train; rename the one for training")
    return parts


def _rank(name: str, names: tuple[str, ...]) -> int:
    return min((i for i, known in enumerate(names) if name.lower().startswith(known)), default=len(names))


def _official(parts: dict[str, Path]) -> tuple[dict[str, Any], list[str]]:
    where: dict[str, Any] = {"train": parts["train"].name}
    if "test" not in parts:
        return where, []
    where["test"] = Noted(parts["test"].name, "the official test part")
    return where, [
        f"test part: {parts['test'].name}; the validation part is split from {parts['train'].name}"
    ]


def _folders(folder: Path) -> Seen:
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] not in "._"]
    split = [path for path in below if split_of(path.name) and not pictures_of(path, LeftOut())]
    where: dict[str, Any] = {"train": Noted(".", "the class folders in it")}
    files: list[str] = []
    findings: list[str] = []
    train = folder
    if split:
        parts = _one_each(split, "folder")
        where, findings = _official(parts)
        files, train = [path.name for path in parts.values()], parts["train"]
    members, left = class_folders(train)
    paths = [path for paths in members.values() for path in paths]
    if str(left):
        findings.append(f"left out: {left}")
    counts = Counter({name: len(paths) for name, paths in members.items()})
    return _pictures(paths, where, files, counts, findings, next(iter(members.values()))[0].parent)


def _tables_without_names(path: Path, tables: list[Path], target: str | None) -> Seen:
    """Images of tables of pixels, or of class folders beside tables of something else."""
    try:
        return _pixel_tables(tables, target)
    except DataError:
        named = target is not None or path.is_file() or any(map(_names_pictures, tables))
        if named or not _has_classes(path):
            for table in tables:
                read_label_table(table)  # its error comes first
            raise
    seen = _folders(path)
    seen.findings.append(f"left out: {listed([file.name for file in tables])}: no table of pictures")
    return seen


def _names_pictures(table: Path) -> bool:
    """Whether a table, which may be damaged, has names of pictures: class folders do not take its place."""
    with table.open("rb") as file:
        content = file.read(1 << 20).lower()
    return any(ending.encode() in content for ending in PICTURES)


def _has_classes(folder: Path) -> bool:
    """Whether a folder has class folders, or parts with class folders, all of which have pictures."""
    below = [path for path in folder.iterdir() if path.is_dir() and split_of(path.name)]
    train = next((path for path in below if split_of(path.name) == "train"), folder)
    try:
        return len(class_folders(train)[0]) > 1
    except DataError:
        return False


def _pictures(
    paths: list[Path],
    where: dict[str, Any],
    files: list[str],
    counts: Counter[str],
    findings: list[str],
    example: Path,
) -> Seen:
    """What the headers of pictures say, beside what is known of them."""
    headers, unreadable = read_headers(paths)
    unreadable |= cut_pictures(list(headers))
    if len(unreadable) > MOST_UNREADABLE * len(paths):
        raise unreadable_error(unreadable, len(paths))
    if unreadable:
        where["unreadable"] = Noted("skip", f"leaves out {count(len(unreadable), 'picture')}")
        findings.append(f"left out: {unreadable_files(unreadable, len(paths))}; see `unreadable`")
        paths = [path for path in paths if path not in unreadable]
        headers = {path: headers[path] for path in paths}
    if background := _background(headers):
        where["background"] = background
    colour = any(header.is_colour(Decoding()) for header in headers.values())
    sizes = Counter(header.size for header in headers.values())
    return Seen(where, files, counts, sizes, colour, findings, example, _equal_files(paths))


def _equal_files(paths: list[Path]) -> int:
    """How many files have the content of an earlier one; files of different sizes are not read."""
    of_size: dict[int, list[Path]] = {}
    for path in paths:
        of_size.setdefault(path.stat().st_size, []).append(path)
    return sum(
        len(some) - len({file_digest(path) for path in some}) for some in of_size.values() if len(some) > 1
    )


def _equal_images(images: Pixels) -> int:
    return len(images) - len(set(digests_of(images)))


def _labelled_pictures(tables: list[Path], target: str | None, task: Task | None) -> Seen | None:
    """Pictures and a table of their names and labels; None if no table has names of pictures beside it."""
    found = sorted(tables[0].parent.rglob("*"))
    pictures = [entry for entry in found if entry.suffix.lower() in PICTURES and entry.name[0] != "."]
    named = table_of_names(tables, pictures)
    if named is None:
        return None
    path, table, file = named
    others = other_columns(table, file)
    train = folder_of(table[file], path, pictures)
    label, separator = label_columns(table, others, path, target)
    if task and separator is not None:
        if isinstance(label, list):
            raise ConfigurationError(f"--task: {task} has one column of labels, found {listed(label)}")
        separator = None
    kind = list[str]()
    inside = train.relative_to(path.parent).as_posix()
    where = {"train": Noted(inside, "the folder of the pictures"), "labels": path.name}
    where |= {"file": file, "label": label}
    if separator is not None:
        where |= {"task": "multilabel", "separator": separator}
        paths, names, marks = marked_pictures(train, path, file, label, separator)
        counts = Counter(dict(zip(names, marks.sum(axis=0).tolist(), strict=True)))
    else:
        assert isinstance(label, str)
        paths, labels = labelled_pictures(train, path, file, label, drop=True)
        if unlabelled := len(table) - len(paths):
            left_out = count(unlabelled, "picture")
            where["missing_label"] = Noted("drop", f"leaves out {left_out}")
            kind.append(f"left out: {left_out} without a label; see `missing_label`")
        counts = Counter(labels)
        found_task, guess = task_of(labels, label, task)
        kind += guess
        if found_task == "regression":
            where["task"] = Noted("regression", "or classification, if the numbers are names of classes")
        else:
            counts = Counter({name: counts[name] for name in in_order(labels)})
    files = [] if inside == "." else [inside, path.name]
    columns = f"column '{label}'" if isinstance(label, str) else f"columns {listed(label)}"
    findings = [
        f"labels: {columns} of {path.name}",
        *kind,
        f"pictures: column '{file}' of {path.name}, in the folder '{inside}'",
    ]
    unused = [name for name in others if name not in (label if isinstance(label, list) else [label])]
    if isinstance(label, list) and unused and target is None:
        findings.append(f"left out: {listed(unused)}: no picture has such a label")
    findings += group_findings(table, unused)
    return _pictures(paths, where, files, counts, findings, paths[0].parent)


def _background(headers: dict[Path, Header]) -> Noted | None:
    """Black below transparent pictures if each of the first ones is of one colour over white."""
    some = [path for path, header in headers.items() if header.transparent][:TRANSPARENT_LOOKED_AT]
    if not some or not all(_vanishes(path, "white") for path in some):
        return None
    if all(_vanishes(path, "black") for path in some):
        return None
    return Noted("black", "below transparent pixels: over white these pictures are of one colour")


def _vanishes(path: Path, background: str) -> bool:
    colours = read_picture(path, Decoding(background)).getcolors(1)
    return colours is not None


def _is_idx(path: Path) -> bool:
    return bool(IDX_IMAGES.search(path.name)) and path.is_file()


def _idx_files(paths: list[Path]) -> Seen:
    parts = _one_each(paths, "idx file")
    where, findings = _official(parts)
    images, codes = read_idx(parts["train"]), read_idx(labels_path(parts["train"]))
    files = [file.name for path in parts.values() for file in (path, labels_path(path))]
    counts = Counter(map(str, sorted(codes.tolist())))
    sizes = Counter({(int(images.shape[2]), int(images.shape[1])): len(images)})
    example = parts.get("test", parts["train"])
    findings.append(_names_wanted())
    return Seen(where, files, counts, sizes, False, findings, example, _equal_images(images))


def _names_wanted() -> str:
    return "the classes are numbers; their names can be set in `classes`, as in fashion_mnist"


def _pixel_tables(paths: list[Path], target: str | None) -> Seen:
    parts = _one_each(paths, "table")
    columns = _columns(parts["train"])
    label = target if target is not None else next((c for c in columns if c.lower() in LABEL_NAMES), None)
    if label not in columns:
        if target is not None:
            raise ConfigurationError(f"--target: {parts['train']} has no column '{target}'")
        raise DataError(
            f"{parts['train']}: expected a column of the classes ({', '.join(LABEL_NAMES)}, or --target) "
            "and one column per pixel"
        )
    example = Path("IMAGES.csv")
    if "test" in parts and label not in _columns(parts["test"]):
        example = parts.pop("test")  # without labels, as Kaggle's: for predictions
    where, findings = _official(parts)
    images, codes = read_pixel_csv(parts["train"], label)
    assert codes is not None
    counts = Counter(map(str, sorted(codes.tolist())))
    sizes = Counter({(int(images.shape[3]), int(images.shape[2])): len(images)})
    files = [path.name for path in parts.values()]
    where["label"], copies = label, _equal_images(images)
    return Seen(where, files, counts, sizes, False, [*findings, _names_wanted()], example, copies)


def _columns(path: Path) -> list[str]:
    try:
        table = pd.read_csv(path, nrows=1, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise encoding_error(path) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: {error}") from None
    refuse_names_of_pictures(table, path)
    return list(map(str, table.columns))


def _size_range(sizes: Counter[tuple[int, int]]) -> str:
    if len(sizes) == 1:
        return "{} x {} pixels".format(*next(iter(sizes)))
    (width, height), (wide, high) = map(min, zip(*sizes, strict=True)), map(max, zip(*sizes, strict=True))
    return f"{width} to {wide} pixels wide, {height} to {high} high"


def _resize(sizes: Counter[tuple[int, int]]) -> tuple[int | None, str]:
    """The side to which all images are resized, and why; None to keep their size."""
    sides = sorted(min(size) for size in sizes.elements())
    median = sides[len(sides) // 2]
    side = max((size for size in SIZES if size <= median), default=SMALLEST)
    if len(sizes) > 1:
        return side, "the sizes differ; a larger size shows more details and takes longer"
    if sides[0] < SMALLEST:
        return SMALLEST, "the smallest size for the convolutions"
    if max(next(iter(sizes))) > LARGEST_KEPT:
        return side, "trains fast; a larger size shows more details and takes longer"
    return None, ""


def _are_large(sizes: Counter[tuple[int, int]], side: int) -> bool:
    """Whether the median picture is reduced to less than a quarter of its shorter side."""
    shorter = sorted(min(size) for size in sizes.elements())
    return shorter[len(shorter) // 2] > LARGE * side


def _multiplications(side: int, width: int) -> float:
    """Multiplications per image in ConvNet; the backward pass costs twice the forward pass."""
    return 3 * 27 * side**2 * width**2


def _configuration(
    images: int, side: int, colour: bool, task: str, pretrained: Pretrained | None
) -> dict[str, Any]:
    """The network and its training for a number of images, their size, their colours and the task."""
    batch_size = 32 if images < FEW_IMAGES else 64 if images < MANY_IMAGES else 128
    data = {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": batch_size}}
    smoothing = {"label_smoothing": 0.1} if task == "classification" else {}
    if pretrained:
        network = {
            "class_path": pretrained.class_path,
            "init_args": {"name": pretrained.network},
        }
        options = {
            "network": network,
            "freeze": Noted("body", "only the last layer is trained; with `unfreeze_at: 3` all from then on"),
            **smoothing,
            **one_cycle("AdamW", RATE, weight_decay=0.05),
        }
        model = {"class_path": f"src.images.{MODELS[task]}", "init_args": options}
        return configuration(EPOCHS, data=data, model=model)
    cost = {width: images * _multiplications(side, width) for width in WIDTHS}
    width = next((width for width in WIDTHS if EPOCHS * cost[width] <= MULTIPLICATIONS), WIDTHS[-1])
    epochs = min(max(int(MULTIPLICATIONS / cost[width]), FEWEST_EPOCHS), EPOCHS)
    network = {
        "class_path": "src.images.networks.ConvNet",
        "init_args": {"width": Noted(width, "twice the width takes four times as long")},
    }
    return configuration(
        epochs,
        data=data,
        model={
            "class_path": f"src.images.{MODELS[task]}",
            "init_args": {
                "network": Noted(
                    network,
                    "or LeNet, MLP, or TorchvisionNetwork with a name such as resnet18"
                    + ("; with pretrained weights: docs/data.md, Pretrained networks" if colour else ""),
                ),
                "augmentation": {
                    "flip": Noted(0.0, "0.5 if a mirrored picture is of the same class"),
                    "crop": Noted(max(side // 16, 1), "largest shift of a picture in pixels"),
                },
                **smoothing,
                **one_cycle("AdamW", RATE, weight_decay=0.05),
            },
        },
    )
