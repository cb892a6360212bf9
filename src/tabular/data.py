"""Arrays -> batches: the LightningDataModule of the tabular room, and raw rows -> predictions."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.shared.batches import Batches
from src.shared.errors import ConfigurationError, DataError
from src.shared.folders import MODELS, PREPARED, read_preprocessing
from src.tabular.preprocessing import (
    categorical_columns,
    read_table,
    require_columns,
    transform,
    with_lags,
)

logger = logging.getLogger(__name__)

EVALUATION_ROWS = 8192


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """The arrays of a split: features (rows, F) float32, target (rows, 1) float32 or (rows,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("features", "target"))
    features, target = map(torch.from_numpy, arrays)
    return features, target


class TabularData(LightningDataModule):
    """The prepared table of a task, whole in memory, on the device that trains.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: rows of a training batch over all devices, or `full`.
        seed: of the batch order.
        input: for `predict`, a raw table (CSV, Excel or JSON) with at least the columns of training.
        output: for `predict`, the CSV file to write.
    """

    def __init__(
        self,
        task: str,
        batch_size: int | Literal["full"] = 64,
        seed: int = 0,
        input: Path | None = None,
        output: Path = Path("predictions.csv"),
    ) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.input = input
        self.output = output
        self.prepared = PREPARED / task
        learnt = (MODELS / task, "train") if input else (self.prepared, "prepare")
        self.preprocessing = read_preprocessing(*learnt)
        self.table: pd.DataFrame | None = None

    def targets(self, split: str) -> Tensor:
        """The target of a split, as `load_split`."""
        return load_split(self.prepared, split)[1]

    def _batches(self, split: str, batch_size: int | str, seed: int | None = None) -> Batches:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return Batches(
            tuple(tensor.to(device) for tensor in load_split(self.prepared, split)),
            batch_size,  # type: ignore[arg-type]
            seed=seed,
            process=self.trainer.global_rank,
            processes=self.trainer.world_size,
        )

    def train_dataloader(self) -> Batches:
        """Shuffled batches of (features, target)."""
        return self._batches("train", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("validation", EVALUATION_ROWS)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("test", EVALUATION_ROWS)

    def predict_dataloader(self) -> Batches:
        """Batches of (features,) made from the raw rows of `input`.

        Raises:
            ConfigurationError: no input was given.
            DataError: the input lacks a needed column, holds a wrong cell or too few rows of a series.
        """
        if self.input is None:
            raise ConfigurationError("predict needs raw rows: add --data.input FILE")
        learnt = self.preprocessing
        ids = [learnt["id"]] if learnt["id"] else []
        self.table = read_table(self.input, [*categorical_columns(learnt), *ids], learnt["missing"])
        require_columns(self.table, ids, self.input)
        if lags := learnt["lags"]:
            require_columns(self.table, [learnt["target"]["name"]], self.input)
            if len(self.table) < lags:
                raise DataError(f"{self.input}: {len(self.table)} rows, a forecast needs {lags} at least")
            # one more row: the value that is not known yet
            series = self.table.reindex(range(len(self.table) + 1))
            self.table = with_lags(series, learnt["target"]["name"], lags).iloc[lags:]
        unseen: Counter[str] = Counter()
        features = torch.from_numpy(transform(self.table, learnt, self.input, unseen))
        if unseen:
            counts = ", ".join(f"{name} ({count})" for name, count in sorted(unseen.items()))
            logger.warning("%s: categories never seen in training, ignored: %s", self.input, counts)
        return Batches((features,), EVALUATION_ROWS)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing for training and evaluation: `_batches` put the whole split on the device."""
        return batch if batch[0].device == device else tuple(tensor.to(device) for tensor in batch)

    def write_predictions(self, predictions: list[Tensor]) -> Path:
        """Write one row a prediction to `output`: the id (or the row number) and the target.

        Args:
            predictions: batches of shape (B,) in the target's unit, or of class probabilities (B, C);
                classes get a third column, the probability.
        """
        assert self.table is not None
        identifier, target = self.preprocessing["id"], self.preprocessing["target"]
        ids = self.table[identifier] if identifier else self.table.index + 1
        values = torch.cat(predictions).cpu()
        columns: dict[str, Any] = {target["name"]: values.numpy()}
        if target["classes"] is not None:
            probability, code = values.max(dim=1)
            classes = [target["classes"][number] for number in code.tolist()]
            columns = {target["name"]: classes, "probability": probability.numpy()}
        frame = pd.DataFrame({identifier or "row": ids, **columns})
        # a name of its own, then a rename: an older file is replaced whole or kept
        partial = self.output.with_name(f".{self.output.name}.partial")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(partial, index=False, lineterminator="\n")
        partial.replace(self.output)
        return self.output
