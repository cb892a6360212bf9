"""Split raw documents, learn the vocabulary from the training part and encode all of them."""

import logging
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.documents import write_json
from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import count, listed
from src.preparation.splits import check_splitting, cut_fold
from src.text.labelled import read_labelled
from src.text.preprocessing import (
    INVISIBLE,
    UNK,
    Labels,
    Preprocessing,
    TextEncoder,
    Tokenizer,
)
from src.text.reading import Unit, read_documents, text_files
from src.text.subwords import learn_subwords
from src.text.vectors import VECTORS, Vectors
from src.text.vocabulary import with_language_model, with_vectors, with_vocabulary

logger = logging.getLogger(__name__)

FEWEST_DOCUMENTS = 3  # one for each split
UNITS: dict[Unit, str] = {
    "line": "each line is a document",
    "paragraph": "the lines between two blank lines are a document",
    "file": "each file is a document",
}


@dataclass
class Preparation:
    """The settings of the preparation: the section `<task>.prepare` of params.yaml.

    Args:
        label: the column or key of the class of each text, for classification; where folders with .txt files
            are the classes, any name. null for texts without classes.
        text: the column or key of the text; null where folders are the classes.
        train: the file or folder of the raw data with the labelled texts; null for all of it.
        test: the file or folder of an official test set with classes; null splits the test set off.
        longest: labelled texts are cut to this number of tokens.
        lowercase: make letters small ones.
        encoding: of the raw files that are not UTF-8, such as gb18030, big5 or utf-16; null refuses them.
        document: what is one document of a .txt file: each "line", each "paragraph" (the lines between two
            blank lines), or each "file".
        tokenizer: "char" (each character is a token), "jieba" (words), "word" (words between spaces, and
            signs), or "subwords" (parts of words, for texts with classes: byte-pair encoding that is learnt
            from the training texts, or those of `language_model`).
        subwords: how many different subwords are learnt, at most.
        language_model: a raw folder with a pretrained language model in the format of Hugging Face, for texts
            with classes; null for none.
        convert: an OpenCC configuration such as t2s (traditional to simplified characters); null for none.
        replace: regular expressions and their replacements, applied in this order.
        stopwords: tokens to leave out.
        min_count: the least count in the training documents; rarer tokens become `<UNK>`.
        vectors: a raw file of pretrained word vectors, .txt or .vec, which may be compressed (.gz), for texts
            with classes; null for none.
        further_words: how many words of that file, the first ones, join those of the training documents in
            the vocabulary, so that predictions know them.
        rhymes: save the rhyme of each character, so that poems can rhyme: true by modern Mandarin (中华新韵),
            "pingshui" by the rhymes of the Tang (平水韵), false for none.
        tones: save the level or oblique tone of each character by the Pingshui rhymes, so that poems can
            follow the patterns of regulated verse.
        test_share: the share of the documents for the test.
        validation_share: the share of the remaining documents for the validation.
        folds: the number of folds of a cross-validation, one of which replaces `test_share`; 0 for none.
        fold: the number of that fold, from 1.
        seed: of the split.
    """

    label: str | None = None
    text: str | None = None
    train: str | None = None
    test: str | None = None
    longest: int = 512
    lowercase: bool = False
    encoding: str | None = None
    document: Unit = "line"
    tokenizer: Tokenizer = "char"
    subwords: int = 8000
    language_model: str | None = None
    convert: str | None = None
    replace: dict[str, str] = field(default_factory=dict)
    stopwords: list[str] = field(default_factory=list)
    min_count: int = 1
    vectors: str | None = None
    further_words: int = 20_000
    rhymes: bool | Literal["pingshui"] = False
    tones: bool = False
    test_share: float = 0.1
    validation_share: float = 0.1
    folds: int = 0
    fold: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.folds:
            self.test = None
        if self.longest < 1:
            raise ConfigurationError(f"prepare.longest must be at least 1: {self.longest}")
        for name in ("text", "train", "test", "vectors", "language_model"):
            if getattr(self, name) is not None and self.label is None:
                raise ConfigurationError(f"prepare.{name} is for texts with classes: set prepare.label, too")
        if self.label is not None and (self.rhymes or self.tones):
            raise ConfigurationError(
                "prepare.rhymes and prepare.tones must be false for texts with classes (prepare.label)"
            )
        if self.tokenizer == "subwords" and self.label is None:
            raise ConfigurationError("prepare.tokenizer: subwords is for texts with classes (prepare.label)")
        if self.language_model is not None and (self.tokenizer != "subwords" or self.vectors is not None):
            raise ConfigurationError(
                "prepare.language_model needs its own tokens and no vectors: set prepare.tokenizer: subwords "
                "and leave prepare.vectors out"
            )
        for name, least in (("min_count", 1), ("further_words", 0), ("subwords", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"prepare.{name} must be at least {least}: {getattr(self, name)}")
        try:
            "x".encode(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise ConfigurationError(
                f"prepare.encoding: {self.encoding!r} is none of Python, such as gb18030, big5 or utf-16"
            ) from None
        for pattern, by in self.replace.items():
            try:
                re.compile(pattern).sub(by, "")
            except re.error as error:
                raise ConfigurationError(
                    f"prepare.replace: {pattern!r} is not a regular expression: {error}"
                ) from None


@dataclass(frozen=True)
class Documents:
    """Raw documents.

    Args:
        place: the file or folder of them.
        texts: of the documents.
        empty: the number of empty ones, which are not among them.
        classes: of each; empty for texts without classes.
        test: the numbers of those of an official test set.
    """

    place: Path
    texts: list[str]
    empty: int
    classes: list[str] = field(default_factory=list)
    test: Set[int] = frozenset()

    def only(self, kept: list[int]) -> "Documents":
        """Those with the given numbers, which are counted anew."""
        return replace(
            self,
            texts=[self.texts[number] for number in kept],
            classes=[self.classes[number] for number in kept] if self.classes else [],
            test={new for new, old in enumerate(kept) if old in self.test},
        )


def _read(raw: Path, settings: Preparation) -> Documents:
    """Read the raw documents."""
    if settings.label is None:
        texts, empty = read_documents(raw, settings.encoding, settings.document)
        files = text_files(raw)
        return Documents(files[0] if len(files) == 1 else raw, texts, empty)
    place = raw / settings.train if settings.train else raw
    how = (settings.text, settings.label, settings.encoding)
    besides = settings.language_model
    rows, empty = read_labelled(place, *how, besides)
    test: list[int] = []
    if settings.test is not None:
        if not settings.train:
            raise ConfigurationError(
                "prepare.test: name the file or folder of the other texts, too: prepare.train"
            )
        more, empty_ones = read_labelled(raw / settings.test, *how)
        test = list(range(len(rows), len(rows) + len(more)))
        rows, empty = rows + more, empty + empty_ones
    _, texts, classes = map(list, zip(*rows, strict=True))
    return Documents(place, texts, empty, classes, set(test))


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the documents of a task, learn the vocabulary and encode them.

    Writes, for each split (train, validation, test), `<split>_tokens.npy` with all its documents in one int32
    array, each from `<BOS>` to `<EOS>`, and `<split>_offsets.npy` (N + 1,) int64 with the place where each
    begins; of texts with classes `<split>_labels.npy` (N,) int64 and test_texts.json for the report;
    vectors.npy (V, E) float32 of pretrained word vectors; split.csv; preprocessing.json; corpus.json with
    statistics of the corpus; manifest.json.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write.
        settings: of the preparation.

    Raises:
        ConfigurationError: `convert` or `folds` cannot be used.
        DataError: the documents cannot be used. Nothing is written.
    """
    read = _read(raw, settings)
    texts, empty = read.texts, read.empty
    invisible = sum(len(INVISIBLE.findall(text)) for text in texts)
    preprocessing = Preprocessing(
        tokenizer=settings.tokenizer,
        convert=settings.convert,
        replace=[list(pair) for pair in settings.replace.items()],
        stopwords=settings.stopwords,
        lowercase=settings.lowercase,
        labels=_labels(read, settings),
    )
    encoder = _encoder(preprocessing)
    # interned, so that a large corpus has each character only once in memory
    documents = [list(map(sys.intern, encoder.tokens(encoder.clean(text)))) for text in texts]
    kept = [number for number, tokens in enumerate(documents) if tokens]
    empty += len(documents) - len(kept)
    documents, read = [documents[number] for number in kept], read.only(kept)
    keys = [_key(tokens) for tokens in documents]
    parts = _split(keys, read, settings)
    codes = _codes(read, parts, preprocessing.labels)

    learnt = _Learnt(preprocessing)
    if settings.tokenizer == "subwords":
        documents = learnt.subwords(raw, settings, [encoder.clean(text) for text in read.texts], parts)
    counts = Counter(token for number in parts["train"] for token in documents[number])
    learnt.vocabulary(raw, settings, counts)
    preprocessing = learnt.preprocessing
    longest = preprocessing.labels.longest if preprocessing.labels else None
    encoder = TextEncoder(preprocessing)
    encoded = {
        name: [encoder.document(documents[number], longest) for number in part]
        for name, part in parts.items()
    }
    doubled = len(keys) - len(set(keys))
    unknown = {name: _share_of(UNK, rows) for name, rows in encoded.items()}
    corpus = {
        "documents": {name: len(part) for name, part in parts.items()},
        "doubled": doubled,
        "empty": empty,
        "tokens": {name: _inner(rows) for name, rows in encoded.items()},
        "unknown_share": unknown,
        "vocabulary": len(preprocessing.vocabulary),
        **learnt.known,
    }
    with written_whole(prepared) as folder:
        for name, rows in encoded.items():
            lengths = [len(row) for row in rows]
            flat = np.fromiter((number for row in rows for number in row), np.int32, sum(lengths))
            np.save(folder / f"{name}_tokens.npy", flat)
            np.save(folder / f"{name}_offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
            if codes is not None:
                np.save(folder / f"{name}_labels.npy", codes[parts[name]])
        lines = sorted((number, name) for name, part in parts.items() for number in part)
        text = "".join(f"{number},{name}\n" for number, name in lines)
        (folder / "split.csv").write_text(f"document,split\n{text}", encoding="utf-8")
        learnt.save(folder)
        if codes is not None:
            write_json(folder / "test_texts.json", [read.texts[number] for number in parts["test"]])
        write_json(folder / "corpus.json", corpus)
        write_manifest(folder)
    print(
        f"{len(documents):,} documents ({empty} empty ones skipped, {doubled} duplicates kept in one split), "
        f"{len(preprocessing.vocabulary):,} different tokens, unknown in the test part: {unknown['test']:.2%}"
    )
    learnt.tell()
    if invisible:
        print(f"{count(invisible, 'invisible character')} left out (zero-width and control characters)")


class _Learnt:
    """What is learnt from the training documents, or read from raw files beside the texts."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.known: dict[str, Any] = {}  # for corpus.json
        self.vectors: Vectors | None = None
        self.tokens: list[str] = []  # of a language model
        self.weights: dict[str, Any] = {}  # tensors of a language model

    def subwords(
        self, raw: Path, settings: Preparation, texts: list[str], parts: dict[str, list[int]]
    ) -> list[list[str]]:
        """The subwords of clean texts: of the language model, or learnt from the training part."""
        preprocessing = self.preprocessing
        if settings.language_model is None:
            content = learn_subwords((texts[number] for number in parts["train"]), settings.subwords)
        else:
            from src.text.language_models import read_language_model  # needs torch, which takes two seconds

            model, content, self.tokens, self.weights = read_language_model(raw / settings.language_model)
            preprocessing = replace(preprocessing, language_model=model)
            labels = preprocessing.labels
            if labels is not None and model.longest is not None:
                labels = replace(labels, longest=min(labels.longest, model.longest))
                preprocessing = replace(preprocessing, labels=labels)
        self.preprocessing = replace(preprocessing, subwords=content)
        encoder = TextEncoder(self.preprocessing)
        return [encoder.tokens(text) for text in texts]

    def vocabulary(self, raw: Path, settings: Preparation, counts: Counter[str]) -> None:
        """Add the vocabulary to the preprocessing."""
        if self.tokens:
            self.preprocessing = with_language_model(self.preprocessing, self.tokens, counts)
            return
        how = (settings.min_count, settings.rhymes, settings.tones)
        self.preprocessing = with_vocabulary(self.preprocessing, counts, *how)
        if settings.vectors is not None:
            self.preprocessing, self.vectors, self.known["vectors"] = with_vectors(
                self.preprocessing, raw / settings.vectors, settings.further_words
            )

    def save(self, folder: Path) -> None:
        """Write preprocessing.json, and the vectors or weights with which a training begins."""
        self.preprocessing.save(folder)
        if self.vectors is not None:
            np.save(folder / VECTORS, self.vectors)
        if self.weights:
            from src.text.language_models import save_weights

            save_weights(self.weights, folder)

    def tell(self) -> None:
        """Print which words have a vector, and how long texts may be."""
        if "vectors" in self.known:
            print(
                "word vectors for {words:.1%} of the words of the training texts, {tokens:.1%} of their "
                "tokens, and {further:,} further words".format(**self.known["vectors"])
            )
        if self.preprocessing.language_model and self.preprocessing.labels:
            kind = self.preprocessing.language_model.configuration["model_type"]
            print(f"language model {kind}; texts are cut to {self.preprocessing.labels.longest:,} tokens")


def _encoder(preprocessing: Preprocessing) -> TextEncoder:
    """The encoder that tells documents apart: before there are subwords, by characters."""
    if preprocessing.tokenizer == "subwords":
        preprocessing = replace(preprocessing, tokenizer="char")
    encoder = TextEncoder(preprocessing)
    try:
        encoder.clean("")
    except Exception as error:  # OpenCC raises no class of its own
        raise ConfigurationError(f"prepare.convert: {preprocessing.convert}: {error}") from None
    return encoder


def _key(tokens: list[str]) -> str:
    """Return a text that is the same for documents that differ in punctuation only."""
    return "".join(token for token in tokens if unicodedata.category(token[0])[0] != "P")


def _labels(read: "Documents", settings: Preparation) -> Labels | None:
    """The classes of labelled texts, numbers by value and then texts by alphabet."""
    if settings.label is None:
        return None
    classes = sorted(set(read.classes), key=_class_order)
    if len(classes) < 2:
        raise DataError(
            f"{read.place}: the class '{settings.label}': expected two classes or more, found only "
            f"{classes[0]!r}"
        )
    return Labels(settings.label, classes, settings.text, settings.longest)


def _class_order(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _codes(read: "Documents", parts: dict[str, list[int]], labels: Labels | None) -> NDArray[np.int64] | None:
    """The code of the class of each document (N,); each class must have a training document."""
    if labels is None:
        return None
    code = {name: number for number, name in enumerate(labels.classes)}
    codes = np.array([code[name] for name in read.classes], dtype=np.int64)
    absent = [name for name in labels.classes if code[name] not in codes[parts["train"]]]
    if absent:
        raise DataError(
            f"{read.place}: the class '{labels.name}': {listed(absent)} has no training text; each class "
            "needs several different texts"
        )
    return codes


def _split(keys: list[str], read: "Documents", settings: Preparation) -> dict[str, list[int]]:
    """Return the document numbers of each split; documents with the same key are in the same split.

    Each part has the shares of the classes if each class has enough documents. A copy of a document of an
    official test set is left out of the training.
    """
    official = {keys[number] for number in read.test}
    free = [number for number in range(len(keys)) if number not in read.test and keys[number] not in official]
    unique = list(dict.fromkeys(keys[number] for number in free))
    if len(unique) < FEWEST_DOCUMENTS:
        raise DataError(
            f"{read.place}: {count(len(unique), 'different document')}, expected at least "
            f"{FEWEST_DOCUMENTS}; {UNITS[settings.document]}, change the file or prepare.document"
        )
    rest = np.arange(len(unique))
    stratum = None
    if read.classes:
        first = {keys[number]: read.classes[number] for number in reversed(free)}
        stratum = np.array([first[key] for key in unique], dtype=object)
    test: Any = np.arange(0)
    if settings.folds:
        rest, test = cut_fold(rest, settings, _stratum_of(rest, stratum, 1 / settings.folds))
    elif settings.test is None:
        rest, test = _cut(rest, settings.test_share, settings.seed, stratum)
    _, validation = _cut(rest, settings.validation_share, settings.seed, stratum)
    held_out = (("test", test), ("validation", validation))
    side = {unique[number]: name for name, numbers in held_out for number in numbers}
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": sorted(read.test)}
    for number in free:
        parts[side.get(keys[number], "train")].append(number)
    left_out = len(keys) - sum(map(len, parts.values()))
    if left_out:
        logger.warning(
            "%s: %s left out of the training: the official test set has the same",
            *(read.place, count(left_out, "text")),
        )
    return parts


def _cut(rest: Any, share: float, seed: int, stratum: Any) -> Any:
    stratify = _stratum_of(rest, stratum, share)
    return train_test_split(
        rest, test_size=share, random_state=seed, stratify=None if stratify is None else stratify[rest]
    )


def _stratum_of(rest: Any, stratum: Any, share: float) -> Any:
    """The classes if both parts of a split can have all of them, else None."""
    if stratum is None:
        return None
    sizes = Counter(stratum[rest])
    part = math.ceil(share * len(rest))
    fits = min(sizes.values()) >= 2 and min(part, len(rest) - part) >= len(sizes)
    return stratum if fits else None


def _inner(rows: list[list[int]]) -> int:
    """Count the tokens without `<BOS>` and `<EOS>`."""
    return sum(len(row) - 2 for row in rows)


def _share_of(token: int, rows: Iterable[list[int]]) -> float:
    rows = list(rows)
    return sum(row.count(token) for row in rows) / max(_inner(rows), 1)
