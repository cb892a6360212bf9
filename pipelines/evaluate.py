"""Evaluate a trained model on the test rows of its task, with baselines: metrics, plots, tables."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import auto_cli

from src.core.atomic import written_whole
from src.core.errors import exit_with_message
from src.core.outputs import require_ours
from src.core.paths import MODELS, PREPARED, REPORT_FILES, REPORTS, RUNS, require_name

if TYPE_CHECKING:
    from src.bundle.bundle import Bundle


def evaluate(model: str) -> None:
    """Write reports/<model>/: metrics.json, plots/ and tables/.

    Args:
        model: the name of a trained model, whose bundle is models/<model>.
    """
    import torch  # not needed for --help

    from src.bundle.bundle import Bundle
    from src.training.tracking import log_report

    require_name(model, "model")
    bundle = Bundle.open(MODELS / model)
    prepared = PREPARED / bundle.task
    bundle.require_data(prepared)
    # as in the training, on any number of cores: threads add up in another order
    torch.set_num_threads(bundle.configuration["threads"])
    kind = bundle.part("evaluate")
    require_ours(REPORTS / model, dict.fromkeys(REPORT_FILES))
    samples = None
    with written_whole(REPORTS / model) as folder:
        # a script of this name beside an own module is no part of a kind of data
        if kind and isinstance(bundle.model, getattr(kind, "ACCEPTS", ())):
            kind.evaluate(bundle, prepared, folder)
            if hasattr(kind, "samples"):
                samples = partial(kind.samples, bundle, prepared)
        else:
            _evaluate_module(bundle, folder)
    log_report(REPORTS / model, RUNS, model, bundle.configuration, samples)
    print(f"{model}: evaluated: {REPORTS / model}/")


def _evaluate_module(bundle: "Bundle", folder: Path) -> None:
    """Write the metrics that an ordinary LightningModule logs for its validation and test rows."""
    from src.bundle.module import module_scores
    from src.reporting.metrics import begin_report, write_metrics
    from src.reporting.tables import print_scores
    from src.training.exactness import Exactness, choose_instructions

    # as in the training, whose test metrics these are
    choose_instructions(bundle.configuration["portable"])
    exactness = Exactness(bundle.configuration["seed_everything"], bundle.configuration["threads"])
    begin_report(bundle.folder, folder)
    print_scores(bundle.name, write_metrics(module_scores(bundle, [exactness]), folder))


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(evaluate, as_positional=True))
