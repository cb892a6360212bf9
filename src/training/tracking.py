"""Weights & Biases, offline by default (WANDB_MODE). A failure of it never ends a training."""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)


class Tracker(WandbLogger):
    """Lightning's W&B logger. After a call has failed it warns once and makes no further call."""

    failed = False

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self.failed:
            return
        try:
            call(*arguments)
        except Exception as error:  # W&B and its helper process raise many kinds
            self.failed = True
            _warn(error)
            _tear_down()

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log a row of metrics."""
        self._guarded(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: Any) -> None:
        """Do nothing: the run has the whole configuration."""

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Do nothing."""

    def finalize(self, status: str) -> None:
        """Do nothing yet: the test metrics follow after the fit."""

    def finish(self, summary: dict[str, float]) -> None:
        """Add the final metrics to the run's summary and close it."""

        def close() -> None:
            self.experiment.summary.update(summary)
            self.experiment.finish()

        self._guarded(close)


def start_tracker(folder: Path, task: str, configuration: dict[str, Any]) -> Tracker | None:
    """Start a W&B run. Return None with WANDB_MODE=disabled, or after a warning if W&B fails.

    Args:
        folder: below which all files of W&B lie.
        task: the run's tag and, unless WANDB_RUN_GROUP names another, its group.
        configuration: what W&B's tables compare.
    """
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        return None
    folder = folder.absolute()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # without a limit, W&B waits for an unreachable server for ever at the end of a run
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")
    os.environ.setdefault("WANDB_FINISH_TIMEOUT_RAISES", "true")
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        os.environ.setdefault(f"WANDB_{name}_DIR", str(folder / "wandb" / name.lower()))
    try:
        import wandb  # takes seconds

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        # a private method: it imports W&B Launch, 0.8 s in each process, to look for inputs of a job
        wandb.sdk.wandb_run.Run._detect_and_apply_job_inputs = lambda run: None  # type: ignore[assignment, method-assign]
        run = wandb.init(
            project="lockstep",
            name=os.environ.get("WANDB_NAME") or None,  # W&B itself reads it once per process
            group=os.environ.get("WANDB_RUN_GROUP", task),
            tags=[task, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))],
            dir=os.environ.get("WANDB_DIR", folder),
            config=configuration,
            mode=mode,  # type: ignore[arg-type]
            settings=settings,
            reinit="finish_previous",  # the run of a failed training in the same process
        )
        return Tracker(experiment=run, log_model=False)
    except Exception as error:
        _warn(error)
        return None


def _tear_down() -> None:
    """Shut W&B down after its helper process died; otherwise it reports errors at exit and in later runs."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def _warn(error: Exception) -> None:
    logger.warning("W&B failed (%s: %s): going on without it", type(error).__name__, error)
