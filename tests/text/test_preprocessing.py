"""Reading, cleaning, tokenizing and encoding texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import ConfigurationError, DataError
from src.text.preprocessing import SPECIAL, UNK, Preprocessing, TextEncoder, _jieba
from src.text.reading import read_documents

SENTENCE = (
    "自然语言是由文字构成的，而语言的含义是由单词构成的。即单词是含义的最小单位。"
    "因此为了让计算机理解自然语言，首先要让它理解单词含义。"
)


def encoder_of(**changed: Any) -> TextEncoder:
    return TextEncoder(Preprocessing(**{"tokenizer": "char", "vocabulary": [*SPECIAL]} | changed))


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
        (
            "a.txt",
            "春天".encode("gb18030"),
            r"a\.txt: not UTF-8 at byte 0 \(0xb4\); it looks like gb18030 \('春天'\)",
        ),
        ("a.txt", "春".encode() + b"\xff", r"not UTF-8 at byte 3 \(0xff\)"),
        ("a.txt", b"ab\0c", r"a\.txt: found NUL at byte 2"),
        ("a.txt", b"", r"a\.txt: no text found"),
        ("a.txt", b"\n \r\n", r"a\.txt: no text found"),
        ("a.json", b"[{", r"a\.json: not JSON"),
        ("a.json", b'[{"paragraphs": ["x"]}, {"title": "x"}]', r"a\.json, entry 2: expected"),
        ("a.json", b'{"paragraphs": "x"}', r"a\.json: expected a list"),
        ("a.pdf", b"x", r"a\.pdf: expected one of \.txt, \.json, \.jsonl"),
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


def test_jieba_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _jieba.cache_clear()
    assert encoder_of(tokenizer="jieba").tokens("机器学习") == ["机器", "学习"]
    assert not list(tmp_path.iterdir())


def test_the_sentence_of_the_course_has_25_words_of_17_kinds() -> None:
    encoder = encoder_of(tokenizer="jieba", stopwords=["的", "是", "而", "由", "，", "。", "、"])
    words = encoder.tokens(SENTENCE)
    assert (len(words), len(set(words))) == (25, 17)
    assert words[:4] == ["自然语言", "文字", "构成", "语言"]


def test_unseen_tokens_are_unknown_and_decoding_shows_them() -> None:
    encoder = encoder_of(vocabulary=[*SPECIAL, "春", "，"])
    numbers = encoder.encode(["<BOS>", "春", "夏", "，", "<LINE>", "<EOS>", "<PAD>"])
    assert numbers == [2, 6, UNK, 7, 4, 3, 0]
    assert encoder.decode(numbers) == "春□，/"


def test_saved_preprocessing_is_loaded(tmp_path: Path) -> None:
    preprocessing = Preprocessing("jieba", "t2s", [["a", ""]], ["的"], [*SPECIAL, "春"], [0] * 6 + [1])
    preprocessing.save(tmp_path)
    assert Preprocessing.load(tmp_path) == preprocessing
    assert list(json.loads((tmp_path / "preprocessing.json").read_text(encoding="utf-8"))) == [
        "convert",
        "counts",
        "replace",
        "stopwords",
        "tokenizer",
        "vocabulary",
    ]
    with pytest.raises(ConfigurationError, match="run: dvc repro prepare@songs"):
        Preprocessing.load(tmp_path / "songs")
