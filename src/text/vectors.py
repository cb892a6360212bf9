"""Pretrained word vectors, from a text file as word2vec, GloVe and fastText publish them.

A line is a word and its numbers, with spaces between; a first line of two whole numbers is a header. The file
is a raw file, so that `fetch` pins it. `prepare` keeps the vectors of the vocabulary, from which a training
begins; a bundle has them among its weights.

V vocabulary, E numbers of a vector
"""

import gzip
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.core.errors import DataError

VECTORS = "vectors.npy"
LONGEST_LINE = 1 << 20  # bytes
FORMAT = "expected a text file of word2vec, GloVe or fastText: a word and its numbers in each line"

Vectors = NDArray[np.float32]


def read_vectors(
    path: Path, words: list[str], more: int, possible: Callable[[str], bool]
) -> tuple[list[str], Vectors]:
    """Read the vectors of some words, line by line, so that the memory does not grow with the file.

    Args:
        path: the file, which may be compressed (.gz).
        words: whose vectors are wanted (V).
        more: how many other words to add: the first ones, since published files begin with frequent words.
        possible: whether a word is one that can be added.

    Returns:
        The words that are added, and the vectors (V + added, E): 0 for words that the file lacks. Of a word
        with several lines the first counts.

    Raises:
        DataError: it is no such file; the message has the number of the line.
    """
    wanted = {word.encode(): number for number, word in enumerate(words)}
    found: dict[int, Vectors] = {}
    added: list[str] = []
    seen: set[str] = set()
    size = 0
    for where, line in _lines(path):
        word, _, numbers = line.partition(b" ")
        if not size:
            if line.count(b" ") == 1 and word.isdigit() and numbers.isdigit():  # the header
                continue
            size = line.count(b" ")
            if not size:
                raise DataError(f"{where}: {FORMAT}")
        surplus = line.count(b" ") - size
        if surplus < 0:
            raise DataError(f"{where}: {size + surplus} numbers, expected {size} as in the first line")
        if surplus:  # a word with spaces is no token
            continue
        if (number := wanted.get(word)) is not None:
            if number not in found:
                found[number] = _numbers(where, numbers)
        elif len(added) < more:
            other = _decoded(where, word)
            if other not in seen and possible(other):
                found[len(words) + len(added)] = _numbers(where, numbers)
                added.append(other)
            seen.add(other)
    if not size:
        raise DataError(f"{path}: no line found; {FORMAT}")
    vectors = np.zeros((len(words) + len(added), size), np.float32)
    for number, vector in found.items():
        vectors[number] = vector
    return added, vectors


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines, each with its place."""
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; prepare.vectors names a file of the source, or of `files`"
        )
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise DataError(f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes; {FORMAT}")
                if stripped := line.rstrip():
                    yield f"{path}, line {number}", stripped
    except (EOFError, OSError) as error:
        raise DataError(f"{path}, after line {number}: {error}") from None


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _decoded(where: str, word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise DataError(f"{where}: the word is not UTF-8; {FORMAT}") from None


def _numbers(where: str, text: bytes) -> Vectors:
    try:
        numbers = np.array(text.split(b" "), dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}; {FORMAT}") from None
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: a number is not finite")
    return numbers
