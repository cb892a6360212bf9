"""Gradient norms of the layers of a network, and the share of dead units."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from src.training.parts import is_part


class GradientNorms(Callback):
    """Add two metrics per layer and epoch.

    `gradient_norm/<layer>` is the Euclidean norm of the gradient of the weights, averaged over the steps.
    `dead/<layer>` is the share of the units of a ReLU that were 0 for every example of the epoch: they have
    no gradient and do not learn. Units are those of dense layers and of convolutions of images and volumes;
    other outputs, such as (B, T, H), are left out. A ReLU that follows several layers has the units of all.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Register a hook on every ReLU."""
        self.norms: dict[str, Tensor] = {}
        self.steps = 0
        self.alive: dict[tuple[str, int], Tensor] = {}  # by layer and number of units
        self.saved: tuple[dict[str, Tensor], dict[tuple[str, int], Tensor]] = {}, {}
        self.hooks = []
        for name, module in pl_module.named_modules():
            if isinstance(module, nn.ReLU):
                self.hooks.append(module.register_forward_hook(self._watch(name, pl_module)))

    def state_dict(self) -> dict[str, Any]:
        """What the unfinished epoch has added up, for a checkpoint within it."""
        return {"norms": self.norms, "steps": self.steps, "alive": self.alive}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with an unfinished epoch."""
        self.steps = state_dict["steps"]
        self.saved = state_dict["norms"], state_dict["alive"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move what a checkpoint had to the device that trains."""
        norms, alive = self.saved
        self.norms = {name: tensor.to(pl_module.device) for name, tensor in norms.items()}
        self.alive = {key: tensor.to(pl_module.device) for key, tensor in alive.items()}

    def _watch(self, name: str, pl_module: LightningModule) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if pl_module.training and output.ndim in (2, 4, 5):
                # units are the second dimension, in dense layers and convolutions
                alive = (output.detach() > 0).transpose(0, 1).flatten(1).any(dim=1)
                key = name, len(alive)
                self.alive[key] = self.alive[key] | alive if key in self.alive else alive

        return hook

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Add up the norms of this step."""
        self.steps += 1
        for name, parameter in pl_module.named_parameters():
            if parameter.ndim > 1 and parameter.grad is not None:
                norm = torch.linalg.vector_norm(parameter.grad)
                norm = norm.full_tensor() if is_part(norm) else norm
                self.norms[name] = self.norms.get(name, torch.zeros_like(norm)) + norm

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the values of the epoch and reset them."""
        for name, norm in self.norms.items():
            trainer.callback_metrics[f"gradient_norm/{name.removesuffix('.weight')}"] = norm / self.steps
        for layer in dict.fromkeys(name for name, _ in self.alive):
            parts = [alive for (name, _), alive in self.alive.items() if name == layer]
            alive = trainer.strategy.reduce(
                torch.cat(parts).int(), reduce_op="max"
            )  # each process has other rows
            trainer.callback_metrics[f"dead/{layer}"] = 1 - alive.float().mean()
        self.norms, self.alive, self.steps = {}, {}, 0

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()
