"""Subwords that are learnt from training texts; they need the extra `transformers`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import ConfigurationError
from src.text.data import LabelledData
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import SPECIAL, UNK, Preprocessing, TextEncoder
from src.text.subwords import learn_subwords

needs_tokenizers = pytest.mark.skipif(find_spec("tokenizers") is None, reason="needs EXTRAS=transformers")
TEXTS = ["lower and lowest, new and newest"] * 5 + ["很好看的书。很好"] * 5


@pytest.mark.skipif(find_spec("tokenizers") is not None, reason="is about a missing package")
def test_without_the_extra_the_command_is_named() -> None:
    with pytest.raises(ConfigurationError, match="make setup EXTRAS=transformers"):
        learn_subwords(TEXTS, 10)


@needs_tokenizers
def test_frequent_parts_become_tokens() -> None:
    encoder = TextEncoder(Preprocessing("subwords", subwords=learn_subwords(TEXTS, 60)))
    assert encoder.tokens("lowest lower, and 很好看/Z") == [
        *("▁lowest", "▁lower", ",", "▁and", "▁很好", "看", SPECIAL[UNK], SPECIAL[UNK])
    ]


@needs_tokenizers
@pytest.mark.parametrize("variables", [{"RAYON_NUM_THREADS": "3"}, {"TOKENIZERS_PARALLELISM": "false"}])
def test_neither_threads_nor_the_hash_seed_change_them(variables: dict[str, str], python: Any) -> None:
    program = (
        "import json, random; from src.text.subwords import learn_subwords; draw = random.Random(0)\n"
        "words = [''.join(draw.choices('abcdefgh', k=6)) for _ in range(500)]\n"
        "texts = [' '.join(draw.choices(words, k=20)) for _ in range(500)]\n"
        "print(json.dumps(learn_subwords(texts, 900)))"
    )
    root = Path(__file__).parents[2]
    first = python("-c", program, cwd=root, PYTHONHASHSEED="1", RAYON_NUM_THREADS="1")
    second = python("-c", program, cwd=root, PYTHONHASHSEED="2", **variables)
    assert first.returncode == 0, first.stdout
    assert first.stdout == second.stdout


def table(folder: Path, rows: list[str]) -> Path:
    folder.mkdir()
    (folder / "a.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


@needs_tokenizers
def test_they_are_learnt_from_the_training_texts(tmp_path: Path) -> None:
    rows = [f"word{number},{'ab'[number % 2]}" for number in range(40)]
    settings = Preparation(text="text", label="label", tokenizer="subwords", subwords=200)
    prepare(table(tmp_path / "raw", rows), tmp_path / "out", settings)
    data = LabelledData(tmp_path / "out")
    side = [line.split(",")[1] for line in (tmp_path / "out/split.csv").read_text().splitlines()[1:]]
    training = [row.partition(",")[0] for row, name in zip(rows, side, strict=True) if name == "train"]
    assert data.preprocessing.subwords == learn_subwords(training, 200)
    assert "▁word" in data.preprocessing.vocabulary
    tokens, offsets, _ = data.tensors("train")
    vocabulary = data.preprocessing.vocabulary
    first = "".join(vocabulary[number] for number in tokens[1 : offsets[1] - 1])
    assert first.replace("▁", " ").strip() == training[0]


def test_they_are_for_texts_with_classes() -> None:
    with pytest.raises(ConfigurationError, match=r"subwords is for texts with classes"):
        Preparation(tokenizer="subwords")
    with pytest.raises(ConfigurationError, match=r"prepare\.subwords must be at least 1"):
        Preparation(subwords=0)
