"""What makes a run repeat bit for bit: derived seeds, a fixed thread count, noise tied to the step."""

from hashlib import sha256
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


def derived_seed(*numbers: int) -> int:
    """A seed of 63 bits that is a function of the numbers alone, such as (seed, epoch).

    Nothing random has to be stored in a checkpoint: what is drawn next follows from where training stands.
    """
    digest = sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Exactness(Callback):
    """Fix the thread count and tie each step's noise (dropout, rrelu) to (seed, epoch, batch).

    The micro-batches of one optimizer step draw different noise, and batch `i` of process `r` draws what
    batch `i * processes + r` of a single process draws.

    Args:
        seed: the run's seed.
        threads: of one process; sums over a batch round differently with another number.
    """

    def __init__(self, seed: int, threads: int) -> None:
        self.seed = seed
        self.threads = threads

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the thread count before the first operation of the run."""
        torch.set_num_threads(self.threads)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of the CPU and of the device that trains for this batch."""
        position = batch_idx * trainer.world_size + trainer.global_rank
        epoch = int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        seed = derived_seed(self.seed, epoch, position)
        # not torch.manual_seed: it visits every kind of device and costs more than a small step
        torch.default_generator.manual_seed(seed)
        device = pl_module.device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
