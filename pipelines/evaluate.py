"""Judge the trained model of a task on its test rows, beside baselines: metrics, plots, tables."""

from importlib import import_module

from jsonargparse import auto_cli

from src.shared.errors import exit_with_message
from src.shared.folders import MODELS, PREPARED, REPORTS, written_whole
from src.shared.parameters import room_of


def evaluate(task: str) -> None:
    """Write reports/<task>/: metrics.json, plots/ and tables/.

    Args:
        task: a task of params.yaml whose model is trained.
    """
    from src.shared.bundle import require_same_data  # not needed for --help

    room = import_module(f"src.{room_of(task)}.evaluate")
    require_same_data(MODELS / task, PREPARED / task)
    with written_whole(REPORTS / task) as folder:
        room.evaluate(MODELS / task, PREPARED / task, folder)
    print(f"{task}: evaluated: {REPORTS / task}/")


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(evaluate, as_positional=True))
