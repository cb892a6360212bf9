from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from src.core.errors import ConfigurationError
from src.tabular.columns import CategoricalColumn
from src.tabular.data import MappedBatches, TabularData, densify, load_split, mapped_split
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing
from src.training.networks import MLP

PREPARED = Path("data/prepared/houses")


class Seen(Callback):
    """Remembers the targets of the batches, by stage and epoch."""

    def __init__(self) -> None:
        self.train: dict[int, list[float]] = {}
        self.validation: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.train.setdefault(trainer.current_epoch, []).extend(batch[1][:, 0].tolist())

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validation.extend(batch[1][:, 0].tolist())


def quiet_trainer(*callbacks: Callback, epochs: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def loss_of(model: TabularModel, split: str) -> float:
    features, target = load_split(PREPARED, split)
    with torch.inference_mode():
        return (model(features) - target).square().mean().item()


@pytest.fixture
def model(houses: pd.DataFrame) -> TabularModel:
    torch.manual_seed(0)
    return TabularModel(
        Preprocessing.load(PREPARED),
        partial(MLP, hidden_sizes=[4]),
        optimizer=partial(torch.optim.SGD, lr=0.0),
    )


@pytest.mark.usefixtures("houses")
def test_splits_are_loaded_as_they_were_prepared() -> None:
    data = TabularData(PREPARED)
    for split, rows in [("train", 72), ("validation", 8), ("test", 20)]:
        features, target = load_split(PREPARED, split)
        assert (features.shape, features.dtype) == ((rows, 8), torch.float32)
        assert (target.shape, target.dtype) == ((rows, 1), torch.float32)
        assert torch.equal(data.targets(split), target)


def test_training_shuffles_each_epoch_and_validation_keeps_the_order(model: TabularModel) -> None:
    seen = Seen()
    data = TabularData(PREPARED, batch_size=16, order_seed=1)
    quiet_trainer(seen, epochs=2).fit(model, datamodule=data)
    train = load_split(PREPARED, "train")[1][:, 0].tolist()
    assert seen.train[0] != seen.train[1]
    assert sorted(seen.train[0]) == sorted(seen.train[1]) == sorted(train)
    assert seen.train[0] != train
    assert seen.validation == 2 * load_split(PREPARED, "validation")[1][:, 0].tolist()


def test_what_an_epoch_logs_is_over_all_its_rows(model: TabularModel) -> None:
    # the last of the batches is smaller than the others
    data = TabularData(PREPARED, batch_size=16, order_seed=1)
    trainer = quiet_trainer()
    trainer.fit(model, datamodule=data)
    logged = dict(trainer.callback_metrics)
    tested = trainer.test(model, datamodule=data, verbose=False)[0]
    model.eval()
    for split, found in [("train", logged), ("validation", logged), ("test", tested)]:
        features, target = load_split(PREPARED, split)
        with torch.inference_mode():
            outputs = model(features)
        assert float(found[f"{split}/loss"]) == pytest.approx(loss_of(model, split))
        if split != "train":
            errors = model.predict(outputs) - model.predict(target)
            assert float(found[f"{split}/mae"]) == pytest.approx(errors.abs().mean().item())
            assert float(found[f"{split}/rmse"]) == pytest.approx(errors.square().mean().sqrt().item())
            ratios = model.predict(outputs).clamp(min=1).log() - model.predict(target).log()
            assert float(found[f"{split}/log_rmse"]) == pytest.approx(ratios.square().mean().sqrt().item())


def test_every_epoch_logs_its_own_rows_only(houses: pd.DataFrame) -> None:
    torch.manual_seed(0)
    model = TabularModel(
        Preprocessing.load(PREPARED),
        partial(MLP, hidden_sizes=[4]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    losses = []
    for _ in range(2):
        # one batch an epoch: its loss is that of the weights before the step
        losses.append(loss_of(model, "train"))
        trainer = quiet_trainer()
        trainer.fit(model, datamodule=TabularData(PREPARED, batch_size="full", order_seed=1))
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert logged["train/loss"] == pytest.approx(losses[-1])
        assert logged["validation/loss"] == pytest.approx(loss_of(model, "validation"))
        rmse = model.target.scale * loss_of(model, "validation") ** 0.5
        assert logged["validation/rmse"] == pytest.approx(rmse)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.mark.usefixtures("houses")
@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_rows_is_refused(batch_size: int) -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        TabularData(PREPARED, batch_size=batch_size)


def test_data_that_are_not_prepared_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="dvc repro prepare@houses"):
        TabularData(PREPARED)


@pytest.mark.usefixtures("houses")
def test_features_are_numbers_and_a_one_in_the_place_of_the_category() -> None:
    prepared = Preprocessing.load(PREPARED)
    assert prepared.features == [
        *("Area", "Code_07", "Code_7", "Code_A"),
        *("Kind_brick", "Kind_stone", "Kind_wood", "Kind_nan"),
    ]
    numbers = torch.tensor([[1.5], [-2.0], [0.0]])
    # the last codes are those of categories that no training row has
    codes = torch.tensor([[0, 3], [2, 0], [3, 4]], dtype=torch.uint8)
    assert densify(numbers, codes, prepared).tolist() == [
        [1.5, 1, 0, 0, 0, 0, 0, 1],
        [-2.0, 0, 0, 1, 1, 0, 0, 0],
        [0.0, 0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.usefixtures("houses")
def test_codes_have_the_smallest_type() -> None:
    codes = np.load(PREPARED / "train_codes.npy")
    assert (codes.shape, codes.dtype) == ((72, 2), np.uint8)
    many = CategoricalColumn("k", [str(number) for number in range(255)], [], 0, "0")
    assert replace(Preprocessing.load(PREPARED), columns=[many]).code_type == np.uint8
    more = replace(many, rare=["x"])
    assert replace(Preprocessing.load(PREPARED), columns=[more]).code_type == np.uint16


def batches_of(processes: int, epoch: int = 0, start: int = 0) -> list[list[list[list[float]]]]:
    """The targets of each batch of each process."""
    prepared = Preprocessing.load(PREPARED)
    found = []
    for process in range(processes):
        tensors = mapped_split(PREPARED, "train")
        batches = MappedBatches(tensors, 16, 1, process, processes, prepared, torch.device("cpu"))
        batches.set_epoch(epoch)
        batches.start = start
        found.append([target.tolist() for _, target in batches])
    return found


@pytest.mark.usefixtures("houses")
def test_a_large_table_is_mapped_and_its_batches_are_those_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.tabular.data.BLOCK_ROWS", 4)
    monkeypatch.setattr("src.tabular.data.BLOCKS_AT_ONCE", 6)
    features, target = load_split(PREPARED, "train")
    row_of = {area: row for row, area in enumerate(features[:, 0].tolist())}
    prepared = Preprocessing.load(PREPARED)
    tensors = mapped_split(PREPARED, "train")
    batches = MappedBatches(tensors, 16, 1, 0, 1, prepared, torch.device("cpu"))
    rows = []
    for found, values in batches:
        rows.append([row_of[area] for area in found[:, 0].tolist()])
        assert torch.equal(found, features[rows[-1]])
        assert torch.equal(values, target[rows[-1]])
    assert list(map(len, rows)) == [16, 16, 16, 16, 8]
    order = [row for batch in rows for row in batch]
    assert sorted(order) == list(range(72))
    # three times six blocks of four rows; 24 rows are drawn from six blocks
    for first in (0, 24, 48):
        assert len({row // 4 for row in order[first : first + 24]}) == 6


@pytest.mark.usefixtures("houses")
def test_the_order_of_a_large_table_depends_on_the_epoch_and_not_on_the_processes() -> None:
    (alone,) = batches_of(1)
    assert batches_of(1) == [alone]
    assert batches_of(1, epoch=1) != [alone]
    assert batches_of(1, start=2) == [alone[2:]]
    first, second = batches_of(2)
    assert [a + b for a, b in zip(first, second, strict=True)] == alone


def test_a_small_and_a_large_table_are_trained_alike(
    model: TabularModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = []
    for size in (TabularData.whole_bytes, 0):
        monkeypatch.setattr(TabularData, "whole_bytes", size)
        data = TabularData(PREPARED, batch_size=16)
        tested += quiet_trainer().test(model, datamodule=data, verbose=False)
        quiet_trainer().fit(model, datamodule=data)
    assert tested[0] == tested[1]
