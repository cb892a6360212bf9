"""Modules and trainings for two processes that hold the weights in parts: python sharded.py trainings.json.

Each training has a folder of its own. Those in folders named "cut" are ended by a signal in their second
epoch, the first time that they are started.
"""

# isort: off
import src.cli  # before torch, since it chooses what it computes with

# isort: on
import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from src.core.errors import reported_error
from src.training import compilation

FEATURES, WIDTH, CLASSES = 6, 17, 3


class Data(lightning.LightningDataModule):
    """Rows around class centres."""

    def rows(self, seed: int) -> TensorDataset:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(48) % CLASSES
        return TensorDataset(torch.randn(48, FEATURES, generator=generator) + y[:, None], y)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows(1), 8, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows(2), 8)

    test_dataloader = predict_dataloader = val_dataloader


class Blocks(lightning.LightningModule):
    """Equal blocks with noise and batch norm, a parameter of the module itself, and tied layers."""

    def __init__(self, lr: float = 0.01, optimizer: str = "AdamW") -> None:
        super().__init__()
        self.lr, self.optimizer = lr, optimizer
        self.inputs = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.1))
            for _ in range(3)
        )
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.outputs = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inputs(x)
        for block in self.blocks:
            x = x + block(x)
        answer: Tensor = self.outputs(self.second(self.first(x))) * self.scale
        return answer

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        return loss + 0.1 * self.scale.square().sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).argmax(1)

    def configure_optimizers(self) -> Any:
        return getattr(torch.optim, self.optimizer)(self.parameters(), self.lr)


class OwnParts(Blocks):
    """The same, sharded by itself as Lightning's documentation does it."""

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            mesh = self.device_mesh["data_parallel"]
            for block in self.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(self, mesh=mesh)
            for step in ("training_step", "validation_step", "test_step"):
                register_fsdp_forward_method(self, step)


class Unguarded(Blocks):
    """Sharded by itself, but not without processes."""

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard

        fully_shard(self, mesh=self.device_mesh["data_parallel"])


class Penalised(Blocks):
    """Computes with weights outside of their layer's call."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + self.inputs.weight.abs().sum()


class Watch(lightning.Callback):
    """Ends a training in its second epoch, and notes what each process holds."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        cut = Path("cut")
        if cut.exists() and trainer.current_epoch == 1 and batch_idx == 1:
            number = int(cut.read_text())
            trainer.strategy.barrier()
            if trainer.global_rank == 0:
                cut.unlink()
            trainer.strategy.barrier()
            os.kill(os.getpid(), number)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        parts = [value for value in pl_module.state_dict().values() if hasattr(value, "to_local")]
        (optimizer,) = trainer.optimizers
        moments = [v for s in optimizer.state.values() for v in s.values() if hasattr(v, "to_local")]
        held = sum(value.to_local().numel() for value in (*parts, *moments))
        numbers = {"held": held, "all": sum(value.numel() for value in (*parts, *moments))}
        buffers = [value.sum().item() for value in pl_module.buffers()]
        text = json.dumps({**numbers, "buffers": buffers})
        Path(f"held.{trainer.global_rank}.json").write_text(text, encoding="utf-8")


def run(folder: Path, arguments: list[str]) -> str:
    """Run a command in a folder; how it ended."""
    os.chdir(folder)
    try:
        src.cli.main(arguments)
    except SystemExit as stopped:
        return f"exit {stopped.code}"
    except Exception as error:
        if reported_error(error) is None:
            raise
        return str(error)
    return "ended"


def main(path: Path) -> None:
    """Run all commands in turn, and note how each ended in each process."""
    src.cli.trial_by = lambda trainer: []  # trainings of a few batches are kept here
    compilation.computes_in_bfloat16 = lambda: True  # the time of an emulation does not matter here
    ends = [
        run(Path(folder), arguments) for folder, arguments in json.loads(path.read_text(encoding="utf-8"))
    ]
    (path.parent / f"ends.{path.stem}.{os.environ.get('RANK', '0')}.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
