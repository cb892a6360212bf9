"""What the text room's networks are compared with: n-gram models and counted word vectors.

V vocabulary, E embedding, N windows
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from nltk.lm import Laplace, NgramCounter, Vocabulary
from nltk.lm.api import LanguageModel as NgramModel
from nltk.lm.api import Smoothing
from nltk.lm.models import InterpolatedLanguageModel
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from src.text.preprocessing import BOS, PAD, SPECIAL, UNK

Floats = NDArray[np.float64]
Documents = list[list[str]]


class KneserNey(Smoothing):
    """Interpolated Kneser-Ney smoothing (Chen and Goodman 1999, sections 2.7 and 4.1.6).

    A shorter context counts after how many different tokens a token stands; the shortest is mixed with the
    uniform distribution, so that nothing is impossible (nltk's own class stops before that). The discount of
    each order is n1 / (n1 + 2 n2), n1 and n2 the n-grams seen once and twice (Ney et al. 1994).

    Args:
        vocabulary: of the model.
        counter: the n-grams of the training text, of all orders.
        order: the longest n-gram.
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
        """The discounted share of a word after a context, and the weight of the shorter context."""
        length = len(context) + 1
        counts, total = self.levels[length][context], self.totals[context]
        discount = self.discounts[length]
        return max(counts[word] - discount, 0) / total, discount * len(counts) / total

    def unigram_score(self, word: str) -> float:
        """The same of the empty context, and the uniform distribution."""
        alpha, gamma = self.alpha_gamma(word, ())
        return alpha + gamma / len(self.vocab)


def _discount(level: dict[tuple[str, ...], Counter[str]]) -> float:
    seen = Counter(count for counts in level.values() for count in counts.values() if count < 3)
    return seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5


def ngram_models(train: Documents, vocabulary: list[str]) -> dict[str, NgramModel]:
    """Unigrams with one added to each count, and Kneser-Ney of pairs and of triples.

    Args:
        train: documents, each from `<BOS>` to `<EOS>`.
        vocabulary: all tokens that may be asked for.
    """
    # nltk adds <UNK> itself
    never = (SPECIAL[PAD], SPECIAL[BOS], SPECIAL[UNK])
    known = Vocabulary(token for token in vocabulary if token not in never)
    models: dict[str, NgramModel] = {
        "unigram": Laplace(1, vocabulary=known, counter=NgramCounter(_ngrams(train, 1)))
    }
    for name, order in (("bigram", 2), ("kneser_ney", 3)):
        counter = NgramCounter(_ngrams(train, order))
        models[name] = InterpolatedLanguageModel(
            KneserNey, order, vocabulary=known, counter=counter, params={"order": order}
        )
    return models


def _ngrams(documents: Documents, order: int) -> Iterator[list[tuple[str, ...]]]:
    """The n-grams up to an order that end at each token after `<BOS>`, document by document."""
    for tokens in documents:
        padded = [SPECIAL[BOS]] * (order - 2) + tokens
        first = len(padded) - len(tokens) + 1
        yield [
            tuple(padded[end - length : end])
            for end in range(first + 1, len(padded) + 1)
            for length in range(1, order + 1)
        ]


def bits(model: NgramModel, documents: Iterable[list[str]]) -> float:
    """Minus the logarithm to base 2 of the probability of documents, each from `<BOS>` to `<EOS>`."""
    order = model.order
    total = 0.0
    for tokens in documents:
        padded = (SPECIAL[BOS],) * (order - 2) + tuple(tokens)
        first = len(padded) - len(tokens) + 1
        for place in range(first, len(padded)):
            total -= model.logscore(padded[place], padded[place - order + 1 : place] or None)
    return total


class CountedVectors:
    """Word vectors by counting: co-occurrences, PPMI, truncated SVD (Levy and Goldberg 2014, section 3).

    Args:
        windows: (N, 2 width + 1), a word in the middle of those around it.
        vocabulary: V.
        size: E.
    """

    def __init__(self, windows: NDArray[Any], vocabulary: int, size: int) -> None:
        middle = windows.shape[1] // 2
        around = np.delete(windows, middle, axis=1)
        pairs = np.stack([np.repeat(windows[:, middle], around.shape[1]), around.ravel()])
        pairs = pairs[:, pairs[1] >= len(SPECIAL)]
        counts = np.zeros((vocabulary, vocabulary))
        np.add.at(counts, (pairs[0], pairs[1]), 1)
        self.ppmi = ppmi(counts)
        words = np.bincount(windows[:, middle], minlength=vocabulary) + 1.0
        self.prior: Floats = np.log(words / words.sum())
        components = min(size, vocabulary - 1)
        decomposition = TruncatedSVD(components, algorithm="randomized", random_state=0)
        # each side gets half of the singular values
        self.vectors: Floats = decomposition.fit_transform(self.ppmi) / np.sqrt(
            decomposition.singular_values_.clip(min=1e-12)
        )

    def scores(self, windows: NDArray[Any]) -> Floats:
        """How well each word (N, V) fits into the middle: its share, and its PPMI with each word around."""
        around = np.delete(windows, windows.shape[1] // 2, axis=1)
        return self.prior + self.ppmi[:, around].sum(axis=2).T


def ppmi(counts: Floats) -> Floats:
    """Positive pointwise mutual information (V, V): log of how much more often than by chance, or 0.

    Args:
        counts: how often each word stands near each other word (V, V).
    """
    total = counts.sum()
    by_chance = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / max(total, 1)
    ratio = np.divide(counts, by_chance, out=np.ones_like(counts), where=counts > 0)
    return np.log(ratio).clip(min=0)
