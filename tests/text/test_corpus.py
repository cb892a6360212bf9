"""Corpora that are larger than the memory: in blocks, by several processes."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from src.core.errors import DataError
from src.text import corpus
from src.text.corpus import cut_corpus
from src.text.data import DocumentBatches, load_split
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import BOS, EOS, UNK, Preprocessing
from src.text.reading import documents_of, lines_of

TEXTS = ["甲乙甲。", "乙", "，，", "丙丙丙丙\u200b", "甲乙，甲"]


@pytest.fixture(params=[1 << 20, 4], ids=["one block", "blocks of 4"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BLOCK", request.param)
    monkeypatch.setattr(corpus, "BLOCKS_ALONE", 99)


@pytest.mark.usefixtures("blocks")
def test_tokens_keys_and_counts(tmp_path: Path) -> None:
    found = cut_corpus(TEXTS, Preprocessing("char"), tmp_path / "cut")
    assert found.vocabulary == ["甲", "乙", "。", "，", "丙"]
    assert np.fromfile(found.path, np.int32).tolist() == [0, 1, 0, 2, 1, 3, 3, 4, 4, 4, 4, 0, 1, 3, 0]
    assert found.lengths.tolist() == [4, 1, 2, 4, 4]
    assert found.invisible == 1
    same = np.eye(5, dtype=bool)
    same[0, 4] = same[4, 0] = True
    assert (found.keys[:, None] == found.keys).tolist() == same.tolist()
    chosen = np.array([True, False, True, True, False])
    assert found.counts(chosen).tolist() == [2, 1, 1, 2, 4]


@pytest.mark.usefixtures("blocks")
def test_chosen_documents_are_written_from_begin_to_end(tmp_path: Path) -> None:
    found = cut_corpus(TEXTS, Preprocessing("char"), tmp_path / "cut")
    numbers = np.array([10, 11, UNK, 13, 14], np.int32)
    chosen = np.array([True, False, True, True, False])
    offsets, unknown = found.write(tmp_path / "a.npy", chosen, numbers, None)
    assert offsets.tolist() == [0, 6, 10, 16]
    assert unknown == 1
    rows = [[BOS, 10, 11, 10, UNK, EOS], [BOS, 13, 13, EOS], [BOS, 14, 14, 14, 14, EOS]]
    assert np.load(tmp_path / "a.npy").tolist() == list(chain(*rows))
    offsets, unknown = found.write(tmp_path / "b.npy", chosen, numbers, 3)
    assert offsets.tolist() == [0, 5, 9, 14]
    assert unknown == 0
    rows = [[BOS, 10, 11, 10, EOS], [BOS, 13, 13, EOS], [BOS, 14, 14, 14, EOS]]
    assert np.load(tmp_path / "b.npy").tolist() == list(chain(*rows))


@pytest.mark.slow
@pytest.mark.parametrize("processors", [1, 3])
def test_neither_blocks_nor_processes_change_what_is_prepared(
    processors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    words = ["学习", "模型", "很好", "天气", "下雨", "今天", "不错"]
    lines = [f"{words[n % 7]}{words[n % 5]}{words[n % 3]}，{n % 40}" for n in range(100)]
    (raw / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = Preparation(tokenizer="jieba")
    prepare(raw, tmp_path / "whole", settings)
    monkeypatch.setattr(corpus, "BLOCK", 60)
    monkeypatch.setattr(corpus, "BLOCKS_ALONE", 1)
    monkeypatch.setenv("PYTHON_CPU_COUNT", str(processors))
    prepare(raw, tmp_path / "parts", settings)
    first, second = (tmp_path / name / "manifest.json" for name in ("whole", "parts"))
    assert first.read_bytes() == second.read_bytes()


def test_lines_end_at_line_feeds_and_carriage_returns_alone(tmp_path: Path) -> None:
    text = "a\r\nb\rc\n\nd\x0be\u2028f\x85g\r\n \r\n"
    lines = ["a", "b", "c", "", "d\x0be\u2028f\x85g", " "]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(lines_of(tmp_path / "a.txt")) == lines
    (tmp_path / "a.txt").write_bytes(text.encode("utf-16"))
    assert list(lines_of(tmp_path / "a.txt", "utf-16")) == lines


@pytest.mark.parametrize("end", [b"\xff", b"\xe5\xa5"])
def test_a_damaged_end_is_found_before_the_first_line(end: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n" + "好".encode() * 400_000 + end)
    with pytest.raises(DataError, match="not UTF-8 at byte 1200002"):
        next(documents_of(tmp_path))


def test_large_tokens_are_a_memory_map_with_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.txt").write_text("\n".join("甲乙丙丁戊己"[n % 4 :] + str(n) for n in range(40)))
    prepare(tmp_path / "raw", tmp_path / "out", Preparation())
    whole = list(DocumentBatches(tuple(map(torch.from_numpy, load_split(tmp_path / "out", "train"))), 8, 1))
    monkeypatch.setattr("src.text.data.WHOLE_BYTES", 10)
    tokens, offsets = load_split(tmp_path / "out", "train")
    assert isinstance(tokens, np.memmap)
    mapped = list(DocumentBatches((torch.from_numpy(tokens), torch.from_numpy(offsets)), 8, 1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole, mapped, strict=True))
