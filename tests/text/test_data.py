"""Batches of documents, windows and contexts."""

import functools
import operator
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from src.core.errors import ConfigurationError
from src.core.paths import PREPARED
from src.text.data import (
    ContextData,
    DocumentBatches,
    DocumentData,
    PreparedDocuments,
    blocks_of_contexts,
    contexts,
    joined,
    load_split,
    windows,
)
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import BOS, EOS, PAD, SPECIAL, UNK

# three documents of 3, 1 and 5 tokens, from <BOS> to <EOS>
LENGTHS = (3, 1, 5)
DOCUMENTS = [[BOS, *range(10 * n, 10 * n + length), EOS] for n, length in enumerate(LENGTHS, start=1)]
TOKENS = np.array(functools.reduce(operator.iadd, DOCUMENTS, []), dtype=np.int32)
OFFSETS = np.cumsum([0, *(len(document) for document in DOCUMENTS)])
REAL = Path(__file__).parents[3] / "shared" / "data" / "poems"


def batches_of(lengths: list[int], **settings: Any) -> DocumentBatches:
    """Documents whose tokens are all the number of the document plus 10."""
    tokens = torch.cat([torch.full((length,), 10 + number) for number, length in enumerate(lengths)])
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return DocumentBatches((tokens, offsets), **settings)


def test_windows_stay_inside_a_document() -> None:
    found, dropped = windows(TOKENS, OFFSETS, 3)
    assert found.tolist() == [[10, 11, 12], [30, 31, 32], [31, 32, 33], [32, 33, 34]]
    assert dropped == 1


def test_windows_longer_than_all_documents_are_none() -> None:
    found, dropped = windows(TOKENS, OFFSETS, 6)
    assert (found.shape, dropped) == ((0, 6), 3)


@pytest.mark.skipif(not REAL.is_dir(), reason="the 319 poems are not beside the project")
def test_windows_of_24_drop_38_of_the_319_poems() -> None:
    poems = (REAL / "poems.txt").read_text(encoding="utf-8").splitlines()
    # the course's corpus is without punctuation
    lengths = [len(re.findall("[一-鿿]", poem)) + 2 for poem in poems]
    found, dropped = windows(np.zeros(sum(lengths), np.int32), np.cumsum([0, *lengths]), 24 + 1)
    assert (len(found), dropped) == (12_484, 38)
    assert lengths.count(20 + 2) == 37


def test_contexts_stay_inside_their_document_and_leave_unknown_words_out() -> None:
    tokens = TOKENS.copy()
    tokens[2] = UNK
    assert contexts(tokens, OFFSETS, 2).tolist() == [
        [PAD, PAD, 10, UNK, 12],
        [10, UNK, 12, PAD, PAD],
        [PAD, PAD, 20, PAD, PAD],
        [PAD, PAD, 30, 31, 32],
        [PAD, 30, 31, 32, 33],
        [30, 31, 32, 33, 34],
        [31, 32, 33, 34, PAD],
        [32, 33, 34, PAD, PAD],
    ]


@pytest.mark.parametrize(("most", "sizes"), [(1, [3, 1, 5]), (8, [4, 5]), (100, [9])])
def test_contexts_can_be_made_in_blocks(most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.text.data.CONTEXTS", most)
    blocks = list(blocks_of_contexts(TOKENS, OFFSETS, 2))
    assert list(map(len, blocks)) == sizes
    assert np.array_equal(np.concatenate(blocks), contexts(TOKENS, OFFSETS, 2))


@pytest.mark.parametrize("sizes", [[9], [3, 1, 5], [0, 4, 4], [0, 0], [1] * 9, [20]])
def test_blocks_are_joined_and_cut_as_all_rows_would_be(sizes: list[int]) -> None:
    rows = np.arange(2 * sum(sizes)).reshape(-1, 2)
    found = list(joined(np.split(rows, np.cumsum(sizes)[:-1]), 4))
    expected = torch.from_numpy(rows).split(4)
    assert [block.tolist() for block in found] == [block.tolist() for block in expected]


def test_documents_are_read_one_at_a_time(tmp_path: Path) -> None:
    np.save(tmp_path / "test_tokens.npy", TOKENS)
    np.save(tmp_path / "test_offsets.npy", OFFSETS)
    documents = PreparedDocuments(tmp_path, "test")
    assert list(documents) == DOCUMENTS
    assert documents[1] == DOCUMENTS[1]
    assert len(documents) == len(DOCUMENTS)
    assert isinstance(documents.tokens.base, np.memmap)  # of any size


def test_a_batch_is_padded_to_its_longest_document() -> None:
    found = [batch[0].tolist() for batch in batches_of([2, 5, 3, 4], batch_size=2)]
    assert found == [[[10, 10, PAD], [12, 12, 12]], [[13, 13, 13, 13, PAD], [11] * 5]]


def test_an_epoch_has_every_document_once_and_similar_lengths_together() -> None:
    lengths = [length for length in (4, 9, 30) for _ in range(8)]
    loader = batches_of(lengths, batch_size=4, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        batches = [tokens for (tokens,) in loader]
        assert sorted(torch.cat([batch[:, 0] for batch in batches]).tolist()) == list(range(10, 34))
        assert all((batch != PAD).all() for batch in batches)
        orders.append([batch[:, 0].tolist() for batch in batches])
    assert orders[0] == orders[2] != orders[1]
    widths = [tokens.shape[1] for (tokens,) in loader]
    assert widths != sorted(widths)


def test_processes_share_each_batch() -> None:
    lengths = list(range(3, 15))
    whole = [set(batch[0][:, 0].tolist()) for batch in batches_of(lengths, batch_size=4, seed=3)]
    halves = [batches_of(lengths, batch_size=4, seed=3, process=rank, processes=2) for rank in (0, 1)]
    for first, second, together in zip(*halves, whole, strict=True):
        assert set(first[0][:, 0].tolist()) | set(second[0][:, 0].tolist()) == together


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task `poems` of thirty short poems, prepared; the working folder is its project."""
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "raw" / "poems"
    raw.mkdir(parents=True)
    characters = "春夏秋冬东南西北金木水火土风花雪月山川云天地人日星江海河湖石"
    (raw / "poems.txt").write_text("".join(f"甲{one}，乙丙{one}。\n" for one in characters), encoding="utf-8")
    prepare(raw, tmp_path / "data" / "prepared" / "poems", Preparation())
    return "poems"


def attached(data: Any) -> Any:
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    return data


def test_training_uses_whole_poems(task: str) -> None:
    batches = [batch[0] for batch in attached(DocumentData(PREPARED / task, batch_size=5)).train_dataloader()]
    assert sum(len(batch) for batch in batches) == 24
    assert all((batch[:, 0] == BOS).all() and (batch[:, -1] == EOS).all() for batch in batches)


def test_windows_report_the_poems_that_they_drop(task: str, caplog: pytest.LogCaptureFixture) -> None:
    data = attached(DocumentData(PREPARED / task, batch_size=5, window=4))
    assert {batch[0].shape[1] for batch in data.train_dataloader()} == {5}
    assert "window 4: 72 windows; 0 of 24 documents are too short" in caplog.text
    # evaluation uses whole poems
    assert next(iter(data.val_dataloader()))[0].shape[1] == 9
    with pytest.raises(ConfigurationError, match="no document has more than 7 tokens"):
        attached(DocumentData(PREPARED / task, window=7)).train_dataloader()


def test_targets_are_all_tokens_but_the_first_of_each_document(task: str) -> None:
    data = DocumentData(PREPARED / task)
    tokens, _ = load_split(data.prepared, "test")
    assert data.targets("test").tolist() == tokens[tokens != BOS].tolist()


def test_targets_of_word_vectors_are_the_words_in_the_middle(task: str) -> None:
    tokens, _ = load_split(ContextData(PREPARED / task).prepared, "train")
    assert ContextData(PREPARED / task).targets("train").tolist() == tokens[tokens >= len(SPECIAL)].tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DocumentData(PREPARED / "poems", batch_size=0), r"data\.batch_size must be at least 1"),
        (lambda: DocumentData(PREPARED / "poems", window=0), r"data\.window must be at least 1"),
        (lambda: ContextData(PREPARED / "poems", width=0), r"data\.width must be at least 1"),
        (lambda: DocumentData(PREPARED / "songs"), r"dvc repro prepare@songs"),
    ],
)
@pytest.mark.usefixtures("task")
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
