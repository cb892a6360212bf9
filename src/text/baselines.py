"""Baselines of texts: n-gram models and word vectors by counting.

V vocabulary, E embedding, N windows
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from math import log2
from typing import Any

import numpy as np
from nltk.lm import Laplace, NgramCounter, Vocabulary
from nltk.lm.api import LanguageModel as NgramModel
from nltk.lm.api import Smoothing
from nltk.lm.models import InterpolatedLanguageModel
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

from src.text.preprocessing import BOS, PAD, SPECIAL, UNK

Floats = NDArray[np.float64]


class KneserNey(Smoothing):
    """Interpolated Kneser-Ney smoothing (Chen and Goodman 1999, sections 2.7 and 4.1.6).

    The count of a token in a shorter context is the number of different tokens that it follows. The unigrams
    are interpolated with the uniform distribution, so that no token has probability 0; nltk's own class does
    not do this. The discount of each order is n1 / (n1 + 2 n2), where n1 and n2 are the numbers of n-grams
    seen once and twice (Ney et al. 1994).

    Args:
        vocabulary: of the model.
        counter: the n-grams of all orders in the training documents.
        order: the length of the longest n-grams.
    """

    def __init__(self, vocabulary: Vocabulary, counter: NgramCounter, order: int) -> None:
        super().__init__(vocabulary, counter)
        level: dict[tuple[str, ...], Counter[str]] = {
            context: Counter(counts) for context, counts in counter[order].items()
        }
        self.levels = {order: level}
        for length in range(order - 1, 0, -1):
            shorter: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
            for context, counts in level.items():
                shorter[context[1:]].update(counts.keys())
            self.levels[length] = level = dict(shorter)
        self.totals = {
            context: counts.total() for level in self.levels.values() for context, counts in level.items()
        }
        self.discounts = {length: _discount(level) for length, level in self.levels.items()}

    def alpha_gamma(self, word: str, context: tuple[str, ...]) -> tuple[float, float]:
        """Return the discounted probability of a word in a context, and the weight of the shorter one."""
        length = len(context) + 1
        counts, total = self.levels[length][context], self.totals[context]
        discount = self.discounts[length]
        return max(counts[word] - discount, 0) / total, discount * len(counts) / total

    def unigram_score(self, word: str) -> float:
        """Return the probability of a word without context, interpolated with the uniform distribution."""
        alpha, gamma = self.alpha_gamma(word, ())
        return alpha + gamma / len(self.vocab)


class Interpolated(InterpolatedLanguageModel):
    """As the class of nltk, which would keep an entry for each unknown context that it is asked for."""

    def __init__(self, order: int, vocabulary: Vocabulary, counter: NgramCounter) -> None:
        super().__init__(KneserNey, order, vocabulary=vocabulary, counter=counter, params={"order": order})

    def unmasked_score(self, word: str, context: tuple[str, ...] | None = None) -> float:
        """Return the probability of a word behind a context, which is shorter than the order."""
        if not context:
            return self.estimator.unigram_score(word)
        alpha, gamma = 0.0, 1.0
        if context in self.estimator.levels[len(context) + 1]:
            alpha, gamma = self.estimator.alpha_gamma(word, context)
        return alpha + gamma * self.unmasked_score(word, context[1:])


def _discount(level: dict[tuple[str, ...], Counter[str]]) -> float:
    seen = Counter(count for counts in level.values() for count in counts.values() if count < 3)
    return seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5


def ngram_models(train: list[list[str]], vocabulary: list[str]) -> dict[str, NgramModel]:
    """Fit unigrams with add-one smoothing, and bigrams and trigrams with Kneser-Ney smoothing.

    Args:
        train: documents, each from `<BOS>` to `<EOS>`.
        vocabulary: all tokens that may be scored.
    """
    # nltk adds <UNK> itself
    never = (SPECIAL[PAD], SPECIAL[BOS], SPECIAL[UNK])
    known = Vocabulary(token for token in vocabulary if token not in never)
    models: dict[str, NgramModel] = {
        "unigram": Laplace(1, vocabulary=known, counter=NgramCounter(_ngrams(train, 1)))
    }
    for name, order in (("bigram", 2), ("kneser_ney", 3)):
        models[name] = Interpolated(order, known, NgramCounter(_ngrams(train, order)))
    return models


def _ngrams(documents: list[list[str]], order: int) -> Iterator[list[tuple[str, ...]]]:
    """Yield, document by document, the n-grams up to an order that end at each token after `<BOS>`."""
    for tokens in documents:
        padded = [SPECIAL[BOS]] * (order - 2) + tokens
        first = len(padded) - len(tokens) + 1
        yield [
            tuple(padded[end - length : end])
            for end in range(first + 1, len(padded) + 1)
            for length in range(1, order + 1)
        ]


def bits(model: NgramModel, documents: Iterable[list[str]]) -> float:
    """Return the negative log-likelihood in bits of documents, each from `<BOS>` to `<EOS>`.

    Args:
        model: of `ngram_models`.
        documents: of tokens of its vocabulary.
    """
    order = model.order
    total = 0.0
    for tokens in documents:
        padded = (SPECIAL[BOS],) * (order - 2) + tuple(tokens)
        first = len(padded) - len(tokens) + 1
        for place in range(first, len(padded)):
            # `score` would read <BOS>, which is never predicted and so not in nltk's vocabulary, as <UNK>
            total -= log2(model.unmasked_score(padded[place], padded[place - order + 1 : place] or None))
    return total


class CountedVectors:
    """Word vectors by truncated SVD of the PPMI of co-occurrences (Levy and Goldberg 2014, section 3).

    Args:
        blocks: of windows (N, 2 width + 1), each a word in the middle of its context; read once.
        vocabulary: V.
        size: E.
    """

    def __init__(self, blocks: Iterable[NDArray[Any]], vocabulary: int, size: int) -> None:
        # sparse, since most pairs never occur
        counts = csr_matrix((vocabulary, vocabulary))
        words = np.ones(vocabulary)
        for windows in blocks:
            middle = windows.shape[1] // 2
            around = np.delete(windows, middle, axis=1)
            pairs = np.stack([np.repeat(windows[:, middle], around.shape[1]), around.ravel()])
            pairs = pairs[:, pairs[1] >= len(SPECIAL)]
            # whole numbers, so that their sum does not depend on the blocks
            counts += csr_matrix((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), counts.shape)
            words += np.bincount(windows[:, middle], minlength=vocabulary)
        self.ppmi = ppmi(counts)
        self.prior: Floats = np.log(words / words.sum())
        components = min(size, vocabulary - 1)
        decomposition = TruncatedSVD(components, algorithm="randomized", random_state=0)
        # each factor gets the square root of the singular values
        self.vectors: Floats = decomposition.fit_transform(self.ppmi) / np.sqrt(
            decomposition.singular_values_.clip(min=1e-12)
        )

    def scores(self, windows: NDArray[Any]) -> Floats:
        """Return scores (N, V) of all words in the middle: log frequency plus PPMI with the context."""
        around = np.delete(windows, windows.shape[1] // 2, axis=1)
        rows = np.repeat(np.arange(len(around)), around.shape[1])
        found = csr_matrix((np.ones(around.size), (rows, around.ravel())), (len(around), len(self.prior)))
        return self.prior + (found @ self.ppmi.T).toarray()


def ppmi(counts: csr_matrix) -> csr_matrix:
    """Return positive pointwise mutual information (V, V): log of observed over expected counts, or 0.

    Args:
        counts: co-occurrences of each pair of words (V, V).
    """
    pairs = counts.tocoo()
    first, second = (np.asarray(counts.sum(axis=axis)).ravel() for axis in (1, 0))
    by_chance = first[pairs.row] * second[pairs.col] / max(counts.sum(), 1)
    values = np.log(pairs.data / by_chance).clip(min=0)
    found = csr_matrix((values, (pairs.row, pairs.col)), counts.shape)
    found.eliminate_zeros()
    return found
