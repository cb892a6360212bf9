"""Propose a preparation and a network for texts with classes."""

import re
import shlex
import statistics
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import Noted, Proposal, configuration, count, listed, one_cycle
from src.text.labelled import (
    FOLDER_LABEL,
    TABLES,
    Reading,
    class_folders,
    columns_of,
    is_text,
    labelled_files,
    names_of,
    read_labelled,
    table_of,
)
from src.text.reading import encoding_of, is_hidden

LABELS = ("label", "labels", "class", "category", "sentiment", "target", "标签", "类别", "分类", "情感")
TEXTS = ("text", "content", "sentence", "review", "comment", "document", "文本", "内容", "评论", "句子")
PARTS = {"train": "train", "test": "test"}  # the names of folders of an official split
MOST_CLASSES = 100
TEXTS_A_CLASS = 3  # on average, at least
MOSTLY = 0.5
# letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
FEW_TEXTS, MANY_TEXTS = 2000, 20_000
TEXTS_SEEN = 80_000  # over all epochs
RATE = 0.01


def propose_classes(path: Path, target: str | None) -> Proposal | None:
    """Propose a classifier of texts.

    Args:
        path: a file or folder.
        target: the column or key of the class; None looks for one.

    Returns:
        None if the texts have no classes.

    Raises:
        ConfigurationError: there is no column `target`, or none of texts.
        DataError: a file cannot be read.
    """
    split = _official(path)
    place = path / split["train"] if split else path
    found = _labelled(path, place, target)
    if found is None:
        return None
    reading, text, label = found
    unknown = path if path.is_file() else None  # the texts to predict
    if split and text is not None and label not in names_of(path / split["test"], reading):
        unknown, split = path / split["test"], {"train": split["train"]}
    official = "test" in split
    encoding, untested = reading.encoding, _untested(path, split)
    rows, empty, unlabelled = read_labelled(place, text, label, reading, untested)
    texts = [content for _, content, _ in rows]
    sizes = Counter(name for _, _, name in rows)
    length = int(statistics.median(map(len, texts)))
    (most, largest), (fewest, smallest) = sizes.most_common()[0], sizes.most_common()[-1]
    findings = [
        f"{path.name or path}: {count(len(rows), 'text')} of {count(length, 'character')} (median) in "
        f"{count(len(sizes), 'class')} of '{label}': {listed(sorted(sizes))}",
        f"{largest / len(rows):.1%} are '{most}', {smallest / len(rows):.1%} '{fewest}'",
    ]
    written = Counter(name.casefold() for name in sizes)
    if alike := [name for name in sorted(sizes) if written[name.casefold()] > 1]:
        findings.append(f"classes that differ only in case: {listed(alike)}")
    prepare: dict[str, Any] = {}
    if text is not None:
        prepare["text"] = Noted(text, "the column of the text")
    prepare["label"] = Noted(label, "the class" if text else "the folders are the classes")
    if reading.header != "first":
        why = "the first line has values, not names"
        prepare["header"] = Noted(reading.header, f"{why}; or the list of the names")
        findings.append(f"{why}: the columns are column_1, column_2, ...; see `header`")
    if not reading.quotes:
        prepare["quotes"] = Noted(False, "not all of them are in pairs: quotes are signs as others")
        findings.append("read with `quotes: false`, since not all quotes are in pairs around a cell")
    if unlabelled:
        left_out = count(unlabelled, "text")
        prepare["missing_label"] = Noted("drop", f"leaves out {left_out}")
        findings.append(f"left out: {left_out} without a class; see `missing_label`")
    if untested:
        why = f"{split['test']} has no such folder"
        prepare["drop_classes"] = Noted(untested, why)
        findings.append(f"left out: the class {listed(untested)}: {why}; see `drop_classes`")
    prepare |= split
    if official:
        findings.append(f"{split['test']} is the test set; validation texts are split off {split['train']}")
    if unknown and unknown != path:
        findings.append(f"'{unknown.name}' has no column '{label}': it is what to predict")
    if encoding is not None:
        prepare["encoding"] = Noted(encoding, "a guess: of the files that are not UTF-8")
        findings.append(f"not UTF-8; it looks like {encoding}")
    if empty:
        findings.append(f"{count(empty, 'empty text')} skipped")
    shares = {"validation_share": 0.1, "seed": 42}
    return Proposal(
        source=path.parent if path.is_file() else path,
        files=[path.name] if path.is_file() else [],
        prepare=prepare | _tokens(texts) | (shares if official else {"test_share": 0.2, **shares}),
        configuration=_network(len(rows)),
        findings=findings,
        predict=f"--data.input {shlex.quote(str(unknown)) if unknown else 'FILE'}"
        + (f" --data.encoding {encoding}" if encoding else ""),
    )


def _labelled(path: Path, place: Path, target: str | None) -> tuple[Reading, str | None, str] | None:
    """How the files are written, their column of texts (None for class folders), and that of the class.

    Args:
        path: what the user named.
        place: the training part of it.
        target: as `propose_classes` takes it.
    """
    if folders := class_folders(place):
        if target is not None:
            raise ConfigurationError(f"--target: {place}: its folders are the classes; leave --target out")
        texts = [file for folder in folders for file in folder.iterdir() if is_text(file)]
        return Reading(encoding_of(texts)), None, FOLDER_LABEL
    files = _tables(place)
    if not files:
        if target is not None:
            raise ConfigurationError(f"--target: {path} has no table with columns")
        return None
    reading, columns = _read_columns(files[0], Reading(encoding_of(files)))
    if files[0].suffix.lower() in TABLES and _lacks_names(columns, target):
        reading = replace(reading, header="none")
        columns = columns_of(files[0], reading)
    found = _columns(files[0], target, columns)
    return found and (reading, *found)


def _tokens(texts: list[str]) -> dict[str, Any]:
    """The keys of the tokenizer."""
    letters = sum(sum(map(str.isalpha, content)) for content in texts)
    unspaced = sum(len(UNSPACED.findall(content)) for content in texts)
    if unspaced > MOSTLY * letters:
        return {"tokenizer": Noted("char", "each character is a token; or jieba for words of Chinese")}
    return {
        "tokenizer": Noted("word", "words between spaces, and signs"),
        "lowercase": True,
        "min_count": Noted(2 if len(texts) < MANY_TEXTS else 5, "rarer words are <UNK>"),
    }


def _network(texts: int) -> dict[str, Any]:
    """The configuration of a training with this number of texts."""
    few, many = texts < FEW_TEXTS, texts >= MANY_TEXTS
    network = {
        "class_path": "src.text.encoders.BagOfEmbeddings",
        "init_args": {
            "embedding_size": 64,
            "pair_buckets": Noted(20_000 if few else 100_000, "of pairs of neighbouring tokens"),
            "dropout": 0.3,
        },
    }
    return configuration(
        10 if few else min(max(TEXTS_SEEN // texts, 3), 8),
        data={
            "class_path": "src.text.data.LabelledData",
            "init_args": {"batch_size": 32 if few else 128 if many else 64},
        },
        model={
            "class_path": "src.text.classifier.TextClassifier",
            "init_args": {
                "network": Noted(network, "or Convolutional, Bidirectional, TransformerEncoder"),
                "token_dropout": Noted(0.3, "no single word decides"),
                **one_cycle("Adam", RATE),
            },
        },
    )


def _official(path: Path) -> dict[str, str]:
    """The keys `train` and `test` of a folder that holds an official split, as aclImdb does."""
    names = [entry.name for entry in path.iterdir() if not is_hidden(entry)] if path.is_dir() else []
    for suffix in ("", *TABLES, ".jsonl", ".json"):
        parts = {part: f"{name}{suffix}" for part, name in PARTS.items()}
        if set(parts.values()) <= set(names) and (
            suffix or all(class_folders(path / p) for p in parts.values())
        ):
            return parts
    return {}


def _untested(path: Path, split: dict[str, str]) -> list[str]:
    """The class folders of an official split that are in the training part only, as `unsup` of aclImdb.

    There are none if fewer than two classes would remain.
    """
    if "test" not in split:
        return []
    names = {part: [folder.name for folder in class_folders(path / split[part])] for part in PARTS}
    found = [name for name in names["train"] if name not in names["test"]]
    return found if len(names["train"]) - len(found) >= 2 else []


def _tables(place: Path) -> list[Path]:
    """The files that may have columns."""
    if not place.is_dir():
        return [place] if table_of(place) else []
    return [file for file in sorted(place.iterdir()) if table_of(file)] and labelled_files(place)


def _read_columns(path: Path, reading: Reading) -> tuple[Reading, dict[str, list[str]]]:
    """The columns of a file; its quotes are signs as others if it cannot be read otherwise."""
    try:
        return reading, columns_of(path, reading)
    except DataError:
        with suppress(DataError):
            reading = replace(reading, quotes=False)
            return reading, columns_of(path, reading)
        raise


def _lacks_names(columns: dict[str, list[str]], target: str | None) -> bool:
    """Whether the first line of a table has values: its cell in a column of few values occurs below.

    Numbers in order, as pandas writes them, are names.
    """
    usual = {name.strip().lower() for name in columns} & {*TEXTS, *LABELS}
    if usual or target in columns or [*columns] == [*map(str, range(len(columns)))]:
        return False
    return any(
        name.strip() and name in (values := set(cells)) and len(values) <= len(cells) / TEXTS_A_CLASS
        for name, cells in columns.items()
    )


def _columns(path: Path, target: str | None, rows: dict[str, list[str]]) -> tuple[str, str] | None:
    """The columns of text and class of a file with these columns; None if there are no such columns."""
    names = list(rows)
    if target is not None and target not in names:
        raise ConfigurationError(f"--target: {path} has no column '{target}'; it has {', '.join(names)}")
    lengths = {name: statistics.fmean(map(len, cells)) for name, cells in rows.items() if name != target}
    known = [name for name in names if name.strip().lower() in TEXTS and name != target]
    text = known[0] if known else max(lengths, key=lambda name: lengths[name], default=None)
    if target is None:
        labels = [name for name in names if name.strip().lower() in LABELS and name != text]
        few = [
            name
            for name in names
            if name != text
            and 2 <= len(set(rows[name])) <= min(MOST_CLASSES, len(rows[name]) / TEXTS_A_CLASS)
        ]
        # without a known name only one column can be meant
        target = labels[0] if labels else few[0] if len(few) == 1 and path.suffix.lower() in TABLES else None
    if target is None:
        # JSON objects without a key of documents are no corpus either
        if path.suffix.lower() in TABLES or (names and not {"text", "paragraphs"} & set(names)):
            raise ConfigurationError(
                f"{path}: name the column of the class: --target; it has {', '.join(names)}"
            )
        return None
    if text is None:
        raise ConfigurationError(f"{path}: there is no column of texts beside '{target}'")
    return text, target
