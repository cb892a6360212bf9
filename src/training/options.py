"""Which options of Lightning's Trainer make a run a trial, and which cannot be used here, with the reason."""

import os
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from src.core.documents import flat_keys
from src.core.errors import ConfigurationError

LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
ARGUMENTS = {
    "barebones": "a training needs its checkpoints and metrics; a quick trial: --trainer.fast_dev_run=true",
    "plugins": "checkpoints and clusters have plugins of Lockstep's own",
}
CALLBACKS = {
    "BatchSizeFinder": "the size would depend on this machine's memory; set data.batch_size",
    "LearningRateFinder": "the models have no field `lr`; compare values of model.optimizer.lr by a study",
    "ModelPruning": "a training that was cut off could not go on, since a checkpoint has no masks",
    "OnExceptionCheckpoint": "a training goes on from the end of an epoch; see checkpoint_seconds",
    "SpikeDetection": "a training that was cut off could not go on, since its state cannot be loaded",
    "StochasticWeightAveraging": "its average comes after the last validation; try WeightAveraging (a mean)",
}


def trial_by(trainer: dict[str, Any]) -> list[str]:
    """The arguments of a Trainer that make a run a trial: it trains or is judged with a part of the data.

    Args:
        trainer: the section `trainer` of a configuration.
    """
    # 1.0 is all batches, 1 is one batch
    limited = [name for name in LIMITS if trainer.get(name) is not None and repr(trainer[name]) != "1.0"]
    return [name for name in ("fast_dev_run", "overfit_batches") if trainer.get(name)] + limited


def require_usable(trainer: dict[str, Any]) -> None:
    """Refuse options that would lose the training, its exactness or its end.

    Args:
        trainer: the section `trainer` of a configuration.

    Raises:
        ConfigurationError: an argument, a callback, or a path that leads out of the working folder.
    """
    for name, reason in ARGUMENTS.items():
        if trainer.get(name):
            raise ConfigurationError(f"trainer.{name}: it cannot be used: {reason}")
    if trainer.get("enable_checkpointing") is False:
        raise ConfigurationError("trainer.enable_checkpointing: false cannot be used; see checkpoint_seconds")
    if (batches := trainer.get("accumulate_grad_batches")) is not None and batches < 1:
        raise ConfigurationError(f"trainer.accumulate_grad_batches: found {batches}, expected at least 1")
    callbacks = trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        name = callback["class_path"].rpartition(".")[2]
        if name in CALLBACKS:
            raise ConfigurationError(f"trainer.callbacks: {name} cannot be used: {CALLBACKS[name]}")
    for name, value in flat_keys(_by_number(trainer)).items():
        if isinstance(value, str) and not _within_the_folder(value):
            raise ConfigurationError(
                f"trainer.{name}: {value} leads out of the project's folder, where a training may write"
            )


def require_own_process(trainer: Trainer) -> None:
    """Refuse a strategy that trains in children of this process, whose weights do not come back.

    Raises:
        ConfigurationError: such as ddp_spawn.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ConfigurationError("trainer.strategy: processes are started by ddp, not by fork or spawn")


def _by_number(value: Any) -> Any:
    """The value with each list as a mapping from the numbers of its items."""
    if isinstance(value, list):
        return {str(number): _by_number(item) for number, item in enumerate(value)}
    return {name: _by_number(item) for name, item in value.items()} if isinstance(value, dict) else value


def _within_the_folder(path: str) -> bool:
    """Whether a path, or any other text, stays below the working folder; links are not followed."""
    here = Path.cwd()
    return Path(os.path.normpath(here / path)).is_relative_to(here)
