"""Rhymes of modern Mandarin."""

import pytest

from src.text.rhymes import rhyme_of


@pytest.mark.parametrize(
    ("group", "other"),
    [
        ("花家瓜", "多"),
        ("光乡霜", "生"),
        ("流楼舟", "高"),
        ("诗迟时", "西"),
        ("西低齐", "诗"),
        ("云人春", "山"),
    ],
)
def test_rhymes_are_those_of_modern_mandarin(group: str, other: str) -> None:
    assert len({rhyme_of(character) for character in group}) == 1
    assert rhyme_of(other) not in {rhyme_of(group[0]), None}


@pytest.mark.parametrize("token", ["，", "<UNK>", "春天", "a"])
def test_only_single_characters_have_a_rhyme(token: str) -> None:
    assert rhyme_of(token) is None
