"""Predictions of a classifier of texts.

N texts, K classes
"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from src.bundle.progress import prediction_progress
from src.bundle.spreadsheets import as_text
from src.core.atomic import file_written_whole
from src.text.classifier import TextClassifier
from src.text.labelled import Reading, read_plain
from src.text.preprocessing import PAD, SPECIAL, Labels, Preprocessing, TextEncoder

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 1024
TEXTS_OF_A_BATCH = 128


def write_text_classes(
    model: TextClassifier,
    preprocessing: Preprocessing,
    input: Path,
    output: Path = Path("predictions.csv"),
    encoding: str | None = None,
    escape_formulas: bool = False,
    all_probabilities: bool = False,
) -> int:
    """Write the class of each text and its probability to a CSV file.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training data.
        input: a .txt file with a text a line; a .csv, .tsv, .json or .jsonl file with the column of the
            training data; or a folder of .txt files with a text each.
        output: the CSV file to write: the number of the row or line, from 1, or the name of the file.
        encoding: of files that are not UTF-8, such as gb18030.
        escape_formulas: put an apostrophe before names and classes that a spreadsheet would compute.
        all_probabilities: add a column `probability_<class>` for each class.

    Returns:
        The number of texts.

    Raises:
        ConfigurationError: the table has no such column.
        DataError: a file cannot be read, or there is no text.
    """
    labels = _labels(preprocessing)
    rows = read_plain(input, labels.text, Reading(encoding, labels.header, labels.quotes))
    without = 0
    with file_written_whole(output) as file, prediction_progress(len(rows)) as advance:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_columns(labels, "file" if input.is_dir() else "row", all_probabilities))
        for start in range(0, len(rows), TEXTS_AT_ONCE):
            part = rows[start : start + TEXTS_AT_ONCE]
            found, unknown = probabilities(model, preprocessing, [text for _, text in part])
            without += unknown
            for (name, _), (label, *shares) in zip(
                part, _answers(found, labels, all_probabilities), strict=True
            ):
                texts = [name, label]
                texts = [as_text(text) for text in texts] if escape_formulas else texts
                writer.writerow([*texts, *(f"{share:.6f}" for share in shares)])
            advance(len(part))
    if without:
        logger.warning("%d of %d texts have no word that the training texts have", without, len(rows))
    return len(rows)


def predict_text_classes(
    model: TextClassifier,
    preprocessing: Preprocessing,
    texts: Sequence[str],
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Find the classes of texts in memory, as `write_text_classes` does.

    Args:
        model: trained, in evaluation mode.
        preprocessing: of its training data.
        texts: to classify.
        all_probabilities: add those of all classes.

    Returns:
        The number of each text, from 1, its class and the probability of the class.
    """
    labels = _labels(preprocessing)
    rows: list[list[Any]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        found, _ = probabilities(model, preprocessing, texts[start : start + TEXTS_AT_ONCE])
        for answer in _answers(found, labels, all_probabilities):
            rows.append([len(rows) + 1, *answer])
    return pd.DataFrame(rows, columns=_columns(labels, "row", all_probabilities))


@torch.inference_mode()
def probabilities(
    model: TextClassifier, preprocessing: Preprocessing, texts: Sequence[str]
) -> tuple[Tensor, int]:
    """Texts to class probabilities (N, K), and the number of texts without a known token."""
    encoder, longest = TextEncoder(preprocessing), _labels(preprocessing).longest
    documents = [encoder.document(encoder.tokens(encoder.clean(text)), longest) for text in texts]
    order = sorted(range(len(documents)), key=lambda number: len(documents[number]))
    found = torch.zeros(len(documents), len(model.classes))
    for start in range(0, len(order), TEXTS_OF_A_BATCH):
        numbers = order[start : start + TEXTS_OF_A_BATCH]
        tokens = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(documents[number]) for number in numbers], batch_first=True, padding_value=PAD
        )
        found[numbers] = model.predict(model(tokens.to(model.device))).cpu()
    unknown = sum(max(document) < len(SPECIAL) for document in documents)
    return found, unknown


def _labels(preprocessing: Preprocessing) -> Labels:
    assert preprocessing.labels is not None
    return preprocessing.labels


def _answers(found: Tensor, labels: Labels, all_probabilities: bool) -> list[list[Any]]:
    """Of each row of probabilities (N, K): the likeliest class, its probability and perhaps those of all."""
    largest, codes = found.max(dim=1)
    return [
        [labels.classes[code], share, *(every if all_probabilities else ())]
        for code, share, every in zip(codes.tolist(), largest.tolist(), found.tolist(), strict=True)
    ]


def _columns(labels: Labels, first: str, all_probabilities: bool) -> list[str]:
    """The columns of predictions; a name that the class has gets a `_` at its end."""
    names = [first, "probability"]
    if all_probabilities:
        names += [f"probability_{name}" for name in labels.classes]
    first, *others = (name + "_" * (name == labels.name) for name in names)
    return [first, labels.name, *others]
