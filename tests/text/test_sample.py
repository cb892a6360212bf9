"""The sample texts."""

import re
from pathlib import Path

import pytest

from src.text.evaluate import is_regular

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def lines_of(task: str) -> list[str]:
    text = (SAMPLES / task / f"{task}.txt").read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n")


@pytest.mark.tasks("poems")
def test_poems_are_regular_and_different() -> None:
    poems = lines_of("poems")
    assert len(poems) >= 150
    assert all(map(is_regular, poems))
    assert len({re.sub(r"\W", "", poem) for poem in poems}) == len(poems)


@pytest.mark.tasks("words")
def test_sentences_are_different() -> None:
    sentences = lines_of("words")
    assert len(set(sentences)) == len(sentences) >= 300
    assert all(re.fullmatch(r"\S+[。？！]", sentence) for sentence in sentences)
