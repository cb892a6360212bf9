"""Fully sharded data parallelism, `trainer.strategy: fsdp2`: each process holds a part of every tensor.

Weights, gradients and the state of the optimizer are in parts (torch's `fully_shard`); a layer's weights are
gathered while it computes. Checkpoints and the bundle are whole, as those of a single process are.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import distributed
from torch.optim import LBFGS, Adafactor, Muon, Optimizer, Rprop

from src.core.errors import ConfigurationError
from src.training.compilation import Compile
from src.training.layer_groups import NAME, is_sharded, shard
from src.training.optimizers import MuonWithAdamW
from src.training.parts import in_parts, part, whole

SMALLEST = 1_000_000
CALLBACKS = {
    BaseFinetuning: "the processes agree on the trained parameters once",
    StochasticWeightAveraging: "it copies the whole module",
    WeightAveraging: "it copies the whole module",
}
# torch's, for parts of tensors: those that treat each number by itself can do
OPTIMIZERS = (Adafactor, LBFGS, Muon, MuonWithAdamW, Rprop)


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for `fully_shard`, for every module and with whole checkpoints.

    A module may call `fully_shard` in `configure_model`, as Lightning documents it. Any other is sharded
    here: each layer that it calls itself, and within it the items of nn.Sequential and nn.ModuleList that
    have many parameters, which are gathered one after the other.

    Buffers are whole, and those of the first process count, as with ddp.

    Args:
        smallest: number of parameters from which on an item is gathered by itself.
    """

    def __init__(self, smallest: int = SMALLEST) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.smallest = smallest

    restore_checkpoint_after_setup = False
    lightning_restore_optimizer = True
    save_checkpoint = Strategy.save_checkpoint  # by the plugin, in the first process

    def setup_environment(self) -> None:
        """Connect the processes, and have the module sharded when it has made its layers."""
        self._data_parallel_size = self.world_size
        super().setup_environment()
        assert self.lightning_module is not None
        module, configure = self.lightning_module, self.lightning_module.configure_model

        def configure_and_shard() -> None:
            if not is_sharded(module):  # the weights are judged by the same trainer after the training
                configure()
                shard(module, self.device_mesh["data_parallel"], self.smallest)

        module.configure_model = configure_and_shard  # type: ignore[method-assign]

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Make the optimizers of the parts.

        Raises:
            ConfigurationError: one computes with whole matrices or with all parameters at once.
        """
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            if isinstance(optimizer, OPTIMIZERS):
                name = type(optimizer).__name__
                raise ConfigurationError(
                    f"trainer.strategy: {NAME}: {name} cannot be computed on parts of tensors; use another "
                    "optimizer, such as AdamW, or ddp"
                )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, in the first process."""
        return whole(super(ModelParallelStrategy, self).lightning_module_state_dict())

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's parts of the weights."""
        assert self.lightning_module is not None
        weights = in_parts(checkpoint["state_dict"], self.lightning_module)
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint of which each process reads what it needs."""
        content: dict[str, Any] = torch.load(
            checkpoint_path, map_location="cpu", weights_only=True, mmap=True
        )
        return content

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state of an optimizer, in the first process."""
        return whole(super(ModelParallelStrategy, self).optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's parts of the states of the optimizers."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            groups = zip(optimizer.param_groups, saved["param_groups"], strict=True)
            parameters = {
                number: parameter
                for group, numbers in groups
                for parameter, number in zip(group["params"], numbers["params"], strict=True)
            }
            state = {
                number: {name: part(value, parameters[number]) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """A step with the buffers of the first process."""
        self._share_buffers()
        return super().training_step(*arguments, **named)

    def validation_step(self, *arguments: Any, **named: Any) -> Any:
        """A step with the buffers of the first process."""
        self._share_buffers()
        return super().validation_step(*arguments, **named)

    def test_step(self, *arguments: Any, **named: Any) -> Any:
        """A step with the buffers of the first process."""
        self._share_buffers()
        return super().test_step(*arguments, **named)

    def _share_buffers(self) -> None:
        assert self.lightning_module is not None
        for buffer in self.lightning_module.buffers():
            distributed.broadcast(buffer, 0)


StrategyRegistry.register(NAME, FullySharded, description="torch's fully_shard, with whole checkpoints")


def make_layers(module: LightningModule, trainer: Trainer) -> None:
    """Call the hook `configure_model` before the processes are connected, as when a bundle is loaded.

    Raises:
        ConfigurationError: it shards although there is no mesh.
    """
    try:
        module.configure_model()
    except (TypeError, ValueError, RuntimeError) as error:
        if not isinstance(trainer.strategy, FullySharded):
            raise
        raise ConfigurationError(
            f"trainer.strategy: {NAME}: {type(module).__name__}.configure_model also makes the layers of a "
            f"bundle, without processes: shard `if self.device_mesh is not None` ({error})"
        ) from error


def require_shardable(trainer: Trainer, compiled: Compile | None, steps: int | None) -> None:
    """Refuse what does not go with weights in parts, before the training.

    Args:
        trainer: that will train.
        compiled: the key `compile`.
        steps: the key `checkpoint_steps`.

    Raises:
        ConfigurationError: a callback that copies or thaws the module, a precision, or one of these keys.
    """
    if not isinstance(trainer.strategy, FullySharded):
        return
    reasons = {
        "compile": compiled,
        "checkpoint_steps": steps,
        "trainer.sync_batchnorm": trainer.strategy._layer_sync,
    }
    for key, value in reasons.items():
        if value:
            raise ConfigurationError(f"{key}: it cannot be used with trainer.strategy: {NAME}; leave it out")
    if trainer.precision not in ("32-true", "bf16-true", "bf16-mixed"):
        raise ConfigurationError(
            f"trainer.precision: {trainer.precision} cannot be used with trainer.strategy: {NAME}; use "
            "32-true, bf16-true or bf16-mixed"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, reason in CALLBACKS.items():
            if isinstance(callback, kind):
                name = type(callback).__name__
                raise ConfigurationError(
                    f"trainer.callbacks: {name} cannot be used with trainer.strategy: {NAME}: {reason}"
                )
