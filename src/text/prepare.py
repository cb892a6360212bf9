"""Raw documents -> split, token numbers and preprocessing.json; the vocabulary is learnt in training."""

import json
import logging
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.model_selection import train_test_split

from src.core.atomic import written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, DataError
from src.preparation.splits import check_splitting, cut_fold
from src.text.preprocessing import BOS, EOS, SPECIAL, UNK, TextEncoder, read_documents

logger = logging.getLogger(__name__)

FEWEST_DOCUMENTS = 3  # one for each split

# 中华新韵 (2005), the fourteen rhymes of modern Mandarin; what pinyin spells as i after z, c, s, zh, ch, sh,
# r is a rhyme of its own
RHYMES = (
    "a ia ua",
    "o e uo",
    "ie ve ue",
    "ai uai",
    "ei uei",
    "ao iao",
    "ou iou",
    "an ian uan van",
    "en in uen vn",
    "ang iang uang",
    "eng ing ueng ong iong",
    "i er v",
    "-i",
    "u",
)
RHYME_OF = {final: number for number, finals in enumerate(RHYMES) for final in finals.split()}


@dataclass
class Preparation:
    """How documents become token numbers: the section `<task>.prepare` of params.yaml.

    Args:
        tokenizer: char (each character is a token) or jieba (words).
        convert: an OpenCC configuration such as t2s (traditional to simplified characters); null for none.
        replace: regular expressions, and what takes their place, in this order.
        stopwords: tokens to leave out.
        min_count: tokens that training documents hold less often are `<UNK>`.
        rhymes: note the rhyme of each character, which the generation of poems can keep.
        test_share: the share of documents held out for the test.
        validation_share: the share of the remaining documents that chooses the best epoch.
        folds: for cross-validation, so many parts of the documents, one of which is the test part in place of
            `test_share`; 0 for none.
        fold: which part that is, from 1.
        seed: decides which document goes where.
    """

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
        for pattern in self.replace:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigurationError(f"prepare.replace: {pattern!r} is no pattern: {error}") from None


def prepare(raw: Path, prepared: Path, settings: Preparation) -> None:
    """Split the documents of a task and learn their vocabulary.

    Args:
        raw: the folder with the raw files.
        prepared: the folder to write: `<split>_tokens.npy`, all documents of a split one after the other
            (each from `<BOS>` to `<EOS>`) int32, and `<split>_offsets.npy` (N + 1,) int64, where each
            begins, for the splits train, validation and test; split.csv; preprocessing.json; corpus.json,
            what is worth knowing about the corpus; manifest.json.
        settings: what to do.

    Raises:
        DataError: the documents cannot be used; nothing is written then.
    """
    texts, empty = read_documents(raw)
    learnt: dict[str, Any] = {
        "tokenizer": settings.tokenizer,
        "convert": settings.convert,
        "replace": [list(pair) for pair in settings.replace.items()],
        "stopwords": settings.stopwords,
    }
    encoder = _encoder(learnt)
    # interned: a large corpus has each character once in memory, not each place of it
    documents = [list(map(sys.intern, encoder.tokens(encoder.clean(text)))) for text in texts]
    empty += sum(not tokens for tokens in documents)
    documents = [tokens for tokens in documents if tokens]
    keys = [_key(tokens) for tokens in documents]
    parts = _split(keys, settings, raw)

    counts = Counter(token for number in parts["train"] for token in documents[number])
    learnt |= _vocabulary(counts, settings)
    encoder = TextEncoder(learnt)
    encoded = {
        name: [[BOS, *encoder.encode(documents[number]), EOS] for number in part]
        for name, part in parts.items()
    }
    corpus: dict[str, Any] = {
        "documents": {name: len(part) for name, part in parts.items()},
        "doubled": len(keys) - len(set(keys)),
        "empty": empty,
        "tokens": {name: _inner(rows) for name, rows in encoded.items()},
        "unknown_share": {name: _share_of(UNK, rows) for name, rows in encoded.items()},
        "vocabulary": len(learnt["vocabulary"]),
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
        for name, content in (("preprocessing", learnt), ("corpus", corpus)):
            text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        write_manifest(folder)
    print(
        f"{len(documents):,} documents ({empty} empty ones skipped, {corpus['doubled']} doubled ones kept "
        f"together), {corpus['vocabulary']:,} different tokens, unknown in the test part: "
        f"{corpus['unknown_share']['test']:.2%}"
    )


def _encoder(learnt: dict[str, Any]) -> TextEncoder:
    encoder = TextEncoder(learnt)
    try:
        encoder.clean("")
    except Exception as error:  # OpenCC has no class of its own for it
        raise ConfigurationError(f"prepare.convert: {learnt['convert']}: {error}") from None
    return encoder


def _key(tokens: list[str]) -> str:
    """Documents that differ in punctuation alone have the same key."""
    return "".join(token for token in tokens if unicodedata.category(token[0])[0] != "P")


def _split(keys: list[str], settings: Preparation, raw: Path) -> dict[str, list[int]]:
    """Which documents go where; all that share a key go together."""
    unique = list(dict.fromkeys(keys))
    if len(unique) < FEWEST_DOCUMENTS:
        raise DataError(f"{raw}: {len(unique)} different documents, {FEWEST_DOCUMENTS} are needed at least")
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


def _vocabulary(counts: Counter[str], settings: Preparation) -> dict[str, Any]:
    """Tokens by falling count after the special ones, their counts and rhymes."""
    kept = [(token, count) for token, count in counts.items() if token not in SPECIAL]
    kept = [(token, count) for token, count in kept if count >= settings.min_count]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    vocabulary = [*SPECIAL, *(token for token, _ in kept)]
    learnt: dict[str, Any] = {
        "vocabulary": vocabulary,
        "counts": [counts[token] for token in SPECIAL] + [count for _, count in kept],
    }
    if settings.rhymes:
        learnt["rhymes"] = [rhyme_of(token) for token in vocabulary]
    return learnt


def rhyme_of(token: str) -> int | None:
    """The number of a character's rhyme in 中华新韵, by its most usual reading; None of anything else."""
    from pypinyin import Style, pinyin  # only poems need it

    if len(token) != 1 or not token.isalpha():
        return None
    final = pinyin(token, style=Style.FINALS, errors="ignore", strict=True)
    if not final:
        return None
    hissing = pinyin(token, style=Style.INITIALS, strict=True)[0][0] in ("z", "c", "s", "zh", "ch", "sh", "r")
    spelt = final[0][0].replace("ü", "v")
    return RHYME_OF.get("-i" if spelt == "i" and hissing else spelt)


def _inner(rows: list[list[int]]) -> int:
    """Tokens without `<BOS>` and `<EOS>`."""
    return sum(len(row) - 2 for row in rows)


def _share_of(token: int, rows: Iterable[list[int]]) -> float:
    rows = list(rows)
    return sum(row.count(token) for row in rows) / max(_inner(rows), 1)
