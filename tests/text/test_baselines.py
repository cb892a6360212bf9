"""N-gram models and counted word vectors."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from nltk.lm import NgramCounter, Vocabulary
from nltk.lm.models import InterpolatedLanguageModel
from scipy.sparse import csr_matrix

from src.text.baselines import CountedVectors, KneserNey, _ngrams, bits, ngram_models, ppmi
from src.text.preprocessing import PAD, SPECIAL

TOKENS = ["甲", "乙", "丙"]
TRAIN = [["<BOS>", *document, "<EOS>"] for document in ("甲乙甲乙", "甲乙丙", "乙丙")]
MODELS = ngram_models(TRAIN, [*SPECIAL, *TOKENS])
# what may come next: all but <PAD> and <BOS>
NEXT = [*SPECIAL[3:], "<UNK>", *TOKENS]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("context", [("<BOS>",), ("甲",), ("丙", "甲"), ("<BOS>", "乙"), ("<UNK>", "<UNK>")])
def test_the_probabilities_of_all_tokens_sum_to_one(name: str, context: tuple[str, ...]) -> None:
    model = MODELS[name]
    context = context[len(context) - model.order + 1 :] if model.order > 1 else ()
    assert set(model.vocab) == set(NEXT)
    shares = [model.score(token, context or None) for token in NEXT]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)


def test_unigrams_have_one_added() -> None:
    # 甲 3, 乙 4, 丙 2, <EOS> 3
    assert MODELS["unigram"].score("乙") == pytest.approx((4 + 1) / (12 + len(NEXT)))
    assert MODELS["unigram"].score("<UNK>") == pytest.approx(1 / (12 + len(NEXT)))


def test_kneser_ney_of_pairs_by_hand() -> None:
    # pairs: 甲乙 3, <BOS>甲 2, 乙丙 2, 丙<EOS> 2, and once 乙甲, 乙<EOS>, <BOS>乙
    discount = 3 / (3 + 2 * 3)
    # after how many different tokens: 甲 2 (<BOS>, 乙), 乙 2 (甲, <BOS>), 丙 1, <EOS> 2 (乙, 丙); 7 in all
    lower_discount = 1 / (1 + 2 * 3)
    lower = (1 - lower_discount) / 7 + lower_discount * 4 / 7 / len(NEXT)
    expected = (2 - discount) / 4 + discount * 3 / 4 * lower
    assert MODELS["bigram"].score("丙", ("乙",)) == pytest.approx(expected)


def test_an_unseen_context_falls_back_to_the_shorter_one() -> None:
    model = MODELS["kneser_ney"]
    assert model.score("丙", ("丙", "乙")) == pytest.approx(model.score("丙", ("乙",)))


@pytest.mark.parametrize(("name", "order"), [("bigram", 2), ("kneser_ney", 3)])
def test_what_is_asked_for_is_not_kept(name: str, order: int) -> None:
    model = ngram_models(TRAIN, [*SPECIAL, *TOKENS])[name]
    counter = NgramCounter(_ngrams(TRAIN, order))
    nltk = InterpolatedLanguageModel(
        KneserNey, order, vocabulary=model.vocab, counter=counter, params={"order": order}
    )
    before = [len(model.counts[length]) for length in range(1, order + 1)]
    for context in product(["<BOS>", "<UNK>", *TOKENS], repeat=order - 1):
        for token in NEXT:
            assert model.score(token, context) == nltk.score(token, context)
    assert [len(model.counts[length]) for length in range(1, order + 1)] == before
    assert len(counter[order]) > before[-1]


def test_the_uniform_model_needs_the_same_bits_for_every_token() -> None:
    class Uniform:
        order = 1
        vocab = Vocabulary(NEXT)

        def unmasked_score(self, word: str, context: Any) -> float:
            assert context is None
            return 1 / 8

    model: Any = Uniform()
    assert bits(model, TRAIN) == 3 * 12


def test_contexts_reach_back_to_the_begin_and_no_further() -> None:
    seen = []

    class Watching:
        order = 3

        def unmasked_score(self, word: str, context: tuple[str, ...]) -> float:
            seen.append((*context, word))
            return 1.0

    model: Any = Watching()
    bits(model, [["<BOS>", "甲", "<EOS>"]])
    assert seen == [("<BOS>", "<BOS>", "甲"), ("<BOS>", "甲", "<EOS>")]


def test_the_first_token_of_a_document_is_known_by_those_of_training() -> None:
    # <BOS>甲 2 and <BOS>乙 once; the probabilities of test_kneser_ney_of_pairs_by_hand
    discount, lower_discount = 3 / (3 + 2 * 3), 1 / (1 + 2 * 3)
    after = [
        (count - discount) / 3
        + discount * 2 / 3 * ((2 - lower_discount) / 7 + lower_discount * 4 / 7 / len(NEXT))
        for count in (2, 1)
    ]
    found = [
        bits(MODELS["bigram"], [["<BOS>", token, "<EOS>"]])
        + math.log2(MODELS["bigram"].score("<EOS>", (token,)))
        for token in ("甲", "乙")
    ]
    assert found == pytest.approx([-math.log2(share) for share in after])


def test_what_was_seen_is_likelier_than_what_was_not() -> None:
    for name in ("bigram", "kneser_ney"):
        seen, unseen = (bits(MODELS[name], [["<BOS>", *text, "<EOS>"]]) for text in ("甲乙丙", "丙乙甲"))
        assert seen < unseen


def test_positive_pointwise_mutual_information_by_hand() -> None:
    counts = csr_matrix([[0.0, 2.0], [2.0, 4.0]])
    # by chance: rows 2 and 6 of 8, so 0.5, 1.5, 1.5 and 4.5
    expected = [[0, math.log(2 / 1.5)], [math.log(2 / 1.5), 0]]
    assert ppmi(counts).toarray().tolist() == [pytest.approx(row) for row in expected]
    assert ppmi(csr_matrix((2, 2))).toarray().tolist() == [[0, 0], [0, 0]]


def test_words_in_the_same_surroundings_have_the_same_counted_vector() -> None:
    first = len(SPECIAL)
    # words 0 and 1 stand between 2 and 3, word 4 between 5 and 6
    windows = np.array([[first + word for word in row] for row in ([2, 0, 3], [2, 1, 3], [5, 4, 6])] * 4)
    vectors = CountedVectors([windows], first + 7, 3).vectors
    assert vectors.shape == (first + 7, 3)
    assert np.allclose(vectors[first], vectors[first + 1])
    assert abs(vectors[first] @ vectors[first + 4]) < 1e-6
    assert not vectors[PAD].any()


def test_counting_does_not_depend_on_the_blocks() -> None:
    windows = np.random.default_rng(0).integers(len(SPECIAL) - 2, 40, (300, 5))
    one, several = (CountedVectors(np.split(windows, cuts), 41, 6) for cuts in ([], [7, 7, 120, 299]))
    assert np.array_equal(one.prior, several.prior)
    assert np.array_equal(one.vectors, several.vectors)
    assert np.array_equal(one.scores(windows), several.scores(windows))
    # as all windows at once were counted
    around = np.delete(windows, 2, axis=1).ravel()
    pairs = csr_matrix((np.ones(1200), (np.repeat(windows[:, 2], 4), around)), (41, 41)).toarray()
    pairs[:, : len(SPECIAL)] = 0
    assert np.array_equal(one.ppmi.toarray(), ppmi(csr_matrix(pairs)).toarray())


def test_counting_expects_the_word_that_stood_there() -> None:
    first = len(SPECIAL)
    windows = np.array([[first, first + 1, first + 2], [first + 3, first + 4, PAD]])
    scores = CountedVectors([windows], first + 5, 2).scores(windows)
    assert scores.argmax(axis=1).tolist() == [first + 1, first + 4]


def test_the_memory_does_not_grow_with_the_square_of_the_vocabulary() -> None:
    windows = np.array([[7, 8, 9], [199_000, 8, 9]] * 4)  # a dense matrix would take 320 GB
    counted = CountedVectors([windows], 200_000, 2)
    assert counted.vectors.shape == (200_000, 2)
    assert counted.scores(windows[:2]).argmax(axis=1).tolist() == [8, 8]
