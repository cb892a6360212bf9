"""Metrics of poems, and parts of the report."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from src.text.data import DocumentBatches
from src.text.evaluate import (
    _plot_words,
    _samples,
    _scores,
    by_length,
    copied,
    distinct,
    is_regular,
    rhyme_rate,
    verses_of,
)
from src.text.model import LanguageModel
from src.text.networks import Recurrent
from src.text.preprocessing import BOS, EOS, SPECIAL, Preprocessing

MOON = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def test_verses_are_between_the_punctuation() -> None:
    assert verses_of(MOON) == ["床前明月光", "疑是地上霜", "举头望明月", "低头思故乡"]


@pytest.mark.parametrize(
    ("poem", "regular"),
    [
        (MOON, True),
        ("一二三四五六七，一二三四五六七？", True),
        (MOON.replace("，", "。"), False),
        (MOON[:-1], False),
        ("一二三四五，一二三四五六七。", False),
        ("一二三四五六，一二三四五六。", False),
        ("", False),
    ],
)
def test_regular_poems_have_verses_of_one_length(poem: str, regular: bool) -> None:
    assert is_regular(poem) is regular


def test_distinct_ngrams_are_counted_within_verses() -> None:
    assert distinct(["甲甲乙，乙甲甲。"], 1) == 2 / 6
    # 甲甲, 甲乙, 乙甲, 甲甲: no pair across the comma
    assert distinct(["甲甲乙，乙甲甲。"], 2) == 3 / 4


def test_copied_ngrams_stand_in_the_corpus() -> None:
    # of 床前明月, 前明月光 and the two of the other verse the corpus has one
    assert copied(["床前明月光，一二三四五。"], ["床前明月夜，疑是地上霜。"], 4) == 1 / 4


def test_rhymes_are_of_the_lines_that_follow_a_line() -> None:
    rhymes = {"霜": 1, "乡": 1, "流": 2}
    assert rhyme_rate([MOON], rhymes) == 1
    # 霜 and 流 do not rhyme, nor do characters without one
    assert rhyme_rate([MOON.replace("乡", "流"), MOON.replace("乡", "龘"), MOON], rhymes) == 1 / 3
    assert rhyme_rate(["一二三四五，一二三四霜。"], rhymes) == 0


def test_the_report_has_ten_poems_that_keep_their_form() -> None:
    characters = "春月山夏秋冬江如画花风云天地人日"
    vocabulary = [*SPECIAL, "，", "。", *characters]
    preprocessing = Preprocessing(
        tokenizer="char",
        vocabulary=vocabulary,
        counts=[1] * len(vocabulary),
        rhymes=[None] * 8 + [0] * len(characters),
    )
    torch.manual_seed(0)
    model = LanguageModel(preprocessing, lambda size: Recurrent(size, embedding_size=4, hidden_size=4))
    text = _samples(model, preprocessing)
    poems = [
        "".join(line[2:].strip() for line in part.splitlines() if line.startswith("> "))
        for part in text.split("`--data")[1:]
    ]
    assert len(poems) == 10
    assert all(map(is_regular, poems))
    starts = ["".join(verse[0] for verse in verses_of(poem)) for poem in poems]
    assert (starts[6], starts[7]) == ("春夏秋冬", "江山如画")
    assert poems[3][0] == "春"


def test_documents_are_compared_with_the_trivial_answer_in_one_order() -> None:
    vocabulary = [*SPECIAL, *"春月山夏"]
    learnt = Preprocessing(tokenizer="char", vocabulary=vocabulary, counts=[1] * len(vocabulary))
    torch.manual_seed(0)
    model = LanguageModel(learnt, lambda size: Recurrent(size, embedding_size=4, hidden_size=4)).eval()
    documents = [[BOS, *range(len(SPECIAL), len(SPECIAL) + length), EOS] for length in (4, 1, 3, 1, 2)]
    offsets = torch.tensor([0, *map(len, documents)]).cumsum(0)
    batches = DocumentBatches((torch.tensor(list(chain(*documents))), offsets), 2)
    nats, _ = _scores(model, ((batch[0],) for batch in batches), "test")
    with torch.inference_mode():
        each = [float(model.negative_log_likelihood(torch.tensor([tokens]))[0]) for tokens in documents]
    words = [[str(token) for token in document] for document in documents]
    assert by_length(each, words) == pytest.approx(nats)


def test_words_are_plotted_as_text(tmp_path: Path) -> None:
    _plot_words(np.eye(3), ["学习", "模型", "数据"], tmp_path / "words.svg")
    text = (tmp_path / "words.svg").read_text(encoding="utf-8")
    assert all(f">{word}</text>" in text for word in ("学习", "模型", "数据"))
