"""Turn the raw files of a task into arrays and preprocessing.json, fitted to training rows only."""

from jsonargparse import auto_cli

from pipelines.parameters import checked, kind_of, part_of, task_section
from src.core.atomic import written_whole
from src.core.digests import read_source, write_manifest
from src.core.errors import exit_with_message
from src.core.paths import PREPARED, RAW


def prepare(task: str) -> None:
    """Prepare data/raw/<task>/ into data/prepared/<task>/, as the task's section in params.yaml says.

    Args:
        task: a task of params.yaml.
    """
    kind = part_of(kind_of(task), "prepare")
    source = read_source(RAW / task)
    if kind:
        settings = checked(kind.Preparation, task_section(task).get("prepare"), f"{task}.prepare")
        kind.prepare(RAW / task, PREPARED / task, settings)
    else:  # its data module reads the raw files
        with written_whole(PREPARED / task) as folder:
            write_manifest(folder, raw={name: file["sha256"] for name, file in source["files"].items()})
    print(f"{task}: prepared: {PREPARED / task}/")


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(prepare, as_positional=True))
