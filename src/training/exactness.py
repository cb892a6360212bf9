"""Bit-exact repetition of a training: derived seeds, a fixed thread count, noise seeded per step."""

import logging
import os
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.trainer.states import RunningStage

from src import TORCH_INSTRUCTIONS
from src.core.errors import ConfigurationError
from src.core.processes import processors
from src.core.square_roots import use_exact_square_roots
from src.training.loading import Batches
from src.training.seeding import (
    OwnGenerator,
    SeededLoader,
    derived_seed,
    own_generators,
    seed_everything,
    seed_generators,
)

logger = logging.getLogger(__name__)

STAGES = (None, *RunningStage)

# the choice of this process, once it is made
_portable: bool | None = None


def choose_instructions(portable: bool) -> None:
    """Compute as every x86 processor since 2013 (AVX2) does, or with all instructions of this one.

    Importing `src` has set the variables for the former. torch, oneDNN and MKL read them once, when the
    first tensor is computed, which importing torch and Lightning does not do.

    Args:
        portable: the same weights on processors of Intel and AMD.

    Raises:
        ConfigurationError: this process has already computed with the other choice.
    """
    global _portable
    if _portable not in (None, portable):
        raise ConfigurationError(
            f"portable: {portable} needs a new process, this one has computed with {_portable}"
        )
    _portable = portable
    if portable:
        use_exact_square_roots()
    else:
        for name, value in TORCH_INSTRUCTIONS.items():
            if os.environ.get(name) == value:
                del os.environ[name]


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
        self.own: list[OwnGenerator] | None = None  # generators that the module holds
        self.every_generator = False  # ordinary modules may draw from those of NumPy and Python, too

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the thread count before the first operation of the run, and have its data loaders seeded."""
        torch.set_num_threads(self.threads)
        if stage == "fit" and self.threads > (found := processors()):
            logger.warning(
                "threads: %d, but this process may use %d of the processors, which can take ten times as "
                "long; another number of threads rounds differently",
                *(self.threads, found),
            )
        # Lightning loads a checkpoint before it converts the module, which would round float64 to float32
        trainer.precision_plugin.convert_module(pl_module)
        self.every_generator = not hasattr(pl_module, "trivial_metrics")
        process = trainer.strategy.process_dataloader

        def seeded(loader: object) -> object:
            loader = process(loader)
            if not isinstance(loader, Batches):
                self.every_generator = True
                place = trainer.global_rank, trainer.world_size
                loader = SeededLoader(loader, lambda: self._epoch(trainer), *place)
            return loader

        # Lightning's place for changing loaders; a strategy is chosen by the user
        trainer.strategy.process_dataloader = seeded  # type: ignore[method-assign, assignment]
        loop = trainer.fit_loop
        set_up = loop.setup_data

        def once_an_epoch() -> None:
            # Lightning counts the epoch of a checkpoint after it has asked for loaders, and then asks again
            loop.epoch_progress.current.completed = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            set_up()

        loop.setup_data = once_an_epoch  # type: ignore[method-assign]
        # no operation here reads uninitialised memory, and filling it takes a part of each step
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a training with `max_steps` count as one by epochs until a checkpoint is loaded.

        Lightning takes a checkpoint from the end of an epoch of a training with `max_steps` for one from
        within the epoch, and ends that epoch once more.
        """
        trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let `max_steps` count again."""
        vars(trainer.fit_loop).pop("_iteration_based_training", None)

    def _epoch(self, trainer: Trainer) -> tuple[int, int, int]:
        """Numbers that name the epoch and what is done in it.

        Validation and test draw the same in every epoch, and in commands that do not train.
        """
        stage = trainer.state.stage
        # current_epoch is stale after a checkpoint was loaded
        epoch = int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self.seed, epoch if stage == RunningStage.TRAINING else 0, STAGES.index(stage)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the generators for what a module or callback draws at the start of an epoch."""
        if self.every_generator:
            seed_everything(*self._epoch(trainer), -1)
            _seed_device(pl_module, derived_seed(*self._epoch(trainer), -1))

    on_validation_epoch_start = on_test_epoch_start = on_train_epoch_start

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Seed the generator of a GPU for what the module draws; the loader has seeded that of the CPU."""
        if self.every_generator:
            position = batch_idx * trainer.world_size + trainer.global_rank
            _seed_device(pl_module, derived_seed(*self._epoch(trainer), dataloader_idx, position))

    on_test_batch_start = on_validation_batch_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of the CPU and of the device that trains for this batch."""
        position = batch_idx * trainer.world_size + trainer.global_rank
        epoch = int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        seed = derived_seed(self.seed, epoch, position)
        # torch.manual_seed seeds every kind of device, which takes longer than a small step
        if self.every_generator:
            seed_everything(self.seed, epoch, position)
            if self.own is None:
                self.own = own_generators(pl_module)
            seed_generators(self.own, self.seed, epoch, position)
        torch.default_generator.manual_seed(seed)
        _seed_device(pl_module, seed)


def _seed_device(module: LightningModule, seed: int) -> None:
    """Seed the generator of the GPU that a module is on, if it is on one."""
    device = module.device
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def begin_loaders(trainer: Trainer) -> None:
    """Have the loaders begin where a checkpoint was saved, after all that they read has been restored."""
    loop = trainer.fit_loop
    if not loop.is_resuming or loop._combined_loader is None or loop._data_fetcher is None:
        return
    done = loop.epoch_loop.batch_progress.current.completed if loop.restarted_mid_epoch else 0
    for loader in loop._combined_loader.flattened:
        length = sized_len(loader)
        if length and loop._combined_loader._mode == "max_size":  # a short loader has ended
            loader.start = min(done, length)
        else:  # it begins again
            loader.start = done % length if length else done
    # schedules ask for the number of batches before the checkpoint is loaded, and then Lightning may have
    # begun an epoch
    iter(loop._data_fetcher)
