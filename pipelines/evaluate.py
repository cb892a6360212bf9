"""Evaluate the trained model of a task on its test rows, with baselines: metrics, plots, tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import auto_cli

from pipelines.parameters import kind_of, part_of
from src.core.atomic import written_whole
from src.core.errors import exit_with_message
from src.core.outputs import require_ours
from src.core.paths import MODELS, PREPARED, REPORT_FILES, REPORTS

if TYPE_CHECKING:
    from src.bundle.bundle import Bundle


def evaluate(task: str) -> None:
    """Write reports/<task>/: metrics.json, plots/ and tables/.

    Args:
        task: a task of params.yaml whose model is trained.
    """
    from src.bundle.bundle import Bundle  # not needed for --help

    kind = part_of(kind_of(task), "evaluate")
    bundle = Bundle.open(MODELS / task)
    bundle.require_data(PREPARED / task)
    require_ours(REPORTS / task, dict.fromkeys(REPORT_FILES))
    with written_whole(REPORTS / task) as folder:
        if kind:
            kind.evaluate(bundle, PREPARED / task, folder)
        else:
            _evaluate_module(bundle, folder)
    print(f"{task}: evaluated: {REPORTS / task}/")


def _evaluate_module(bundle: "Bundle", folder: Path) -> None:
    """Write the metrics that an ordinary LightningModule logs for its validation and test rows."""
    from src.bundle.module import module_scores
    from src.reporting.metrics import begin_report, write_metrics
    from src.reporting.tables import print_scores

    begin_report(bundle.folder, folder)
    print_scores(bundle.task, write_metrics(module_scores(bundle), folder))


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(evaluate, as_positional=True))
