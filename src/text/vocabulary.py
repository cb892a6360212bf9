"""The vocabulary of texts: learnt from training documents, of a file of vectors, or of a language model.

V vocabulary, E numbers of a vector
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from src.core.errors import DataError
from src.preparation.proposals import listed
from src.text.preprocessing import SPECIAL, Preprocessing, TextEncoder
from src.text.rhymes import rhyme_of
from src.text.tones import pingshui_rhyme, tone_of
from src.text.vectors import Vectors, read_vectors


def with_vocabulary(
    preprocessing: Preprocessing,
    counts: Counter[str],
    min_count: int = 1,
    rhymes: bool | Literal["pingshui"] = False,
    tones: bool = False,
) -> Preprocessing:
    """Add the vocabulary with counts, rhymes and tones: special tokens, then others by descending count.

    Args:
        preprocessing: without a vocabulary.
        counts: of the tokens of the training documents.
        min_count: the least count of a token of the vocabulary.
        rhymes: whether to add them, and which.
        tones: whether to add them.
    """
    kept = [(token, count) for token, count in counts.items() if token not in SPECIAL]
    kept = [(token, count) for token, count in kept if count >= min_count]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    vocabulary = [*SPECIAL, *(token for token, _ in kept)]
    rhyme = pingshui_rhyme if rhymes == "pingshui" else rhyme_of
    return replace(
        preprocessing,
        vocabulary=vocabulary,
        counts=[counts[token] for token in SPECIAL] + [count for _, count in kept],
        rhymes=[rhyme(token) for token in vocabulary] if rhymes else None,
        tones=[tone_of(token) for token in vocabulary] if tones else None,
    )


def with_vectors(
    preprocessing: Preprocessing, path: Path, further_words: int
) -> tuple[Preprocessing, Vectors, dict[str, Any]]:
    """Add further words of a file of vectors to the vocabulary.

    Args:
        preprocessing: with a vocabulary.
        path: the file.
        further_words: their number.

    Returns:
        The preprocessing, the vectors (V, E), and the shares of the words and tokens of the training
        documents that have one.

    Raises:
        DataError: as `read_vectors`, or no word of the training documents has a vector.
    """
    encoder = TextEncoder(preprocessing)
    vocabulary, counts = preprocessing.vocabulary, preprocessing.counts
    added, vectors = read_vectors(
        path,
        vocabulary,
        further_words,
        lambda word: encoder.tokens(encoder.clean(word)) == [word] and word not in SPECIAL,
    )
    words = np.array(counts[len(SPECIAL) :])
    has = vectors[len(SPECIAL) : len(vocabulary)].any(axis=1)
    if not has.any():
        raise DataError(
            f"{path}: it has none of the {len(words):,} words of the training texts, such as "
            f"{listed(vocabulary[len(SPECIAL) :][:3])}; prepare.tokenizer is {preprocessing.tokenizer}"
        )
    known = {"words": has.mean().item(), "tokens": (words @ has / words.sum()).item(), "further": len(added)}
    grown = replace(preprocessing, vocabulary=vocabulary + added, counts=counts + [0] * len(added))
    return grown, vectors, known


def with_language_model(
    preprocessing: Preprocessing, tokens: Iterable[str], counts: Counter[str]
) -> Preprocessing:
    """Add the vocabulary of a language model: special tokens, then its own in the order of their numbers.

    Args:
        preprocessing: without a vocabulary.
        tokens: of the language model.
        counts: of the tokens of the training documents.
    """
    vocabulary = [*SPECIAL, *tokens]
    return replace(preprocessing, vocabulary=vocabulary, counts=[counts[token] for token in vocabulary])
