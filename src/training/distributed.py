"""Training with several processes: the loss of a batch, termination, launchers."""

import os
import signal
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, distributed

from src.core.errors import ConfigurationError


def mean_over_processes(loss: Tensor, count: Tensor | int) -> Tensor:
    """Weight the mean loss of this process so that the gradient is that of the mean over the whole batch.

    DDP averages the gradients of the processes. The weight is the share of this process in the count of all
    processes, times the number of processes. For equal parts it is 1 and changes no bit.

    Args:
        loss: the mean, a scalar.
        count: the number of rows or tokens that it is a mean of.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return loss
    own = torch.as_tensor(count, device=loss.device)
    total = own.clone()
    distributed.all_reduce(total)
    return loss * (own * distributed.get_world_size() / total)


class Termination(Callback):
    """End each of several processes at once after SIGTERM.

    Lightning's handler starts a broadcast wherever the signal arrives. The other processes may be in another
    collective operation, and then all wait until it times out. A single process keeps Lightning's handler,
    which finishes the current step.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handler, which Lightning removes at the end of the training or test."""
        if trainer.world_size == 1:
            return

        def end(number: int, frame: Any) -> None:
            signal.signal(number, signal.SIG_IGN)
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # the processes that this one has started
            raise SIGTERMException

        signal.signal(signal.SIGTERM, end)

    on_test_start = on_train_start


def launched_by() -> ClusterEnvironment | None:
    """The environment of torchrun or SLURM that has started this process, or None.

    Raises:
        ConfigurationError: SLURM was asked for processes in a way that Lightning does not support, or
            torchrun cannot restart its processes.
    """
    if TorchElasticEnvironment.detect():
        restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
        # torchrun keeps this store, in which restarted processes find the addresses of those that ended
        if restarts != "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            raise ConfigurationError(
                f"torchrun --max-restarts {restarts}: restarted processes would not find each other; set "
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, with --standalone or --rdzv-backend c10d"
            )
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        try:
            # Lightning's requeueing saves a checkpoint within an epoch, which later trainings would load
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ConfigurationError(f"SLURM: {error}") from None
    return None


def require_all_processes(environment: ClusterEnvironment | None, trainer: Trainer) -> None:
    """Refuse a trainer that does not use all started processes; each would train a model of its own.

    Raises:
        ConfigurationError: the number of processes differs from that of the trainer.
    """
    if environment is None:
        return
    try:
        environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except ValueError as error:
        raise ConfigurationError(f"trainer.devices, trainer.num_nodes: {error}") from None
