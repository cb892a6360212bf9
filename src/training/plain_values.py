"""Values that a checkpoint stores without a pickle, and whether they have changed."""

import io
import sys
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, cast
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

Scalar = bool | int | float | str | np.generic | None
Container = list | tuple | dict | set | deque
LARGE = 1 << 20  # bytes of a value that is not compared by its content
KIND = "kind of the container"  # the key of a stored one that torch's restricted loader does not know
DEQUE = "deque"
DEVICE = "tensor of a device"  # checkpoints are read into the memory of the CPU


def is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, texts, tensors and arrays in containers of Python."""
    if type(value) is dict:
        return all(isinstance(name, Scalar) and is_plain(item) for name, item in value.items())
    if type(value) in (list, tuple, set, deque) or _is_named(value):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype != object
    return isinstance(value, Scalar | Tensor) and not isinstance(value, nn.Parameter)


def stored(value: Any) -> Any:
    """A plain value as torch's restricted loader reads it, with copies of its containers and tensors."""
    if isinstance(value, dict):
        return {name: stored(item) for name, item in value.items()}
    if isinstance(value, deque):
        return {KIND: DEQUE, "items": [*map(stored, value)], "maxlen": value.maxlen}
    if _is_named(value):
        kind = type(value)
        return {KIND: f"{kind.__module__}:{kind.__qualname__}", "items": [*map(stored, value)]}
    if isinstance(value, list | tuple):
        return type(value)(map(stored, value))
    if isinstance(value, Tensor):
        copy = value.detach().clone()
        return copy if copy.device.type == "cpu" else {KIND: DEVICE, "items": copy}
    return value.copy() if isinstance(value, np.ndarray | set) else value


def loaded(value: Any, device: torch.device) -> Any:
    """A value of `stored` as it was.

    Args:
        value: of a checkpoint, whose tensors are on the CPU.
        device: for tensors that were not.
    """
    if isinstance(value, dict):
        items = {name: loaded(item, device) for name, item in value.items()}
        kind = items.get(KIND)
        if kind == DEVICE:
            return items["items"].to(device)
        if kind == DEQUE:
            return deque(items["items"], items["maxlen"])
        return items if kind is None else _class_of(kind)._make(items["items"])
    return type(value)(loaded(item, device) for item in value) if isinstance(value, list | tuple) else value


def put(attributes: dict[str, Any], name: str, value: Any) -> None:
    """Put a value in place: into the container that is there, since others may hold it, too."""
    present = attributes.get(name)
    if isinstance(present, list | deque) and isinstance(value, list | deque):
        present.clear()
        present.extend(value)
    elif (isinstance(present, dict) and isinstance(value, dict)) or (
        isinstance(present, set) and isinstance(value, set)
    ):
        present.clear()
        present.update(value)
    elif isinstance(present, Tensor) and present.requires_grad and present.shape == value.shape:
        present.data.copy_(value)  # an optimizer may hold it
    else:
        attributes[name] = value


def mark(value: Any, large: bool = True) -> Any:
    """What tells whether a value has changed, by comparison with an earlier mark.

    Args:
        value: of any kind.
        large: whether to look into a value above LARGE, at about a second a gigabyte.

    Returns:
        None for a value that cannot be read in this way.
    """
    if isinstance(value, Scalar) and not isinstance(value, str):
        return repr(value)
    try:
        return _digest(value) or LargeMark(_sum(value) if large else 0)
    except Exception:  # of other classes
        return None


@dataclass(frozen=True)
class LargeMark:
    """The mark of a value above LARGE."""

    sum: int


class _LargeError(Exception):
    pass


class _Digest(io.RawIOBase):
    """A file that keeps the digest of its content, and takes LARGE bytes."""

    def __init__(self) -> None:
        self.hash = sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        """Take a part of the content."""
        self.hash.update(content)
        self.size += memoryview(content).nbytes
        if self.size > LARGE:
            raise _LargeError
        return memoryview(content).nbytes


def _digest(value: Any) -> bytes | None:
    """A digest of the content; None of a value above LARGE."""
    if isinstance(value, Tensor | np.ndarray) and value.nbytes > LARGE:
        return None
    content = _Digest()
    try:
        # the older format, which is written part by part
        torch.save(value, cast(IO[bytes], content), _use_new_zipfile_serialization=False)
    except _LargeError:
        return None
    return content.hash.digest()


def _sum(value: Any) -> int:
    """A number that changes with the content; of objects of other classes with their identity."""
    if isinstance(value, dict):
        return hash((*map(_sum, value.keys()), *map(_sum, value.values())))
    if isinstance(value, Container):
        return hash(tuple(map(_sum, value)))
    if isinstance(value, Tensor):
        value = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    if isinstance(value, np.ndarray) and not isinstance(value, np.memmap):
        return crc32(np.ascontiguousarray(value).data)
    return hash(value) if isinstance(value, Scalar) else id(value)


def _is_named(value: Any) -> bool:
    """Whether a value is a named tuple whose class is found by its name."""
    kind = type(value)
    return hasattr(kind, "_fields") and _class_of(f"{kind.__module__}:{kind.__qualname__}") is kind


def _class_of(name: str) -> Any:
    """The class of named tuples of that name in a module that is imported; None for anything else."""
    module, _, qualified = name.partition(":")
    found = getattr(sys.modules.get(module), qualified, None)
    return found if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_make") else None
