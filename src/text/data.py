"""The LightningDataModules of texts: batches from the prepared arrays.

N documents, B batch, T tokens
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from src.core.errors import ConfigurationError
from src.text.preprocessing import BOS, PAD, UNK, WHOLE_BYTES, Preprocessing
from src.text.vectors import VECTORS, Vectors
from src.training.loading import Batches, BatchSize, Blocks, WholeData
from src.training.seeding import derived_seed
from src.training.shards import Remote

logger = logging.getLogger(__name__)

COUNTED = 1 << 20  # tokens at a time
CONTEXTS = 1 << 18  # tokens whose contexts are made together

Numbers = NDArray[np.int32]
Offsets = NDArray[np.int64]


def load_split(prepared: Path, split: str) -> tuple[Numbers, Offsets]:
    """Return the tokens of all documents of a split in one array, and where each begins (N + 1,).

    Tokens of more than `WHOLE_BYTES` are a memory map: they are read from the disk where they are used.
    """
    path = prepared / f"{split}_tokens.npy"
    # copy on write, since torch warns of arrays that cannot be written; nothing writes to it
    tokens: Numbers = np.load(path, mmap_mode="c" if path.stat().st_size > WHOLE_BYTES else None)
    offsets: Offsets = np.load(prepared / f"{split}_offsets.npy")
    return tokens, offsets


class PreparedDocuments:
    """The documents of a split as lists of token numbers; only those that are asked for are in memory.

    Args:
        prepared: the folder data/prepared/<task>.
        split: train, validation or test.
    """

    def __init__(self, prepared: Path, split: str) -> None:
        tokens = np.load(prepared / f"{split}_tokens.npy", mmap_mode="r")
        self.tokens: Numbers = np.asarray(tokens)  # the same map, whose slices take less time
        self.offsets: Offsets = np.load(prepared / f"{split}_offsets.npy")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> list[int]:
        numbers: list[int] = self.tokens[self.offsets[row] : self.offsets[row + 1]].tolist()
        return numbers

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.__getitem__, range(len(self)))


def windows(tokens: Numbers, offsets: Offsets, length: int) -> tuple[Numbers, int]:
    """Return all windows of a length within documents, without `<BOS>` and `<EOS>`.

    Returns:
        The windows (rows, length), and the number of documents that are too short for one.
    """
    starts = [np.arange(begin + 1, end - length) for begin, end in pairwise(offsets.tolist())]
    found = np.concatenate(starts)
    if not len(found):
        return np.empty((0, length), np.int32), len(starts)
    return sliding_window_view(tokens, length)[found], sum(not len(part) for part in starts)


def contexts(tokens: Numbers, offsets: Offsets, width: int) -> Numbers:
    """Return every known word in the middle of the `width` words before and after it: (words, 2 width + 1).

    Beyond the ends of the document is `<PAD>`.
    """
    places = np.arange(len(tokens))
    begin = np.repeat(offsets[:-1], np.diff(offsets)) + 1
    end = np.repeat(offsets[1:], np.diff(offsets)) - 1
    middle = places[(places >= begin) & (places < end) & (tokens != UNK)]
    around = middle[:, None] + np.arange(-width, width + 1)
    outside = (around < begin[middle, None]) | (around >= end[middle, None])
    return np.where(outside, PAD, tokens[around.clip(0, len(tokens) - 1)]).astype(np.int32)


def blocks_of_contexts(tokens: Numbers, offsets: Offsets, width: int) -> Iterator[Numbers]:
    """The rows of `contexts` in their order, those of some documents at a time."""
    first, documents = 0, len(offsets) - 1
    while first < documents:
        last = int(np.searchsorted(offsets, offsets[first] + CONTEXTS, side="right")) - 1
        last = max(last, first + 1)
        begin, end = offsets[first], offsets[last]
        yield contexts(tokens[begin:end], offsets[first : last + 1] - begin, width)
        first = last


def joined(blocks: Iterable[Numbers], rows: int) -> Iterator[Numbers]:
    """Blocks of the same rows in their order, each of this number of rows; the last has those left over."""
    rest: Numbers | None = None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        while len(rest) > rows:
            yield rest[:rows]
            rest = rest[rows:]
    if rest is not None:
        yield rest


class DocumentBatches(Batches):
    """Batches of documents of similar length, padded to the longest of the batch.

    Args:
        tensors: the tokens of all documents, which may be a `RemoteArray`, where each document begins
            (N + 1,), and further tensors (N, ...) with a row for each document, on the device of the batches.
        batch_size: documents of one batch over all processes, or "full".
        seed: shuffles the documents in each epoch; None keeps their order by length.
        process: the rank of this process.
        processes: the number of processes.
        blocks: documents that are read together; those of similar length are of some blocks.
    """

    def __init__(
        self,
        tensors: tuple[Any, ...],
        batch_size: BatchSize,
        seed: int | None = None,
        process: int = 0,
        processes: int = 1,
        blocks: Blocks | None = None,
    ) -> None:
        self.tokens, offsets, *further = tensors
        documents = offsets[:-1], offsets.diff(), *further
        super().__init__(documents, batch_size, seed, process, processes, blocks)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for starts, lengths, *further in super().__iter__():
            # at least <BOS> and <EOS>, even if a process has no document of a small split
            longest = int(lengths.max()) if len(lengths) else 2
            steps = torch.arange(longest, device=starts.device)
            # no place of another document, which may be in another shard
            places = starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)  # (B, T)
            tokens = self.tokens.index_select(0, places.flatten()).view(places.shape)
            yield tokens.masked_fill(steps >= lengths[:, None], PAD), *further

    def _order(self) -> Tensor:
        """Order by length; with a seed, shuffle documents of the same length, and then the batches."""
        if self.blocks is not None:
            return self._order_by_windows(self.blocks)
        order = super()._order()
        lengths = self.tensors[1]
        if order is None:
            return lengths.argsort(stable=True)
        order = order[lengths[order].argsort(stable=True)]
        full = len(self) - 1  # the last batch may have another size, so it stays last
        generator = torch.Generator().manual_seed(derived_seed(self.seed or 0, self.epoch, 1))
        whole = order[: full * self.batch_size].view(full, self.batch_size)
        mixed = whole[torch.randperm(full, generator=generator).to(order.device)].flatten()
        return torch.cat([mixed, order[full * self.batch_size :]])

    def _order_by_windows(self, blocks: Blocks) -> Tensor:
        """Order the documents of some blocks after another by length, and shuffle these batches."""
        generator, lengths, size = self._generator(), self.tensors[1], self.batch_size
        parts, number = list[Tensor](), 0
        for window in blocks.windows(generator):
            first = min(-number % size, len(window))  # documents that complete a batch of the last window
            rest = first + (len(window) - first) // size * size
            middle = window[first:rest]
            whole = middle[lengths[middle].argsort(stable=True)].view(-1, size)
            if generator is not None:
                whole = whole[torch.randperm(len(whole), generator=generator)]
            parts += [window[:first], whole.flatten(), window[rest:]]
            number += len(window)
        return torch.cat(parts)


class CountedTokens:
    """The predicted tokens of a split in shards, which are counted some at a time.

    Args:
        tokens: those of all documents, which begin with `<BOS>`.
        documents: their number.
    """

    def __init__(self, tokens: Any, documents: int) -> None:
        self.tokens = tokens
        self.documents = documents

    def __len__(self) -> int:
        return len(self.tokens) - self.documents

    def bincount(self, minlength: int) -> Tensor:
        """How often each token occurs (V,)."""
        counts = torch.zeros(minlength, dtype=torch.int64)
        for start in range(0, len(self.tokens), COUNTED):
            counts += self.tokens[start : start + COUNTED].bincount(minlength=minlength)
        counts[BOS] -= self.documents
        return counts


class TextData(WholeData):
    """The prepared data of texts, with their preprocessing."""

    array: str | None = "tokens"

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)

    def documents(self, split: str) -> tuple[Any, Tensor]:
        """Return the tokens of a split, which may be a `RemoteArray`, and where each document begins."""
        tokens = self.remote_array(split)
        if tokens is None:
            numbers, offsets = load_split(self.prepared, split)
            return torch.from_numpy(numbers), torch.from_numpy(offsets)
        return tokens, torch.from_numpy(np.load(self.prepared / f"{split}_offsets.npy"))

    def blocks(self, split: str) -> Blocks | None:
        """Return the documents of a split that are read together."""
        blocks = super().blocks(split)
        if blocks is None:
            return None
        offsets = np.load(self.prepared / f"{split}_offsets.npy")
        ends = np.searchsorted(offsets, np.cumsum(blocks.sizes))
        return Blocks(np.diff(ends, prepend=0).tolist(), blocks.at_once)


class DocumentData(TextData):
    """Whole documents for a language model.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: documents (or windows) of a training batch over all devices, or `full`.
        window: train on all windows of this number of tokens instead of whole documents, and drop shorter
            documents. Validation and test use whole documents.
        order_seed: of the batch order; the command line gives it `seed_everything`.
        remote: where the tokens of splits that are in shards are, if not in `prepared`.

    Raises:
        ConfigurationError: a window below 1, or one of remote tokens: windows are all in memory.
    """

    evaluation_size = 64

    def __init__(
        self,
        prepared: Path,
        batch_size: BatchSize = 16,
        window: int | None = None,
        order_seed: int = 0,
        remote: Remote | None = None,
    ) -> None:
        super().__init__(prepared, batch_size, order_seed, remote)
        if window is not None and window < 1:
            raise ConfigurationError(f"data.window must be at least 1: {window}")
        if window is not None and remote is not None:
            raise ConfigurationError("data.window: windows are made in memory; leave data.remote out")
        self.window = window

    def tensors(self, split: str) -> tuple[Any, ...]:
        """Return tokens and where each document begins, or the windows (rows, window + 1) of training."""
        if self.window is None or split != "train":
            return self.documents(split)
        tokens, offsets = load_split(self.prepared, split)
        found, dropped = windows(tokens, offsets, self.window + 1)
        if not len(found):
            raise ConfigurationError(f"data.window: no document has more than {self.window} tokens")
        logger.warning(
            "window %d: %d windows; %d of %d documents are too short and dropped",
            *(self.window, len(found), dropped, len(offsets) - 1),
        )
        return (torch.from_numpy(found),)

    def blocks(self, split: str) -> Blocks | None:
        """Return the documents of a split that are read together; None of windows."""
        return super().blocks(split) if self.window is None or split != "train" else None

    def targets(self, split: str) -> Any:
        """Return all predicted tokens of a split in one row; of training tokens in shards `CountedTokens`."""
        tokens, offsets = self.documents(split)
        if split == "train" and f"{split}_{self.array}.npy" in self.sharded:
            return CountedTokens(tokens, len(offsets) - 1)
        predicted = torch.ones(len(tokens), dtype=torch.bool)
        predicted[offsets[:-1]] = False
        return tokens[:][predicted].long()

    def kind(self, split: str) -> type[Batches]:
        """Return the batches of documents of similar length, or those of windows."""
        return DocumentBatches if self.window is None or split != "train" else Batches


class ContextData(TextData):
    """Words and their contexts, for word vectors, which are all made in memory.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: words of a training batch over all devices, or `full`.
        width: the number of words before, and of words after.
        order_seed: of the batch order; the command line gives it `seed_everything`.
    """

    array = None

    def __init__(
        self, prepared: Path, batch_size: BatchSize = 64, width: int = 2, order_seed: int = 0
    ) -> None:
        super().__init__(prepared, batch_size, order_seed)
        if width < 1:
            raise ConfigurationError(f"data.width must be at least 1: {width}")
        self.width = width

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Return a word and its context in each row, as `contexts`."""
        return (torch.from_numpy(contexts(*load_split(self.prepared, split), self.width)),)

    def targets(self, split: str) -> Tensor:
        """Return the words in the middle."""
        return self.tensors(split)[0][:, self.width].long()


class LabelledData(TextData):
    """Whole documents and their classes, for a classifier.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: documents of a training batch over all devices, or `full`.
        order_seed: of the batch order; the command line gives it `seed_everything`.
        remote: where the tokens of splits that are in shards are, if not in `prepared`.

    Raises:
        ConfigurationError: the prepared texts have no classes.
    """

    evaluation_size = 256

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        preprocessing = super().load_preprocessing()
        if preprocessing.labels is None:
            raise ConfigurationError(f"{self.prepared}: the texts have no classes; set prepare.label")
        return preprocessing

    def tensors(self, split: str) -> tuple[Any, ...]:
        """Return tokens, where each document begins, and the codes of the classes (N,) int64."""
        return (*self.documents(split), self.targets(split))

    def targets(self, split: str) -> Tensor:
        """Return the codes of the classes (N,) int64."""
        return torch.from_numpy(np.load(self.prepared / f"{split}_labels.npy"))

    def vectors(self) -> Vectors | None:
        """Return the vectors (V, E) with which a training begins; None if the preparation was given none."""
        path = self.prepared / VECTORS
        return np.load(path) if path.exists() else None

    def kind(self, split: str) -> type[Batches]:
        """Return the batches of documents of similar length."""
        return DocumentBatches
