"""Checkpoints as files: written whole and without pickles, read without running code from them."""

import io
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import save
from torch import Tensor
from torch.nn.parameter import is_lazy

from src.core.errors import ConfigurationError
from src.training.checkpoint import ResumableCheckpoint

# plain data beside tensors, which torch's restricted loader does not know by itself
torch.serialization.add_safe_globals(
    [
        *(type(Path()), np.ndarray, np.dtype),
        *(np._core.multiarray._reconstruct, np._core.multiarray.scalar),  # type: ignore[attr-defined]
        *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    ]
)

HYPERPARAMETERS = {
    LightningModule.CHECKPOINT_HYPER_PARAMS_KEY,
    LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY,
}
logger = logging.getLogger(__name__)


class DurableCheckpointIO(TorchCheckpointIO):
    """Saves checkpoints by fsync and a rename in the same folder; Lightning's own save does neither.

    Hyperparameters that only a pickle could store are left out: a training goes on without them, since module
    and data are built from the configuration. The first checkpoint is read back; if a restart could not load
    it, which a state of a module, callback or data module can cause, a warning says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, set[str]] = {}
        self.first = True

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a temporary file, flush it to the disk, and rename it to `path`.

        An address such as s3://BUCKET/KEY is left to Lightning and fsspec; stores write objects whole.
        """
        checkpoint = dict(checkpoint)
        for key in HYPERPARAMETERS & checkpoint.keys():
            values = checkpoint[key]
            if key not in self.left_out:  # a network among them would take long each time
                self.left_out[key] = {name for name, value in values.items() if not is_storable(value)}
            checkpoint[key] = {
                name: value for name, value in values.items() if name not in self.left_out[key]
            }
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        partial = Path(f"{path}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if self.first:
            _warn_if_unloadable(partial)
            self.first = False
        partial.replace(path)


def _warn_if_unloadable(path: Path) -> None:
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds
        found = re.search(r"[\w.]+\.[\w.]+(?= was not an allowed global)", str(error))
        logger.warning(
            "if this training is interrupted, it begins anew: its checkpoint has %s, which only a pickle "
            "could store; keep plain values in on_save_checkpoint and state_dict",
            f"a {found[0]}" if found else "an object",
        )


def is_storable(value: Any) -> bool:
    """Whether a checkpoint with this value can be loaded without running code from it."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # torch and pickle raise many kinds
        return False
    return True


def unstorable(model: LightningModule, data: LightningDataModule | None) -> list[str]:
    """The hyperparameters that a checkpoint leaves out, since only a pickle could store them."""
    found = {**model.hparams, **(data.hparams if data is not None else {})}
    return [f"{name} ({type(value).__name__})" for name, value in found.items() if not is_storable(value)]


def require_storable(model: LightningModule) -> None:
    """Refuse a module with a state that no bundle can store, before it is trained.

    Raises:
        ConfigurationError: a part of its state is no tensor, or one without a dense form in a file.
    """
    for name, value in model.state_dict().items():
        if is_lazy(value):
            continue
        if not isinstance(value, Tensor):
            found, remedy = (
                f"a {type(value).__name__}",
                "return tensors from get_extra_state, or leave it out",
            )
        elif value.layout != torch.strided or not _has_format(value.dtype):
            found = f"a tensor of {value.layout if value.layout != torch.strided else value.dtype}"
            remedy = "make it in __init__ and register it with persistent=False"
        else:
            continue
        raise ConfigurationError(
            f"{type(model).__name__}: the state has {name}, {found}, which a bundle cannot store; {remedy}"
        )


@cache
def _has_format(dtype: torch.dtype) -> bool:
    """Whether a safetensors file can have tensors of a type."""
    try:
        save({"tensor": torch.empty(1, dtype=dtype)})
    except Exception:  # safetensors raises many kinds
        return False
    return True


def load_weights(model: LightningModule, path: Path) -> None:
    """Put the weights of a checkpoint of Lightning into a module.

    Args:
        model: the module.
        path: of the checkpoint.

    Raises:
        ConfigurationError: it cannot be read, or has the weights of another model.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        model.load_state_dict(weights, strict=model.strict_loading)
    except Exception as error:  # torch raises many kinds
        text = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"ckpt_path: {path} has no weights of this model: {text}") from error


def place_in(path: Path, record: ResumableCheckpoint, in_parts: bool = False) -> str | None:
    """Where a training goes on from a checkpoint, in words.

    Args:
        path: of the checkpoint.
        record: of the training that goes on; it knows the environment.
        in_parts: whether the weights are in parts, which another number of processes can share.

    Returns:
        None if there is none, if it cannot be read, or if it was begun in another environment.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=in_parts)
        epoch, within = checkpoint["epoch"], checkpoint["within_epoch"]
        began = checkpoint["callbacks"][record.state_key].get("environment")
    except Exception as error:  # torch raises many kinds for a damaged file
        logger.warning("%s cannot be read (%s): starting afresh", path, type(error).__name__)
        return None
    here = record.environment
    changes = {
        name: f"{name} {began.get(name)}, now {here[name]}" for name in here if began.get(name) != here[name]
    }
    if in_parts and changes.keys() == {"processes"}:
        logger.warning("%s was begun with %s: sums will round otherwise", path, changes["processes"])
    elif changes:
        logger.warning("%s was begun with %s: starting afresh", path, "; ".join(changes.values()))
        return None
    batches = f", after batch {within['batches']}" if within else ""
    return f"going on {'in' if within else 'after'} epoch {epoch + 1}{batches}"
