"""Raw text in, token numbers out: reading, cleaning, cutting into tokens, and the vocabulary.

`preprocessing.json` is all that the transformation needs, so that training data and what a prediction
starts from go through the same code. Nothing is learnt here; that is `prepare.py`.

V vocabulary
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from src.core.errors import ConfigurationError, DataError

SPECIAL = ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "<LINE>", "<STANZA>")
PAD, UNK, BOS, EOS, LINE, STANZA = range(len(SPECIAL))

# a document is one line, so its own lines end as verse is quoted in prose; □ stands for what cannot be read
MARKS = {"/": SPECIAL[LINE], "//": SPECIAL[STANZA], "□": SPECIAL[UNK]}
MARK = re.compile("(//|/|□)")
PATTERNS = ("*.txt", "*.json")


def read_documents(place: Path) -> tuple[list[str], int]:
    """All documents of a file or of a folder: the lines of its .txt files, or the poems of its .json files.

    The .json files are those of the chinese-poetry collection: a list of objects with `paragraphs`.

    Returns:
        The documents, file by file in the order of the names, and how many empty ones were skipped.

    Raises:
        DataError: no such file, not UTF-8, a NUL, or JSON of another form.
    """
    files = [path for pattern in PATTERNS for path in sorted(place.glob(pattern))]
    files = [path for path in files if path.name not in ("SOURCE.json", "labels.json")]
    if place.is_file():
        files = [place]
    if not files:
        raise DataError(f"{place}: there is no {' or '.join(PATTERNS)} file in it")
    documents: list[str] = []
    empty = 0
    for path in files:
        text = _read_text(path)
        found = [
            line.strip() for line in (_poems(path, text) if path.suffix == ".json" else text.splitlines())
        ]
        kept = [line for line in found if line]
        if not kept:
            raise DataError(f"{path}: there is no text in it")
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
        raise DataError(f"{path}: a NUL at byte {content.index(0)}: this is no text file")
    return text


def _poems(path: Path, text: str) -> Iterator[str]:
    number = 0
    try:
        for poem in json.loads(text):
            number += 1
            yield "".join(poem["paragraphs"])
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{path}, entry {number}: expected a list of objects with `paragraphs`, a list of texts"
        ) from None


class TextEncoder:
    """Text to tokens and token numbers, and back.

    Args:
        preprocessing: the content of preprocessing.json: `tokenizer` (char, jieba), `replace` (patterns and
            what takes their place, in order), `convert` (an OpenCC configuration such as t2s, or null),
            `stopwords`, and, once it is learnt, the `vocabulary`.
    """

    def __init__(self, preprocessing: dict[str, Any]) -> None:
        self.tokenizer = preprocessing["tokenizer"]
        self.convert = preprocessing["convert"]
        self.stopwords = frozenset(preprocessing["stopwords"])
        self.replace = [(re.compile(pattern), by) for pattern, by in preprocessing["replace"]]
        self.vocabulary: list[str] = preprocessing.get("vocabulary", [])
        self.numbers = {token: number for number, token in enumerate(self.vocabulary)}

    @cached_property
    def _converter(self) -> Any:
        import opencc  # most corpora do without

        return opencc.OpenCC(self.convert)

    @cached_property
    def _jieba(self) -> Any:
        import jieba  # tokens that are characters do without

        tokenizer = jieba.Tokenizer()
        # as its own initialize() does, without the cache: unchecked marshal in a folder that all may write to
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
        tokenizer.initialized = True
        return tokenizer

    def clean(self, text: str) -> str:
        """Convert the characters and replace the patterns."""
        if self.convert:
            text = self._converter.convert(text)
        for pattern, by in self.replace:
            text = pattern.sub(by, text)
        return text.strip()

    def tokens(self, text: str) -> list[str]:
        """The tokens of a clean text, without stop words and spaces; / // and □ become their marks."""
        found: list[str] = []
        for part in MARK.split(text):
            if part in MARKS:
                found.append(MARKS[part])
            elif part:
                pieces: Iterable[str] = part if self.tokenizer == "char" else self._jieba.cut(part)
                found += [piece for piece in pieces if not piece.isspace() and piece not in self.stopwords]
        return found

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Numbers of tokens; `<UNK>` of those that training has not seen."""
        return [self.numbers.get(token, UNK) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of token numbers; what stands for nothing (`<PAD>`, `<BOS>`, `<EOS>`) is left out."""
        shown = {SPECIAL[LINE]: "/", SPECIAL[STANZA]: "//", SPECIAL[UNK]: "□"}
        silent = {SPECIAL[PAD], SPECIAL[BOS], SPECIAL[EOS]}
        tokens = (self.vocabulary[number] for number in numbers)
        return "".join(shown.get(token, token) for token in tokens if token not in silent)


@dataclass(frozen=True)
class Composition:
    """What `predict` is to write: the keys below `--data.compose`. A line is a couplet of two verses.

    Args:
        start: the first character; null lets the model choose.
        acrostic: the first characters, one a line or one a verse (藏头诗).
        acrostic_of: "line" or "verse", what each of them begins.
        lines: of a poem; 2 are a quatrain, 4 an octave.
        length: of a verse in characters, 5 (五言) or 7 (七言).
        rhyme: all lines end in the same rhyme, in different characters.
        count: how many poems.
        temperature: below 1 the likely characters become likelier; 0 always takes the likeliest.
        top_k: choose among so many of the likeliest characters; 0 among all.
        top_p: choose among the likeliest characters that have this probability together.
        seed: of the choices; poem i of a seed does not depend on how many there are.
    """

    start: str | None = None
    acrostic: str | None = None
    acrostic_of: Literal["line", "verse"] = "line"
    lines: int = 2
    length: Literal[5, 7] = 5
    rhyme: bool = False
    count: int = 1
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("lines", 1), ("count", 1), ("temperature", 0), ("top_k", 0), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"compose.{name} must be at least {least}: {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"compose.top_p must be above 0 and at most 1: {self.top_p}")
        if self.start is not None and len(self.start) != 1:
            raise ConfigurationError(
                f"compose.start must be one character, found {len(self.start)}: {self.start}; "
                "compose.acrostic takes several"
            )
        if self.start and self.acrostic:
            raise ConfigurationError("compose: start or acrostic, not both")
        places = self.lines * (2 if self.acrostic_of == "verse" else 1)
        if self.acrostic is not None and not 0 < len(self.acrostic) <= places:
            raise ConfigurationError(
                f"compose.acrostic has {len(self.acrostic)} characters, the poem {places} "
                f"{self.acrostic_of}s; see compose.lines and compose.acrostic_of"
            )


class Slot(NamedTuple):
    """A place in a poem: the token number that stands there, or FREE or RHYME; and what is shown."""

    number: int
    shown: str = ""


FREE, RHYME = -1, -2


def slots_of(composition: Composition, encoder: TextEncoder) -> list[Slot]:
    """The places of a poem; its length and punctuation are fixed here, so no model can break its form."""
    if composition.acrostic_of == "line" or composition.acrostic is None:
        heads = {2 * line: head for line, head in enumerate(composition.acrostic or composition.start or "")}
    else:
        heads = dict(enumerate(composition.acrostic))
    slots: list[Slot] = []
    for verse in range(2 * composition.lines):
        places = [Slot(FREE)] * composition.length
        if composition.rhyme and verse % 2:
            places[-1] = Slot(RHYME)
        if verse in heads:
            places[0] = Slot(encoder.encode([heads[verse]])[0], heads[verse])
        mark = "。" if verse % 2 else "，"
        slots += [*places, Slot(encoder.encode([mark])[0], mark)]
    return slots
