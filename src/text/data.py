"""Arrays -> batches: the LightningDataModules of the text room, and what predictions start from.

N documents, B batch, T tokens, W context words
"""

import csv
import io
import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from src.shared.batches import Batches
from src.shared.errors import ConfigurationError
from src.shared.exactness import derived_seed
from src.shared.folders import MODELS, PREPARED, read_preprocessing
from src.text.preprocessing import PAD, UNK, Composition, Slot, TextEncoder, slots_of

logger = logging.getLogger(__name__)

EVALUATION_DOCUMENTS = 64
EVALUATION_WINDOWS = 1024
POEMS_AT_ONCE = 256
POEMS_SHOWN = 10
SHORT_POEM = Composition()

Numbers = NDArray[np.int32]
Offsets = NDArray[np.int64]


def load_split(prepared: Path, split: str) -> tuple[Numbers, Offsets]:
    """The arrays of a split: tokens of all documents one after the other, and where each begins (N + 1,)."""
    tokens: Numbers = np.load(prepared / f"{split}_tokens.npy")
    offsets: Offsets = np.load(prepared / f"{split}_offsets.npy")
    return tokens, offsets


def windows(tokens: Numbers, offsets: Offsets, length: int) -> tuple[Numbers, int]:
    """All stretches of a length that lie inside a document, `<BOS>` and `<EOS>` left out.

    Returns:
        (windows, length), and how many documents are too short for one.
    """
    starts = [np.arange(begin + 1, end - length) for begin, end in pairwise(offsets.tolist())]
    found = np.concatenate(starts)
    if not len(found):
        return np.empty((0, length), np.int32), len(starts)
    return sliding_window_view(tokens, length)[found], sum(not len(part) for part in starts)


def contexts(tokens: Numbers, offsets: Offsets, width: int) -> Numbers:
    """Every known word in the middle of the `width` words before and after it: (words, 2 width + 1).

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
    """Whole documents, padded to the longest of their batch; documents of like length share a batch.

    Args:
        tokens: of all documents, on the device where the batches are wanted.
        offsets: (N + 1,), where each begins.
        batch_size: documents of one batch over all processes, or "full".
        seed: shuffles the documents anew each epoch; None keeps one order.
        process: the rank of this process.
        processes: how many there are.
    """

    def __init__(
        self,
        tokens: Tensor,
        offsets: Tensor,
        batch_size: int | Literal["full"],
        seed: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        super().__init__((offsets[:-1], offsets.diff()), batch_size, seed, process, processes)
        self.tokens = tokens

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for starts, lengths in super().__iter__():
            # <BOS> and <EOS> at least, also where a process has no document of a small split
            longest = int(lengths.max()) if len(lengths) else 2
            steps = torch.arange(longest, device=self.tokens.device)
            places = (starts[:, None] + steps).clamp(max=len(self.tokens) - 1)
            yield (self.tokens[places].masked_fill(steps >= lengths[:, None], PAD),)  # (B, T)

    def _order(self) -> Tensor:
        """By length; with a seed, like lengths are shuffled, and then the whole batches."""
        order = super()._order()
        lengths = self.tensors[1]
        if order is None:
            return lengths.argsort(stable=True)
        order = order[lengths[order].argsort(stable=True)]
        full = len(self) - 1  # the last batch has another size and stays where it is
        generator = torch.Generator().manual_seed(derived_seed(self.seed or 0, self.epoch, 1))
        whole = order[: full * self.batch_size].view(full, self.batch_size)
        mixed = whole[torch.randperm(full, generator=generator).to(order.device)].flatten()
        return torch.cat([mixed, order[full * self.batch_size :]])


class TextData(LightningDataModule):
    """What both kinds of batches have in common: the prepared documents of a task, whole in memory.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: rows of a training batch over all devices, or `full`.
        seed: of the batch order.
        predicting: whether the vocabulary is the bundle's.
    """

    def __init__(
        self, task: str, batch_size: int | Literal["full"], seed: int, predicting: bool = False
    ) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.prepared = PREPARED / task
        learnt = (MODELS / task, "train") if predicting else (self.prepared, "prepare")
        self.preprocessing = read_preprocessing(*learnt)
        self.encoder = TextEncoder(self.preprocessing)

    def targets(self, split: str) -> Tensor:
        """All tokens of a split that are to be predicted, as one row."""
        tokens, offsets = load_split(self.prepared, split)
        predicted = np.ones(len(tokens), dtype=bool)
        predicted[offsets[:-1]] = False
        return torch.from_numpy(tokens[predicted]).long()

    def _place(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {"process": self.trainer.global_rank, "processes": self.trainer.world_size}

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        assert self.trainer is not None
        return torch.from_numpy(array).to(self.trainer.strategy.root_device)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing: whole splits are on the device, and predictions start from no tensor."""
        return batch


class DocumentData(TextData):
    """Whole documents for a language model, and the poems that `predict` asks for.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: documents (or windows) of a training batch over all devices, or `full`.
        window: train on all stretches of so many tokens instead of whole documents, as the course does;
            shorter documents are dropped. Validation and test are of whole documents all the same.
        seed: of the batch order.
        compose: for `predict`, what to write.
        output: for `predict`, the file to write, one poem a line.
    """

    def __init__(
        self,
        task: str,
        batch_size: int | Literal["full"] = 16,
        window: int | None = None,
        seed: int = 0,
        compose: Composition = SHORT_POEM,
        output: Path = Path("poems.txt"),
    ) -> None:
        super().__init__(task, batch_size, seed)
        if window is not None and window < 1:
            raise ConfigurationError(f"data.window must be at least 1: {window}")
        self.window = window
        self.compose = compose
        self.output = output
        self.slots: list[Slot] = []

    def train_dataloader(self) -> Batches:
        """Shuffled batches of (tokens,)."""
        tokens, offsets = load_split(self.prepared, "train")
        if self.window is None:
            return self._documents("train", self.batch_size, self.seed)
        found, dropped = windows(tokens, offsets, self.window + 1)
        if not len(found):
            raise ConfigurationError(f"data.window: no document has more than {self.window} tokens")
        logger.warning(
            "window %d: %d stretches; %d of %d documents are too short and dropped",
            *(self.window, len(found), dropped, len(offsets) - 1),
        )
        return Batches((self._on_device(found),), self.batch_size, self.seed, **self._place())

    def val_dataloader(self) -> Batches:
        """Batches in the order of the lengths."""
        return self._documents("validation", EVALUATION_DOCUMENTS)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the lengths."""
        return self._documents("test", EVALUATION_DOCUMENTS)

    def _documents(self, split: str, batch_size: int | Literal["full"], seed: int | None = None) -> Batches:
        tokens, offsets = load_split(self.prepared, split)
        arrays = self._on_device(tokens), self._on_device(offsets)
        return DocumentBatches(*arrays, batch_size, seed, **self._place())

    def predict_dataloader(self) -> Iterator[tuple[list[Slot], Composition, range]]:
        """Batches of the places of a poem, the request, and the numbers of the poems."""
        self.slots = slots_of(self.compose, self.encoder)
        unknown = "".join(slot.shown for slot in self.slots if slot.number == UNK)
        if unknown:
            logger.warning("not in the vocabulary, so the network reads <UNK>: %s", unknown)
        numbers = range(self.compose.count)
        batches = [numbers[first : first + POEMS_AT_ONCE] for first in numbers[::POEMS_AT_ONCE]]
        return iter([(self.slots, self.compose, batch) for batch in batches])

    def write_predictions(self, predictions: list[Tensor]) -> Path:
        """Write one poem a line to `output`, and show the first ones.

        Args:
            predictions: token numbers (B, T).
        """
        poems = [poem_text(row, self.slots, self.encoder) for row in torch.cat(predictions).tolist()]
        _write(self.output, "\n".join(poems) + "\n")
        for poem in poems[:POEMS_SHOWN]:
            print(poem)
        return self.output


def poem_text(numbers: list[int], slots: list[Slot], encoder: TextEncoder) -> str:
    """A poem as text; what was given is shown as given, also where it is not in the vocabulary."""
    pairs = zip(numbers, slots, strict=True)
    return "".join(slot.shown or encoder.decode([number]) for number, slot in pairs)


class ContextData(TextData):
    """Words and the words around them, for word vectors; the neighbours of words that `predict` asks for.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: words of a training batch over all devices, or `full`.
        width: words before, and words after.
        seed: of the batch order.
        words: for `predict`, whose neighbours are wanted.
        neighbours: for `predict`, how many of each.
        output: for `predict`, the CSV file to write.
    """

    def __init__(
        self,
        task: str,
        batch_size: int | Literal["full"] = 64,
        width: int = 2,
        seed: int = 0,
        words: list[str] | None = None,
        neighbours: int = 10,
        output: Path = Path("neighbours.csv"),
    ) -> None:
        super().__init__(task, batch_size, seed, predicting=words is not None)
        for name, value in (("width", width), ("neighbours", neighbours)):
            if value < 1:
                raise ConfigurationError(f"data.{name} must be at least 1: {value}")
        self.width = width
        self.words = words or []
        self.neighbours = neighbours
        self.output = output

    def targets(self, split: str) -> Tensor:
        """The words in the middle."""
        return torch.from_numpy(contexts(*load_split(self.prepared, split), self.width)[:, self.width]).long()

    def _batches(self, split: str, batch_size: int | Literal["full"], seed: int | None = None) -> Batches:
        found = contexts(*load_split(self.prepared, split), self.width)
        return Batches((self._on_device(found),), batch_size, seed, **self._place())

    def train_dataloader(self) -> Batches:
        """Shuffled batches of (tokens,), each row a word and the words around it."""
        return self._batches("train", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the text."""
        return self._batches("validation", EVALUATION_WINDOWS)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the text."""
        return self._batches("test", EVALUATION_WINDOWS)

    def predict_dataloader(self) -> Iterator[tuple[Tensor, int]]:
        """One batch: the words, and how many neighbours are wanted.

        Raises:
            ConfigurationError: no words were given, or one that training has not seen.
        """
        if not self.words:
            raise ConfigurationError('predict needs words: add --data.words "[学习, 模型]"')
        unknown = [word for word in self.words if word not in self.encoder.numbers]
        if unknown:
            raise ConfigurationError(f"data.words: not in the vocabulary: {', '.join(unknown)}")
        return iter([(torch.tensor(self.encoder.encode(self.words)), self.neighbours)])

    def write_predictions(self, predictions: list[list[tuple[Tensor, Tensor]]]) -> Path:
        """Write word, neighbour and cosine to `output`, nearest first, and show the neighbours."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["word", "neighbour", "cosine"])
        for word, (cosines, numbers) in zip(self.words, predictions[0], strict=True):
            near = [self.encoder.vocabulary[number] for number in numbers.tolist()]
            for neighbour, cosine in zip(near, cosines.tolist(), strict=True):
                writer.writerow([word, neighbour, f"{cosine:.4f}"])
            print(f"{word}: {' '.join(near)}")
        _write(self.output, text.getvalue())
        return self.output


def _write(path: Path, text: str) -> None:
    """By a name of its own and a rename: an older file is replaced whole or kept."""
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
