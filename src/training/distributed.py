"""What several processes that train one model together need beside what Lightning does."""

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
    """A mean over the part of a batch that this process has, as its part in the mean over the whole batch.

    DDP takes the mean of the processes' gradients. With the count's share in all counts, times the number of
    processes, as weight of each loss that is the gradient of the whole batch, also where parts differ in
    size. Where they do not the weight is 1, and changes no bit.

    Args:
        loss: the mean, a scalar.
        count: what it is a mean over, such as rows or tokens.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return loss
    own = torch.as_tensor(count, device=loss.device)
    total = own.clone()
    distributed.all_reduce(total)
    return loss * (own * distributed.get_world_size() / total)


class Termination(Callback):
    """Let SIGTERM end each of several processes at once, whatever it waits for.

    Lightning's handler takes part in a broadcast at the place where the signal finds the process. The others
    may be in another operation together, and then all wait until it times out. One process keeps Lightning's
    way: the step under way is finished.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler, which goes with the end of the training or test."""
        if trainer.world_size == 1:
            return

        def end(number: int, frame: Any) -> None:
            signal.signal(number, signal.SIG_IGN)
            assert trainer.strategy.launcher is not None
            trainer.strategy.launcher.kill(number)  # those that this process has started
            raise SIGTERMException

        signal.signal(signal.SIGTERM, end)

    on_test_start = on_train_start


def launched_by() -> ClusterEnvironment | None:
    """What has started this process as one of several, if it was not Lightning or the user.

    Raises:
        ConfigurationError: SLURM was asked for processes in a way that Lightning does not support.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        try:
            # Lightning's requeueing saves in the middle of an epoch, where every later training would find it
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ConfigurationError(f"SLURM: {error}") from None
    return None


def require_all_processes(environment: ClusterEnvironment | None, trainer: Trainer) -> None:
    """Refuse to let each of several processes train a model of its own.

    Raises:
        ConfigurationError: the trainer counts on another number of processes than were started.
    """
    if environment is None:
        return
    try:
        environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except ValueError as error:
        raise ConfigurationError(f"trainer.devices, trainer.num_nodes: {error}") from None
