"""Evaluate the trained model of a task on its test rows, with baselines: metrics, plots, tables."""

from importlib import import_module

from jsonargparse import auto_cli

from pipelines.parameters import kind_of
from src.core.atomic import written_whole
from src.core.errors import exit_with_message
from src.core.outputs import require_ours
from src.core.paths import MODELS, PREPARED, REPORT_FILES, REPORTS


def evaluate(task: str) -> None:
    """Write reports/<task>/: metrics.json, plots/ and tables/.

    Args:
        task: a task of params.yaml whose model is trained.
    """
    from src.bundle.bundle import Bundle  # not needed for --help

    kind = import_module(f"src.{kind_of(task)}.evaluate")
    bundle = Bundle.open(MODELS / task)
    bundle.require_data(PREPARED / task)
    require_ours(REPORTS / task, dict.fromkeys(REPORT_FILES))
    with written_whole(REPORTS / task) as folder:
        kind.evaluate(bundle, PREPARED / task, folder)
    print(f"{task}: evaluated: {REPORTS / task}/")


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(evaluate, as_positional=True))
