"""Write the predictions of a trained model: poems, the nearest neighbours of words, or classes of texts."""

import csv
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import ArgumentError, ArgumentParser

from src.bundle.progress import prediction_progress
from src.core.arguments import explained
from src.core.atomic import file_written_whole
from src.core.errors import ConfigurationError
from src.text.classifier import TextClassifier
from src.text.classify import predict_text_classes, write_text_classes
from src.text.compose import Composition, as_prepared, compose_poems
from src.text.model import LanguageModel, WordVectors
from src.text.neighbours import neighbours_of
from src.text.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

POEMS_SHOWN = 10
SHORT_POEM = Composition()


def write_poems(
    model: LanguageModel,
    preprocessing: Preprocessing,
    compose: Composition = SHORT_POEM,
    output: Path = Path("poems.txt"),
) -> int:
    """Write one poem a line, and print the first ones.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of the model.
        compose: what to write.
        output: the file to write.

    Returns:
        The number of poems.
    """
    given, compose = compose, as_prepared(compose, preprocessing)
    read = compose.acrostic or compose.start or ""
    if read != (given.acrostic or given.start or ""):
        logger.warning("converted and cleaned as the training data were: %s", read)
    unknown = "".join(character for character in read + "，。" if character not in preprocessing.vocabulary)
    if unknown:
        logger.warning("not in the vocabulary, so the network reads <UNK>: %s", unknown)
    shown: list[str] = []
    with file_written_whole(output) as file, prediction_progress(compose.count) as advance:
        for poem in compose_poems(model, preprocessing, compose):
            file.write(poem + "\n")
            if len(shown) < POEMS_SHOWN:
                shown.append(poem)
            advance(1)
    print("\n".join(shown))
    return compose.count


def write_neighbours(
    model: WordVectors,
    preprocessing: Preprocessing,
    words: list[str],
    neighbours: int = 10,
    output: Path = Path("neighbours.csv"),
) -> int:
    """Write word, neighbour and cosine, nearest first, and print the neighbours.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of the model.
        words: to find the neighbours of, such as "[学习, 模型]".
        neighbours: the number of neighbours of each word.
        output: the CSV file to write.

    Returns:
        The number of words.
    """
    found = neighbours_of(model, preprocessing, words, neighbours)
    with file_written_whole(output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["word", "neighbour", "cosine"])
        for word, near in zip(words, found, strict=True):
            writer.writerows([word, neighbour, f"{cosine:.4f}"] for neighbour, cosine in near)
    for word, near in zip(words, found, strict=True):
        print(f"{word}: {' '.join(neighbour for neighbour, _ in near)}")
    return len(words)


WRITERS = {
    LanguageModel: write_poems,
    WordVectors: write_neighbours,
    TextClassifier: write_text_classes,
}


def predict_poems(
    model: LanguageModel, preprocessing: Preprocessing, starts: Sequence[str], **options: Any
) -> pd.DataFrame:
    """Write poems for starts in memory.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of the model.
        starts: the first character of a poem, or several for an acrostic.
        options: other keys of `Composition`, such as `rhyme=True`.

    Returns:
        Columns `start` and `poem`; `count` poems a start.

    Raises:
        ConfigurationError: there is no such option, or a start or the value of an option cannot be used.
    """
    rows = []
    for text in starts:
        head = "acrostic" if len(text.strip()) > 1 else "start"
        request = as_prepared(_composition({**options, head: text}), preprocessing)
        rows += [(text, poem) for poem in compose_poems(model, preprocessing, request)]
    return pd.DataFrame(rows, columns=["start", "poem"])


def _composition(keys: dict[str, Any]) -> Composition:
    """A request whose keys and types are those of the class."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Composition, "compose")
    try:
        return parser.instantiate(parser.parse_object({"compose": keys})).compose
    except ArgumentError as error:
        raise ConfigurationError(explained(error)) from None


def predict_neighbours(
    model: WordVectors, preprocessing: Preprocessing, words: Sequence[str], neighbours: int = 10
) -> pd.DataFrame:
    """Find the nearest neighbours of words in memory, as `write_neighbours` does.

    Returns:
        Columns `word`, `neighbour` and `cosine`, nearest first.

    Raises:
        ConfigurationError: a word is not in the vocabulary, or `neighbours` is no whole number above 0.
    """
    if type(neighbours) is not int or neighbours < 1:
        raise ConfigurationError(f"neighbours: found {neighbours!r}, expected a whole number above 0")
    found = neighbours_of(model, preprocessing, list(words), neighbours)
    rows = [(word, *pair) for word, near in zip(words, found, strict=True) for pair in near]
    return pd.DataFrame(rows, columns=["word", "neighbour", "cosine"])


PREDICTORS: dict[type, Callable[..., pd.DataFrame]] = {
    LanguageModel: predict_poems,
    WordVectors: predict_neighbours,
    TextClassifier: predict_text_classes,
}
