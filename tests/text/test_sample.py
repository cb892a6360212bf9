"""The built-in texts."""

import re
from pathlib import Path

import pytest

from src.text.evaluate import is_regular
from src.text.sample import write_sample

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def lines_of(task: str, folder: Path) -> list[str]:
    write_sample(SAMPLES / f"{task}.yaml", folder)
    return (folder / f"{task}.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def test_the_poems_are_many_regular_and_different(tmp_path: Path) -> None:
    poems = lines_of("poems", tmp_path)
    assert len(poems) >= 150
    assert all(map(is_regular, poems))
    assert len({re.sub(r"\W", "", poem) for poem in poems}) == len(poems)


def test_the_sentences_are_many_and_different(tmp_path: Path) -> None:
    sentences = lines_of("words", tmp_path)
    assert len(set(sentences)) == len(sentences) >= 300
    assert all(re.fullmatch(r"\S+[。？！]", sentence) for sentence in sentences)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file: [", "is no YAML"),
        ("poems", "expected the key `file` alone"),
        ("file: a.txt\nmore: 1", "expected the key `file` alone"),
        ("file: none.txt", r"there is no file 'none\.txt' beside it"),
        ("file: ../a.txt", r"there is no file '\.\./a\.txt' beside it"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "poems.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        write_sample(folder / "poems.yaml", tmp_path)
