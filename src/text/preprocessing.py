"""Documents to token numbers: clean, tokenize and encode.

Training data and the requests of `predict` are transformed by the same code. `prepare.py` learns the
vocabulary.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from src.core.documents import read_json, write_json
from src.core.errors import IntegrityError
from src.text.subwords import Subwords

SPECIAL = ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "<LINE>", "<STANZA>")
PAD, UNK, BOS, EOS, LINE, STANZA = range(len(SPECIAL))

# a document is one line: / is a line break in it, // a stanza break, □ an illegible character
MARKS = {"/": SPECIAL[LINE], "//": SPECIAL[STANZA], "□": SPECIAL[UNK]}
MARK = re.compile("(//|/|□)")
# control and format characters, variation selectors; those that are white space are left out as spaces
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


MARKS_END = 0x20000  # behind it are only marks that INVISIBLE leaves out
WHOLE_BYTES = 1 << 28  # of the tokens of a split, up to which they are read as a whole

Tokenizer = Literal["char", "jieba", "word", "subwords"]


@dataclass(frozen=True)
class Labels:
    """The classes of labelled texts.

    Args:
        name: of the column or key of the class.
        classes: their names, in the order of their codes.
        text: the column or key of the text; None where folders are the classes.
        longest: texts are cut to this number of tokens.
        header: of tables, as `src.text.labelled.Reading` has it.
        quotes: likewise.
    """

    name: str
    classes: list[str]
    text: str | None
    longest: int
    header: Literal["first", "none"] | list[str] = "first"
    quotes: bool = True


@dataclass(frozen=True)
class LanguageModelFolder:
    """A pretrained language model, without its weights.

    Args:
        configuration: the content of its config.json.
        special: its numbers of `<PAD>`, `<UNK>`, `<BOS>` and `<EOS>`, by their names here.
        longest: the number of tokens that it reads beside the last two; None for any.
    """

    configuration: dict[str, Any]
    special: dict[str, int]
    longest: int | None


@dataclass(frozen=True)
class Preprocessing:
    """How text becomes token numbers: the content of preprocessing.json.

    Args:
        tokenizer: "char" (each character is a token), "jieba" (words), "word" (words between spaces, and
            signs), or "subwords" (parts of words).
        convert: an OpenCC configuration such as t2s (traditional to simplified characters), or None.
        replace: pairs of a regular expression and its replacement, applied in this order.
        stopwords: tokens that are left out.
        vocabulary: the token of each number (V).
        counts: how often each token occurs in the training documents (V).
        rhymes: the rhyme of each token, None for tokens without one (V); None if they were not prepared.
        tones: of each token LEVEL, OBLIQUE or EITHER of src.text.tones, None for others (V); None if they
            were not prepared.
        lowercase: whether letters become small ones.
        labels: of texts with classes; None for others.
        subwords: the tokenizer of subwords, as src.text.subwords has it; None for other tokenizers.
        language_model: whose tokens these are: the vocabulary is SPECIAL and then its own.
    """

    tokenizer: Tokenizer
    convert: str | None = None
    replace: list[list[str]] = field(default_factory=list)
    stopwords: list[str] = field(default_factory=list)
    vocabulary: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    rhymes: list[int | None] | None = None
    tones: list[int | None] | None = None
    lowercase: bool = False
    labels: Labels | None = None
    subwords: dict[str, Any] | None = None
    language_model: LanguageModelFolder | None = None

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read preprocessing.json of prepared data or of a bundle.

        Raises:
            ConfigurationError: there is no such file.
            IntegrityError: it is damaged.
        """
        path, stage = folder / "preprocessing.json", f"prepare@{folder.name}"
        content = read_json(path, stage)
        try:
            for name, kind in (("labels", Labels), ("language_model", LanguageModelFolder)):
                if name in content:
                    content[name] = kind(**content[name])
            return cls(**content)
        except (TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{path}: expected the preprocessing of texts, found another content ({error}); "
                f"run: dvc repro -f {stage}"
            ) from None

    def save(self, folder: Path) -> None:
        """Write preprocessing.json; the last six keys only if they were prepared."""
        content = asdict(self)
        if self.labels:  # without the keys that have their default
            usual = {one.name: one.default for one in fields(Labels)}
            content["labels"] = {name: it for name, it in content["labels"].items() if it != usual[name]}
        for name in ("rhymes", "tones", "lowercase", "labels", "subwords", "language_model"):
            if not content[name]:
                del content[name]
        write_json(folder / "preprocessing.json", content)


@cache
def _jieba() -> Any:
    import jieba  # the tokenizer "char" does not need it

    tokenizer = jieba.Tokenizer()
    # as its initialize(), but without its cache, which is unchecked marshal in a world-writable folder
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@cache
def _word() -> re.Pattern[str]:
    r"""Words of languages with spaces, as in don't, and single signs.

    Combining marks belong to the letter before them: vowels of Hindi, accents. \w has none of them.
    """
    marks = "".join(sign for sign in map(chr, range(MARKS_END)) if unicodedata.category(sign)[0] == "M")
    letters = rf"\w[\w{marks}]*"
    return re.compile(rf"{letters}(?:['\u2019]{letters})*|[^\w\s]")


class TextEncoder:
    """Convert text to tokens and token numbers, and back.

    Args:
        preprocessing: of the data; encoding and decoding need its vocabulary.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.tokenizer = preprocessing.tokenizer
        self.convert = preprocessing.convert
        self.lowercase = preprocessing.lowercase
        self.stopwords = frozenset(preprocessing.stopwords)
        self.replace = [(re.compile(pattern), by) for pattern, by in preprocessing.replace]
        self.subwords = None if preprocessing.subwords is None else Subwords(preprocessing.subwords)
        self.vocabulary = preprocessing.vocabulary
        self.numbers = {token: number for number, token in enumerate(self.vocabulary)}

    @cached_property
    def _converter(self) -> Any:
        import opencc  # most corpora do not need it

        return opencc.OpenCC(self.convert or "")

    def clean(self, text: str) -> str:
        """Leave out invisible characters, convert the others and replace the patterns."""
        text = INVISIBLE.sub("", text)
        if self.lowercase:
            text = text.lower()
        if self.convert:
            text = self._converter.convert(text)
        for pattern, by in self.replace:
            text = pattern.sub(by, text)
        return text.strip()

    def tokens(self, text: str) -> list[str]:
        """Tokenize a clean text; stop words and spaces are left out; /, // and □ become special tokens."""
        if self.subwords is not None:
            return self.subwords.cut(text)
        found: list[str] = []
        for part in MARK.split(text):
            if part in MARKS:
                found.append(MARKS[part])
            elif part:
                pieces: Iterable[str] = part
                if self.tokenizer != "char":
                    pieces = _word().findall(part) if self.tokenizer == "word" else _jieba().cut(part)
                found += [piece for piece in pieces if not piece.isspace() and piece not in self.stopwords]
        return found

    def document(self, tokens: Iterable[str], longest: int | None = None) -> list[int]:
        """The token numbers of a document from `<BOS>` to `<EOS>`, with at most `longest` tokens between."""
        return [BOS, *self.encode(islice(tokens, longest)), EOS]

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the token numbers; tokens outside the vocabulary are `<UNK>`."""
        return [self.numbers.get(token, UNK) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of token numbers, without `<PAD>`, `<BOS>` and `<EOS>`."""
        shown = {SPECIAL[LINE]: "/", SPECIAL[STANZA]: "//", SPECIAL[UNK]: "□"}
        silent = {SPECIAL[PAD], SPECIAL[BOS], SPECIAL[EOS]}
        tokens = (self.vocabulary[number] for number in numbers)
        return "".join(shown.get(token, token) for token in tokens if token not in silent)
