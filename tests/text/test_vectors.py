"""Pretrained word vectors: reading, the vocabulary, and a training that begins with them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from src import load
from src.core.errors import ConfigurationError, DataError
from src.text.classifier import TextClassifier
from src.text.data import LabelledData
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import SPECIAL, UNK
from src.text.vectors import read_vectors
from tests.support import cli, require_same_weights

LINES = "good 1 2\nbad -1 .5\n, 0 0.25\nnice 3 4\nGood 5 6\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lower(word: str) -> bool:
    return word.islower()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.vec", f"5 2\n{LINES}"),
        ("glove.txt", LINES),
        ("a.txt", LINES.replace("\n", " \r\n")),
        ("a.vec.gz", gzip.compress(f"5 2\n{LINES}".encode())),
        ("a.txt", f"{LINES}. . . 7 8\ngood 9 9\nnice 9 9\n"),
    ],
    ids=["header", "no header", "spaces and CRLF", "compressed", "words with spaces and repeated ones"],
)
def test_formats(name: str, content: str | bytes, tmp_path: Path) -> None:
    path = written(tmp_path / name, content)
    added, vectors = read_vectors(path, ["<UNK>", "bad", "no", "good"], 5, lower)
    assert added == ["nice"]
    assert vectors.tolist() == [[0, 0], [-1, 0.5], [0, 0], [1, 2], [3, 4]]
    assert vectors.dtype == np.float32


def test_the_first_words_of_the_file_are_added(tmp_path: Path) -> None:
    path = written(tmp_path / "a.vec", "".join(f"w{number} {number}\n" for number in range(9)))
    added, vectors = read_vectors(path, ["w4"], 2, lambda word: word != "w1")
    assert added == ["w0", "w2"]
    assert vectors.tolist() == [[4], [0], [2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 2\na 1 2\nb 1\n", "line 3: 1 numbers, expected 2 as in the first line"),
        ("a 1 2\nb 1 x\n", "line 2: could not convert string to float: .*expected a text file of word2vec"),
        ("a 1 2\nb 1 nan\n", "line 2: a number is not finite"),
        (b"a 1 2\n\xff 1 2\n", "line 2: the word is not UTF-8"),
        ("words\n", "line 1: expected a text file"),
        ("3 300\n", "no line found"),
        ("", "no line found"),
        (b"a 1 2\n" + b"x" * (1 << 20), "line 2: longer than 1,048,576 bytes"),
    ],
)
def test_bad_lines_are_named(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_vectors(written(tmp_path / "a.vec", content), ["b"], 5, lower)


def test_damaged_archives_and_missing_files(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"w{number} {number}\n" for number in range(999)).encode())
    with pytest.raises(DataError, match=r"a\.gz, after line \d+: Compressed file ended"):
        read_vectors(written(tmp_path / "a.gz", whole[:-20]), [], 5, lower)
    with pytest.raises(DataError, match=r"b\.gz, after line 0: Not a gzipped file"):
        read_vectors(written(tmp_path / "b.gz", LINES), [], 5, lower)
    with pytest.raises(DataError, match=r"c\.vec: there is no such file; prepare\.vectors names"):
        read_vectors(tmp_path / "c.vec", [], 5, lower)


# ------------------------------------------------------------------------- preparation and training

GOOD, BAD = ["good", "nice", "fine", "great"], ["bad", "poor", "awful", "dull"]
UNSEEN = {"superb": [4.0, 0.0, 1.0], "dreadful": [-4.0, 0.0, 1.0]}
VECTORS = {word: [2.0, number / 4, 0.0] for number, word in enumerate(GOOD)}
VECTORS |= {word: [-2.0, number / 4, 0.0] for number, word in enumerate(BAD)}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_of_the_process: None) -> Path:
    """Texts of two classes, of words of which `the` and numbers have no vector; and a file of vectors."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"the {word} {number},{name}"
        for name, words in (("yes", GOOD), ("no", BAD))
        for word in words
        for number in range(10)
    ]
    folder = Path("data/raw/mine")
    folder.mkdir(parents=True)
    (folder / "mine.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    lines = [" ".join([word, *map(str, numbers)]) for word, numbers in (VECTORS | UNSEEN).items()]
    (folder / "mine.vec").write_text("\n".join([f"{len(lines)} 3", "New 1 1 1", "two_words 1 1 1", *lines]))
    return folder


def prepared(raw: Path, **changed: Any) -> Path:
    settings = {"text": "text", "label": "label", "tokenizer": "word", "lowercase": True}
    folder = Path("data/prepared/mine")
    prepare(raw, folder, Preparation(**settings | {"vectors": "mine.vec"} | changed))
    return folder


def configure(embedding_size: int = 3, **model: Any) -> None:
    content = {
        "task": "mine",
        "monitor": "validation/loss",
        "trainer": {"accelerator": "cpu", "max_epochs": 3},
        "data": {"class_path": "src.text.data.LabelledData", "init_args": {"batch_size": 8}},
        "model": {
            "class_path": "src.text.classifier.TextClassifier",
            "init_args": {
                "network": {
                    "class_path": "src.text.encoders.BagOfEmbeddings",
                    "init_args": {"embedding_size": embedding_size},
                },
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}},
                **model,
            },
        },
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content))


def test_the_vocabulary_has_the_words_of_the_training_and_further_ones(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = LabelledData(prepared(raw))
    vocabulary, vectors = data.preprocessing.vocabulary, data.vectors()
    assert vectors is not None
    # `New` would be small, `two_words` is one word
    assert vocabulary[-3:] == ["two_words", *UNSEEN]
    assert data.preprocessing.counts[-3:] == [0, 0, 0]
    table = dict(zip(vocabulary, vectors.tolist(), strict=True))
    assert table["superb"] == UNSEEN["superb"]
    assert table["poor"] == VECTORS["poor"]
    assert table["the"] == table[SPECIAL[UNK]] == [0, 0, 0]
    known = json.loads((data.prepared / "corpus.json").read_text())["vectors"]
    # 8 of 8 words, the word `the` and 10 numbers; a third of the tokens
    assert known == {"words": pytest.approx(8 / 19), "tokens": pytest.approx(1 / 3), "further": 3}
    assert (
        "word vectors for 42.1% of the words of the training texts, 33.3% of their" in capsys.readouterr().out
    )


def test_without_further_words(raw: Path) -> None:
    data = LabelledData(prepared(raw, further_words=0))
    assert "superb" not in data.preprocessing.vocabulary


def test_frozen_vectors_stay_and_unseen_words_are_known(raw: Path) -> None:
    data = LabelledData(prepared(raw))
    configure(freeze="embedding")
    assert cli("fit", "--config=mine.yaml") == 0
    weights = load_file("models/mine/model.safetensors")
    np.testing.assert_array_equal(weights["network.embedding.weight"], data.vectors())
    found = load("models/mine").predict(["the superb one", "a dreadful one"])
    assert found["label"].tolist() == ["yes", "no"]


# 8 steps an epoch: before, at and after the unfreezing of epoch 1
@pytest.mark.parametrize("steps", [4, 7, 12])
def test_a_training_that_was_killed_around_the_unfreezing_ends_with_the_same_weights(
    steps: int, raw: Path
) -> None:
    start = LabelledData(prepared(raw)).vectors()
    configure(freeze="embedding", unfreeze_at=1)
    whole = require_same_weights(TextClassifier, steps)
    assert not np.array_equal(whole["network.embedding.weight"], start)


def test_vectors_that_do_not_fit(raw: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.vectors is for texts with classes"):
        Preparation(vectors="mine.vec")
    with pytest.raises(ConfigurationError, match=r"prepare\.further_words must be at least 0: -1"):
        Preparation(further_words=-1)
    (raw / "other.vec").write_text("甲 1 2\n乙 1 2\n")
    with pytest.raises(DataError, match=r"other\.vec: it has none of the 19 words"):
        prepared(raw, vectors="other.vec")
    prepared(raw)
    configure(embedding_size=4)
    assert cli("fit", "--config=mine.yaml") == 2
