"""Nearest neighbours of words."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.core.errors import ConfigurationError
from src.text.neighbours import nearest, neighbours_of
from src.text.preprocessing import SPECIAL, Preprocessing


def test_neighbours_are_by_cosine_without_the_word_and_the_special_tokens() -> None:
    vectors = torch.zeros(10, 2)
    vectors[:6] = torch.tensor([1.0, 0.0])
    vectors[6:] = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 0.1], [-1.0, 0.0]])
    cosines, numbers = nearest(vectors, torch.tensor([6]), 9)
    assert numbers.tolist() == [[7, 8, 9]]
    assert cosines[0].tolist() == pytest.approx([math.sqrt(0.5), 0, -1], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "count", "message"),
    [
        (["甲", "龘", "春天"], 3, r"data\.words: not in the vocabulary: 龘, 春天"),
        ([], 3, r"predict needs words: add --data\.words"),
        (["甲"], 0, r"data\.neighbours must be at least 1: 0"),
    ],
)
def test_impossible_requests_are_refused(words: list[str], count: int, message: str) -> None:
    model: Any = SimpleNamespace(vectors=torch.eye(8), device=torch.device("cpu"))
    preprocessing = Preprocessing(tokenizer="char", vocabulary=[*SPECIAL, *"甲乙"])
    with pytest.raises(ConfigurationError, match=message):
        neighbours_of(model, preprocessing, words, count)


def test_words_are_converted_and_cleaned_as_the_training_data_were() -> None:
    preprocessing = Preprocessing("jieba", "t2s", stopwords=["的"], vocabulary=[*SPECIAL, *"学习的模型"])
    model: Any = SimpleNamespace(vectors=torch.eye(len(preprocessing.vocabulary)), device=torch.device("cpu"))
    assert neighbours_of(model, preprocessing, ["\u200b學 "], 1) == neighbours_of(
        model, preprocessing, ["学"], 1
    )
    with pytest.raises(ConfigurationError, match=r"prepare\.stopwords leaves out: 的"):
        neighbours_of(model, preprocessing, ["的"], 1)
