"""Propose a preparation and a network for new texts."""

import re
import statistics
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from src.core.errors import DataError
from src.preparation.proposals import Noted, Proposal, configuration, count, one_cycle, one_line
from src.text.prepare import UNITS
from src.text.preprocessing import INVISIBLE, MARKS, Preprocessing, TextEncoder
from src.text.propose_classes import propose_classes
from src.text.reading import BLANK_LINES, Unit, cut_lines, encoding_of, read_documents, read_text, text_files

VERSE_LENGTHS = (5, 7)  # as in Composition.length
VERSE_ENDS = re.compile(r"[，。？！；：、,.?!;:/\s]+")
MOSTLY = 0.5
TRADITIONAL = 0.02
FEWEST_BLOCKS = 3
SEEN_OF_A_LINE = 20
SEEN_CHARACTERS = 20_000
SEEN_DOCUMENTS = 500
# entries of `replace` after which verses end with a comma or a full stop
CLEANING = {
    r"（[^（）]*）": "",
    r"[“”\u2018\u2019「」『』《》〈〉〖〗()（）]": "",
    r"[；;:：]": "。",
    r"[、,]": "，",
}
# verses that only spaces or line breaks separate, two by two
BARE_VERSES = {r"(\S+)\s+(\S+)(?:\s+|$)": r"\1，\2。"}
FUNCTION_WORDS = (
    "的 了 是 在 和 与 也 而 由 就 都 会 把 被 这 那 它 它们 我们 一个 有 不 他 她 我 你 "
    "the of and a an in to is are was were be that this it its for on with as by at from or"
)
CHARACTERS_A_WORD = 1.6  # of Chinese prose
FEW_POEMS, MANY_POEMS = 1000, 10_000
FEW_WORDS = 20_000
WORDS_SEEN = 300_000  # over all epochs of a small text
RATE = 0.003


def propose(path: Path, target: str | None) -> Proposal:
    """Propose a classifier for texts with classes, a language model for Chinese verse, else word vectors.

    Args:
        path: a file that `read_labelled` or `read_documents` reads, or a folder of them.
        target: the column or key of the class; None looks for one.

    Raises:
        ConfigurationError: there is no such column.
        DataError: a file cannot be read, or there is none.
    """
    labelled = propose_classes(path, target)
    if labelled is not None:
        return labelled
    files = text_files(path)
    encoding = encoding_of(files)
    unit = _unit_of(files, encoding)
    raw, empty = read_documents(path, encoding, unit)
    documents = [text for document in raw if (text := INVISIBLE.sub("", document).strip())]
    text = "".join(documents)
    letters = sum(map(str.isalpha, text))
    if not letters:
        raise DataError(f"{path}: there are no letters in it")
    chinese = sum("\u4e00" <= sign <= "\u9fff" for sign in text) > MOSTLY * letters
    regular = sum(map(_is_regular, documents)) / len(documents)
    length = statistics.median(map(len, documents))
    findings = [
        f"{path.name or path}: {count(len(documents), 'document')} of "
        f"{count(int(length), 'character')} (median); {len(set(text)):,} different characters"
    ]
    prepare: dict[str, Any] = {}
    if encoding is not None:
        prepare["encoding"] = Noted(encoding, "a guess: of the files that are not UTF-8")
        findings.append(f"not UTF-8; it looks like {encoding}: {one_line(documents[0])[:SEEN_OF_A_LINE]}")
    if any(file.suffix.lower() == ".txt" for file in files):
        prepare["document"] = Noted(unit, "or one of line, paragraph, file")
        findings.append(UNITS[unit])
    if empty:
        findings.append(f"{count(empty, 'empty line')} skipped")
    if invisible := sum(map(len, raw)) - len(text):
        findings.append(
            f"{count(invisible, 'invisible character')} left out (zero-width and control characters)"
        )
    if chinese and _is_traditional(text):
        prepare["convert"] = Noted("t2s", "traditional to simplified characters")
        findings.append("traditional characters become simplified ones; delete `convert` to keep them")
    if chinese and regular > MOSTLY:
        findings.append(
            f"{regular:.0%} have verses of 5 or of 7 characters: a language model that writes poems"
        )
        more, configured, predict = _poems(documents, text)
    else:
        kind = "Chinese, no verses of 5 or 7 characters" if chinese else "not Chinese verse"
        findings.append(
            f"{kind}: word vectors (CBOW), which give the neighbours of words. The language model writes "
            "Chinese verse only; to classify texts, give a table with a column of texts and one of classes"
        )
        more, configured, predict = _prose(documents, text, chinese)
    return Proposal(
        source=path.parent if path.is_file() else path,
        files=[path.name] if path.is_file() else [],
        prepare=more | prepare | {"test_share": 0.1, "validation_share": 0.1, "seed": 42},
        configuration=configured,
        findings=findings,
        predict=predict,
    )


def _unit_of(files: list[Path], encoding: str | None) -> Unit:
    """Return `paragraph` if most blocks between blank lines have several lines, else `line`."""
    texts = [read_text(file, encoding).strip() for file in files if file.suffix.lower() == ".txt"]
    blocks = [block for text in texts for block in BLANK_LINES.split("\n".join(cut_lines(text)))]
    several = sum("\n" in block.strip() for block in blocks)
    return "paragraph" if len(blocks) >= FEWEST_BLOCKS and several > MOSTLY * len(blocks) else "line"


def _is_traditional(text: str) -> bool:
    import opencc  # only Chinese texts need it

    seen = text[:SEEN_CHARACTERS]
    changed = sum(a != b for a, b in zip(seen, opencc.OpenCC("t2s").convert(seen), strict=False))
    return changed > TRADITIONAL * len(seen)


def _is_regular(document: str) -> bool:
    for pattern, by in CLEANING.items():
        document = re.sub(pattern, by, document)
    if not any(map(str.isalpha, document)):  # a line that separates documents
        return False
    lengths = {len(verse) for verse in VERSE_ENDS.split(document) if verse}
    return lengths in [{length} for length in VERSE_LENGTHS]


Parts = tuple[dict[str, Any], dict[str, Any], str]


def _poems(documents: list[str], text: str) -> Parts:
    """Return preparation, configuration and options of `predict` of a language model of characters."""
    replace = {pattern: by for pattern, by in CLEANING.items() if re.search(pattern, text)}
    if sum(re.search("[，。,.]", document) is None for document in documents) > MOSTLY * len(documents):
        replace |= BARE_VERSES
    prepare: dict[str, Any] = {"tokenizer": Noted("char", "each character is a token")}
    if replace:
        prepare["replace"] = Noted(replace, "applied in this order")
    prepare["rhymes"] = Noted("pingshui", "so that poems can rhyme, as in the Tang; true: modern Mandarin")
    prepare["tones"] = Noted(True, "so that poems can follow the tones of regulated verse")
    few, many = len(documents) < FEW_POEMS, len(documents) >= MANY_POEMS
    network = {
        "class_path": "src.text.networks.Recurrent",
        "init_args": {
            "cell": "gru",
            "embedding_size": 96 if few else 128,
            "hidden_size": Noted(192 if few else 256, "larger for more poems"),
            "dropout": Noted(0.2 if many else 0.5, "smaller for more poems"),
        },
    }
    batch_size = 4 if few else 32 if many else 16
    configured = configuration(
        16 if few else 3 if many else 10,
        data={"class_path": "src.text.data.DocumentData", "init_args": {"batch_size": batch_size}},
        model=_model("LanguageModel", Noted(network, "or Transformer"), 0.5),
        gradient_clip_val=1,
    )
    firsts = Counter(next(filter(str.isalpha, document)) for document in documents if _is_regular(document))
    return prepare, configured, f"--data.compose.start {firsts.most_common(1)[0][0]} --data.compose.count 3"


def _prose(documents: list[str], text: str, chinese: bool) -> Parts:
    """Return preparation, configuration and options of `predict` of word vectors."""
    size = round(len(text) / CHARACTERS_A_WORD) if chinese else len(" ".join(documents).split())
    encoder = TextEncoder(Preprocessing(tokenizer="jieba"))
    counts = Counter(token for document in documents[:SEEN_DOCUMENTS] for token in encoder.tokens(document))
    signs = sorted(sign for sign in set(text) if unicodedata.category(sign)[0] in "PS" and sign not in MARKS)
    stopwords = [*(word for word in FUNCTION_WORDS.split() if word in counts), *signs]
    frequent = [word for word, _ in counts.most_common() if word.isalpha() and word not in stopwords]
    shown = [word for word in frequent if len(word) > 1][:2] or frequent[:1]
    prepare = {
        "tokenizer": Noted("jieba", "words; other scripts are split at spaces and punctuation"),
        "stopwords": Noted(stopwords, "left out: punctuation and function words"),
        "min_count": Noted(2 if size < FEW_WORDS else 5, "rarer words are <UNK>"),
    }
    network = {
        "class_path": "src.text.networks.ContinuousBagOfWords",
        "init_args": {"embedding_size": 64 if size < 10 * FEW_WORDS else 128, "dropout": 0.3},
    }
    data = {"batch_size": 64 if size < FEW_WORDS else 256, "width": Noted(3, "words on each side")}
    configured = configuration(
        min(max(WORDS_SEEN // max(size, 1), 3), 30),
        data={"class_path": "src.text.data.ContextData", "init_args": data},
        model=_model("WordVectors", network, 0.0),
    )
    return prepare, configured, f'--data.words "[{", ".join(shown)}]"'


def _model(name: str, network: Any, unknown_share: float) -> dict[str, Any]:
    unknown = Noted(unknown_share, "share of the tokens occurring once that training replaces by <UNK>")
    return {
        "class_path": f"src.text.model.{name}",
        "init_args": {"network": network, "unknown_share": unknown, **one_cycle("Adam", RATE)},
    }
