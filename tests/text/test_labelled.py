"""Texts with classes: reading, preparation and proposals."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import plain
from src.text.data import LabelledData
from src.text.labelled import Reading, read_labelled, read_plain
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import EOS, Preprocessing, TextEncoder
from src.text.propose import propose

TABLE = 'id,text,kind\n1,"good, cheap",yes\n2, ,no\n3,"two\nlines",no\n'
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def labelled(folder: Path, **folders: list[str]) -> Path:
    """A folder with a .txt file for each text, in a folder for each class."""
    for label, texts in folders.items():
        for number, text in enumerate(texts):
            written(folder / label / f"{number:03}.txt", text)
    return folder


def texts_of(kind: str, number: int = 10) -> list[str]:
    return [f"{kind} {WORDS[i % 10]} {i}" for i in range(number)]


# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.csv", TABLE.encode("utf-8-sig")),
        ("a.csv", TABLE.replace("\n", "\r\n").replace("two\r\nlines", "two\nlines")),
        ("a.csv", TABLE.replace(",", ";").replace("good; cheap", "good, cheap")),
        ("a.tsv", TABLE.replace(",", "\t").replace("good\t cheap", "good, cheap")),
    ],
    ids=["comma", "byte order mark", "windows", "semicolon", "tab"],
)
def test_a_table_of_texts(name: str, content: str | bytes, tmp_path: Path) -> None:
    rows, empty, unlabelled = read_labelled(written(tmp_path / name, content), "text", "kind")
    assert [row[1:] for row in rows] == [("good, cheap", "yes"), ("two\nlines", "no")]
    assert (empty, unlabelled) == (1, 0)


def test_a_text_may_be_longer_than_pythons_limit_of_a_cell(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f'text,kind\n"{"long, " * 40_000}",yes\n')
    ((_, text, _),), *_ = read_labelled(path, "text", "kind")
    assert len(text) == 240_000 - 1
    usual = csv.field_size_limit(1000)
    try:
        with pytest.raises(DataError, match="line 2: a cell has more than 16,777,216 characters"):
            read_labelled(path, "text", "kind")
    finally:
        csv.field_size_limit(usual)


def test_json_objects(tmp_path: Path) -> None:
    lines = '{"text": "a", "stars": 5}\n{"text": "b", "stars": "1"}\n{"text": "c", "stars": 5.0}\n'
    lines += '{"text": "d", "stars": null}\n{"text": "e"}\n{"text": null, "stars": 1}\n'
    rows, empty, unlabelled = read_labelled(written(tmp_path / "a.jsonl", lines), "text", "stars")
    assert [row[1:] for row in rows] == [("a", "5"), ("b", "1"), ("c", "5")]
    assert (empty, unlabelled) == (1, 2)


def test_folders_are_classes(tmp_path: Path) -> None:
    place = labelled(tmp_path, good=["g", "h"], bad=["b"])
    for name in ("good/._000.txt", "good/notes.md", ".hidden/a.txt", "empty/b.md"):
        written(place / name, "no")
    rows, *_ = read_labelled(place, None, "label")
    assert [row[1:] for row in rows] == [("b", "bad"), ("g", "good"), ("h", "good")]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (
            "a.csv",
            "text,label\nx,1\ny\n",
            DataError,
            r"a\.csv, line 3: 1 fields, expected 2",
        ),
        ("a.csv", "text,text\nx,1\n", DataError, "two columns have the same name"),
        ("a.csv", 'text,label\n"x,1\n', DataError, r"a\.csv, line 2: unexpected end of data"),
        ("a.csv", "text,label\nx,\n", DataError, "no text found that has a class"),
        ("a.csv", "text,label\n", DataError, "no row found"),
        ("a.csv", "words,label\nx,1\n", ConfigurationError, r"no column 'text' .*; it has words, label"),
        (
            "a.jsonl",
            '{"text": "x", "label": 0.5}\n',
            DataError,
            "must be a text or a whole number, found 0.5",
        ),
        ("a.jsonl", '"x"\n', DataError, "line 1: expected an object"),
        ("a.csv", "text,label\n好,1\n".encode("gb18030"), DataError, "it looks like gb18030"),
    ],
)
def test_errors_of_tables(
    name: str, content: str | bytes, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read_labelled(written(tmp_path / name, content), "text", "label")


def test_texts_to_predict(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.txt", "one\n\n two \n")
    assert read_plain(lines, None) == [("1", "one"), ("3", "two")]
    assert read_plain(written(tmp_path / "invisible.txt", "one\n\u200b\n"), None) == [("1", "one")]
    ends = written(tmp_path / "ends.txt", "one\u2028two\x85three\x0cfour\r\nfive\rsix\n\nseven")
    shown = [("1", "one\u2028two\x85three\x0cfour"), ("2", "five"), ("3", "six"), ("5", "seven")]
    assert read_plain(ends, None) == shown
    table = written(tmp_path / "a.csv", "kind,text\n,one\nx,\n")
    assert read_plain(table, "text") == [("1", "one"), ("2", "")]
    assert read_plain(labelled(tmp_path / "all", texts=["b"]) / "texts", None) == [("000.txt", "b")]
    with pytest.raises(DataError, match="no text found"):
        read_plain(written(tmp_path / "empty.txt", "\n"), None)


# -------------------------------------------------------------------------------------- preparation


def test_words_between_spaces() -> None:
    encoder = TextEncoder(Preprocessing(tokenizer="word", lowercase=True))
    found = encoder.tokens(encoder.clean("Don\u2019t say NO: it's 9.5!"))
    assert found == ["don\u2019t", "say", "no", ":", "it's", "9", ".", "5", "!"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902!", 3),  # Hindi: two words and a sign
        ("\u0643\u0650\u062a\u064e\u0627\u0628\u064c", 1),  # vocalised Arabic
        ("cafe\u0301s d\u2019e\u0301te\u0301", 2),  # accents as characters of their own
        ("\u0301 a", 2),  # a mark without a letter
    ],
)
def test_combining_marks_belong_to_their_word(text: str, words: int) -> None:
    tokens = TextEncoder(Preprocessing(tokenizer="word")).tokens(text)
    assert len(tokens) == words
    assert "".join(tokens) == text.replace(" ", "")


def test_documents_classes_and_shares(tmp_path: Path) -> None:
    raw = labelled(tmp_path / "raw", good=texts_of("good", 30), bad=texts_of("bad", 10))
    prepare(raw, tmp_path / "out", Preparation(label="label", tokenizer="word", longest=2, test_share=0.25))
    data = LabelledData(tmp_path / "out")
    assert data.preprocessing.labels.classes == ["bad", "good"]
    shares = {name: np.bincount(data.targets(name)).tolist() for name in ("train", "validation", "test")}
    assert shares == {"train": [6, 21], "validation": [1, 2], "test": [3, 7]}
    tokens, offsets, _ = data.tensors("train")
    first = tokens[: offsets[1]]
    assert len(first) == 4  # <BOS>, two words, <EOS>
    assert first[-1] == EOS
    texts = json.loads((tmp_path / "out" / "test_texts.json").read_text(encoding="utf-8"))
    assert [text.split()[0] == "good" for text in texts] == [bool(code) for code in data.targets("test")]


def test_the_vocabulary_is_that_of_training_texts(tmp_path: Path) -> None:
    raw = labelled(tmp_path / "raw", good=texts_of("good"), bad=texts_of("bad"))
    prepare(raw, tmp_path / "out", Preparation(label="label", tokenizer="word"))
    lines = (tmp_path / "out" / "split.csv").read_text(encoding="utf-8").splitlines()[1:]
    sides = [line.split(",")[1] for line in lines]
    texts = texts_of("bad") + texts_of("good")
    train = {
        word for text, side in zip(texts, sides, strict=True) if side == "train" for word in text.split()
    }
    assert set(Preprocessing.load(tmp_path / "out").vocabulary[6:]) == train


def test_equal_texts_are_on_one_side(tmp_path: Path) -> None:
    same = ["the very same text"] * 10
    raw = labelled(tmp_path / "raw", good=texts_of("good") + same, bad=texts_of("bad"))
    prepare(raw, tmp_path / "out", Preparation(label="label", tokenizer="word"))
    lines = (tmp_path / "out" / "split.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len({line.split(",")[1] for line in lines[20:]}) == 1


def test_an_official_test_set_and_copies_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = labelled(tmp_path / "raw" / "train", good=texts_of("good"), bad=texts_of("bad"))
    labelled(raw.parent / "test", good=["good one 0", "good new"], bad=["bad new"])
    settings = Preparation(label="label", tokenizer="word", train="train", test="test")
    prepare(raw.parent, tmp_path / "out", settings)
    data = LabelledData(tmp_path / "out")
    assert data.targets("test").tolist() == [0, 1, 1]
    assert len(data.targets("train")) + len(data.targets("validation")) == 19
    assert "1 text left out of the training: the official test set has the same" in caplog.text


def test_texts_without_a_class_are_refused_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{text},{name}" for name in ("good", "bad") for text in texts_of(name)] + ["unknown,"]
    table(tmp_path / "raw" / "a.csv", "text,label", rows)
    settings = Preparation(label="label", text="text", tokenizer="word")
    with pytest.raises(DataError, match=r"line 22: the class 'label' is missing.*missing_label: drop"):
        prepare(tmp_path / "raw", tmp_path / "out", settings)
    prepare(tmp_path / "raw", tmp_path / "out", replace(settings, missing_label="drop"))
    assert "1 text without a class left out (prepare.missing_label)" in capsys.readouterr().out
    lines = (tmp_path / "out" / "split.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == 20
    assert "unknown" not in Preprocessing.load(tmp_path / "out").vocabulary
    proposal = propose(tmp_path / "raw" / "a.csv", None)
    assert plain(proposal.prepare)["missing_label"] == "drop"


def test_folds_hold_each_text_once(tmp_path: Path) -> None:
    raw = labelled(tmp_path / "raw", good=texts_of("good"), bad=texts_of("bad"))
    held_out: list[str] = []
    for fold in (1, 2):
        out = tmp_path / str(fold)
        prepare(raw, out, Preparation(label="label", tokenizer="word", folds=2, fold=fold))
        held_out += json.loads((out / "test_texts.json").read_text(encoding="utf-8"))
    assert sorted(held_out) == sorted(texts_of("good") + texts_of("bad"))


@pytest.mark.parametrize(
    ("folders", "settings", "error", "message"),
    [
        ({"good": texts_of("good")}, {}, DataError, "expected two classes or more, found only 'good'"),
        (
            {"a": texts_of("a"), "b": texts_of("b"), "c": ["one"]},
            {"seed": 0},
            DataError,
            "'c' has no training text",
        ),
        ({}, {"label": None, "text": "text"}, ConfigurationError, "prepare.text is for texts with classes"),
        ({}, {"longest": 0}, ConfigurationError, "prepare.longest must be at least 1"),
        ({}, {"rhymes": True}, ConfigurationError, "must be false for texts with classes"),
        ({"a": ["x"]}, {"test": "a"}, ConfigurationError, "prepare.train"),
    ],
)
def test_errors_of_the_preparation(
    folders: dict[str, list[str]],
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        prepare(
            labelled(tmp_path / "raw", **folders),
            tmp_path / "out",
            Preparation(**{"label": "label", "tokenizer": "word", **settings}),
        )
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------- proposals


def table(path: Path, header: str, rows: list[str]) -> Path:
    return written(path, "\n".join([header, *rows]) + "\n")


def test_a_table_with_classes_is_classified(tmp_path: Path) -> None:
    rows = [f"{i},{text},{'yes' if i % 2 else 'no'}" for i, text in enumerate(texts_of("This is", 12))]
    proposal = propose(table(tmp_path / "a.csv", "id,review,useful", rows), None)
    settings = plain(proposal.prepare)
    assert (settings["text"], settings["label"], settings["tokenizer"]) == ("review", "useful", "word")
    assert plain(proposal.configuration)["model"]["class_path"].endswith("TextClassifier")
    assert proposal.predict == f"--data.input {tmp_path / 'a.csv'}"
    assert proposal.findings[1] == "50.0% are 'no', 50.0% 'yes'"


@pytest.mark.parametrize(
    ("form", "tokenizer"),
    [("とてもよいほん{}", "char"), ("\u0e14\u0e35\u0e21\u0e32\u0e01 {}", "char"), ("отлично {}", "word")],
)
def test_scripts_without_spaces_are_cut_into_characters(form: str, tokenizer: str, tmp_path: Path) -> None:
    rows = [f"{form.format(i)},{'yes' if i % 2 else 'no'}" for i in range(12)]
    proposal = propose(table(tmp_path / "a.csv", "text,label", rows), None)
    assert plain(proposal.prepare)["tokenizer"] == tokenizer


def test_the_class_that_is_named(tmp_path: Path) -> None:
    rows = [f"好看的书{i},{'甲' if i % 2 else '乙'},{'丙' if i % 3 else '丁'}" for i in range(12)]
    path = table(tmp_path / "a.csv", "内容,种,类", rows)
    with pytest.raises(
        ConfigurationError, match="name the column of the class: --target; it has 内容, 种, 类"
    ):
        propose(path, None)
    settings = plain(propose(path, "种").prepare)
    assert (settings["text"], settings["label"], settings["tokenizer"]) == ("内容", "种", "char")
    with pytest.raises(ConfigurationError, match="has no column 'x'"):
        propose(path, "x")


def test_classes_that_differ_in_case_are_told(tmp_path: Path) -> None:
    names = ("Yes", "no", "yes", "NO", "maybe")
    rows = [f"{text},{names[i % 5]}" for i, text in enumerate(texts_of("This is", 20))]
    findings = propose(table(tmp_path / "a.csv", "review,useful", rows), None).findings
    assert "classes that differ only in case: 'NO', 'Yes', 'no', 'yes'" in findings


def test_the_command_of_predict_has_the_encoding(tmp_path: Path) -> None:
    rows = "".join(f"好看的书{number},{number % 2}\n" for number in range(12))
    path = written(tmp_path / "a.csv", ("评论,标签\n" + rows).encode("gbk"))
    proposal = propose(path, None)
    assert proposal.predict == f"--data.input {path} --data.encoding gb18030"
    with pytest.raises(DataError, match=r"or for predict --data\.encoding=gb18030"):
        read_plain(path, "评论")


def test_the_class_of_json_objects_is_asked_for(tmp_path: Path) -> None:
    rows = [{"body": f"a review of {i}", "stars": i % 3} for i in range(12)]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ConfigurationError, match="name the column of the class: --target; it has body, stars"
    ):
        propose(path, None)
    assert plain(propose(path, "stars").prepare)["text"] == "body"


def test_folders_of_an_official_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        labelled(tmp_path / part, pos=texts_of(f"good {part}"), neg=texts_of(f"bad {part}"))
    settings = plain(propose(tmp_path, None).prepare)
    assert (settings["label"], settings["train"], settings["test"]) == ("label", "train", "test")
    assert "test_share" not in settings
    prepare(tmp_path, tmp_path / "out", Preparation(**settings))


@pytest.mark.parametrize("has_class", [False, True])
def test_a_test_file_without_classes_is_what_to_predict(has_class: bool, tmp_path: Path) -> None:
    rows = [f"{i},{text},{'yes' if i % 2 else 'no'}" for i, text in enumerate(texts_of("This is", 12))]
    table(tmp_path / "train.csv", "id,text,target", rows)
    if has_class:
        table(tmp_path / "test.csv", "id,text,target", ["1,one thing,yes", "2,another,no"])
    else:
        table(tmp_path / "test.csv", "id,text", ["1,one thing", "2,another"])
    proposal = propose(tmp_path, None)
    settings = plain(proposal.prepare)
    assert (settings["train"], settings.get("test")) == ("train.csv", "test.csv" if has_class else None)
    assert ("test_share" in settings) != has_class
    assert (proposal.predict == f"--data.input {tmp_path / 'test.csv'}") != has_class
    told = "'test.csv' has no column 'target': it is what to predict"
    assert (told in proposal.findings) != has_class
    prepare(tmp_path, tmp_path / "out", Preparation(**settings))


def test_a_class_folder_that_the_test_set_lacks_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "test"):
        labelled(tmp_path / "raw" / part, pos=texts_of(f"good {part}"), neg=texts_of(f"bad {part}"))
    labelled(tmp_path / "raw" / "train", unsup=texts_of("any"))
    proposal = propose(tmp_path / "raw", None)
    settings = plain(proposal.prepare)
    assert settings["drop_classes"] == ["unsup"]
    assert "left out: the class 'unsup': test has no such folder; see `drop_classes`" in proposal.findings
    assert "20 texts" in proposal.findings[0]
    prepare(tmp_path / "raw", tmp_path / "out", Preparation(**settings))
    assert LabelledData(tmp_path / "out").preprocessing.labels.classes == ["neg", "pos"]
    assert "no test text" not in caplog.text
    del settings["drop_classes"]
    prepare(tmp_path / "raw", tmp_path / "out", Preparation(**settings))
    assert "no test text has the class 'unsup'" in caplog.text


def test_a_class_of_a_table_can_be_left_out(tmp_path: Path) -> None:
    rows = [f"{text},{name}" for name in ("good", "bad", "mixed") for text in texts_of(name)]
    table(tmp_path / "raw" / "a.csv", "text,label", rows)
    settings = Preparation(label="label", text="text", tokenizer="word", drop_classes=["mixed"])
    prepare(tmp_path / "raw", tmp_path / "out", settings)
    learnt = Preprocessing.load(tmp_path / "out")
    assert learnt.labels is not None
    assert learnt.labels.classes == ["bad", "good"]
    assert "mixed" not in learnt.vocabulary


def test_a_table_without_a_header_loses_no_row(tmp_path: Path) -> None:
    rows = [f'"{i % 4 + 1}","Title {i}","The {WORDS[i % 10]} long description {i}"' for i in range(40)]
    path = written(tmp_path / "raw" / "train.csv", "\n".join(rows) + "\n")
    proposal = propose(path, None)
    settings = plain(proposal.prepare)
    assert (settings["header"], settings["label"], settings["text"]) == ("none", "column_1", "column_3")
    assert "40 texts" in proposal.findings[0]
    assert any("the first line has values, not names" in finding for finding in proposal.findings)
    prepare(path.parent, tmp_path / "out", Preparation(**settings))
    labels = Preprocessing.load(tmp_path / "out").labels
    assert labels is not None
    assert (labels.classes, labels.header) == (["1", "2", "3", "4"], "none")
    assert len((tmp_path / "out" / "split.csv").read_text(encoding="utf-8").splitlines()) == 41
    assert len(read_plain(path, labels.text, Reading(header=labels.header))) == 40
    named = replace(Preparation(**settings), header=["kind", "title", "text"], label="kind", text="text")
    prepare(path.parent, tmp_path / "named", named)
    with pytest.raises(DataError, match="line 1: 3 fields, expected 2 as in `header`"):
        read_labelled(path, "text", "kind", Reading(header=["kind", "text"]))


@pytest.mark.parametrize("header", ["label,text,", "0,1", "spam,text"])
def test_a_header_like_values_is_a_header(header: str, tmp_path: Path) -> None:
    end = "," if header.endswith(",") else ""
    cells = [(str(i % 2), f"the {WORDS[i % 10]} text {i}") for i in range(40)]
    if header == "spam,text":
        cells = [("spam" if label == "1" else "ham", text) for label, text in cells]
    if header == "0,1":
        cells = [(text, label) for label, text in cells]
    lines = [f"{first},{second}{end}" for first, second in cells]
    path = written(tmp_path / "a.csv", "\n".join([header, *lines]) + "\n")
    proposal = propose(path, None)
    assert "header" not in proposal.prepare
    assert "40 texts" in proposal.findings[0]


def test_quotes_may_be_signs_of_the_texts(tmp_path: Path) -> None:
    rows = [f'{"spam" if i % 3 else "ham"}\t"{WORDS[i % 10]} is what {i} said' for i in range(29)]
    path = written(tmp_path / "raw" / "sms.tsv", "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"line .*a quote may be missing; .* set `quotes: false`"):
        read_labelled(path, "column_2", "column_1", Reading(header="none"))
    proposal = propose(path, None)
    settings = plain(proposal.prepare)
    assert (settings["quotes"], settings["header"], settings["label"]) == (False, "none", "column_1")
    assert "29 texts" in proposal.findings[0]
    prepare(path.parent, tmp_path / "out", Preparation(**settings))
    labels = Preprocessing.load(tmp_path / "out").labels
    assert labels is not None
    texts = read_plain(path, labels.text, Reading(header=labels.header, quotes=labels.quotes))
    assert texts[0] == ("1", '"one is what 0 said')
    assert len(texts) == 29


def test_json_without_classes_stays_what_it_was(tmp_path: Path) -> None:
    poems = [{"title": f"{i}", "paragraphs": ["床前明月光，", f"疑是地上霜{i}。"]} for i in range(5)]
    written(tmp_path / "a.json", json.dumps(poems, ensure_ascii=False))
    assert "label" not in plain(propose(tmp_path, None).prepare)
    written(tmp_path / "a.json", json.dumps(["one text.", "another text."]))
    assert "label" not in plain(propose(tmp_path, None).prepare)
