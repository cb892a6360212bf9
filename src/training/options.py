"""Which options of Lightning's Trainer make a run a trial, and which cannot be used here, with the reason."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from fsspec import get_filesystem_class
from lightning import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from src.core.documents import flat_keys
from src.core.errors import ConfigurationError
from src.core.paths import STORES
from src.training.sharding import FullySharded

LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
ARGUMENTS = {
    "barebones": "a training needs its checkpoints and metrics; a quick trial: --trainer.fast_dev_run=true",
    "limit_predict_batches": "predict takes no options of the Trainer; it predicts all rows of its input",
    "model_registry": "models are kept as bundles in models/, and none is downloaded",
    "plugins": "Lockstep sets those of checkpoints and clusters itself; for precision use trainer.precision",
}
CALLBACKS = {
    "BasePredictionWriter": "predict takes no callbacks; it writes a file by itself, see its --help",
    "ModelPruning": "a training that was cut off could not go on, since a checkpoint has no masks",
    "OnExceptionCheckpoint": "a training goes on from the end of an epoch; see checkpoint_seconds",
    "SpikeDetection": "a training that was cut off could not go on, since its state cannot be loaded",
}
STOPPING = ("EarlyStopping", "Timer")
LOCAL = ("file", "local")  # fsspec's other names of paths
FIRST_FSDP = ("fsdp", "fsdp_cpu_offload")
SPLIT = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


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
        value = trainer.get(name)
        if value is not None and value is not False and value != []:
            raise ConfigurationError(f"trainer.{name}: it cannot be used: {reason}")
    if trainer.get("strategy") in FIRST_FSDP:
        raise ConfigurationError(
            f"trainer.strategy: {trainer['strategy']} is torch's first FSDP, which torch has deprecated; "
            "use fsdp2"
        )
    if trainer.get("enable_checkpointing") is False:
        raise ConfigurationError("trainer.enable_checkpointing: false cannot be used; see checkpoint_seconds")
    if (batches := trainer.get("accumulate_grad_batches")) is not None and batches < 1:
        raise ConfigurationError(f"trainer.accumulate_grad_batches: found {batches}, expected at least 1")
    for bases in _callbacks(trainer):
        for name in CALLBACKS:
            if name in bases:
                raise ConfigurationError(f"trainer.callbacks: {name} cannot be used: {CALLBACKS[name]}")
    _require_an_average(trainer)
    for name, value in flat_keys(_by_number(trainer)).items():
        if isinstance(value, str):
            _require_place(f"trainer.{name}", value)


def require_whole_weights(trainer: Trainer) -> None:
    """Refuse a strategy whose weights cannot be gathered in this process at the end.

    Raises:
        ConfigurationError: such as ddp_spawn, which trains in children of this process, or deepspeed.
    """
    if isinstance(trainer.strategy, SPLIT) and not isinstance(trainer.strategy, FullySharded):
        raise ConfigurationError(
            f"trainer.strategy: {type(trainer.strategy).__name__} splits the weights among processes, and a "
            "bundle needs all of them; use fsdp2, or ddp"
        )
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ConfigurationError("trainer.strategy: processes are started by ddp, not by fork or spawn")


def _require_an_average(trainer: dict[str, Any]) -> None:
    """Refuse StochasticWeightAveraging in a training that can end before its average is there."""
    callbacks = trainer.get("callbacks") or []
    for callback, bases in zip(_listed(callbacks), _callbacks(trainer), strict=True):
        if "StochasticWeightAveraging" not in bases:
            continue
        epochs = trainer.get("max_epochs")
        start = callback["init_args"].get("swa_epoch_start", 0)
        if not epochs or epochs < 1 or (isinstance(start, int) and start > epochs):
            raise ConfigurationError(
                f"trainer.callbacks: StochasticWeightAveraging begins in epoch {start} and ends with the "
                f"last of trainer.max_epochs; found {epochs}"
            )
        ends = [name for name in ("max_steps", "max_time") if trainer.get(name) not in (None, -1)]
        ends += [name for name in STOPPING if any(name in each for each in _callbacks(trainer))]
        if ends:
            raise ConfigurationError(
                "trainer.callbacks: StochasticWeightAveraging has its average after the last of max_epochs, "
                f"which {', '.join(ends)} may prevent; use WeightAveraging or EMAWeightAveraging"
            )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _callbacks(trainer: dict[str, Any]) -> list[set[str]]:
    """The names of the Lightning classes that each callback is or extends."""
    found = []
    for callback in _listed(trainer.get("callbacks") or []):
        module, _, name = callback["class_path"].rpartition(".")
        bases = getattr(import_module(module), name).__mro__
        found.append({base.__name__ for base in bases if base.__module__.startswith("lightning.")})
    return found


def _by_number(value: Any) -> Any:
    """The value with each list as a mapping from the numbers of its items."""
    if isinstance(value, list):
        return {str(number): _by_number(item) for number, item in enumerate(value)}
    return {name: _by_number(item) for name, item in value.items()} if isinstance(value, dict) else value


def _require_place(name: str, value: str) -> None:
    """Refuse a path, or the address of a folder in an object store, to which a training cannot write."""
    scheme, _, address = value.partition("://")
    if scheme in STORES:
        if "@" in address.partition("/")[0]:
            raise ConfigurationError(
                f"{name}: the address has an access key in it; set it in the environment"
            )
        try:
            get_filesystem_class(scheme)
        except ImportError:
            raise ConfigurationError(f"{name}: {value}: {STORES[scheme]}") from None
    elif scheme in LOCAL or not _within_the_folder(value):
        raise ConfigurationError(
            f"{name}: {value} leads out of the project's folder, where a training may write"
        )


def _within_the_folder(path: str) -> bool:
    """Whether a path, or any other text, stays below the working folder; links are not followed."""
    here = Path.cwd()
    return Path(os.path.normpath(here / path)).is_relative_to(here)
