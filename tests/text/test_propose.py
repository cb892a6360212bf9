"""Proposals for new texts."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from src.preparation.proposals import Proposal, plain
from src.text.propose import propose
from src.text.propose_classes import _tokens

POEMS = ["床前明月光，疑是地上霜。", "白日依山尽，黄河入海流。", "千山鸟飞绝，万径人踪灭。"]
TRADITIONAL = ["春眠不覺曉，處處聞啼鳥。", "國破山河在，城春草木深。", "紅豆生南國；春來發幾枝。"]
PROSE = ["机器学习研究的是怎样让计算机从数据中学到规律。", "没有数据，模型就没有可以学习的东西。"]
ENGLISH = ["The weights of a network are learnt, the data are not.", "The data are a sample of the world!"]


def proposed(folder: Path, lines: list[str]) -> Proposal:
    path = folder / "lines.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return propose(path, None)


def settings(proposal: Proposal) -> tuple[Any, str]:
    configuration = plain(proposal.configuration)
    return plain(proposal.prepare), configuration["model"]["class_path"].rpartition(".")[2]


def test_verses_of_one_length_are_poems(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, POEMS)
    prepare, model = settings(proposal)
    assert (prepare["tokenizer"], prepare["rhymes"], model) == ("char", "pingshui", "LanguageModel")
    assert not {"convert", "replace"} & set(prepare)
    assert "100% have verses of 5 or of 7 characters" in proposal.findings[-1]
    assert proposal.predict == "--data.compose.start 床 --data.compose.count 3"


def test_traditional_characters_and_other_signs_are_found(tmp_path: Path) -> None:
    prepare, model = settings(proposed(tmp_path, TRADITIONAL))
    assert (prepare["convert"], prepare["replace"], model) == ("t2s", {"[；;:：]": "。"}, "LanguageModel")


@pytest.mark.parametrize(
    ("lines", "stopwords", "finding"),
    [
        (PROSE, ["的", "是", "就", "。", "，"], "Chinese, no verses"),
        (ENGLISH, ["of", "a", "are", "the", "!", ",", "."], "not Chinese"),
    ],
)
def test_prose_becomes_word_vectors(
    lines: list[str], stopwords: list[str], finding: str, tmp_path: Path
) -> None:
    proposal = proposed(tmp_path, lines)
    prepare, model = settings(proposal)
    assert (prepare["tokenizer"], prepare["min_count"], model) == ("jieba", 2, "WordVectors")
    assert set(stopwords) == set(prepare["stopwords"])
    assert proposal.findings[-1].startswith(finding)
    assert proposal.predict.startswith('--data.words "[')


@pytest.mark.parametrize(("poems", "batch_size", "epochs"), [(900, 4, 16), (3000, 16, 10), (12_000, 32, 3)])
def test_more_poems_have_larger_batches(poems: int, batch_size: int, epochs: int, tmp_path: Path) -> None:
    configuration = plain(proposed(tmp_path, POEMS * (poems // 3)).configuration)
    assert configuration["data"]["init_args"]["batch_size"] == batch_size
    assert configuration["trainer"] == {"max_epochs": epochs, "gradient_clip_val": 1}


def test_letters_are_counted_without_a_list_of_them() -> None:
    text = "a word " * 1000
    texts = [text] * 100  # 500,000 letters of one text in memory
    tracemalloc.start()
    try:
        assert plain(_tokens(texts))["tokenizer"] == "word"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n".join(POEMS), encoding="utf-8")
    proposal = propose(tmp_path, None)
    assert (proposal.source, proposal.files) == (tmp_path, [])
    assert proposal.findings[0].startswith(f"{tmp_path.name}: 6 documents")


@pytest.mark.parametrize("separator", ["-----", "=======", "12345"])
def test_lines_between_poems_are_no_poems(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "poems.txt"
    poems = ["春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"] * 20
    path.write_text("\n".join([*poems, separator]) + "\n", encoding="utf-8")
    assert "--data.compose.start 春" in str(propose(path, None))
