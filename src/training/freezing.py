"""Layers of a network that stay as they are, in all epochs or in the first ones."""

import re
import warnings

from lightning import Trainer
from torch import nn

from src.core.errors import ConfigurationError

BODY = "body"


def head_of(network: nn.Module) -> str:
    """The name of the layer that gives the logits: the last one with parameters.

    Raises:
        ConfigurationError: the network has no parameters.
    """
    layers = [name for name, layer in network.named_modules() if any(True for _ in layer.parameters(False))]
    if not layers:
        raise ConfigurationError(f"model.network: {type(network).__name__} has no parameters")
    return layers[-1]


def belongs(name: str, layer: str) -> bool:
    """Whether a parameter is one of a layer, by their names."""
    return name.startswith(f"{layer}.")


def frozen_of(network: nn.Module, freeze: str | None, unfreeze_at: int | None) -> "Frozen | None":
    """What the keys `freeze` and `unfreeze_at` of a model say.

    Args:
        network: its parameters.
        freeze: as `pattern` of `Frozen`; None freezes nothing.
        unfreeze_at: as that of `Frozen`.

    Raises:
        ConfigurationError: as `Frozen`, or `unfreeze_at` below 1 or without `freeze`.
    """
    if unfreeze_at is not None and (freeze is None or unfreeze_at < 1):
        raise ConfigurationError(
            f"model.unfreeze_at: {unfreeze_at}, expected at least 1, and model.freeze to name parameters"
        )
    if not freeze:
        return None
    frozen = Frozen(network, freeze, unfreeze_at)
    frozen.apply(network, 0)  # also for the summary of the layers, which is made before the training
    return frozen


class Frozen:
    """The parameters that are not trained in the first epochs, or in none.

    Modules all of whose parameters are frozen are in evaluation mode, so that batch norm keeps its statistics
    and dropout does nothing. What is frozen is a function of the epoch alone.

    Args:
        network: its parameters.
        pattern: a regular expression that is searched in their names, or `body`, all but the head.
        unfreeze_at: the epoch from which on all are trained; None for never.

    Raises:
        ConfigurationError: the pattern is none, or matches no parameter or all.
    """

    def __init__(self, network: nn.Module, pattern: str, unfreeze_at: int | None) -> None:
        names = [name for name, _ in network.named_parameters()]
        if pattern == BODY:
            head = head_of(network)
            chosen = {name for name in names if not belongs(name, head)}
        else:
            try:
                chosen = {name for name in names if re.search(pattern, name)}
            except re.error as error:
                raise ConfigurationError(f"model.freeze: {pattern}: {error}") from None
        if not chosen or len(chosen) == len(names):
            found = "no parameter" if not chosen else "all parameters"
            raise ConfigurationError(
                f"model.freeze: {pattern} matches {found}; expected `{BODY}` or a pattern for some of "
                f"{', '.join(names)}"
            )
        self.names = frozenset(chosen)
        self.unfreeze_at = unfreeze_at
        self.applied: bool | None = None

    def begin(self, network: nn.Module, trainer: Trainer) -> None:
        """Freeze the network before the first epoch.

        Raises:
            ConfigurationError: several processes are to unfreeze it.
        """
        if self.unfreeze_at is not None and trainer.world_size > 1:
            raise ConfigurationError(
                f"model.unfreeze_at: found {trainer.world_size} processes, expected one, "
                "since they agree on the trained parameters once; set trainer.devices: 1"
            )
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # on purpose
        self.apply(network, 0)

    def in_epoch(self, epoch: int) -> bool:
        """Whether the parameters are frozen in an epoch, counted from 0."""
        return self.unfreeze_at is None or epoch < self.unfreeze_at

    def apply(self, network: nn.Module, epoch: int) -> None:
        """Freeze or unfreeze the network for an epoch."""
        frozen = self.in_epoch(epoch)
        if frozen == self.applied:
            return
        self.applied = frozen
        parameters = dict(network.named_parameters())
        for name in self.names:
            parameters[name].requires_grad_(not frozen)
        for name, module in network.named_modules():
            below = [f"{name}.{each}".removeprefix(".") for each, _ in module.named_parameters()]
            if below and self.names.issuperset(below):
                module.train(not frozen)
