"""Weights and checkpoints that are read from a file, without running code from it."""

import logging
from pathlib import Path

import torch
from lightning import LightningModule

from src.core.errors import ConfigurationError
from src.training.checkpoint import ResumableCheckpoint

logger = logging.getLogger(__name__)


def load_weights(model: LightningModule, path: Path) -> None:
    """Put the weights of a checkpoint of Lightning into a module.

    Args:
        model: the module.
        path: of the checkpoint.

    Raises:
        ConfigurationError: it cannot be read, or has the weights of another model.
    """
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises many kinds
        text = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"ckpt_path: {path} has no weights of this model: {text}") from error


def place_in(path: Path, record: ResumableCheckpoint) -> str | None:
    """Where a training goes on from a checkpoint, in words.

    Args:
        path: of the checkpoint.
        record: of the training that goes on; it knows the environment.

    Returns:
        None if there is none, if it cannot be read, or if it was begun in another environment.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        epoch, within = checkpoint["epoch"], checkpoint["within_epoch"]
        began = checkpoint["callbacks"][record.state_key].get("environment")
    except Exception as error:  # torch raises many kinds for a damaged file
        logger.warning("%s cannot be read (%s): starting afresh", path, type(error).__name__)
        return None
    here = record.environment
    changes = [
        f"{name} {began.get(name)}, now {here[name]}" for name in here if began.get(name) != here[name]
    ]
    if changes:
        logger.warning("%s was begun with %s: starting afresh", path, "; ".join(changes))
        return None
    batches = f", after batch {within['batches']}" if within else ""
    return f"going on {'in' if within else 'after'} epoch {epoch + 1}{batches}"
