"""Requests -> poems and neighbours."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from src.core.errors import ConfigurationError
from src.text.predict import compose_poems, neighbours_of, write_neighbours, write_poems
from src.text.preprocessing import SPECIAL, Composition, TextEncoder

LEARNT: dict[str, Any] = {
    "tokenizer": "char",
    "convert": None,
    "stopwords": [],
    "replace": [],
    "vocabulary": [*SPECIAL, *"甲乙丙，。"],
}
ENCODER = TextEncoder(LEARNT)


def composing() -> Any:
    """A model that fills the free places of poem i with the i-th of three characters."""

    def compose(slots: Any, composition: Composition, poems: range) -> torch.Tensor:
        free = [ENCODER.numbers["甲乙丙"[poem % 3]] for poem in poems]
        return torch.tensor([[slot.number if slot.number >= 0 else one for slot in slots] for one in free])

    return SimpleNamespace(compose=mock.Mock(side_effect=compose))


def test_poems_are_composed_in_batches() -> None:
    model = composing()
    poems = list(compose_poems(model, ENCODER, Composition(count=600, lines=1)))
    assert len(poems) == 600
    assert poems[1] == "乙乙乙乙乙，乙乙乙乙乙。"
    assert [len(call.args[2]) for call in model.compose.call_args_list] == [256, 256, 88]
    assert [call.args[2][0] for call in model.compose.call_args_list] == [0, 256, 512]


def test_poems_are_written_one_a_line_with_the_start_as_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "new" / "poems.txt"
    wanted = Composition(lines=1, start="龘", count=12)
    assert write_poems(composing(), LEARNT, wanted, output) == 12
    assert "not in the vocabulary, so the network reads <UNK>: 龘" in caplog.text
    first, *others = output.read_text(encoding="utf-8").splitlines()
    assert (first, len(others)) == ("龘甲甲甲甲，甲甲甲甲甲。", 11)
    assert capsys.readouterr().out.splitlines() == [first, *others][:10]


VECTORS = torch.zeros(11, 2)
VECTORS[6:] = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])


def test_neighbours_are_written_nearest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = SimpleNamespace(vectors=VECTORS, device=torch.device("cpu"))
    output = tmp_path / "new" / "neighbours.csv"
    assert write_neighbours(model, LEARNT, ["甲", "。"], 2, output) == 2
    assert output.read_text(encoding="utf-8") == (
        "word,neighbour,cosine\n甲,乙,0.9988\n甲,。,0.7071\n。,乙,0.7415\n。,甲,0.7071\n"
    )
    assert capsys.readouterr().out == "甲: 乙 。\n。: 乙 甲\n"


@pytest.mark.parametrize(
    ("words", "count", "message"),
    [
        (["甲", "龘", "春天"], 3, r"data\.words: not in the vocabulary: 龘, 春天"),
        ([], 3, r"predict needs words: add --data\.words"),
        (["甲"], 0, r"data\.neighbours must be at least 1: 0"),
    ],
)
def test_words_that_have_no_neighbours_are_told(words: list[str], count: int, message: str) -> None:
    model: Any = SimpleNamespace(vectors=VECTORS, device=torch.device("cpu"))
    with pytest.raises(ConfigurationError, match=message):
        neighbours_of(model, ENCODER, words, count)
