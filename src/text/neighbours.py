"""The nearest neighbours of words by the cosine of their vectors."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.model import WordVectors
from src.text.preprocessing import SPECIAL, Preprocessing, TextEncoder


def nearest(vectors: Tensor, words: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the words with the largest cosine to each word, except itself and the special tokens.

    Args:
        vectors: (V, E).
        words: token numbers (B,).
        count: N, the number of neighbours.

    Returns:
        Cosines (B, N) in descending order, and token numbers (B, N).
    """
    directions = functional.normalize(vectors, dim=1)
    cosines = directions[words] @ directions.T  # (B, V)
    cosines[:, : len(SPECIAL)] = -math.inf
    cosines.scatter_(1, words[:, None], -math.inf)
    found = cosines.topk(min(count, len(vectors) - len(SPECIAL) - 1))
    return found.values, found.indices


@torch.inference_mode()
def neighbours_of(
    model: WordVectors, preprocessing: Preprocessing, words: list[str], count: int
) -> list[list[tuple[str, float]]]:
    """Return the nearest words of each word with their cosines, nearest first.

    The words are converted and cleaned as the training data were.

    Raises:
        ConfigurationError: there are no words, `count` is below 1, or a word is not in the vocabulary.
    """
    if not words:
        raise ConfigurationError('predict needs words: add --data.words "[学习, 模型]"')
    if count < 1:
        raise ConfigurationError(f"data.neighbours must be at least 1: {count}")
    encoder = TextEncoder(preprocessing)
    cleaned = [encoder.clean(word) for word in words]
    left_out = [word for word, read in zip(words, cleaned, strict=True) if read in encoder.stopwords]
    if left_out:
        raise ConfigurationError(f"data.words: prepare.stopwords leaves out: {', '.join(left_out)}")
    unknown = [word for word, read in zip(words, cleaned, strict=True) if read not in encoder.numbers]
    if unknown:
        raise ConfigurationError(f"data.words: not in the vocabulary: {', '.join(unknown)}")
    numbers = torch.tensor(encoder.encode(cleaned), device=model.device)
    rows = zip(*(part.tolist() for part in nearest(model.vectors, numbers, count)), strict=True)
    return [
        [(encoder.vocabulary[number], cosine) for cosine, number in zip(cosines, found, strict=True)]
        for cosines, found in rows
    ]
