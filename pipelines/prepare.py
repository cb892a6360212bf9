"""Turn the raw files of a task into arrays and preprocessing.json, fitted to training rows only."""

from importlib import import_module

from jsonargparse import auto_cli

from pipelines.parameters import checked, kind_of, task_section
from src.core.digests import read_source
from src.core.errors import exit_with_message
from src.core.paths import PREPARED, RAW


def prepare(task: str) -> None:
    """Prepare data/raw/<task>/ into data/prepared/<task>/, as the task's section in params.yaml says.

    Args:
        task: a task of params.yaml.
    """
    kind = import_module(f"src.{kind_of(task)}.prepare")
    settings = checked(kind.Preparation, task_section(task).get("prepare"), f"{task}.prepare")
    read_source(RAW / task)
    kind.prepare(RAW / task, PREPARED / task, settings)
    print(f"{task}: prepared: {PREPARED / task}/")


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(prepare, as_positional=True))
