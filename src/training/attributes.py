"""What an ordinary module keeps in plain attributes and metrics, for its checkpoints.

Lightning's checkpoint has parameters and buffers. Modules also count, anneal and collect in attributes
(`self.noise *= 0.9`, `self.best = min(self.best, loss)`), put parts into `eval()`, and hold metrics over
several epochs, such as torchmetrics' MaxMetric.
"""

import logging
import sys
from argparse import Namespace
from collections.abc import Iterator
from enum import Enum
from io import IOBase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils import data
from torchmetrics import Metric, MetricCollection

from src.training.plain_values import (
    Container,
    LargeMark,
    Scalar,
    is_plain,
    loaded,
    mark,
    put,
    stored,
)
from src.training.seeding import OwnGenerator

logger = logging.getLogger(__name__)

OF_OTHERS = {  # packages whose objects have no state that steps depend on and that Lightning does not know
    *("torch", "torchmetrics", "torchvision", "lightning", "lightning_fabric", "pytorch_lightning"),
    *("wandb", "tensorboard", "mlflow", "matplotlib"),
    *sys.stdlib_module_names,
}
OF_MODULES = vars(nn.Module()).keys() - {"training"}
# of Lightning itself, which sets them again
OF_LIGHTNING = {
    *(vars(LightningModule()).keys() - {"training"}),
    *("_metric_attributes", "_hparams", "_hparams_initial", "_hparams_name"),
}
Place = tuple[str, str]  # the name of an owner, and of its attribute


class Attributes:
    """The attributes of a module, its parts and callbacks, of data sets and samplers, and of objects in them.

    Stored is what has changed since the start of the process and is plain (src/training/plain_values.py), and
    the weights of networks that callbacks and other objects hold.
    Large values of data sets are not looked at. A data module has `state_dict` for what it needs to make
    loaders, which is before these attributes are restored.

    Args:
        trainer: at the start of the sanity check, or of a training without it; `begin` follows at the start
            of the training, before a checkpoint's attributes are restored.
        module: that is trained.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer = trainer
        self.module = module
        self.start: dict[Place, Any] = {}
        self.networks: dict[str, Any] = {}
        self.kept: set[Place] = set()
        self.begin()
        self.samplers: dict[Place, Any] = {}
        self.epochs = 0
        self.iterators: dict[Place, Any] = {}

    def begin(self) -> None:
        """Mark all attributes, but for those that the sanity check has changed."""
        before = {place: self.start.get(place) for place in self.kept}
        self.start = {place: _mark(owner, value) for place, owner, value in self._attributes()} | before
        self.networks = {name: mark(network.state_dict()) for name, network in self._networks()}

    def keep_changes(self) -> None:
        """Remember what has changed since the marks."""
        self.kept = {
            place for place, owner, value in self._attributes() if self._has_changed(place, owner, value)
        }

    def begin_epoch(self) -> None:
        """Remember where samplers are that go on from one epoch to the next, before they are asked for it."""
        self.samplers = {
            place: stored(value)
            for place, owner, value in self._attributes()
            if isinstance(owner, data.Sampler) and _is_stored(value)
        }

    def state(self, within: bool) -> dict[str, Any]:
        """What has changed since the start, and the states of metrics, for `restore`.

        Args:
            within: an epoch, of which the samplers will be asked again.
        """
        values = {
            place: stored(value)
            for place, owner, value in self._attributes()
            if self._has_changed(place, owner, value) and _is_stored(value)
        }
        networks = {
            name: stored(dict(network.state_dict()))
            for name, network in self._networks()
            if mark(network.state_dict()) != self.networks.get(name)
        }
        buffers = [
            (owner, name)
            for owner, each in self._owners()
            if isinstance(each, nn.Module)
            for name in each._non_persistent_buffers_set
        ]
        values |= self.samplers if within else {}
        return {"values": values, "buffers": buffers, "metrics": self._metrics(), "networks": networks}

    def restore(self, state: dict[str, Any]) -> None:
        """Put the attributes and metrics of a checkpoint into the module.

        Args:
            state: of `state`.
        """
        device = self.module.device
        owners = dict(self._owners())
        for (owner, name), value in state["values"].items():
            if owner in owners:
                if (owner, name) in state["buffers"] and name not in owners[owner]._buffers:
                    owners[owner].register_buffer(name, None, persistent=False)  # made in the first step
                put(_holder(owners[owner], name), name, loaded(value, device))
        networks = dict(self._networks())
        for name, weights in state["networks"].items():
            if name in networks:
                network = networks[name]
                strict = getattr(network, "strict_loading", True)
                network.load_state_dict(loaded(weights, device), strict=strict)
        metrics = dict(named_metrics(self.module))
        for name, (updates, states) in state["metrics"].items():
            if name in metrics:
                values = {key: loaded(part, device) for key, part in states.items()}
                vars(metrics[name]).update(values, _update_count=updates, _computed=None)

    def warn_of_others(self) -> None:
        """Name what cannot be stored: what the first epoch has changed, and iterators that go on after it."""
        if self.epochs == 2:
            return
        self.epochs += 1
        odd = {
            place: value
            for place, owner, value in self._attributes()
            if not (_is_stored(value) or isinstance(owner, data.Dataset))
        }
        if self.epochs == 1:
            self.iterators = {place: value for place, value in odd.items() if _is_iterator(value)}
            changed = {
                place: value
                for place, value in odd.items()
                if place not in self.iterators and mark(value) != self.start.get(place)
            }
        else:
            changed = {place: value for place, value in self.iterators.items() if odd.get(place) is value}
            self.iterators = {}
        if changed:
            names = [
                f"{owner or type(self.module).__name__}.{name} ({type(value).__name__})"
                for (owner, name), value in changed.items()
            ]
            logger.warning(
                "%s: the training changes what no checkpoint has; after an interruption it may end with "
                "other weights; keep numbers, tensors, lists or dictionaries, use on_save_checkpoint, or "
                "make iterators anew in each epoch",
                ", ".join(names),
            )

    def _has_changed(self, place: Place, owner: Any, value: Any) -> bool:
        """Whether a value is another one than at the start, and none that a data set holds in memory."""
        now = _mark(owner, value)
        if isinstance(now, LargeMark) and isinstance(owner, data.Dataset):
            return False
        return now is None or now != self.start.get(place)

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
            name: (metric._update_count, {key: stored(part) for key, part in metric.metric_state.items()})
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
            elif not isinstance(owner, data.Dataset | data.Sampler):  # torch's own hold the author's
                continue
            waiting += [
                (f"{name}.{attribute}".lstrip("."), value)
                for attribute, value in list(_namespace(owner).items())
                if attribute not in OF_LIGHTNING and (_is_own(value) or isinstance(value, data.Dataset))
            ]

    def _networks(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks that are no part of the module, such as an average of its weights in a callback."""
        parts = {id(part) for part in self.module.modules()}
        for owner, each in self._owners():
            for name, value in list(_namespace(each).items()):
                outside = isinstance(value, nn.Module) and id(value) not in parts
                if outside and not isinstance(each, nn.Module):
                    yield f"{owner}.{name}", value

    def _attributes(self) -> Iterator[tuple[Place, Any, Any]]:
        """Place, owner and value of each attribute that may change and is no owner."""
        for owner, each in self._owners():
            defaults = each._defaults if isinstance(each, Metric) else ()
            values = dict(_namespace(each))
            if isinstance(each, nn.Module) and not isinstance(each, Metric):
                # `state_dict` has none of these buffers
                values |= {name: each._buffers[name] for name in each._non_persistent_buffers_set}
            private = isinstance(each, Metric) or (isinstance(each, nn.Module) and _is_of_others(each))
            for name, value in values.items():
                if name in OF_LIGHTNING or name in OF_MODULES or name in defaults:
                    continue
                if private and name.startswith("_"):
                    continue
                constant = _is_of_others(value) and not _is_iterator(value)
                if isinstance(value, Scalar | Tensor | Container) or not (constant or _is_own(value)):
                    yield (owner, name), each, value


def named_metrics(module: LightningModule) -> list[tuple[str, Metric]]:
    """The metrics of a module and of its parts."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]


def _mark(owner: Any, value: Any) -> Any:
    """The mark of an attribute; without a look at the rows of a data set in memory."""
    return mark(value, large=not isinstance(owner, data.Dataset))


def _is_stored(value: Any) -> bool:
    """Whether a checkpoint has an attribute: a dictionary of any class is filled, and keeps its class."""
    return is_plain(dict(value) if isinstance(value, dict) else value)


def _is_of_others(value: Any) -> bool:
    """Whether an object is of a class of OF_OTHERS or of this project, or is constant or seeded by itself."""
    package = type(value).__module__.partition(".")[0]
    ours = type(value).__module__.startswith("src.training")
    return ours or package in OF_OTHERS or isinstance(value, type | OwnGenerator | Path)


def _is_iterator(value: Any) -> bool:
    """Whether an object has a position that nothing can restore, such as `iter(loader)` or `cycle(rows)`."""
    return isinstance(value, Iterator) and not isinstance(value, IOBase)


def _is_own(value: Any) -> bool:
    """Whether an object is of a class of the author, or of another package that is none of torch's."""
    if isinstance(value, Namespace | SimpleNamespace):
        return True
    arrays = type(value).__module__.partition(".")[0] in ("numpy", "pandas")
    plain = isinstance(value, Scalar | Tensor | np.ndarray | Container | data.DataLoader | Enum)
    return hasattr(value, "__dict__") and not (arrays or plain or _is_of_others(value))


def _namespace(owner: Any) -> dict[str, Any]:
    return owner if isinstance(owner, dict) else vars(owner)


def _holder(owner: Any, name: str) -> dict[str, Any]:
    """The dictionary that has an attribute of an owner."""
    buffers = owner._buffers if isinstance(owner, nn.Module) else {}
    return buffers if name in buffers else _namespace(owner)
