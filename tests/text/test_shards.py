"""Texts in shards, here and in another folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from src.core.errors import ConfigurationError
from src.core.shards import read_shards
from src.text.data import ContextData, DocumentBatches, DocumentData, LabelledData
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import PAD
from src.training.shards import Remote, RemoteArray
from tests.support import cli, contents

RAW, PREPARED = Path("raw"), Path("data/prepared/notes")
TOKENS = "train_tokens.npy"
SHARD = 160  # bytes, 40 tokens: three documents or more
REMOTE = ("--data.remote.address=store", "--data.remote.cache=cache", "--data.remote.cache_bytes=1000")
OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}}
NETWORKS = {
    "DocumentData": (
        "model.LanguageModel",
        {"class_path": "src.text.networks.Recurrent", "init_args": {"embedding_size": 4, "hidden_size": 4}},
    ),
    "LabelledData": (
        "classifier.TextClassifier",
        {"class_path": "src.text.encoders.BagOfEmbeddings", "init_args": {"embedding_size": 4}},
    ),
}


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `notes`: 60 texts of 3 to 9 characters with two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.core.shards.SHARD_BYTES", SHARD)
    monkeypatch.setattr("src.training.loading.SHARDS_AT_ONCE", 3)
    monkeypatch.setattr("src.text.prepare.WHOLE_BYTES", 1000)
    monkeypatch.setattr("src.text.data.WHOLE_BYTES", 1000)
    RAW.mkdir()
    signs = "春夏秋冬东南西北金木水火土风花雪月山川云"
    rows = [f"{signs[n % 20] * (1 + n % 7)}{signs[n // 20]}雨,{'yes' if n % 3 else 'no'}" for n in range(60)]
    (RAW / "notes.csv").write_text("\n".join(["text,class", *rows]), encoding="utf-8")
    prepare(RAW, PREPARED, Preparation(text="text", label="class"))


def made(kind: type[Any] = DocumentData, **settings: Any) -> Any:
    data = kind(PREPARED, batch_size=4, order_seed=3, **settings)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    return data


def upload(name: str = TOKENS) -> Remote:
    """Move a large array into a folder of its own."""
    Path("store").mkdir()
    (PREPARED / name).rename(Path("store", name))
    return Remote("store", Path("cache"), 1000)


def test_documents_are_not_cut() -> None:
    shards, offsets = read_shards(PREPARED), np.load(PREPARED / "train_offsets.npy")
    assert list(shards) == [TOKENS]
    assert set(shards[TOKENS].rows) <= set(offsets.tolist())
    assert sum(made().blocks("train").sizes) == len(offsets) - 1 == 48
    assert made().blocks("validation") is None


def test_an_epoch_has_every_document_once_and_some_shards_at_a_time() -> None:
    offsets = np.load(PREPARED / "train_offsets.npy")
    loader = made().train_dataloader()
    sizes = loader.blocks.sizes
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    order = loader._order().tolist()
    assert sorted(order) == list(range(48))
    lengths = np.diff(offsets)
    windows = [rows.tolist() for rows in loader.blocks.windows(None)]
    seen = [number for number, _ in zip(dict.fromkeys(shard_of[order].tolist()), sizes, strict=True)]
    # documents of the first three shards come before those of the others
    first = [row for row in order if shard_of[row] in seen[:3]]
    assert order[: len(first)] == first
    assert len(windows) == -(-len(sizes) // 3)
    # batches of documents of similar length: the first is of one window
    batch = sorted(lengths[order[:4]])
    assert batch[-1] - batch[0] <= 2
    loader.set_epoch(1)
    assert loader._order().tolist() != order


def test_processes_and_a_resumed_epoch_have_the_same_batches() -> None:
    def texts(**settings: Any) -> list[list[list[int]]]:
        loader = made().train_dataloader()
        vars(loader).update(settings)
        return [[row[row != PAD].tolist() for row in tokens] for (tokens,) in loader]

    alone = texts()
    assert sum(map(len, alone)) == 48
    assert texts(start=5) == alone[5:]
    halves = texts(process=0, processes=2), texts(process=1, processes=2)
    assert [row for pair in zip(*halves, strict=True) for part in pair for row in part] == [
        row for batch in alone for row in batch
    ]


@pytest.mark.parametrize("kind", [DocumentData, LabelledData])
def test_remote_texts_give_the_same_batches_and_targets(kind: type[Any]) -> None:
    local = made(kind)
    batches = [list(loader) for loader in (local.train_dataloader(), local.val_dataloader())]
    targets = local.targets("train")
    data = made(kind, remote=upload())
    assert isinstance(data.tensors("train")[0], RemoteArray)
    for some, loader in zip(batches, (data.train_dataloader(), data.val_dataloader()), strict=True):
        for batch, other in zip(some, loader, strict=True):
            assert all(map(torch.equal, batch, other))
    count = data.targets("train").bincount(minlength=40)
    assert torch.equal(count, targets.bincount(minlength=40))


def test_training_tokens_are_counted_without_the_first_of_each_document() -> None:
    tokens, offsets = (np.load(PREPARED / f"train_{name}.npy") for name in ("tokens", "offsets"))
    expected = np.bincount(np.delete(tokens, offsets[:-1]), minlength=40)
    counted = made().targets("train")
    assert counted.bincount(minlength=40).tolist() == expected.tolist()
    assert len(counted) == expected.sum()


@pytest.mark.parametrize("seed", [None, 1])
def test_a_batch_at_the_border_of_two_windows_has_documents_of_both(seed: int | None) -> None:
    data = made(LabelledData)
    blocks = data.blocks("train")
    loader = DocumentBatches(data.tensors("train"), 4, seed, blocks=blocks)
    order = loader._order()
    assert sorted(order.tolist()) == list(range(48))
    assert list(map(len, (tokens for tokens, _ in loader))) == [4] * 12
    lengths = loader.tensors[1]
    window = len(next(blocks.windows(None)))
    if seed is None:
        whole = lengths[order[: window // 4 * 4]]
        assert torch.equal(whole, whole.sort().values)


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize("kind", [DocumentData, LabelledData])
def test_remote_texts_give_the_same_weights_and_run(kind: type[Any]) -> None:
    model, network = NETWORKS[kind.__name__]
    configuration = {
        "task": "notes",
        "seed_everything": 1,
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "data": {"class_path": f"src.text.data.{kind.__name__}", "init_args": {"batch_size": 4}},
        "model": {
            "class_path": f"src.text.{model}",
            "init_args": {"network": network, "optimizer": OPTIMIZER},
        },
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    assert cli("fit", "--config", "config.yaml") == 0
    expected, runs = contents(Path("models")), sorted(Path("runs/notes").glob("*/run.json"))
    shutil.rmtree("models")
    shutil.rmtree("runs")
    upload()
    assert cli("fit", "--config", "config.yaml", *REMOTE) == 0
    assert contents(Path("models")) == expected
    assert sorted(Path("runs/notes").glob("*/run.json")) == runs
    assert len(list(Path("cache").glob("*.shard"))) > 2


def test_windows_and_contexts_are_made_in_memory() -> None:
    assert made(window=2).blocks("train") is None
    assert made(ContextData).blocks("train") is None
    with pytest.raises(ConfigurationError, match=r"leave data\.remote out"):
        made(window=2, remote=upload())
