"""The checkpoint of a training, its history, and the weights of the best epoch."""

import csv
import logging
import math
import re
import time
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

from src.core.errors import ConfigurationError, NonFiniteError
from src.core.paths import CHECKPOINT, HISTORY
from src.core.scores import USUAL_MONITORS, of_validation
from src.training.attributes import Attributes
from src.training.epoch_state import epoch_state, restore_epoch
from src.training.exactness import begin_loaders
from src.training.parts import in_parts, is_part, whole
from src.training.tracking import Tracker

RELOADS = "reload_dataloaders_every_n_epochs"
logger = logging.getLogger(__name__)

LASTING = re.compile(r"(val|valid|validation)[/_]|.*/val$")  # metrics that stay until the next validation
MOST_OF_THE_TIME = 0.01  # the share of the time that checkpoints may take
FIRST_GUESS = 0.01  # seconds to save a checkpoint, until one was saved


class ResumableCheckpoint(Checkpoint):
    """Collect a row of metrics per epoch and the weights of the best epoch, and save checkpoints to resume.

    The best weights are part of the checkpoint, so that a training needs one file. Epochs after the last
    checkpoint are trained again to the same bits. A checkpoint is therefore saved by time: at the end of an
    epoch if saving takes less than 1 % of the time since the last one, or if `seconds` have passed. The
    second-to-last epoch always saves one, so that a crash at the very end costs one epoch.

    A row has the metrics of the validation only if the epoch had one; an epoch without the monitored metric
    is never the best. Of several validations within an epoch, the last one counts. If a metric of the
    validation chooses, the weights that are kept are those that were validated, which a callback may exchange
    for an average during the validation. StochasticWeightAveraging has its average after the last
    epoch only, which is then kept, and no epoch is the best.

    Args:
        folder: for the checkpoint and history.csv.
        monitor: the metric that decides which epoch is best; None for the first of USUAL_MONITORS that is
            logged, and without one the last epoch is kept.
        mode: "min" or "max".
        seconds: maximum time between two checkpoints, checked at the end of each epoch.
        steps: optimizer steps between two checkpoints within an epoch; None for none within it.
    """

    def __init__(
        self, folder: Path, monitor: str | None, mode: str, seconds: float, steps: int | None = None
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.seconds = seconds
        self.steps = steps
        self.steps_before = 0
        self.within: dict[str, Any] | None = None
        self.learning_rate = 0.0
        self.environment: dict[str, str] = {}
        self.began = self.saved_at = time.monotonic()
        self.seconds_before = 0.0  # of training, until it was interrupted
        self.saving_takes = FIRST_GUESS
        self.rows: list[dict[str, float]] = []
        self.columns: list[str] = []
        self.best_row: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False
        self.weights: frozenset[str] | None = None
        self.resuming = False  # within an epoch
        self.validated = False
        self.warned = False  # of a missing monitor
        self.averaged: dict[str, Tensor] = {}
        self.optimizer_states: list[dict[str, Any]] = []
        self.latest: dict[str, Tensor] = {}
        self.trained: dict[str, bool] = {}
        self.attributes: Attributes | None = None
        self.plain: dict[str, Any] | None = None

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.rows)

    @property
    def chosen_by(self) -> str | None:
        """The metric that decides which epoch is kept; None if it is the last one."""
        logged = {name for row in self.rows for name in row}
        return self.monitor or next((name for name in USUAL_MONITORS if name in logged), None)

    @property
    def seconds_in_all(self) -> float:
        """The time of the training so far; of one that was interrupted, what is in its checkpoint counts."""
        return self.seconds_before + time.monotonic() - self.began

    def state_dict(self) -> dict[str, Any]:
        """The part of the checkpoint that belongs to this callback."""
        names = ["rows", "best_row", "stopped", "environment"]
        if self.within is not None:
            names += ["learning_rate", "validated", "averaged"]
        own = {"run": self.folder.name, "seconds_before": self.seconds_in_all}
        own["best_weights"] = whole(self.best_weights)
        return {**own, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            ConfigurationError: it belongs to another configuration, other data or other code.
        """
        state = dict(state_dict)
        if (run := state.pop("run", None)) != self.folder.name:
            raise ConfigurationError(
                f"{self.folder / CHECKPOINT} is a checkpoint of the run {run}, not of {self.folder.name}: "
                "remove it"
            )
        for name, value in state.items():
            setattr(self, name, value)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have checkpoints within an epoch saved after all that follows a batch.

        Callbacks and modules are called before: at `on_train_batch_end` the validation and the module's own
        hook are still to come.

        Raises:
            ConfigurationError: several processes, of which a checkpoint would have the metrics of one, or a
                callback that goes on at ends of epochs only.
        """
        if self.steps is None or stage != "fit":
            return
        if averages_at_the_end(trainer):
            raise ConfigurationError(
                "checkpoint_steps: StochasticWeightAveraging goes on at ends of epochs only; leave "
                "checkpoint_steps out, or use WeightAveraging or EMAWeightAveraging"
            )
        if trainer.world_size > 1:
            raise ConfigurationError(
                f"checkpoint_steps: found {trainer.world_size} processes, which save at ends of epochs only; "
                "leave it out"
            )
        data, reloads = getattr(trainer, "datamodule", None), getattr(trainer, RELOADS)
        if reloads and is_overridden("state_dict", data, LightningDataModule):
            raise ConfigurationError(
                f"checkpoint_steps: {type(data).__name__}.state_dict with {RELOADS} goes on at ends of "
                "epochs only: a state within one is that after its loaders were made; leave "
                "checkpoint_steps out"
            )
        loop = trainer.fit_loop.epoch_loop
        end = loop.on_advance_end

        def end_and_save(data_fetcher: Any) -> None:
            validated = not loop._skip_next_val and loop._should_check_val_fx(data_fetcher)
            end(data_fetcher)
            self._save_within(trainer, validated)

        loop.on_advance_end = end_and_save  # type: ignore[method-assign]

    def _save_within(self, trainer: Trainer, validated: bool) -> None:
        """Save a checkpoint after a batch, if one is due and the epoch goes on.

        Args:
            trainer: after the batch.
            validated: whether a validation followed the batch.
        """
        loop = trainer.fit_loop.epoch_loop
        assert self.steps is not None
        by_step = any(
            each.reduce_on_plateau and each.interval == "step" for each in trainer.lr_scheduler_configs
        )
        if (
            loop._batches_that_stepped - self.steps_before < self.steps
            or loop._is_training_done
            or loop._should_accumulate()
            or trainer.should_stop
            or (validated and by_step)  # Lightning would advance it again
        ):
            return
        batches = loop.batch_progress.current.completed
        self.within = {"batches": batches, **epoch_state(trainer, trainer.lightning_module)}
        self.steps_before = loop._batches_that_stepped
        # Lightning counts the last batch again if a validation followed it
        loop._batches_that_stepped -= validated
        trainer.save_checkpoint(self.folder / CHECKPOINT)
        loop._batches_that_stepped += validated
        self.within = None
        self.saved_at = time.monotonic()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the latest metrics, attributes, what an unfinished epoch has gathered, and what is trained."""
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        checkpoint["within_epoch"] = self.within
        if self.attributes is not None:
            checkpoint["attributes"] = self.attributes.state(within=self.within is not None)
        checkpoint["trained"] = {name: getattr(*place) for name, place in _trained(pl_module).items()}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what can be restored only when the training starts."""
        self.optimizer_states = checkpoint["optimizer_states"]
        self.latest = checkpoint["callback_metrics"]
        self.within = checkpoint["within_epoch"]
        self.plain = checkpoint.get("attributes")
        self.trained = checkpoint["trained"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the history; stop if the training had been stopped early.

        Raises:
            ConfigurationError: the first process has other code, other data or another checkpoint.
        """
        start = self.folder.name, self.epochs
        if (first := trainer.strategy.broadcast(start)) != start:
            raise ConfigurationError(
                f"this process is about to train {start[0]} from epoch {start[1]} on, the first process "
                f"{first[0]} from epoch {first[1]} on: all nodes need the same project folder"
            )
        for optimizer, state in zip(trainer.optimizers, self.optimizer_states, strict=False):
            _restore_types(optimizer, state)
        self.optimizer_states = []
        self.best_weights = in_parts(self.best_weights, pl_module)
        # a callback that thaws layers does so in one epoch, and not again in the epochs after it
        for name, place in _trained(pl_module).items():
            if name in self.trained:
                setattr(*place, self.trained[name])
        trainer.should_stop = self.stopped
        trainer.callback_metrics.update(self.latest)
        self.steps_before = trainer.fit_loop.epoch_loop._batches_that_stepped
        after_epoch = self.epochs > 0 and self.within is None
        self._restore_after_start(trainer, pl_module)
        for config in trainer.lr_scheduler_configs if after_epoch else []:
            # Lightning updates these after the checkpoint of an epoch, which has the state before the update
            due = config.interval == "epoch" and self.epochs % config.frequency == 0
            if config.reduce_on_plateau and due:
                name = str(config.monitor)
                latest = next((row[name] for row in reversed(self.rows) if name in row), None)
                if latest is not None:  # of `strict: false`, which waits for its metric
                    config.scheduler.step(latest)  # type: ignore[arg-type]
        if trainer.is_global_zero:
            self._write_history(self.rows, "w")
        for tracker in trainer.loggers:
            if isinstance(tracker, Tracker):
                tracker.follow(trainer, self.rows)

    def _restore_after_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore attributes, metrics and an unfinished epoch after the module's hook, which may reset."""
        attributes = self.attributes = self.attributes or Attributes(trainer, pl_module)
        attributes.begin()
        start, plain, within = pl_module.on_train_start, self.plain, self.within
        self.plain = self.within = None
        self.resuming = within is not None

        def start_and_restore() -> None:
            vars(pl_module).pop("on_train_start")
            start()
            if plain is not None:
                attributes.restore(plain)
            self._remember_samplers()
            if within is not None:
                restore_epoch(trainer, pl_module, within)
            begin_loaders(trainer)

        pl_module.on_train_start = start_and_restore  # type: ignore[method-assign]

    def _remember_samplers(self) -> None:
        if self.attributes is not None and self.steps is not None:
            self.attributes.begin_epoch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the learning rate at the start of the epoch."""
        rates = [group["lr"] for optimizer in trainer.optimizers[:1] for group in optimizer.param_groups]
        self.learning_rate = float(rates[0]) if rates else 0.0
        self._remember_samplers()
        self.validated = False
        self.averaged = {}

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember attributes, which the sanity check may change; a resumed training has none."""
        self.attributes = Attributes(trainer, pl_module)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find a monitor that the validation does not log before anything is trained."""
        if self.attributes is not None:
            self.attributes.keep_changes()
        metrics = trainer.callback_metrics
        if self.monitor and of_validation(self.monitor) and metrics and self.monitor not in metrics:
            raise _no_metric(self.monitor, metrics)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Have a schedule of metrics advance at the end of an epoch that was gone on with."""
        if self.resuming:
            trainer.fit_loop._restarting = False
            self.resuming = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate after the last of `max_steps`, although it may be within an epoch."""
        if 0 < trainer.max_steps <= trainer.global_step:  # which counts the steps of all optimizers
            trainer.should_stop = True

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights that are validated, if they may not be those at the end of the epoch."""
        self.validated = True
        batches = trainer.val_check_batch
        within = batches is None or batches < trainer.num_training_batches
        if not trainer.sanity_checking and (within or _may_exchange_weights(trainer)):
            self.averaged = _copy(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the epoch, keep the weights if they are the best, save a checkpoint if it is due."""
        row = {"epoch": self.epochs + 1, "learning_rate": self.learning_rate}
        metrics = sorted(trainer.callback_metrics.items())
        row |= {name: float(value) for name, value in metrics if self.validated or not LASTING.match(name)}
        for name in row:
            if name.endswith("loss") and not math.isfinite(row[name]):
                raise NonFiniteError(
                    f"{name} became {row[name]} in epoch {row['epoch']}; try a lower learning rate or "
                    "--trainer.gradient_clip_val=1"
                )
        self.rows.append(row)
        monitor = self.chosen_by
        if self.monitor and self.monitor not in row and (self.validated or not of_validation(self.monitor)):
            raise _no_metric(self.monitor, row)
        if monitor is None and not self.warned and (self.validated or not trainer.enable_validation):
            self.warned = True
            logger.warning(
                "no monitor is set and none of %s is logged: the last epoch is kept; metrics: %s",
                ", ".join(USUAL_MONITORS),
                ", ".join(row),
            )
        if self._better(row, monitor):
            self.best_row = row
            averages = any(isinstance(each, WeightAveraging) for each in trainer.callbacks)  # type: ignore[attr-defined]
            as_validated = averages or of_validation(monitor or "")
            self.best_weights = (as_validated and self.averaged) or _copy(pl_module)
        self.averaged = {}
        self.stopped = trainer.should_stop
        if self.attributes is not None:
            self.attributes.warn_of_others()
        if trainer.is_global_zero:
            if set(self.columns).issuperset(row):
                self._write_history([row], "a")
            else:
                self._write_history(self.rows, "w")
        self._log(row, trainer)
        if trainer.strategy.reduce_boolean_decision(self._due(trainer), all=False):  # clocks differ
            start = time.monotonic()
            trainer.save_checkpoint(self.folder / CHECKPOINT)
            self.saved_at = time.monotonic()
            self.saving_takes = self.saved_at - start

    def _log(self, row: dict[str, float], trainer: Trainer) -> None:
        """Log what Lightning does not log itself, with the step and the epoch, from 0, of its own rows."""
        logged = trainer.logged_metrics
        unlogged = {
            name: value for name, value in row.items() if name not in logged and f"{name}_epoch" not in logged
        }
        unlogged["epoch"] = trainer.current_epoch
        step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        for tracker in trainer.loggers:
            tracker.log_metrics(unlogged, step=step)

    def _write_history(self, rows: list[dict[str, float]], mode: str) -> None:
        """Write rows to history.csv, which has a column for each metric that some epoch has."""
        with (self.folder / HISTORY).open(mode, encoding="utf-8", newline="") as file:
            if mode == "w":
                self.columns = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if mode == "w" and rows:
                writer.writeheader()
            writer.writerows(rows)

    def _better(self, row: dict[str, float], monitor: str | None) -> bool:
        """Whether an epoch is the best so far; without a monitor the last one is."""
        if monitor is None:
            return True
        best = self.best_row.get(monitor, math.inf * self.sign)
        return monitor in row and self.sign * row[monitor] < self.sign * best

    def _due(self, trainer: Trainer) -> bool:
        """Whether a checkpoint is due at the end of this epoch."""
        if self.epochs + 1 == trainer.max_epochs:
            return True
        if self.epochs == trainer.max_epochs and averages_at_the_end(trainer):
            return False  # the average cannot be made from a checkpoint of the last epoch
        elapsed = time.monotonic() - self.saved_at
        return elapsed >= min(self.seconds, self.saving_takes / MOST_OF_THE_TIME)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep an average that was put into the module after the last epoch."""
        if self.rows and averages_at_the_end(trainer):
            self.best_row = self.rows[-1]
            self.best_weights = _copy(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find layers that only a Trainer makes, before anything is trained.

        Raises:
            ConfigurationError: `setup` has made some. A bundle could not be loaded without the data.
        """
        self.began = time.monotonic()
        added = [] if self.weights is None else sorted(pl_module.state_dict().keys() - self.weights)
        if added:
            raise ConfigurationError(
                f"{type(pl_module).__name__}: setup makes {added[0]}; make layers in __init__ or "
                "configure_model, since a trained model is loaded without its data"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights of the best epoch into the module."""
        if self.best_weights:
            pl_module.load_state_dict(in_parts(self.best_weights, pl_module), strict=pl_module.strict_loading)


def averages_at_the_end(trainer: Trainer) -> bool:
    """Whether the weights that are kept are an average made after the last epoch and its validation."""
    return any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks)  # type: ignore[attr-defined]


def _may_exchange_weights(trainer: Trainer) -> bool:
    """Whether a callback may put other weights into the module for the validation, such as their average."""
    hooks = "on_validation_start", "on_validation_epoch_start"
    return any(
        isinstance(each, WeightAveraging)
        or (
            not type(each).__module__.startswith(("lightning.", "src.training."))
            and any(is_overridden(hook, each) for hook in hooks)
        )
        for each in trainer.callbacks  # type: ignore[attr-defined]
    )


def _no_metric(monitor: str, metrics: Any) -> ConfigurationError:
    return ConfigurationError(f"monitor: there is no metric '{monitor}'; there are: {', '.join(metrics)}")


def _copy(module: LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _trained(module: LightningModule) -> dict[str, tuple[Any, str]]:
    """The switches by which callbacks freeze and thaw layers: each is an attribute of an object."""
    parameters: dict[str, tuple[Any, str]] = {
        name: (parameter, "requires_grad") for name, parameter in module.named_parameters()
    }
    return parameters | {
        f"{name}.track_running_stats": (layer, "track_running_stats")
        for name, layer in module.named_modules()
        if hasattr(layer, "track_running_stats")
    }


def _restore_types(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give the state of an optimizer the types that it was saved with.

    torch casts it to the type of the parameters, which is not that of all of it: NAdam's `mu_product` is
    float32 beside float64 parameters, and goes on otherwise as float64.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        for name, value in saved["state"].get(number, {}).items():
            loaded = optimizer.state[parameter][name]
            if isinstance(value, Tensor) and loaded.dtype != value.dtype and not is_part(loaded):
                optimizer.state[parameter][name] = value.to(loaded.device)
