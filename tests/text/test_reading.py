"""Texts as people have them."""

import json
import os
from pathlib import Path

import pytest

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import plain
from src.text.compose import Composition, as_prepared
from src.text.labelled import read_plain
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import SPECIAL, Preprocessing, TextEncoder
from src.text.propose import propose
from src.text.reading import Unit, encoding_of, read_documents, read_text

POEMS = ["床前明月光，疑是地上霜。", "白日依山尽，黄河入海流。", "千山鸟飞绝，万径人踪灭。"]


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "utf-16", "utf-16-le", "cp1252"])
def test_other_encodings_are_proposed_and_read_by_their_key(encoding: str, tmp_path: Path) -> None:
    text = "naïve, déjà vu" if encoding == "cp1252" else "白日依山盡，黃河入海流。"
    path = file(tmp_path, "a.txt", text.encode(encoding))
    hint = "set prepare.encoding" if encoding == "utf-16-le" else f"set prepare.encoding: {encoding}, or"
    with pytest.raises(DataError, match=hint):
        read_text(path)
    assert read_text(path, encoding) == text
    file(tmp_path, "b.txt", text)  # UTF-8 is not read in the other encoding
    assert read_documents(tmp_path, encoding) == ([text, text], 0)


def test_a_wrong_encoding_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "a.txt", "春天".encode("gb18030") + b"\xff")
    with pytest.raises(DataError, match=r"not UTF-8 at byte 0 .*, and not gb18030"):
        read_text(path, "gb18030")
    for encoding in ("klingon", "hex"):
        with pytest.raises(ConfigurationError, match=rf"prepare\.encoding: '{encoding}'"):
            Preparation(encoding=encoding)


def test_the_unit_of_a_document_is_a_line_a_paragraph_or_a_file(tmp_path: Path) -> None:
    path = file(tmp_path, "a.txt", "一，\r\n二。\r\n \r\n\r\n三，\r\n四。\r\n")
    assert read_documents(path) == (["一，", "二。", "三，", "四。"], 2)
    assert read_documents(path, document="paragraph") == (["一，\n二。", "三，\n四。"], 0)
    assert [len(text.split()) for text in read_documents(path, document="file")[0]] == [4]


@pytest.mark.parametrize("document", ["line", "paragraph"])
def test_lines_end_where_editors_end_them(document: Unit, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\u2028two\x85three\x0cfour\r\n\r\nfive\r\rsix\n".encode())
    documents, _ = read_documents(path, document=document)
    assert documents == ["one\u2028two\x85three\x0cfour", "five", "six"]


def test_lines_of_json_are_documents(tmp_path: Path) -> None:
    entries = [{"text": "一"}, {"paragraphs": ["二", "三"]}, "四", {"text": ""}]
    path = file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, entries)) + "\n\n")
    assert read_documents(path) == (["一", "二三", "四"], 1)
    file(tmp_path, "a.jsonl", '{"text": "x"}\n{"content": "x"}')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: expected a text, or an object with `text`"):
        read_documents(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "label,text\n1,x", r"a\.csv: a table; .*To classify texts, name the columns"),
        ("a.jsonl", "[" * 200_000, r"a\.jsonl, line 1: not JSON: nested too deeply"),
        ("a.json", '["\\ud800"]', r"a\.json: not JSON: half of a surrogate pair"),
        ("a.json", '[{"text": 3}]', r"a\.json, entry 1: expected"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    path = file(tmp_path, name, content)
    for place in (path, tmp_path):
        with pytest.raises(DataError, match=message):
            read_documents(place)


@pytest.mark.unix
def test_hidden_files_are_left_out_and_pipes_are_refused(tmp_path: Path) -> None:
    file(tmp_path, "a.TXT", "一")
    file(tmp_path, "._a.txt", b"\0\xff")
    assert read_documents(tmp_path) == (["一"], 0)
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"b\.txt: not a regular file"):
        read_documents(tmp_path)
    for read in (lambda: read_plain(tmp_path, None), lambda: encoding_of([tmp_path / "b.txt"])):
        with pytest.raises(DataError, match=r"b\.txt: not a regular file"):
            read()
    with pytest.raises(DataError, match=r"c\.txt: there is no such file"):
        read_plain(tmp_path / "c.txt", None)


INVISIBLE = "\u200b\ufeff\u2060\x07\u00ad\ufe0f"


def test_invisible_characters_are_no_tokens_in_training_and_in_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = []
    for name, between in (("plain", ""), ("other", INVISIBLE), ("spaced", "\u3000")):
        (tmp_path / name).mkdir()
        file(tmp_path / name, "a.txt", "\n".join(between.join(poem) for poem in POEMS))
        prepare(tmp_path / name, tmp_path / "prepared", Preparation())
        learnt.append(Preprocessing.load(tmp_path / "prepared").vocabulary)
    assert learnt[0] == learnt[1] == learnt[2]
    assert "198 invisible characters left out" in capsys.readouterr().out
    assert Composition(start=INVISIBLE + "春").start == "春"


def test_requests_are_converted_and_cleaned_as_the_training_data_were() -> None:
    preprocessing = Preprocessing("char", "t2s", [["[《》]", ""], [" ", ""]], vocabulary=[*SPECIAL, *"风云"])
    assert as_prepared(Composition(start="風"), preprocessing).start == "风"
    assert as_prepared(Composition(acrostic="風 雲", lines=3), preprocessing).acrostic == "风云"
    with pytest.raises(ConfigurationError, match=r"compose\.start: cleaning .* leaves nothing of: 《"):
        as_prepared(Composition(start="《"), preprocessing)


def test_errors_of_a_corpus_name_its_file(tmp_path: Path) -> None:
    file(tmp_path, "one.txt", "".join(POEMS))
    with pytest.raises(DataError, match=r"one\.txt: 1 different document, expected at least 3; each line is"):
        prepare(tmp_path, tmp_path / "prepared", Preparation())


BARE = [poem.replace("，", "\u3000").replace("。", "") for poem in POEMS]


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("\n".join(POEMS).encode("gb18030"), {"encoding": "gb18030", "document": "line"}),
        ("\n\n".join(poem.replace("，", "，\n") for poem in POEMS).encode(), {"document": "paragraph"}),
        ("\n".join(map("\u200b".join, POEMS)).encode(), {"document": "line"}),
        ("\n".join(f"“{poem}”" for poem in POEMS).encode(), {"document": "line"}),
        ("\n".join(BARE).encode(), {"document": "line"}),
    ],
)
def test_poems_are_recognised_however_they_are_written(
    content: bytes, keys: dict[str, str], tmp_path: Path
) -> None:
    proposal = propose(file(tmp_path, "a.txt", content), None)
    proposed = plain(proposal.prepare)
    assert proposed["rhymes"]
    assert {key: proposed[key] for key in ("encoding", "document") if key in proposed} == keys
    encoder = TextEncoder(
        Preprocessing("char", replace=[list(pair) for pair in proposed.get("replace", {}).items()])
    )
    documents, _ = read_documents(tmp_path, proposed.get("encoding"), proposed["document"])
    assert ["".join(encoder.tokens(encoder.clean(text))) for text in documents] == POEMS


def test_other_prose_is_told_what_it_can_become(tmp_path: Path) -> None:
    proposal = propose(file(tmp_path, "a.txt", "The data are a sample.\nA model is a function."), None)
    assert "word vectors" in proposal.findings[-1]
    assert "to classify texts, give a table" in proposal.findings[-1]
    with pytest.raises(DataError, match="there are no letters in it"):
        propose(file(tmp_path, "b.txt", "123\n456\n"), None)
