"""Tensors of which each process holds a part (torch's DTensor), and whole ones."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, distributed, nn

from src.core.weights import with_versions


def whole(values: Any) -> Any:
    """A collection with whole tensors on the CPU of the first process, and empty ones in the others.

    Args:
        values: with parts of tensors, the same ones in all processes, which take part in this.
    """

    def gathered(value: Tensor) -> Tensor:
        if not is_part(value):
            return value
        full: Tensor = value.detach().full_tensor()  # type: ignore[attr-defined]
        return full.cpu() if distributed.get_rank() == 0 else torch.empty(0)

    return apply_to_collection(values, Tensor, gathered)


def is_part(tensor: Any) -> bool:
    """Whether a tensor is a DTensor, whose class takes a second to import."""
    return hasattr(tensor, "full_tensor")


def part(value: Any, like: Tensor) -> Any:
    """The part of a whole tensor that this process holds of another one of the same shape.

    A value of another shape, such as a count of steps, and one that is no whole tensor, is returned.
    """
    if not is_part(like) or is_part(value) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def in_parts(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Whole weights by name as the parts that a module holds."""
    held = module.state_dict()
    found = {name: part(value, held.get(name, value)) for name, value in weights.items()}
    return with_versions(found, module)


def sum_of(function: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """The sum of a function of each number of a weight, which may be in parts outside of its layer's call.

    Its gradient is that of this process's part, since the processes do not average it.
    """
    if not is_part(weight):
        return function(weight).sum()
    own = function(weight.to_local()).sum()  # type: ignore[attr-defined]
    total = own.detach().clone()
    distributed.all_reduce(total)
    return own + (total - own.detach())
