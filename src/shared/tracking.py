"""Weights & Biases, offline unless WANDB_MODE says otherwise; training never fails because of it."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_DISABLE_META": "true",
}


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
        folder = folder.absolute()
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
            os.environ.setdefault(f"WANDB_{name}_DIR", str(folder / "wandb" / name.lower()))
        self._guarded(
            super().__init__,
            project="lockstep",
            group=task,
            tags=[task],
            save_dir=folder,
            config=configuration,
            log_model=False,
        )

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
