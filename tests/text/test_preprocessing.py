"""Reading, cleaning and cutting texts, and the form of poems."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import ConfigurationError, DataError
from src.text.preprocessing import (
    FREE,
    RHYME,
    SPECIAL,
    UNK,
    Composition,
    Slot,
    TextEncoder,
    read_documents,
    slots_of,
)

SENTENCE = (
    "自然语言是由文字构成的，而语言的含义是由单词构成的。即单词是含义的最小单位。"
    "因此为了让计算机理解自然语言，首先要让它理解单词含义。"
)


def encoder_of(**changed: Any) -> TextEncoder:
    learnt = {"tokenizer": "char", "convert": None, "replace": [], "stopwords": [], "vocabulary": [*SPECIAL]}
    return TextEncoder(learnt | changed)


def test_documents_are_the_lines_of_all_text_files_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("三\n".encode())
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "一\r\n\r\n  \n二".encode())
    (tmp_path / "SOURCE.json").write_text("{}")
    assert read_documents(tmp_path) == (["一", "二", "三"], 2)


def test_documents_of_the_collection_are_the_joined_paragraphs(tmp_path: Path) -> None:
    poems = [{"author": "某", "paragraphs": ["春，", "夏。"]}, {"paragraphs": []}, {"paragraphs": ["秋。"]}]
    (tmp_path / "poet.tang.0.json").write_text(json.dumps(poems), encoding="utf-8")
    assert read_documents(tmp_path) == (["春，夏。", "秋。"], 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "春天".encode("gb18030"), r"a\.txt: not UTF-8 at byte 0 \(0xb4\)"),
        ("a.txt", "春".encode() + b"\xff", r"not UTF-8 at byte 3 \(0xff\)"),
        ("a.txt", b"ab\0c", r"a\.txt: a NUL at byte 2"),
        ("a.txt", b"", r"a\.txt: there is no text in it"),
        ("a.txt", b"\n \r\n", r"a\.txt: there is no text in it"),
        ("a.json", b"[{", r"a\.json: no JSON"),
        ("a.json", b'[{"paragraphs": ["x"]}, {"title": "x"}]', r"a\.json, entry 2: expected"),
        ("a.json", b'{"paragraphs": "x"}', r"a\.json, entry 1: expected"),
        ("a.pdf", b"x", r"there is no \*\.txt or \*\.json file"),
    ],
)
def test_files_that_are_no_texts_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_documents(tmp_path)


def test_patterns_are_replaced_in_their_order() -> None:
    encoder = encoder_of(replace=[["（[^）]*）", ""], ["[“”]", ""], ["；", "。"]])
    assert encoder.clean("“春”；夏（一作“冬”）。") == "春。夏。"


def test_traditional_characters_become_simplified() -> None:
    assert encoder_of(convert="t2s").clean("綺殿千尋起，離宮百雉餘。") == "绮殿千寻起，离宫百雉余。"


def test_characters_are_tokens_and_marks_have_tokens_of_their_own() -> None:
    tokens = encoder_of().tokens("春 夏/秋//冬□")
    assert tokens == ["春", "夏", "<LINE>", "秋", "<STANZA>", "冬", "<UNK>"]


def test_a_mark_written_out_is_only_characters() -> None:
    assert encoder_of().tokens("<UNK>") == ["<", "U", "N", "K", ">"]


def test_the_sentence_of_the_course_has_25_words_of_17_kinds() -> None:
    encoder = encoder_of(tokenizer="jieba", stopwords=["的", "是", "而", "由", "，", "。", "、"])
    words = encoder.tokens(SENTENCE)
    assert (len(words), len(set(words))) == (25, 17)
    assert words[:4] == ["自然语言", "文字", "构成", "语言"]


def test_jieba_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert encoder_of(tokenizer="jieba").tokens("机器学习") == ["机器", "学习"]
    assert not list(tmp_path.iterdir())


def test_unseen_tokens_are_unknown_and_decoding_shows_them() -> None:
    encoder = encoder_of(vocabulary=[*SPECIAL, "春", "，"])
    numbers = encoder.encode(["<BOS>", "春", "夏", "，", "<LINE>", "<EOS>", "<PAD>"])
    assert numbers == [2, 6, UNK, 7, 4, 3, 0]
    assert encoder.decode(numbers) == "春□，/"


def form_of(slots: list[Slot]) -> str:
    shown = {FREE: "甲", RHYME: "乙"}
    return "".join(slot.shown or shown[slot.number] for slot in slots)


@pytest.mark.parametrize(
    ("wanted", "form"),
    [
        ({"lines": 1}, "甲甲甲甲甲，甲甲甲甲甲。"),
        ({"lines": 1, "length": 7, "rhyme": True}, "甲甲甲甲甲甲甲，甲甲甲甲甲甲乙。"),
        ({"start": "春"}, "春甲甲甲甲，甲甲甲甲甲。甲甲甲甲甲，甲甲甲甲甲。"),
        ({"acrostic": "江山"}, "江甲甲甲甲，甲甲甲甲甲。山甲甲甲甲，甲甲甲甲甲。"),
        ({"acrostic": "江山如", "acrostic_of": "verse"}, "江甲甲甲甲，山甲甲甲甲。如甲甲甲甲，甲甲甲甲甲。"),
    ],
)
def test_a_form_is_fixed_before_anything_is_written(wanted: dict[str, Any], form: str) -> None:
    slots = slots_of(Composition(**wanted), encoder_of(vocabulary=[*SPECIAL, "春", "，", "。"]))
    assert form_of(slots) == form


def test_four_lines_are_eight_verses() -> None:
    slots = slots_of(Composition(lines=4, length=7), encoder_of())
    assert [len(verse) for verse in re.split("[，。]", form_of(slots))] == [7] * 8 + [0]


def test_an_unknown_start_is_read_as_unknown_and_shown_as_given() -> None:
    assert slots_of(Composition(start="龘"), encoder_of())[0] == Slot(UNK, "龘")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"start": "春天"}, r"compose\.start must be one character, found 2: 春天"),
        ({"start": ""}, r"compose\.start must be one character"),
        ({"start": "春", "acrostic": "夏"}, r"start or acrostic, not both"),
        ({"acrostic": "春夏秋冬"}, r"acrostic has 4 characters, the poem 2 lines"),
        ({"acrostic": "春夏秋冬又", "acrostic_of": "verse"}, r"acrostic has 5 characters, the poem 4 verses"),
        ({"acrostic": ""}, r"acrostic has 0 characters"),
        ({"temperature": -0.1}, r"compose\.temperature must be at least 0: -0\.1"),
        ({"temperature": float("nan")}, r"compose\.temperature must be at least 0: nan"),
        ({"top_p": 0.0}, r"compose\.top_p must be above 0 and at most 1: 0\.0"),
        ({"top_p": 1.1}, r"compose\.top_p"),
        ({"top_k": -1}, r"compose\.top_k must be at least 0"),
        ({"lines": 0}, r"compose\.lines must be at least 1"),
        ({"count": 0}, r"compose\.count must be at least 1"),
    ],
)
def test_what_cannot_be_written_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Composition(**wanted)
