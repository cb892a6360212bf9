"""Evaluate the trained model of a task on its test rows, with baselines: metrics, plots, tables."""

from pathlib import Path

from jsonargparse import auto_cli

from pipelines.parameters import kind_of, part_of
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

    kind = part_of(kind_of(task), "evaluate")
    bundle = Bundle.open(MODELS / task)
    bundle.require_data(PREPARED / task)
    require_ours(REPORTS / task, dict.fromkeys(REPORT_FILES))
    with written_whole(REPORTS / task) as folder:
        if kind:
            kind.evaluate(bundle, PREPARED / task, folder)
        else:
            _evaluate_module(task, folder)
    print(f"{task}: evaluated: {REPORTS / task}/")


def _evaluate_module(task: str, folder: Path) -> None:
    """Write the metrics that an ordinary LightningModule logs for its validation and test rows."""
    from src.bundle.bundle import CONFIGURATION
    from src.cli import main
    from src.reporting.metrics import begin_report, write_metrics

    begin_report(MODELS / task, folder)
    metrics: dict[str, float] = {}
    for stage in ("validate", "test"):
        done = main([stage, "--config", str(MODELS / task / CONFIGURATION)])
        metrics |= getattr(done, "scores", {})
    write_metrics(metrics, folder)


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(evaluate, as_positional=True))
