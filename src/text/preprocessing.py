"""Documents to token numbers: read, clean, tokenize and encode.

Training data and the requests of `predict` are transformed by the same code. `prepare.py` learns the
vocabulary.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from src.core.documents import read_json, write_json
from src.core.errors import DataError

SPECIAL = ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "<LINE>", "<STANZA>")
PAD, UNK, BOS, EOS, LINE, STANZA = range(len(SPECIAL))

# a document is one line: / is a line break in it, // a stanza break, □ an illegible character
MARKS = {"/": SPECIAL[LINE], "//": SPECIAL[STANZA], "□": SPECIAL[UNK]}
MARK = re.compile("(//|/|□)")
PATTERNS = ("*.txt", "*.json")


@dataclass(frozen=True)
class Preprocessing:
    """How text becomes token numbers: the content of preprocessing.json.

    Args:
        tokenizer: "char" (each character is a token) or "jieba" (words).
        convert: an OpenCC configuration such as t2s (traditional to simplified characters), or None.
        replace: pairs of a regular expression and its replacement, applied in this order.
        stopwords: tokens that are left out.
        vocabulary: the token of each number (V).
        counts: how often each token occurs in the training documents (V).
        rhymes: the rhyme of each token, None for tokens without one (V); None if they were not prepared.
    """

    tokenizer: Literal["char", "jieba"]
    convert: str | None = None
    replace: list[list[str]] = field(default_factory=list)
    stopwords: list[str] = field(default_factory=list)
    vocabulary: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    rhymes: list[int | None] | None = None

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read preprocessing.json of prepared data or of a bundle.

        Raises:
            ConfigurationError: there is no such file.
            IntegrityError: it is damaged.
        """
        return cls(**read_json(folder / "preprocessing.json", f"prepare@{folder.name}"))

    def save(self, folder: Path) -> None:
        """Write preprocessing.json; `rhymes` only if they were prepared."""
        content = asdict(self)
        if self.rhymes is None:
            del content["rhymes"]
        write_json(folder / "preprocessing.json", content)


def read_documents(place: Path) -> tuple[list[str], int]:
    """Read the documents of a file or folder: the lines of .txt files, the poems of .json files.

    The .json files have the format of the chinese-poetry collection: a list of objects with `paragraphs`.

    Returns:
        The documents, file by file in the order of the names, and the number of empty ones, which are
        skipped.

    Raises:
        DataError: there is no such file, or one is empty, not UTF-8, has a NUL, or is JSON of another form.
    """
    files = [path for pattern in PATTERNS for path in sorted(place.glob(pattern))]
    files = [path for path in files if path.name not in ("SOURCE.json", "labels.json")]
    if place.is_file():
        files = [place]
    if not files:
        raise DataError(f"{place}: no {' or '.join(PATTERNS)} file found")
    documents: list[str] = []
    empty = 0
    for path in files:
        text = _read_text(path)
        lines = _poems(path, text) if path.suffix == ".json" else text.splitlines()
        found = [line.strip() for line in lines]
        kept = [line for line in found if line]
        if not kept:
            raise DataError(f"{path}: no text found")
        documents += kept
        empty += len(found) - len(kept)
    return documents, empty


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x}); "
            "save it as UTF-8, or convert it: iconv -f gb18030 -t utf-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: found NUL at byte {content.index(0)}, expected a text file")
    return text


def _poems(path: Path, text: str) -> Iterator[str]:
    number = 0
    try:
        for poem in json.loads(text):
            number += 1
            yield "".join(poem["paragraphs"])
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{path}, entry {number}: expected a list of objects with `paragraphs`, a list of strings"
        ) from None


@cache
def _jieba() -> Any:
    import jieba  # the tokenizer "char" does not need it

    tokenizer = jieba.Tokenizer()
    # as its initialize(), but without its cache, which is unchecked marshal in a world-writable folder
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


class TextEncoder:
    """Convert text to tokens and token numbers, and back.

    Args:
        preprocessing: of the data; encoding and decoding need its vocabulary.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.tokenizer = preprocessing.tokenizer
        self.convert = preprocessing.convert
        self.stopwords = frozenset(preprocessing.stopwords)
        self.replace = [(re.compile(pattern), by) for pattern, by in preprocessing.replace]
        self.vocabulary = preprocessing.vocabulary
        self.numbers = {token: number for number, token in enumerate(self.vocabulary)}

    @cached_property
    def _converter(self) -> Any:
        import opencc  # most corpora do not need it

        return opencc.OpenCC(self.convert or "")

    def clean(self, text: str) -> str:
        """Convert the characters and replace the patterns."""
        if self.convert:
            text = self._converter.convert(text)
        for pattern, by in self.replace:
            text = pattern.sub(by, text)
        return text.strip()

    def tokens(self, text: str) -> list[str]:
        """Tokenize a clean text; stop words and spaces are left out; /, // and □ become special tokens."""
        found: list[str] = []
        for part in MARK.split(text):
            if part in MARKS:
                found.append(MARKS[part])
            elif part:
                pieces: Iterable[str] = part if self.tokenizer == "char" else _jieba().cut(part)
                found += [piece for piece in pieces if not piece.isspace() and piece not in self.stopwords]
        return found

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the token numbers; tokens outside the vocabulary are `<UNK>`."""
        return [self.numbers.get(token, UNK) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of token numbers, without `<PAD>`, `<BOS>` and `<EOS>`."""
        shown = {SPECIAL[LINE]: "/", SPECIAL[STANZA]: "//", SPECIAL[UNK]: "□"}
        silent = {SPECIAL[PAD], SPECIAL[BOS], SPECIAL[EOS]}
        tokens = (self.vocabulary[number] for number in numbers)
        return "".join(shown.get(token, token) for token in tokens if token not in silent)
