"""Which encoding a text file has that is not UTF-8."""

# ruff: noqa: RUF001

import codecs
import re
from collections import Counter
from functools import cache

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CHINESE = ("gb18030", "big5", "big5hkscs")
USUAL = 0.75  # the least share of usual characters among those that are not ASCII
SEEN = 200_000  # characters outside ASCII that are counted; the strict decoders read all
# letters beside letters, and signs
WESTERN = re.compile(
    r"(?<=[a-zß-ÿŠšŽžŒœŸ])[À-ÿŠšŽžŒœŸ]|[À-ÿŠšŽžŒœŸ](?=[a-zß-ÿŠšŽžŒœŸ])|[€£§©°²³µ·½¿¡«»‹›‘’“”–—…\xa0]",
    re.IGNORECASE,
)
SIGNS = frozenset("，。、；：？！“”‘’（）《》〈〉「」『』【】〔〕—…·～￥％　")
RUNS = re.compile(r"[^\x00-\x7f]+")


def guess_encoding(data: bytes) -> str | None:
    """Guess the encoding of a whole text file.

    A mark at its beginning decides. Otherwise an encoding must decode every byte, and most of the characters
    outside ASCII must be usual ones: for gb18030 and big5 the first, frequent half of the two Chinese
    standards; for cp1252 letters of western Europe beside other letters, at most two in a row.

    Args:
        data: the content of the file.

    Returns:
        The name of a codec of Python: utf-8, utf-8-sig, utf-16, utf-32, gb18030, big5,
        big5hkscs or cp1252; None if none fits. It is a guess: let the user confirm it by a key.
    """
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name if _decoded(data, name) is not None else None
    if _decoded(data, "utf-8") is not None:
        return "utf-8"
    shares = {name: _usual_share(text) for name in CHINESE if (text := _decoded(data, name))}
    if (text := _decoded(data, "cp1252")) is not None:
        shares["cp1252"] = _latin_share(text)
    likely = max(shares, key=lambda name: shares[name], default="")
    return likely if shares.get(likely, 0) >= USUAL else None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
    except UnicodeError:
        return None
    return None if "\0" in text else text


def _usual_share(text: str) -> float:
    """The share of usual Chinese characters and signs among the characters that are not ASCII."""
    counts = Counter("".join(RUNS.findall(text))[:SEEN])
    return sum(counts[sign] for sign in counts.keys() & _usual()) / counts.total()


def _latin_share(text: str) -> float:
    """The share of characters that are not ASCII which are signs or letters beside letters."""
    few_in_a_row = RUNS.sub(lambda run: run[0] if len(run[0]) <= 2 else " ", text)
    return len(WESTERN.findall(few_in_a_row)) / sum(map(len, RUNS.findall(text)))


@cache
def _usual() -> frozenset[str]:
    """The first levels of GB 2312 (3,755 characters) and of Big5 (5,401), and Chinese signs."""
    trails = range(0xA1, 0xFF)
    simplified = [bytes([lead, trail]) for lead in range(0xB0, 0xD8) for trail in trails]
    traditional = [
        bytes([lead, trail]) for lead in range(0xA4, 0xC7) for trail in (*range(0x40, 0x7F), *trails)
    ]
    known = b"".join(simplified).decode("gb2312", "ignore") + b"".join(traditional).decode("big5", "ignore")
    return SIGNS.union(known)
