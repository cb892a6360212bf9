"""Which weights of a module are gathered together while they are in parts: torch's `fully_shard`."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lightning import LightningModule
from torch import nn

from src.core.errors import ConfigurationError
from src.training.parts import is_part

NAME = "fsdp2"
STEPS = ("training_step", "validation_step", "test_step", "predict_step")


def is_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` was called with a part of a module."""
    return any(hasattr(layer, "set_reshard_after_forward") for layer in module.modules())


def shard(module: LightningModule, mesh: Any, smallest: int) -> None:
    """Shard the parameters of a module, unless it has done so.

    Raises:
        ConfigurationError: a parameter that cannot be divided, or that the module has left whole.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    own = is_sharded(module)
    for name, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter) or not parameter.ndim:
            kind = "lazy" if nn.parameter.is_lazy(parameter) else "a scalar"
            raise ConfigurationError(
                f"trainer.strategy: {NAME}: the parameter {name} is {kind}; give it a shape of at least one "
                "dimension"
            )
        if own and not is_part(parameter):
            raise ConfigurationError(
                f"trainer.strategy: {NAME}: configure_model leaves {name} whole; shard all layers, or none"
            )
    if own:
        return
    for layer in _groups(module, smallest):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    if not all(map(is_part, module.parameters())):  # parameters of the module itself or of several layers
        # a step may use them after it has called the module
        fully_shard(module, mesh=mesh, reshard_after_forward=False)
        for step in STEPS:
            register_fsdp_forward_method(module, step)


def _groups(module: nn.Module, smallest: int) -> Iterator[nn.Module]:
    """The layers whose parameters are gathered together, inner ones first."""
    uses = Counter(map(id, _uses(module)))
    called = set(_called(module))
    lists = nn.Sequential | nn.ModuleList | nn.ModuleDict
    items = {each for parent in module.modules() if isinstance(parent, lists) for each in _called(parent)}
    grouped: set[int] = set()
    for layer in reversed([*module.modules()][1:]):
        if layer not in called | items:
            continue
        inner = Counter(map(id, _uses(layer)))
        left = {id(each): each.numel() for each in layer.parameters() if id(each) not in grouped}
        shared = any(inner[each] < uses[each] for each in left)
        if left and not shared and (layer in called or sum(left.values()) >= smallest):
            grouped |= left.keys()
            yield layer


def _uses(module: nn.Module) -> list[nn.Parameter]:
    """Its parameters, once for each layer that has them."""
    return [parameter for _, parameter in module.named_parameters(remove_duplicate=False)]


def _called(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a module calls itself."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _called(child)
        elif not isinstance(child, nn.ParameterList | nn.ParameterDict):
            yield child
