"""Split raw documents, learn the vocabulary from the training part and encode all of them."""

import logging
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.documents import write_json
from src.core.errors import ConfigurationError, DataError
from src.core.shards import cut_between, write_shards
from src.preparation.proposals import count, listed
from src.preparation.splits import Rows, can_be_stratified, check_splitting, cut_fold
from src.text.corpus import Corpus, cut_corpus
from src.text.labelled import Header, Reading, labelled_rows
from src.text.preprocessing import (
    UNK,
    WHOLE_BYTES,
    Labels,
    Preprocessing,
    TextEncoder,
    Tokenizer,
)
from src.text.reading import Unit, documents_of, text_files
from src.text.subwords import learn_subwords
from src.text.vectors import VECTORS, Vectors
from src.text.vocabulary import with_language_model, with_vectors, with_vocabulary

logger = logging.getLogger(__name__)

CUT = "cut.int32"  # the tokens while they are prepared
SIDES = {"train": 0, "validation": 2, "test": 1}
FEWEST_DOCUMENTS = 3  # one for each split
Parts = dict[str, NDArray[np.bool_]]  # (N,) which documents each split has
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
        missing_label: error refuses texts without a class; drop leaves them out.
        drop_classes: classes to leave out.
        text: the column or key of the text; null where folders are the classes.
        header: of tables of labelled texts. first: the names of the columns are in the first line; none:
            there are no names, the columns are column_1, column_2, ...; or the list of the names.
        quotes: of such tables, whether a cell may stand in double quotes; false: they are signs as others.
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
    missing_label: Literal["error", "drop"] = "error"
    drop_classes: list[str] = field(default_factory=list)
    text: str | None = None
    header: Header = "first"
    quotes: bool = True
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
        for name in ("drop_classes", "text", "train", "test", "vectors", "language_model"):
            if getattr(self, name) not in (None, []) and self.label is None:
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
        if isinstance(self.header, list) and len(set(self.header)) != len(self.header):
            raise ConfigurationError("prepare.header: a name appears more than once")
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
class Raw:
    """The raw documents, which are read anew each time, so that they need no memory.

    Args:
        folder: data/raw/<task>.
        settings: of the preparation.
    """

    folder: Path
    settings: Preparation

    @property
    def place(self) -> Path:
        """The file or folder of the documents, for messages."""
        if self.settings.label is not None:
            return self.folder / self.settings.train if self.settings.train else self.folder
        files = text_files(self.folder)
        return files[0] if len(files) == 1 else self.folder

    def rows(self) -> Iterator[tuple[str, str, bool]]:
        """Text, class and whether it is one of an official test set; "" is a missing text or class."""
        settings = self.settings
        if settings.label is None:
            for text in documents_of(self.folder, settings.encoding, settings.document):
                yield text, "", False
            return
        if settings.test is not None and not settings.train:
            raise ConfigurationError(
                "prepare.test: name the file or folder of the other texts, too: prepare.train"
            )
        besides = [settings.language_model, *settings.drop_classes]
        reading = Reading(settings.encoding, settings.header, settings.quotes)
        how = (settings.text, settings.label, reading, besides, settings.missing_label == "drop")
        places = [self.place] if settings.test is None else [self.place, self.folder / settings.test]
        for official, place in enumerate(places):
            for _, text, name in labelled_rows(place, *how):
                if name not in settings.drop_classes:
                    yield text, name, bool(official)

    def is_whole(self, text: str, name: str) -> bool:
        """Whether a row of `rows` lacks nothing."""
        return bool(text and (name or self.settings.label is None))


class Documents:
    """What is known of the documents that lack nothing, while their texts are read once.

    Args:
        raw: the texts.
    """

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.empty = self.unlabelled = 0
        self.names: dict[str, int] = {}  # of the classes
        self._classes, self._official = array("i"), array("b")

    def texts(self) -> Iterator[str]:
        """The texts."""
        for text, name, official in self.raw.rows():
            if not self.raw.is_whole(text, name):
                self.empty += not text
                self.unlabelled += bool(text)
                continue
            self._classes.append(self.names.setdefault(name, len(self.names)))
            self._official.append(official)
            yield text

    def settle(self, kept: NDArray[np.bool_]) -> None:
        """Leave out further documents, those without tokens, and count the others anew."""
        self.kept = kept
        self.empty += int((~kept).sum())
        self.classes = np.array(self._classes, np.int64)[kept]  # (N,), in the order of their names
        self.official = np.array(self._official, bool)[kept]

    def chosen(self, which: NDArray[np.bool_]) -> Iterator[str]:
        """The texts of some documents (N,), which are read again."""
        wanted = self.kept.copy()
        wanted[self.kept] = which
        texts = (text for text, name, _ in self.raw.rows() if self.raw.is_whole(text, name))
        return (text for text, take in zip(texts, wanted.tolist(), strict=True) if take)


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the documents of a task, learn the vocabulary and encode them.

    Writes, for each split (train, validation, test), `<split>_tokens.npy` with all its documents in one int32
    array, each from `<BOS>` to `<EOS>`, and `<split>_offsets.npy` (N + 1,) int64 with the place where each
    begins; of splits above `WHOLE_BYTES` shards.json; of texts with classes `<split>_labels.npy` (N,) int64
    and test_texts.json for the report; vectors.npy (V, E) float32 of pretrained word vectors; split.csv;
    preprocessing.json; corpus.json with statistics of the corpus; manifest.json.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write.
        settings: of the preparation.

    Raises:
        ConfigurationError: `convert` or `folds` cannot be used.
        DataError: the documents cannot be used. Nothing is written.
    """
    documents = Documents(Raw(raw, settings))
    preprocessing = Preprocessing(
        tokenizer=settings.tokenizer,
        convert=settings.convert,
        replace=[list(pair) for pair in settings.replace.items()],
        stopwords=settings.stopwords,
        lowercase=settings.lowercase,
    )
    first = _first(preprocessing)
    with written_whole(prepared) as folder:
        corpus = cut_corpus(documents.texts(), first, folder / CUT)
        documents.settle(corpus.lengths > 0)
        corpus = replace(corpus, lengths=corpus.lengths[documents.kept], keys=corpus.keys[documents.kept])
        preprocessing = replace(preprocessing, labels=_labels(documents, settings))
        same = pd.factorize(corpus.keys)[0]
        parts = _split(same, documents, settings)
        codes = _codes(documents, parts, preprocessing.labels)

        learnt = _Learnt(preprocessing)
        if settings.tokenizer == "subwords":
            encoder = TextEncoder(first)
            learnt.subwords(raw, settings, map(encoder.clean, documents.chosen(parts["train"])))
            everything = documents.chosen(np.ones(len(same), bool))
            corpus = cut_corpus(everything, learnt.preprocessing, folder / CUT)
        counts = zip(corpus.vocabulary, corpus.counts(parts["train"]).tolist(), strict=True)
        learnt.vocabulary(raw, settings, Counter({token: number for token, number in counts if number}))
        preprocessing = learnt.preprocessing
        statistics = _write_parts(folder, corpus, parts, preprocessing)
        (folder / CUT).unlink()
        statistics |= {
            "doubled": len(same) - int(same.max()) - 1,
            "empty": documents.empty,
            "vocabulary": len(preprocessing.vocabulary),
            **learnt.known,
        }
        if codes is not None:
            for name, part in parts.items():
                np.save(folder / f"{name}_labels.npy", codes[part])
            write_json(folder / "test_texts.json", list(documents.chosen(parts["test"])))
        learnt.save(folder)
        write_json(folder / "corpus.json", statistics)
        write_manifest(folder)
    print(
        f"{len(same):,} documents ({documents.empty} empty ones skipped, {statistics['doubled']} duplicates "
        f"kept in one split), {len(preprocessing.vocabulary):,} different tokens, unknown in the test part: "
        f"{statistics['unknown_share']['test']:.2%}"
    )
    if documents.unlabelled:
        print(f"{count(documents.unlabelled, 'text')} without a class left out (prepare.missing_label)")
    learnt.tell()
    if corpus.invisible:
        print(
            f"{count(corpus.invisible, 'invisible character')} left out (zero-width and control characters)"
        )


def _write_parts(folder: Path, corpus: Corpus, parts: Parts, preprocessing: Preprocessing) -> dict[str, Any]:
    """Write the arrays of the splits and split.csv; the numbers of documents and tokens for corpus.json."""
    numbers = {token: number for number, token in enumerate(preprocessing.vocabulary)}
    final = np.array([numbers.get(token, UNK) for token in corpus.vocabulary], np.int32)
    longest = preprocessing.labels.longest if preprocessing.labels else None
    found: dict[str, dict[str, Any]] = {"documents": {}, "tokens": {}, "unknown_share": {}}
    cuts = {}
    for name, part in parts.items():
        path = folder / f"{name}_tokens.npy"
        offsets, unknown = corpus.write(path, part, final, longest)
        np.save(folder / f"{name}_offsets.npy", offsets)
        if path.stat().st_size > WHOLE_BYTES:
            cuts[path.name] = cut_between(offsets, final.itemsize)
        documents = len(offsets) - 1
        tokens = int(offsets[-1]) - 2 * documents  # without <BOS> and <EOS>
        found["documents"][name], found["tokens"][name] = documents, tokens
        found["unknown_share"][name] = unknown / max(tokens, 1)
    write_shards(folder, cuts)
    with (folder / "split.csv").open("w", encoding="utf-8", newline="\n") as file:
        file.write("document,split\n")
        side = np.full(len(corpus.lengths), "", dtype=object)
        for name, part in parts.items():
            side[part] = name
        file.writelines(f"{number},{name}\n" for number, name in enumerate(side) if name)
    return found


class _Learnt:
    """What is learnt from the training documents, or read from raw files beside the texts."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.known: dict[str, Any] = {}  # for corpus.json
        self.vectors: Vectors | None = None
        self.tokens: list[str] = []  # of a language model
        self.weights: dict[str, Any] = {}  # tensors of a language model

    def subwords(self, raw: Path, settings: Preparation, texts: Iterable[str]) -> None:
        """Take the subwords of the language model, or learn them from clean training texts."""
        preprocessing = self.preprocessing
        if settings.language_model is None:
            content = learn_subwords(texts, settings.subwords)
        else:
            from src.text.language_models import read_language_model  # needs torch, which takes two seconds

            model, content, self.tokens, self.weights = read_language_model(raw / settings.language_model)
            preprocessing = replace(preprocessing, language_model=model)
            labels = preprocessing.labels
            if labels is not None and model.longest is not None:
                labels = replace(labels, longest=min(labels.longest, model.longest))
                preprocessing = replace(preprocessing, labels=labels)
        self.preprocessing = replace(preprocessing, subwords=content)

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


def _first(preprocessing: Preprocessing) -> Preprocessing:
    """The tokens that tell documents apart: characters as long as there are no subwords."""
    if preprocessing.tokenizer == "subwords":
        preprocessing = replace(preprocessing, tokenizer="char")
    try:
        TextEncoder(preprocessing).clean("")
    except Exception as error:  # OpenCC raises no class of its own
        raise ConfigurationError(f"prepare.convert: {preprocessing.convert}: {error}") from None
    return preprocessing


def _labels(documents: Documents, settings: Preparation) -> Labels | None:
    """The classes of labelled texts, numbers by value and then texts by alphabet."""
    if settings.label is None:
        return None
    names = list(documents.names)
    classes = sorted((names[number] for number in np.unique(documents.classes)), key=_class_order)
    if len(classes) < 2:
        raise DataError(
            f"{documents.raw.place}: the class '{settings.label}': expected two classes or more, found only "
            f"{classes[0]!r}"
        )
    how = (settings.longest, settings.header, settings.quotes)
    return Labels(settings.label, classes, settings.text, *how)


def _class_order(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _codes(documents: Documents, parts: Parts, labels: Labels | None) -> NDArray[np.int64] | None:
    """The code of the class of each document (N,); each class must have a training document.

    A class without a test document is named in a warning.
    """
    if labels is None:
        return None
    code = {name: number for number, name in enumerate(labels.classes)}
    # a class whose texts have no token is none
    codes: NDArray[np.int64] = np.array([code.get(name, -1) for name in documents.names])[documents.classes]
    absent = [name for name in labels.classes if code[name] not in codes[parts["train"]]]
    if absent:
        raise DataError(
            f"{documents.raw.place}: the class '{labels.name}': {listed(absent)} has no training text; each "
            "class needs several different texts"
        )
    if untested := [name for name in labels.classes if code[name] not in codes[parts["test"]]]:
        logger.warning(
            "%s: no test text has the class %s: the scores say nothing about it; see `drop_classes`",
            documents.raw.place,
            listed(untested),
        )
    return codes


def _split(same: NDArray[np.int64], documents: Documents, settings: Preparation) -> Parts:
    """Which documents (N,) each split has; documents of the same number of `same` are in the same split.

    Each part has the shares of the classes if each class has enough documents. A copy of a document of an
    official test set is left out of the training.
    """
    official = documents.official
    free = ~np.isin(same, same[official])  # official ones are not free, either
    unit, unique = pd.factorize(same[free])
    if len(unique) < FEWEST_DOCUMENTS:
        raise DataError(
            f"{documents.raw.place}: {count(len(unique), 'different document')}, expected at least "
            f"{FEWEST_DOCUMENTS}; {UNITS[settings.document]}, change the file or prepare.document"
        )
    rest: Rows = np.arange(len(unique))
    stratum = None
    if settings.label is not None:
        order = np.argsort(np.argsort(list(documents.names)))  # scikit-learn takes the classes by name
        stratum = order[documents.classes[free][np.unique(unit, return_index=True)[1]]]
    test: Any = np.arange(0)
    if settings.folds:
        usable = stratum is not None and can_be_stratified(stratum, 1 / settings.folds)
        rest, test = cut_fold(rest, settings, stratum if usable else None)
    elif settings.test is None:
        rest, test = _cut(rest, settings.test_share, settings.seed, stratum)
    _, validation = _cut(rest, settings.validation_share, settings.seed, stratum)
    side = np.zeros(len(unique), np.int8)
    side[test], side[validation] = 1, 2
    of_document = np.full(len(same), -1, np.int8)
    of_document[free] = side[unit]
    of_document[official] = 1
    if left_out := int((of_document < 0).sum()):
        logger.warning(
            "%s: %s left out of the training: the official test set has the same",
            *(documents.raw.place, count(left_out, "text")),
        )
    return {name: of_document == number for name, number in SIDES.items()}


def _cut(rest: Any, share: float, seed: int, stratum: Any) -> Any:
    classes = None if stratum is None else stratum[rest]
    if classes is not None and not can_be_stratified(classes, share):
        classes = None
    return train_test_split(rest, test_size=share, random_state=seed, stratify=classes)
