"""Weights & Biases, offline unless WANDB_MODE says otherwise; training never fails because of it."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)


def wandb_disabled() -> bool:
    """Whether the environment turns W&B off; then it is not even imported."""
    return os.environ.get("WANDB_MODE") == "disabled"


class Tracker(WandbLogger):
    """Lightning's W&B logger, of which a failure costs one warning and nothing else.

    Args:
        folder: below which all files of W&B lie.
        task: the run's group and tag.
        configuration: what W&B's tables compare.
    """

    def __init__(self, folder: Path, task: str, configuration: dict[str, Any]) -> None:
        self.failed = False
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
            place = folder.absolute() / "wandb" / name.lower()
            os.environ.setdefault(f"WANDB_{name}_DIR", str(place))
        self._guarded(self._start, folder, task, configuration)

    def _start(self, folder: Path, task: str, configuration: dict[str, Any]) -> None:
        import wandb  # seconds that WANDB_MODE=disabled saves

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        run = wandb.init(
            project="lockstep",
            group=task,
            tags=[task],
            dir=folder.absolute(),
            config=configuration,
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            settings=settings,
        )
        super().__init__(experiment=run, log_model=False)

    def _guarded(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        if self.failed:
            return
        try:
            call(*arguments, **named)
        except Exception as error:  # whatever W&B's client or its helper process raises
            self.failed = True
            logger.warning("W&B failed (%s: %s): going on without it", type(error).__name__, error)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log a row of metrics."""
        self._guarded(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the configuration was given whole."""

    def finalize(self, status: str) -> None:
        """Nothing yet: the test metrics come after the fit."""

    def finish(self, summary: dict[str, float]) -> None:
        """Add the final metrics to the run's summary and close it."""

        def close() -> None:
            self.experiment.summary.update(summary)
            self.experiment.finish()

        self._guarded(close)
