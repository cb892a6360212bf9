"""The starting point as the one batch of every epoch, and raw points -> heights."""

from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.descent.preprocessing import COLUMNS, read_points
from src.shared.batches import Batches
from src.shared.errors import ConfigurationError
from src.shared.folders import MODELS, PREPARED, read_preprocessing


class DescentData(LightningDataModule):
    """The starting point of a task; each epoch has one batch, so that it is one step.

    Args:
        task: a name under `tasks` in params.yaml.
        seed: not used: nothing is drawn.
        input: for `predict`, a CSV file of points, columns x1 and x2.
        output: for `predict`, the CSV file to write.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        input: Path | None = None,
        output: Path = Path("predictions.csv"),
    ) -> None:
        super().__init__()
        self.input = input
        self.output = output
        self.prepared = PREPARED / task
        self.preprocessing = read_preprocessing(*((MODELS / task, "train") if input else (self.prepared,)))

    def targets(self, split: str) -> Tensor:
        """The starting point (1, 2), the only data there are."""
        return torch.from_numpy(np.load(self.prepared / "start.npy"))

    def train_dataloader(self) -> Batches:
        """One batch."""
        return Batches((self.targets("train"),), "full")

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self) -> Batches:
        """The points of `input`."""
        if self.input is None:
            raise ConfigurationError("predict needs points: add --data.input FILE")
        return Batches((torch.from_numpy(read_points(self.input)),), "full")

    def write_predictions(self, predictions: list[Tensor]) -> Path:
        """Write x1, x2 and the height of each point of `input` to `output`."""
        assert self.input is not None
        table = np.column_stack([read_points(self.input), torch.cat(predictions).cpu().numpy()])
        # a name of its own, then a rename: an older file is replaced whole or kept
        partial = self.output.with_name(f".{self.output.name}.partial")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        header = ",".join([*COLUMNS, "height"])
        np.savetxt(partial, table, delimiter=",", header=header, comments="", fmt="%.10g")
        partial.replace(self.output)
        return self.output
