"""Split raw documents, learn the vocabulary from the training part and encode all of them."""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.model_selection import train_test_split

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.documents import write_json
from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import count
from src.preparation.splits import check_splitting, cut_fold
from src.text.preprocessing import BOS, EOS, INVISIBLE, SPECIAL, UNK, Preprocessing, TextEncoder
from src.text.reading import Unit, read_documents, text_files
from src.text.rhymes import rhyme_of

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
        encoding: of the raw files that are not UTF-8, such as gb18030, big5 or utf-16; null refuses them.
        document: what is one document of a .txt file: each "line", each "paragraph" (the lines between two
            blank lines), or each "file".
        tokenizer: "char" (each character is a token) or "jieba" (words).
        convert: an OpenCC configuration such as t2s (traditional to simplified characters); null for none.
        replace: regular expressions and their replacements, applied in this order.
        stopwords: tokens to leave out.
        min_count: the least count in the training documents; rarer tokens become `<UNK>`.
        rhymes: save the rhyme of each character, so that poems can rhyme.
        test_share: the share of the documents for the test.
        validation_share: the share of the remaining documents for the validation.
        folds: the number of folds of a cross-validation, one of which replaces `test_share`; 0 for none.
        fold: the number of that fold, from 1.
        seed: of the split.
    """

    encoding: str | None = None
    document: Unit = "line"
    tokenizer: Literal["char", "jieba"] = "char"
    convert: str | None = None
    replace: dict[str, str] = field(default_factory=dict)
    stopwords: list[str] = field(default_factory=list)
    min_count: int = 1
    rhymes: bool = False
    test_share: float = 0.1
    validation_share: float = 0.1
    folds: int = 0
    fold: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        check_splitting(self)
        if self.min_count < 1:
            raise ConfigurationError(f"prepare.min_count must be at least 1: {self.min_count}")
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


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the documents of a task, learn the vocabulary and encode them.

    Writes, for each split (train, validation, test), `<split>_tokens.npy` with all its documents in one int32
    array, each from `<BOS>` to `<EOS>`, and `<split>_offsets.npy` (N + 1,) int64 with the place where each
    begins; split.csv; preprocessing.json; corpus.json with statistics of the corpus; manifest.json.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write.
        settings: of the preparation.

    Raises:
        ConfigurationError: `convert` or `folds` cannot be used.
        DataError: the documents cannot be used. Nothing is written.
    """
    texts, empty = read_documents(raw, settings.encoding, settings.document)
    invisible = sum(len(INVISIBLE.findall(text)) for text in texts)
    preprocessing = Preprocessing(
        tokenizer=settings.tokenizer,
        convert=settings.convert,
        replace=[list(pair) for pair in settings.replace.items()],
        stopwords=settings.stopwords,
    )
    encoder = _encoder(preprocessing)
    # interned, so that a large corpus has each character only once in memory
    documents = [list(map(sys.intern, encoder.tokens(encoder.clean(text)))) for text in texts]
    empty += sum(not tokens for tokens in documents)
    documents = [tokens for tokens in documents if tokens]
    keys = [_key(tokens) for tokens in documents]
    files = text_files(raw)
    parts = _split(keys, settings, files[0] if len(files) == 1 else raw)

    counts = Counter(token for number in parts["train"] for token in documents[number])
    preprocessing = _with_vocabulary(preprocessing, counts, settings)
    encoder = TextEncoder(preprocessing)
    encoded = {
        name: [[BOS, *encoder.encode(documents[number]), EOS] for number in part]
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
    }
    with written_whole(prepared) as folder:
        for name, rows in encoded.items():
            lengths = [len(row) for row in rows]
            flat = np.fromiter((number for row in rows for number in row), np.int32, sum(lengths))
            np.save(folder / f"{name}_tokens.npy", flat)
            np.save(folder / f"{name}_offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
        lines = sorted((number, name) for name, part in parts.items() for number in part)
        text = "".join(f"{number},{name}\n" for number, name in lines)
        (folder / "split.csv").write_text(f"document,split\n{text}", encoding="utf-8")
        preprocessing.save(folder)
        write_json(folder / "corpus.json", corpus)
        write_manifest(folder)
    print(
        f"{len(documents):,} documents ({empty} empty ones skipped, {doubled} duplicates kept in one split), "
        f"{len(preprocessing.vocabulary):,} different tokens, unknown in the test part: {unknown['test']:.2%}"
    )
    if invisible:
        print(f"{count(invisible, 'invisible character')} left out (zero-width and control characters)")


def _encoder(preprocessing: Preprocessing) -> TextEncoder:
    encoder = TextEncoder(preprocessing)
    try:
        encoder.clean("")
    except Exception as error:  # OpenCC raises no class of its own
        raise ConfigurationError(f"prepare.convert: {preprocessing.convert}: {error}") from None
    return encoder


def _key(tokens: list[str]) -> str:
    """Return a text that is the same for documents that differ in punctuation only."""
    return "".join(token for token in tokens if unicodedata.category(token[0])[0] != "P")


def _split(keys: list[str], settings: Preparation, place: Path) -> dict[str, list[int]]:
    """Return the document numbers of each split; documents with the same key are in the same split."""
    unique = list(dict.fromkeys(keys))
    if len(unique) < FEWEST_DOCUMENTS:
        raise DataError(
            f"{place}: {count(len(unique), 'different document')}, expected at least {FEWEST_DOCUMENTS}; "
            f"{UNITS[settings.document]}, change the file or prepare.document"
        )
    rest = np.arange(len(unique))
    if settings.folds:
        rest, test = cut_fold(rest, settings)
    else:
        rest, test = train_test_split(rest, test_size=settings.test_share, random_state=settings.seed)
    _, validation = train_test_split(rest, test_size=settings.validation_share, random_state=settings.seed)
    held_out = (("test", test), ("validation", validation))
    side = {unique[number]: name for name, numbers in held_out for number in numbers}
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number, key in enumerate(keys):
        parts[side.get(key, "train")].append(number)
    return parts


def _with_vocabulary(
    preprocessing: Preprocessing, counts: Counter[str], settings: Preparation
) -> Preprocessing:
    """Add the vocabulary, its counts and rhymes: the special tokens, then the others by descending count."""
    kept = [(token, count) for token, count in counts.items() if token not in SPECIAL]
    kept = [(token, count) for token, count in kept if count >= settings.min_count]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    vocabulary = [*SPECIAL, *(token for token, _ in kept)]
    return replace(
        preprocessing,
        vocabulary=vocabulary,
        counts=[counts[token] for token in SPECIAL] + [count for _, count in kept],
        rhymes=[rhyme_of(token) for token in vocabulary] if settings.rhymes else None,
    )


def _inner(rows: list[list[int]]) -> int:
    """Count the tokens without `<BOS>` and `<EOS>`."""
    return sum(len(row) - 2 for row in rows)


def _share_of(token: int, rows: Iterable[list[int]]) -> float:
    rows = list(rows)
    return sum(row.count(token) for row in rows) / max(_inner(rows), 1)
