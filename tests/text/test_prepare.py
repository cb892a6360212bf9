"""From documents to token numbers, split and vocabulary."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.core.errors import ConfigurationError, DataError
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import BOS, EOS, SPECIAL, UNK, Preprocessing

# twenty short poems: 甲 in all of them, a character of their own in each
OWN = "春夏秋冬东南西北金木水火土风花雪月山川云"
POEMS = [f"甲{character}甲，乙丙{character}。" for character in OWN]


def prepared(folder: Path, lines: list[str], **settings: Any) -> Path:
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "poems.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(raw, folder / "prepared", Preparation(**settings))
    return folder / "prepared"


def documents(folder: Path, split: str) -> list[list[int]]:
    tokens, offsets = np.load(folder / f"{split}_tokens.npy"), np.load(folder / f"{split}_offsets.npy")
    assert (tokens.dtype, offsets.dtype) == (np.int32, np.int64)
    return [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def sides(folder: Path) -> list[str]:
    """The split of each document."""
    rows = (folder / "split.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [row.split(",")[1] for row in rows]


def test_the_vocabulary_is_sorted_by_count_and_then_by_character(tmp_path: Path) -> None:
    lines = ["乙乙甲甲丙", "乙甲", "丁丁乙", "丙", "戊"]
    learnt = Preprocessing.load(prepared(tmp_path, lines, test_share=0.2, validation_share=0.25))
    train = [line for line, side in zip(lines, sides(tmp_path / "prepared"), strict=True) if side == "train"]
    counts = {character: "".join(train).count(character) for character in set("".join(train))}
    expected = sorted(counts, key=lambda character: (-counts[character], character))
    assert learnt.vocabulary == [*SPECIAL, *expected]
    assert learnt.counts == [0] * len(SPECIAL) + [counts[character] for character in expected]


def test_documents_are_encoded_from_begin_to_end(tmp_path: Path) -> None:
    folder = prepared(tmp_path, POEMS)
    vocabulary = Preprocessing.load(folder).vocabulary
    place = sides(folder).index("train")
    first = documents(folder, "train")[0]
    assert (first[0], first[-1]) == (BOS, EOS)
    assert "".join(vocabulary[number] for number in first[1:-1]) == POEMS[place]
    assert [len(documents(folder, split)) for split in ("train", "validation", "test")] == [16, 2, 2]


def test_rare_tokens_and_those_of_held_out_poems_only_are_unknown_and_counted(tmp_path: Path) -> None:
    folder = prepared(tmp_path, POEMS)
    assert all(document.count(UNK) == 2 for document in documents(folder, "test"))
    corpus = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    assert (corpus["unknown_share"]["test"], corpus["unknown_share"]["train"]) == (2 / 8, 0)
    folder = prepared(tmp_path, POEMS, min_count=3)
    assert set(Preprocessing.load(folder).vocabulary) == {*SPECIAL, *"甲乙丙，。"}
    assert all(document.count(UNK) == 2 for document in documents(folder, "train"))


def test_duplicates_stay_in_one_split(tmp_path: Path) -> None:
    again = [poem.replace("，", "。") for poem in POEMS]
    folder = prepared(tmp_path, [*POEMS, *again], test_share=0.3, validation_share=0.3)
    parts = sides(folder)
    assert parts[: len(POEMS)] == parts[len(POEMS) :]
    assert set(parts) == {"train", "validation", "test"}
    assert json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["doubled"] == len(POEMS)


def test_preprocessing_is_learnt_from_training_documents_only(tmp_path: Path) -> None:
    before = prepared(tmp_path, POEMS, rhymes=True)
    learnt, train = (before / "preprocessing.json").read_bytes(), (before / "train_tokens.npy").read_bytes()
    parts = sides(before)
    changed = [
        poem if side == "train" else f"新{number}" * 30
        for number, (poem, side) in enumerate(zip(POEMS, parts, strict=True))
    ]
    after = prepared(tmp_path, changed, rhymes=True)
    assert sides(after) == parts
    assert (after / "preprocessing.json").read_bytes() == learnt
    assert (after / "train_tokens.npy").read_bytes() == train


def test_empty_documents_are_skipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # one line is empty, the other one after cleaning
    folder = prepared(tmp_path, [*POEMS, "", "（注）"], replace={"（.*）": ""})
    assert json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["empty"] == 2
    assert "20 documents (2 empty ones skipped" in capsys.readouterr().out


@pytest.mark.parametrize(("lines", "found"), [(["春"], 1), (["春", "春。", "夏"], 2)])
def test_too_few_documents_are_refused(tmp_path: Path, lines: list[str], found: int) -> None:
    with pytest.raises(
        DataError, match=rf"raw/poems\.txt: {found} different documents?, expected at least 3"
    ):
        prepared(tmp_path, lines)
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_share": 0.0}, r"prepare\.test_share"),
        ({"validation_share": 1.0}, r"prepare\.validation_share"),
        ({"min_count": 0}, r"prepare\.min_count must be at least 1"),
        ({"replace": {"(": ""}}, r"prepare\.replace: '\(' is not a regular expression"),
        ({"convert": "t2x"}, r"prepare\.convert: t2x"),
        ({"folds": 21}, r"prepare\.folds: 21 folds of 20 rows"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prepared(tmp_path, POEMS, **settings)


def test_rhymes_are_written_for_the_whole_vocabulary(tmp_path: Path) -> None:
    learnt = Preprocessing.load(prepared(tmp_path, POEMS, rhymes=True))
    assert learnt.rhymes is not None
    assert len(learnt.rhymes) == len(learnt.vocabulary)
    assert learnt.rhymes[: len(SPECIAL)] == [None] * len(SPECIAL)
    folder = prepared(tmp_path, POEMS)
    assert Preprocessing.load(folder).rhymes is None
    assert '"rhymes"' not in (folder / "preprocessing.json").read_text(encoding="utf-8")


def test_each_document_is_in_one_test_fold_with_its_duplicates(tmp_path: Path) -> None:
    lines = [*POEMS, POEMS[0]]
    tested: list[int] = []
    for fold in (1, 2, 3):
        where = sides(prepared(tmp_path, lines, folds=3, fold=fold))
        assert where[0] == where[-1]
        assert {"train", "validation"} < set(where)
        tested += [number for number, side in enumerate(where) if side == "test"]
    assert sorted(tested) == list(range(len(lines)))
