"""The tokens of a corpus, in a memory-mapped file, so that the memory does not grow with the texts.

All processors cut texts into tokens, in blocks of documents that do not depend on the number of processors.

N documents, T tokens, V different tokens
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from src.core.processes import helpers, processors
from src.text.preprocessing import BOS, EOS, INVISIBLE, UNK, Preprocessing, TextEncoder

BLOCK = 1 << 20  # characters of the documents that are cut together, and tokens that are encoded together
BLOCKS_ALONE = 4  # that this process cuts before others, which take seconds to start, help

Numbers = NDArray[np.int32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """The tokens of some documents.

    Args:
        tokens: the different ones, in the order in which they occur first (V).
        numbers: of all tokens (T,).
        lengths: of the documents (N,).
        keys: (N,) uint64, the same for documents that differ in punctuation only.
        invisible: the number of invisible characters, which are left out.
    """

    tokens: list[str]
    numbers: Numbers
    lengths: Counts
    keys: NDArray[np.uint64]
    invisible: int


def cut(encoder: TextEncoder, texts: list[str]) -> Cut:
    """Cut texts into tokens."""
    known: dict[str, int] = {}
    numbers, lengths, keys, invisible = array("i"), [], bytearray(), 0
    for text in texts:
        invisible += len(INVISIBLE.findall(text))
        tokens = encoder.tokens(encoder.clean(text))
        numbers.extend([known.setdefault(token, len(known)) for token in tokens])
        lengths.append(len(tokens))
        words = "".join(token for token in tokens if category(token[0])[0] != "P")
        keys += blake2b(words.encode(), digest_size=8).digest()
    return Cut(
        list(known),
        np.frombuffer(numbers, np.int32) if numbers else np.empty(0, np.int32),
        np.array(lengths, np.int64),
        np.frombuffer(bytes(keys), np.uint64),
        invisible,
    )


@dataclass(frozen=True)
class Corpus:
    """The tokens of all documents.

    Args:
        path: a file of their numbers (T,) int32.
        vocabulary: the token of each number (V), in the order in which they occur first.
        lengths: of the documents (N,).
        keys: of the documents (N,), as those of `Cut`.
        invisible: the number of invisible characters.
    """

    path: Path
    vocabulary: list[str]
    lengths: Counts
    keys: NDArray[np.uint64]
    invisible: int

    @cached_property
    def offsets(self) -> Counts:
        """Where each document begins, and the last one ends (N + 1,)."""
        return np.concatenate([[0], self.lengths.cumsum()])

    def blocks(self) -> Iterator[tuple[slice, Numbers]]:
        """Some documents at a time, as a slice of all, and their tokens."""
        first, documents = 0, len(self.lengths)
        tokens = np.memmap(self.path, np.int32, "r") if self.offsets[-1] else np.empty(0, np.int32)
        while first < documents:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK, side="right")) - 1
            last = min(max(last, first + 1), documents)
            yield slice(first, last), np.array(tokens[self.offsets[first] : self.offsets[last]])
            first = last

    def counts(self, chosen: NDArray[np.bool_]) -> Counts:
        """How often each token (V,) occurs in the chosen documents (N,)."""
        counts = np.zeros(len(self.vocabulary), np.int64)
        for documents, tokens in self.blocks():
            kept = tokens[np.repeat(chosen[documents], self.lengths[documents])]
            counts += np.bincount(kept, minlength=len(counts))
        return counts

    def write(
        self, path: Path, chosen: NDArray[np.bool_], numbers: Numbers, longest: int | None
    ) -> tuple[Counts, int]:
        """Write the chosen documents (N,), each from `<BOS>` to `<EOS>`, as one int32 array.

        Args:
            path: the .npy file.
            chosen: which documents (N,).
            numbers: that of the final vocabulary for each token (V,).
            longest: documents are cut to this number of tokens; None for no limit.

        Returns:
            Where each of these documents begins in it, and the last one ends; the number of `<UNK>`.
        """
        lengths = self.lengths[chosen]
        lengths = lengths if longest is None else np.minimum(lengths, longest)
        offsets = np.concatenate([[0], (lengths + 2).cumsum()])
        unknown = first = 0
        # not a memory map: if the disk is full, writing to a memory map ends the process with SIGBUS
        with path.open("wb") as file:
            header = {"descr": "<i4", "fortran_order": False, "shape": (int(offsets[-1]),)}
            np.lib.format.write_array_header_1_0(file, header)
            for documents, tokens in self.blocks():
                sizes = self.lengths[documents]
                starts = self.offsets[documents] - self.offsets[documents.start]
                place = np.arange(len(tokens)) - np.repeat(starts, sizes)
                kept = np.repeat(chosen[documents], sizes)
                kept &= longest is None or place < longest
                found = numbers[tokens[kept]]
                unknown += int((found == UNK).sum())
                last = first + int(chosen[documents].sum())
                bounds = offsets[first : last + 1] - offsets[first]
                array = np.full(bounds[-1], -1, "<i4")
                array[bounds[:-1]], array[bounds[1:] - 1] = BOS, EOS
                array[array < 0] = found
                file.write(array.tobytes())
                first = last
        return offsets, unknown


def cut_corpus(texts: Iterable[str], preprocessing: Preprocessing, path: Path) -> Corpus:
    """Cut texts into tokens and write their numbers to a file.

    Args:
        texts: read once, a block at a time.
        preprocessing: its vocabulary is not used.
        path: the file to write.

    Raises:
        ResourceError: a process that cuts texts was ended from outside.
    """
    known: dict[str, int] = {}
    lengths, keys, invisible = [], [], 0
    with path.open("wb") as file:
        for part in _cuts(_blocks(texts), preprocessing):
            numbers = np.array([known.setdefault(token, len(known)) for token in part.tokens], np.int32)
            file.write(numbers[part.numbers].tobytes())
            lengths.append(part.lengths)
            keys.append(part.keys)
            invisible += part.invisible
    none = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    return Corpus(
        path, list(known), np.concatenate(lengths or none[0]), np.concatenate(keys or none[1]), invisible
    )


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if characters >= BLOCK:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _cuts(blocks: Iterator[list[str]], preprocessing: Preprocessing) -> Iterator[Cut]:
    """The cut blocks, in their order; only a few are in memory."""
    encoder = TextEncoder(preprocessing)
    for block in islice(blocks, BLOCKS_ALONE):
        yield cut(encoder, block)
    if (first := next(blocks, None)) is None:
        return
    number = processors()
    waiting: deque[Future[Cut]] = deque()
    with helpers(number, "cuts texts", _begin, preprocessing) as pool:
        for block in chain([first], blocks):
            waiting.append(pool.submit(_cut_there, block))
            if len(waiting) > 2 * number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_encoder: TextEncoder | None = None  # of a process that helps


def _begin(preprocessing: Preprocessing) -> None:
    global _encoder
    _encoder = TextEncoder(preprocessing)


def _cut_there(block: list[str]) -> Cut:
    assert _encoder is not None
    return cut(_encoder, block)
