"""Paths of the project, relative to its root folder."""

import re
from pathlib import Path

from src.core.errors import ConfigurationError

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SAMPLES = Path("data/samples")
MODELS = Path("models")
REPORTS = Path("reports")
RUNS = Path("runs")
PREDICTIONS = Path("predictions")  # of `predict` without --data.output
PARAMETERS = Path("params.yaml")
CONFIGS = Path("configs")
LOCK = Path("requirements.lock")
CELLS = RUNS / "cells"  # the trainings of studies
RECORD = "run.json"  # the record of a training, in its folder below runs/
CHECKPOINT = "last.ckpt"  # of a training that has not ended, beside it
HISTORY = "history.csv"  # the metrics of each epoch, in the folder of a training and in a bundle
REPORT_FILES = ("metrics.json", "plots", "tables")  # of a task or study
SOURCE = "SOURCE.json"  # the origin of the raw files of a task, in their folder
# object stores by the scheme of their addresses, and what to do where the library of one is absent
STORES = {"s3": "s3fs is not installed; run: make setup EXTRAS=s3", "gs": "gcsfs is not installed"}
MANIFEST = "manifest.json"  # the files of a folder of prepared data or of a bundle


def require_name(name: object, key: str) -> None:
    """Refuse a name that is more than one word: it is part of paths, stages, and commands that a shell reads.

    Args:
        name: of a task or study.
        key: where it stands, for the message.

    Raises:
        ConfigurationError: it has other characters than letters, digits, _ and -.
    """
    if not re.fullmatch(r"\w[\w-]*", str(name)):
        raise ConfigurationError(f"{key}: {name!r} cannot be a name; use letters, digits, _ and -")
