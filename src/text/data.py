"""The LightningDataModules of texts: batches from the prepared arrays.

N documents, B batch, T tokens
"""

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from src.core.errors import ConfigurationError
from src.text.preprocessing import PAD, UNK, Preprocessing
from src.text.vectors import VECTORS, Vectors
from src.training.loading import Batches, BatchSize, WholeData
from src.training.seeding import derived_seed

logger = logging.getLogger(__name__)

WHOLE_BYTES = 1 << 28  # of the tokens of a split, up to which they are read as a whole

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


class DocumentBatches(Batches):
    """Batches of documents of similar length, padded to the longest of the batch.

    Args:
        tensors: the tokens of all documents, where each document begins (N + 1,), and further tensors
            (N, ...) with a row for each document, on the device of the batches.
        batch_size: documents of one batch over all processes, or "full".
        seed: shuffles the documents in each epoch; None keeps their order by length.
        process: the rank of this process.
        processes: the number of processes.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: BatchSize,
        seed: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.tokens, offsets, *further = tensors
        super().__init__((offsets[:-1], offsets.diff(), *further), batch_size, seed, process, processes)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for starts, lengths, *further in super().__iter__():
            # at least <BOS> and <EOS>, even if a process has no document of a small split
            longest = int(lengths.max()) if len(lengths) else 2
            steps = torch.arange(longest, device=self.tokens.device)
            places = (starts[:, None] + steps).clamp(max=len(self.tokens) - 1)
            tokens = self.tokens[places].masked_fill(steps >= lengths[:, None], PAD)  # (B, T)
            yield tokens, *further

    def _order(self) -> Tensor:
        """Order by length; with a seed, shuffle documents of the same length, and then the batches."""
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


class TextData(WholeData):
    """The prepared data of texts, with their preprocessing."""

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)


class DocumentData(TextData):
    """Whole documents for a language model.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: documents (or windows) of a training batch over all devices, or `full`.
        window: train on all windows of this number of tokens instead of whole documents, and drop shorter
            documents. Validation and test use whole documents.
        order_seed: of the batch order; the command line gives it `seed_everything`.
    """

    evaluation_size = 64

    def __init__(
        self, prepared: Path, batch_size: BatchSize = 16, window: int | None = None, order_seed: int = 0
    ) -> None:
        super().__init__(prepared, batch_size, order_seed)
        if window is not None and window < 1:
            raise ConfigurationError(f"data.window must be at least 1: {window}")
        self.window = window

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Return tokens and where each document begins, or the windows (rows, window + 1) of training."""
        tokens, offsets = load_split(self.prepared, split)
        if self.window is None or split != "train":
            return torch.from_numpy(tokens), torch.from_numpy(offsets)
        found, dropped = windows(tokens, offsets, self.window + 1)
        if not len(found):
            raise ConfigurationError(f"data.window: no document has more than {self.window} tokens")
        logger.warning(
            "window %d: %d windows; %d of %d documents are too short and dropped",
            *(self.window, len(found), dropped, len(offsets) - 1),
        )
        return (torch.from_numpy(found),)

    def targets(self, split: str) -> Tensor:
        """Return all tokens of a split that are predicted, in one row."""
        tokens, offsets = load_split(self.prepared, split)
        predicted = np.ones(len(tokens), dtype=bool)
        predicted[offsets[:-1]] = False
        return torch.from_numpy(tokens[predicted]).long()

    def kind(self, split: str) -> type[Batches]:
        """Return the batches of documents of similar length, or those of windows."""
        return DocumentBatches if self.window is None or split != "train" else Batches


class ContextData(TextData):
    """Words and their contexts, for word vectors.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: words of a training batch over all devices, or `full`.
        width: the number of words before, and of words after.
        order_seed: of the batch order; the command line gives it `seed_everything`.
    """

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

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Return tokens, where each document begins, and the codes of the classes (N,) int64."""
        return (*map(torch.from_numpy, load_split(self.prepared, split)), self.targets(split))

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
