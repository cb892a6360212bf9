"""A trained model and a request -> poems, or the nearest neighbours of words."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from src.bundle.progress import prediction_progress
from src.core.atomic import file_written_whole
from src.core.errors import ConfigurationError
from src.text.model import LanguageModel, WordVectors, nearest
from src.text.preprocessing import UNK, Composition, TextEncoder, slots_of

logger = logging.getLogger(__name__)

POEMS_AT_ONCE = 256
POEMS_SHOWN = 10
SHORT_POEM = Composition()


def write_poems(
    model: LanguageModel,
    preprocessing: dict[str, Any],
    compose: Composition = SHORT_POEM,
    output: Path = Path("poems.txt"),
) -> int:
    """Write one poem a line, and show the first ones.

    Args:
        model: a trained one, in evaluation mode.
        preprocessing: the content of its preprocessing.json.
        compose: what to write.
        output: the file to write.

    Returns:
        How many poems there are.
    """
    encoder = TextEncoder(preprocessing)
    unknown = "".join(slot.shown for slot in slots_of(compose, encoder) if slot.number == UNK)
    if unknown:
        logger.warning("not in the vocabulary, so the network reads <UNK>: %s", unknown)
    shown: list[str] = []
    with file_written_whole(output) as file, prediction_progress(compose.count) as advance:
        for poem in compose_poems(model, encoder, compose):
            file.write(poem + "\n")
            if len(shown) < POEMS_SHOWN:
                shown.append(poem)
            advance(1)
    print("\n".join(shown))
    return compose.count


def compose_poems(model: LanguageModel, encoder: TextEncoder, composition: Composition) -> Iterator[str]:
    """The poems of a request as texts, what was given as it was given, also where training has not seen it.

    Raises:
        ConfigurationError: as `LanguageModel.compose`.
    """
    slots = slots_of(composition, encoder)
    numbers = range(composition.count)
    for first in numbers[::POEMS_AT_ONCE]:
        for row in model.compose(slots, composition, numbers[first : first + POEMS_AT_ONCE]).tolist():
            pairs = zip(row, slots, strict=True)
            yield "".join(slot.shown or encoder.decode([number]) for number, slot in pairs)


def write_neighbours(
    model: WordVectors,
    preprocessing: dict[str, Any],
    words: list[str],
    neighbours: int = 10,
    output: Path = Path("neighbours.csv"),
) -> int:
    """Write word, neighbour and cosine, nearest first, and show the neighbours.

    Args:
        model: a trained one, in evaluation mode.
        preprocessing: the content of its preprocessing.json.
        words: whose neighbours are wanted, such as "[学习, 模型]".
        neighbours: how many of each.
        output: the CSV file to write.

    Returns:
        How many words there are.
    """
    found = neighbours_of(model, TextEncoder(preprocessing), words, neighbours)
    with file_written_whole(output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["word", "neighbour", "cosine"])
        for word, near in zip(words, found, strict=True):
            writer.writerows([word, neighbour, f"{cosine:.4f}"] for neighbour, cosine in near)
    for word, near in zip(words, found, strict=True):
        print(f"{word}: {' '.join(neighbour for neighbour, _ in near)}")
    return len(words)


@torch.inference_mode()
def neighbours_of(
    model: WordVectors, encoder: TextEncoder, words: list[str], count: int
) -> list[list[tuple[str, float]]]:
    """The nearest words of each word with their cosines, nearest first.

    Raises:
        ConfigurationError: no word, no neighbour, or a word that training has not seen.
    """
    if not words:
        raise ConfigurationError('predict needs words: add --data.words "[学习, 模型]"')
    if count < 1:
        raise ConfigurationError(f"data.neighbours must be at least 1: {count}")
    unknown = [word for word in words if word not in encoder.numbers]
    if unknown:
        raise ConfigurationError(f"data.words: not in the vocabulary: {', '.join(unknown)}")
    numbers = torch.tensor(encoder.encode(words), device=model.device)
    rows = zip(*(part.tolist() for part in nearest(model.vectors, numbers, count)), strict=True)
    return [
        [(encoder.vocabulary[number], cosine) for cosine, number in zip(cosines, found, strict=True)]
        for cosines, found in rows
    ]


WRITERS = {LanguageModel: write_poems, WordVectors: write_neighbours}
