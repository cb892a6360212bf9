"""What each process holds of a model in parts (fsdp2) and whole (ddp): python -m benchmarks.sharding.

Both train the same blocks in gloo processes of this machine. Held are the weights and the state of Adam after
the last step; the time of a step is the median.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

MEBIBYTE = 2**20


class Blocks(lightning.LightningModule):
    """Dense blocks of one width, as those of a language model."""

    def __init__(self, width: int = 1024, blocks: int = 12) -> None:
        super().__init__()
        layers = [
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        ]
        self.width = width
        self.network = nn.Sequential(*layers)

    def train_dataloader(self) -> DataLoader[Any]:
        """Rows of noise."""
        return DataLoader(TensorDataset(torch.randn(512, self.width)), batch_size=8)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The mean square of the outputs."""
        outputs: Tensor = self.network(batch[0])
        loss = outputs.square().mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, whose state has twice the size of the weights."""
        return torch.optim.Adam(self.parameters(), lr=1e-4)


class Held(lightning.Callback):
    """Print what this process holds, in bytes, and the seconds of a step."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to measure."""
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        """Take the time of a step."""
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the numbers, with the rank of this process."""
        moments = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
        weights, state = _bytes([*pl_module.parameters()]), _bytes(moments)
        steps = sorted(after - before for before, after in zip(self.times, self.times[1:], strict=False))
        line = f"held {trainer.global_rank} {weights} {state} {steps[len(steps) // 2]}\n"
        os.write(1, line.encode())  # at once, since the lines of the processes may mix


def _bytes(tensors: list[Any]) -> int:
    """The bytes of this process's parts of tensors."""
    own = [each.to_local() if hasattr(each, "to_local") else each for each in tensors]
    return sum(each.numel() * each.element_size() for each in own)


def run(width: int = 1024, blocks: int = 12, steps: int = 20, processes: int = 2) -> None:
    """Print what each process holds.

    Args:
        width: of a block.
        blocks: their number.
        steps: of a training.
        processes: their number.
    """
    table = Table(title=f"{blocks} blocks of {2 * width * (width + 1):,} parameters")
    for heading in ("strategy", "process", "weights, MiB", "state of Adam, MiB", "step, ms"):
        table.add_column(heading, justify="right")
    for strategy in ("ddp", "fsdp2"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "params.yaml").write_text(
                "tasks: {wide: wide}\ntrusted: [benchmarks]\nwide: {source: none, files: {}, prepare: {}}\n"
            )
            model = {"class_path": f"{__spec__.name}.Blocks", "init_args": {"width": width, "blocks": blocks}}
            trainer = {"accelerator": "cpu", "devices": processes, "strategy": strategy, "max_steps": steps}
            trainer["callbacks"] = [{"class_path": f"{__spec__.name}.Held"}]
            content = {"task": "wide", "monitor": "train_loss", "model": model, "trainer": trainer}
            (folder / "wide.yaml").write_text(yaml.safe_dump(content))
            done = subprocess.run(
                [sys.executable, "-m", "src.cli", "fit", "--config=wide.yaml"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(Path.cwd()), "WANDB_MODE": "disabled"},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        lines = sorted(line.split() for line in done.stdout.splitlines() if line.startswith("held "))
        for _, rank, weights, state, seconds in lines:
            sizes = (f"{int(size) / MEBIBYTE:.1f}" for size in (weights, state))
            table.add_row(strategy, rank, *sizes, f"{1000 * float(seconds):.0f}")
    Console().print(table)


if __name__ == "__main__":
    auto_cli(run)
