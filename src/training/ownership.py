"""Who may write a model: one training at a time, and the stage of DVC that expects it."""

import os
import tempfile
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from src.core.atomic import NO_LOCKS, warn_of_no_lock
from src.core.errors import ConfigurationError, LockedError
from src.core.paths import MODELS, PARAMETERS, RUNS


def require_stage(name: str, prepared: Path | None) -> None:
    """Refuse a model that a stage of DVC does not expect, or data that it does not depend on.

    Args:
        name: of the model.
        prepared: the folder of its data; None for data of its own.

    Raises:
        ConfigurationError: `dvc repro` runs the stage of another model, or of other data.
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if not stage.startswith("train@"):
        return
    if stage != f"train@{name}":
        raise ConfigurationError(
            f"name: found {name}, but the stage {stage} has to write {MODELS / stage[6:]}: it would "
            f"replace {MODELS / name}, which belongs to train@{name}"
        )
    data = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["models"][name]
    if prepared is not None and Path(data) != prepared:
        raise ConfigurationError(
            f"{PARAMETERS}: models.{name}: found {data}, but its configuration reads {prepared}: a change of "
            "these data would not train it again"
        )


def require_writable(folder: Path) -> None:
    """Make a folder in which files can be written; fail before the training, not after it.

    Args:
        folder: of all models.

    Raises:
        OSError: no file can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def only_trainer(name: str) -> FileLock:
    """Take the lock of a model's trainings, which the system releases when the process ends, however it ends.

    Args:
        name: of the model.

    Returns:
        The lock, which is held.

    Raises:
        LockedError: another process holds it.
    """
    # a lock that is a file of its own would outlive a killed process
    lock = FileLock(RUNS / name / "lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"another process trains {name} in this folder, perhaps of a `dvc repro` that was killed; "
            "wait for it to end, or end it"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warn_of_no_lock(str(error.strerror))
    return lock
