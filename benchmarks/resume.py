"""Trainings that are interrupted twice against whole ones: python -m benchmarks.resume [--kinds KINDS].

Each optimizer and schedule of torch, each precision, each rule that ends a training and each averaging
callback is trained once as a whole and once with two interruptions, by the command line, on rows that the
benchmark makes; those of the kind `within` go on within an epoch. Compared are the tensors of the bundle and
history.csv. It runs in one process, in a temporary folder; the results of the pipeline are not touched.
"""

import contextlib
import inspect
import io
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from rich.table import Table

from src.cli import main
from src.core.errors import LockstepError
from src.tabular.model import TabularModel
from src.tabular.prepare import Preparation, prepare
from src.training import compilation

EPOCHS, STEPS = 6, 5  # of a training, of an epoch
INTERRUPTIONS = (13, 11)  # steps until the first and, after it was started again, until the second
KINDS = ("optimizers", "schedules", "precisions", "endings", "callbacks", "within")
Kind = Literal["optimizers", "schedules", "precisions", "endings", "callbacks", "within"]

OPTIM, SCHEDULE, CALLBACK = "torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks"
# what a schedule needs; those that are not listed need nothing or take functions and other schedules
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CosineAnnealingLR": {"T_max": EPOCHS},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01, "step_size_up": 4},
    "ExponentialLR": {"gamma": 0.7},
    "MultiStepLR": {"milestones": [2, 4]},
    "OneCycleLR": {"max_lr": 0.01},
    "StepLR": {"step_size": 2},
}
BY_STEP = ("CyclicLR", "OneCycleLR")


class PowerFailureError(Exception):
    """Ends a training."""


def spec(module: str, name: str, **arguments: Any) -> dict[str, Any]:
    """A class and its arguments, as in a configuration."""
    return {"class_path": f"{module}.{name}", "init_args": arguments}


def optimizers() -> Iterator[tuple[str, dict[str, Any]]]:
    """The optimizers of torch."""
    for name, found in vars(torch.optim).items():
        if inspect.isclass(found) and issubclass(found, torch.optim.Optimizer) and name != "Optimizer":
            yield name, {"model": {"optimizer": spec(OPTIM, name, lr=0.01)}}


def schedules() -> Iterator[tuple[str, dict[str, Any]]]:
    """The schedules of torch that a configuration can name."""
    for name, found in vars(torch.optim.lr_scheduler).items():
        base = torch.optim.lr_scheduler.LRScheduler
        if not (inspect.isclass(found) and issubclass(found, base)) or name in (
            "LRScheduler",
            "_LRScheduler",
        ):
            continue
        arguments = ARGUMENTS.get(name, {})
        module = "lightning.pytorch.cli" if name == "ReduceLROnPlateau" else SCHEDULE
        if name == "ReduceLROnPlateau":
            arguments = {"monitor": "validation/loss", "patience": 0, "threshold": 0.5}
        interval = "step" if name in BY_STEP else "epoch"
        optimizer = spec(OPTIM, "SGD", lr=0.01, momentum=0.9)
        chosen = {"optimizer": optimizer, "lr_scheduler": spec(module, name, **arguments)}
        yield name, {"model": {**chosen, "lr_interval": interval}}


def precisions() -> Iterator[tuple[str, dict[str, Any]]]:
    """Lightning's precisions that a CPU computes in, with an optimizer whose state has types of its own."""
    for name in ("32-true", "64-true", "16-true", "bf16-true", "bf16-mixed"):
        for optimizer in ("Adam", "NAdam"):
            model = {"optimizer": spec(OPTIM, optimizer, lr=0.01, eps=0.001)}  # 1e-8 is 0 in float16
            yield f"{name}, {optimizer}", {"trainer": {"precision": name}, "model": model}


def endings() -> Iterator[tuple[str, dict[str, Any]]]:
    """The rules that end a training."""
    last = EPOCHS * STEPS
    stopping = spec(CALLBACK, "EarlyStopping", monitor="validation/loss", patience=2, min_delta=0.05)
    for name, trainer in {
        "max_epochs": {},
        "max_steps at the end of an epoch": {"max_epochs": None, "max_steps": last},
        "max_steps within an epoch": {"max_epochs": None, "max_steps": last - 2},
        "max_steps before max_epochs": {"max_epochs": 100, "max_steps": last - 2},
        "max_steps, accumulating 2 batches": {
            "max_steps": 16,
            "accumulate_grad_batches": 2,
            "max_epochs": -1,
        },
        "max_time": {"max_time": "00:01:00:00"},
        "min_epochs": {"min_epochs": EPOCHS, "callbacks": [stopping]},
        "EarlyStopping": {"max_epochs": 50, "callbacks": [stopping]},
        "validation in every second epoch": {"check_val_every_n_epoch": 2},
        "validation twice an epoch": {"val_check_interval": 0.5},
    }.items():
        yield name, {"trainer": trainer}


def callbacks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Callbacks that change weights or gradients."""
    chosen: dict[str, dict[str, Any]] = {
        "WeightAveraging": {},
        "EMAWeightAveraging": {"decay": 0.9},
        "StochasticWeightAveraging": {"swa_lrs": 0.01, "swa_epoch_start": 3},
        "GradientAccumulationScheduler": {"scheduling": {0: 2, 3: 1}},
        "ModelCheckpoint": {"save_last": True},
    }
    for name, arguments in chosen.items():
        yield name, {"trainer": {"callbacks": [spec(CALLBACK, name, **arguments)]}}


def within() -> Iterator[tuple[str, dict[str, Any]]]:
    """Trainings that go on within an epoch: of each other kind a part, and the keys of this project."""
    every: dict[str, dict[str, Any]] = {"checkpoint_steps": 1}
    for kind in (precisions, endings, callbacks):
        for name, changes in kind():
            yield name, changes | every
    pattern = [{"pattern": "bias|Norm", "weight_decay": 0.0}]
    own = "src.training.optimizers"
    for name, model in {
        "Adam": {"optimizer": spec(OPTIM, "Adam", lr=0.01)},
        "LBFGS": {"optimizer": spec(OPTIM, "LBFGS", lr=0.01)},
        "parameter groups": {"optimizer": spec(OPTIM, "AdamW", lr=0.01), "parameter_groups": pattern},
        "MuonWithAdamW": {"optimizer": spec(own, "MuonWithAdamW", lr=0.01), "parameter_groups": pattern},
        "OneCycle": {
            "optimizer": spec(OPTIM, "Adam", lr=0.01),
            "lr_scheduler": spec(own, "OneCycle", total_steps=None),
            "lr_interval": "step",
        },
    }.items():
        yield name, {"model": model} | every
    yield "log_gradient_norms", {"log_gradient_norms": True} | every
    yield "every third step", {"checkpoint_steps": 3}


def configuration(changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a small network with batch norm and dropout, with changes."""
    network = spec("src.training.networks", "MLP", hidden_sizes=[4], norm="batch", dropout=0.2)
    model = {"network": network, "optimizer": spec(OPTIM, "SGD", lr=0.01, momentum=0.9)}
    return {
        "task": "rows",
        "checkpoint_seconds": 0,
        **changes,
        "trainer": {"accelerator": "cpu", "max_epochs": EPOCHS, **changes.get("trainer", {})},
        "data": spec("src.tabular.data", "TabularData", batch_size=16),
        "model": spec("src.tabular.model", "TabularModel", **model | changes.get("model", {})),
    }


def train(last: int | None = None) -> tuple[str, str]:
    """Train, or fail within the step after `last` steps.

    Returns:
        The digest of the tensors, and history.csv.
    """
    step, count = TabularModel.training_step, itertools.count()

    def counted(self: TabularModel, *arguments: Any) -> Any:
        if next(count) == last:
            raise PowerFailureError
        return step(self, *arguments)

    with (
        mock.patch.object(TabularModel, "training_step", counted),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        main(["fit", "--config", "configuration.yaml"])
    manifest = json.loads(Path("models/rows/manifest.json").read_text(encoding="utf-8"))
    return manifest["tensors"], Path("models/rows/history.csv").read_text(encoding="utf-8")


def outcome(changes: dict[str, Any]) -> str:
    """Whether a training that is interrupted twice ends like a whole one."""
    Path("configuration.yaml").write_text(yaml.safe_dump(configuration(changes)), encoding="utf-8")
    for folder in ("models", "runs"):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        whole = train()
        for folder in ("models", "runs"):
            shutil.rmtree(folder)
        for number in INTERRUPTIONS:
            with contextlib.suppress(PowerFailureError):
                train(number)
                return "ended before it was interrupted"
        resumed = train()
    except LockstepError as error:
        return "refused: " + str(error).partition(" (for the traceback")[0]
    names = [name for name, a, b in zip(("weights", "history"), whole, resumed, strict=True) if a != b]
    return f"other {' and '.join(names)}" if names else "equal"


def make_rows() -> None:
    """Prepare 120 rows of two features, in the working folder."""
    generator = np.random.default_rng(1)
    features = generator.normal(size=(120, 2))
    target = features @ [1.0, -2.0] + generator.normal(scale=0.1, size=120)
    raw = Path("data/raw/rows")
    raw.mkdir(parents=True)
    lines = [",".join(map(repr, map(float, row))) for row in np.column_stack([features, target])]
    (raw / "train.csv").write_text("\n".join(["a,b,y", *lines]) + "\n", encoding="utf-8")
    prepare(raw, Path("data/prepared/rows"), Preparation(target="y"))


def compare(kinds: list[Kind] | None = None) -> None:
    """Print a table of all trainings and whether the interrupted one ended like the whole one.

    Args:
        kinds: of what is compared; all if left out.
    """
    os.environ["WANDB_MODE"] = "disabled"
    rows = [(kind, *row) for kind in kinds or KINDS for row in globals()[kind]()]
    table = Table("kind", "training", "interrupted twice, against whole")
    # emulated by the instructions of portable: true, and refused there because that is slow
    bfloat16 = mock.patch.object(compilation, "computes_in_bfloat16", return_value=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), bfloat16:
        make_rows()
        for kind, name, changes in track(rows, console=Console(stderr=True)):
            table.add_row(kind, name, outcome(changes))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    auto_cli(compare)
