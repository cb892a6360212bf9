"""What an ordinary module keeps in plain attributes and metrics, for its checkpoints.

Lightning's checkpoint has parameters and buffers. Modules also count, anneal and collect in attributes
(`self.noise *= 0.9`, `self.best = min(self.best, loss)`), put parts into `eval()`, and hold metrics over
several epochs, such as torchmetrics' MaxMetric.
"""

import io
import logging
import sys
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.utils import data
from torchmetrics import Metric, MetricCollection

from src.training.seeding import OwnGenerator

logger = logging.getLogger(__name__)

Scalar = bool | int | float | str | np.generic | None
LARGE = 1 << 20  # bytes, or characters, of a value that is stored only if it is another one than at the start
LARGEST_COMPARED = 1 << 26  # bytes of an object whose changes are looked for
OF_TORCH = ("torch", "torchmetrics", "lightning", "lightning_fabric", "pytorch_lightning", "torchvision")
# of Lightning itself, which sets them again
OF_LIGHTNING = {
    *(vars(LightningModule()).keys() - {"training"}),
    *("_metric_attributes", "_hparams", "_hparams_initial", "_hparams_name"),
}
NAMED = "named tuple"  # the key of a stored one
Place = tuple[str, str]  # the name of an owner, and of its attribute


class Attributes:
    """The plain attributes of a module, its parts and callbacks, and of data sets and samplers of loaders.

    Plain are numbers, texts, tensors, arrays, and lists, (named) tuples, dictionaries, sets and deques of
    these, also in objects of the author's classes. Values above one mebibyte are stored only if the training
    has put others in their place or changed their length, those of data sets never. A data module has
    `state_dict` for what it needs when it makes its loaders, which is before these attributes are restored.

    Args:
        trainer: at the start of a training, before a checkpoint's attributes are restored.
        module: that is trained.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer = trainer
        self.module = module
        self.start = {place: _mark(value) for place, _, value in self._values()}
        self.odd: dict[Place, bytes | None] | None
        self.odd = {place: _digest_of_object(value) for place, value in self._odd()}
        self.samplers: dict[Place, list[Any]] = {}

    def begin_epoch(self) -> None:
        """Remember where samplers are that go on from one epoch to the next, before they are asked for it."""
        self.samplers = {
            place: deepcopy([_kind(value), _stored(value)])
            for place, owner, value in self._values()
            if isinstance(owner, data.Sampler) and is_plain(value)
        }

    def state(self, within: bool) -> dict[str, Any]:
        """What has changed since the start, and the states of metrics, for `restore`.

        Args:
            within: an epoch, of which the samplers will be asked again.
        """
        values = {
            place: [_kind(value), _stored(value)]
            for place, owner, value in self._values()
            if not _same(value, self.start.get(place))
            and not (isinstance(owner, data.Dataset) and _is_large(value))
            and is_plain(value)
        }
        if within:
            values |= self.samplers
        state = {"values": list(values.items()), "metrics": self._metrics()}
        copied: dict[str, Any] = apply_to_collection(state, Tensor, lambda tensor: tensor.detach().clone())
        return copied

    def restore(self, state: dict[str, Any]) -> None:
        """Put the attributes and metrics of a checkpoint into the module.

        Args:
            state: of `state`.
        """
        owners = dict(self._owners())
        for (owner, name), (kind, value) in state["values"]:
            if owner in owners:
                value = _loaded(move_data_to_device(value, self.module.device))
                _put(_namespace(owners[owner]), name, kind, value)
        metrics = dict(named_metrics(self.module))
        for name, (updates, states) in state["metrics"].items():
            metric = metrics.get(name)
            if metric is None:
                continue
            metric._update_count, metric._computed = updates, None
            for attribute, value in move_data_to_device(states, self.module.device).items():
                setattr(metric, attribute, value)

    def warn_of_others(self) -> None:
        """Name what has changed since the start and cannot be stored; at the first call only."""
        before, self.odd = self.odd, None
        if before is None:
            return
        changed = [
            f"{owner or type(self.module).__name__}.{name} ({type(value).__name__})"
            for (owner, name), value in self._odd()
            if _digest_of_object(value) != before.get((owner, name))
        ]
        if changed:
            logger.warning(
                "%s: the training changes what no checkpoint has; after an interruption it may end with "
                "other weights; keep numbers, tensors, lists or dictionaries, or use on_save_checkpoint",
                ", ".join(changed),
            )

    def _metrics(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """The states of the metrics, without those that Lightning resets at the end of the epoch."""
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        ends = progress.processed > progress.completed
        logged = self.trainer.fit_loop.epoch_loop._results.values()
        reset = {item.meta.metric_attribute for item in logged if ends and not item.is_tensor}
        for collection in self.module.modules():
            if isinstance(collection, MetricCollection):
                # metrics that share their updates get the state of the one that has them
                list(collection.items())
        return {
            name: (metric._update_count, metric.metric_state)
            for name, metric in named_metrics(self.module)
            if name not in reset
        }

    def _owners(self) -> Iterator[tuple[str, Any]]:
        """The objects that have attributes, with names that repeat in another process."""
        loader = self.trainer.fit_loop._combined_loader
        waiting: list[tuple[str, Any]] = [*self.module.named_modules(), ("hparams", self.module.hparams)]
        for number, each in enumerate(self.trainer.callbacks):  # type: ignore[attr-defined]
            waiting.append((f"callback {number} {type(each).__name__}", each))
        for number, each in enumerate(loader.flattened if loader is not None else []):
            for part in ("sampler", "batch_sampler", "dataset"):
                waiting.append((f"loader {number}.{part}", getattr(each, part, None)))
        seen = {id(None)}
        while waiting:
            name, owner = waiting.pop(0)
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            if _is_own(owner) or isinstance(owner, nn.Module | dict):
                yield name, owner
            elif not isinstance(owner, data.Dataset | data.Sampler):
                continue
            for attribute, value in list(_namespace(owner).items()):
                if attribute not in OF_LIGHTNING and (_is_own(value) or isinstance(value, data.Dataset)):
                    waiting.append((f"{name}.{attribute}".lstrip("."), value))

    def _values(self) -> Iterator[tuple[Place, Any, Any]]:
        """Place, owner and value of each attribute that may be plain."""
        for owner, each in self._owners():
            defaults = each._defaults if isinstance(each, Metric) else ()
            private = isinstance(each, nn.Module) and not isinstance(each, LightningModule)
            for name, value in list(_namespace(each).items()):
                if name in OF_LIGHTNING or name in defaults or (private and name.startswith("_")):
                    continue
                if isinstance(value, Scalar | Tensor | np.ndarray | list | tuple | dict | set | deque):
                    yield (owner, name), each, value

    def _odd(self) -> Iterator[tuple[Place, Any]]:
        """The attributes of the module and of callbacks that are not plain, and may change."""
        for owner, each in self._owners():
            if isinstance(each, data.Dataset | data.Sampler | dict) or (
                isinstance(each, nn.Module) and not _is_own(each)
            ):
                continue
            for name, value in list(_namespace(each).items()):
                if name in OF_LIGHTNING or (isinstance(each, nn.Module) and name.startswith("_")):
                    continue
                if _may_change(value) and not is_plain(value):
                    yield (owner, name), value


def named_metrics(module: LightningModule) -> list[tuple[str, Metric]]:
    """The metrics of a module and of its parts."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]


def is_plain(value: Any) -> bool:
    """Whether a value is made of what a checkpoint stores without a pickle."""
    if isinstance(value, dict):
        return all(isinstance(name, str | int | float) and is_plain(item) for name, item in value.items())
    if type(value) in (list, tuple, set, deque) or _is_named(value):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype != object
    return isinstance(value, Scalar | Tensor) and not isinstance(value, nn.Parameter)


def _is_own(value: Any) -> bool:
    """Whether an object is of a class of the author, or of another package that is none of torch's."""
    if isinstance(value, type | OwnGenerator | Path | Scalar | Tensor | np.ndarray | data.DataLoader):
        return False
    package = type(value).__module__.partition(".")[0]
    known = package in OF_TORCH or package in sys.stdlib_module_names or package in ("numpy", "pandas")
    return not known and not type(value).__module__.startswith("src.training") and hasattr(value, "__dict__")


def _may_change(value: Any) -> bool:
    """Whether the content of a value may change in a way that no checkpoint has."""
    if isinstance(value, list | tuple | dict | set | deque):
        return True
    package = type(value).__module__.partition(".")[0]
    known = package in OF_TORCH or package in sys.stdlib_module_names
    return not (known or callable(value) or _is_own(value) or isinstance(value, OwnGenerator))


def _digest(value: Any) -> bytes | None:
    """A digest of a plain value; None if it has none."""
    content = sha256()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            if part.layout != torch.strided:
                return None
            content.update(f"{part.dtype} {part.shape}".encode())
            part = part.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        if isinstance(part, np.ndarray):
            content.update(f"{part.dtype} {part.shape}".encode() + part.tobytes())
        elif isinstance(part, dict | list | tuple | set | deque):
            content.update(f"{type(part)} {len(part)}".encode())
            waiting += [item for pair in part.items() for item in pair] if isinstance(part, dict) else part
        else:
            content.update(repr(part).encode())
    return content.digest()


def _digest_of_object(value: Any) -> bytes | None:
    """A digest of any object; None if it is large or cannot be written."""
    if sys.getsizeof(value) > LARGEST_COMPARED:
        return None
    content = io.BytesIO()
    try:
        torch.save(value, content)
    except Exception:  # of classes of others
        return None
    return sha256(content.getvalue()).digest()


def _namespace(owner: Any) -> dict[str, Any]:
    return owner if isinstance(owner, dict) else vars(owner)


def _is_large(value: Any) -> bool:
    """Whether a value has more than LARGE bytes or characters, about; quick for any value."""
    size, waiting = 0, [value]
    while waiting and size <= LARGE:
        part = waiting.pop()
        if isinstance(part, Tensor | np.ndarray):
            size += int(part.nbytes)
        elif isinstance(part, dict | list | tuple | set | deque):
            size += 8 * len(part)
            if size <= LARGE:
                waiting += part.values() if isinstance(part, dict) else part
        elif isinstance(part, str):
            size += len(part)
    return size > LARGE


def _mark(value: Any) -> Any:
    """By what it is seen whether a value has changed: itself, a digest, or the identity of a large one."""
    if isinstance(value, Scalar):
        return value
    return (value, _extent(value)) if _is_large(value) else _digest(value)


def _same(value: Any, mark: Any) -> bool:
    """Whether a value has the mark of the start."""
    if isinstance(value, Scalar):
        return type(value) is type(mark) and bool(value == mark)
    if isinstance(mark, tuple):
        return value is mark[0] and _extent(value) == mark[1]
    return mark is not None and not _is_large(value) and _digest(value) == mark


def _extent(value: Any) -> int:
    """The length of a container, or how often a tensor was changed in place."""
    return value._version if isinstance(value, Tensor) else len(value)


def _kind(value: Any) -> str:
    return next((kind.__name__ for kind in (list, dict, set, deque) if isinstance(value, kind)), "")


def _stored(value: Any) -> Any:
    """A value as the restricted loader of checkpoints reads it."""
    if isinstance(value, dict):
        return {name: _stored(item) for name, item in value.items()}
    if _is_named(value):
        return {
            NAMED: f"{type(value).__module__}:{type(value).__qualname__}",
            "items": [*map(_stored, value)],
        }
    if isinstance(value, list | tuple | deque):
        return (tuple if isinstance(value, tuple) else list)(map(_stored, value))
    return value


def _loaded(value: Any) -> Any:
    """A value of `_stored` as it was."""
    if isinstance(value, dict):
        items = {name: _loaded(item) for name, item in value.items()}
        return _class_of(items[NAMED])._make(items["items"]) if NAMED in items else items
    if isinstance(value, list | tuple):
        return type(value)(map(_loaded, value))
    return value


def _is_named(value: Any) -> bool:
    """Whether a value is a named tuple whose class is found by its name."""
    kind = type(value)
    return hasattr(kind, "_fields") and _class_of(f"{kind.__module__}:{kind.__qualname__}") is kind


def _class_of(name: str) -> Any:
    """The class of named tuples of that name in a module that is imported; None for anything else."""
    module, _, qualified = name.partition(":")
    found = getattr(sys.modules.get(module), qualified, None)
    return found if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_make") else None


def _put(attributes: dict[str, Any], name: str, kind: str, value: Any) -> None:
    """Put a value in place: into the container that is there, since others may hold it, too."""
    present = attributes.get(name)
    if isinstance(present, list | deque) and kind in ("list", "deque"):
        present.clear()
        present.extend(value)
    elif isinstance(present, dict | set) and kind in ("dict", "set"):
        present.clear()
        present.update(value)
    elif isinstance(present, Tensor) and present.requires_grad and present.shape == value.shape:
        present.data.copy_(value)  # an optimizer may hold it
    else:
        attributes[name] = deque(value) if kind == "deque" else value
