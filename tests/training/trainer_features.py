"""What each argument of the Trainer, each callback and each logger does here, as test_trainer.py checks.

`python -m tests.training.trainer_features` writes the table of docs/trainer.md.
"""

# ruff: noqa: E501 - lines of a page

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from src.training.options import ARGUMENTS, CALLBACKS
from tests.training.ordinary import Classifier, Points, PointsData

PAGE = Path(__file__).parents[2] / "docs" / "trainer.md"
EXACT, WORKS, REFUSED = "works and exact", "works", "refused"
CALLBACK, LOGGER = "lightning.pytorch.callbacks", "lightning.pytorch.loggers"
CUTS = (13, 9)  # steps until the first interruption and, after the training was started again, the second


class Finetuned(Classifier):
    """A classifier with a backbone and a field for the learning rate."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(8, lr)
        self.lr = lr
        self.backbone = self.net[:3]

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


class Rising(Classifier):
    """A classifier whose validation gets worse with each epoch."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float(self.current_epoch + 1))


class Unmonitored(Classifier):
    """A classifier with a metric of the validation that no name tells as its loss."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("quality", float(self.current_epoch))


class NeverANumber(Classifier):
    """A classifier whose area under the curve is of one class."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_auc", float("nan"))


class TwoOptimizers(Classifier):
    """A classifier that steps two optimizers by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        first, second = self.optimizers()  # type: ignore[misc]
        self.manual_backward(loss)
        for optimizer in (first, second):
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[place].parameters(), lr=0.01) for place in (0, 4)]


class Tied(Classifier):
    """A classifier with a second parameter for the memory of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.again = torch.nn.Linear(8, 3)
        self.again.weight = torch.nn.Parameter(self.net[4].weight)


class Judge(Callback):
    """Logs a metric of the test rows."""

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log("test_fid", 1.0)


class HeadOnly(Classifier):
    """Leaves the first layer, which is not trained, out of its state, as Lightning's documentation does."""

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False
        self.net[0].requires_grad_(False)

    def state_dict(self) -> Any:  # type: ignore[override]
        return {name: tensor for name, tensor in super().state_dict().items() if "net.0" not in name}


class DoublePoints(Points):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x.double(), y


class Doubles(PointsData):
    """Rows of float64."""

    def setup(self, stage: str) -> None:
        self.train = self.validation = DoublePoints()  # type: ignore[assignment]


class Batches(PointsData):
    """Data with a field for the size of a batch."""

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.batch_size, shuffle=True)


class Shrinking(Callback):
    """A callback of a user, which multiplies the weights by a factor of its state, and counts."""

    def __init__(self) -> None:
        self.factor = 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.factor = state_dict["factor"]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.factor *= 0.999
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter *= self.factor


@dataclass(frozen=True)
class Feature:
    """A row of the table.

    Args:
        name: of the argument or the class.
        value: of the argument, shown where it has several rows.
        outcome: EXACT, WORKS or REFUSED.
        note: what is not promised, or the reason.
        trainer: the section `trainer` that shows it; None if `shown_by` does.
        message: a part of the error of what is refused; the note if left out.
        shown_by: another test, as FILE::TEST.
        model: a class of this module, instead of the classifier.
        data: a class of this module, instead of the points.
        needs: a package without which the class is refused.
    """

    name: str
    value: str
    outcome: str
    note: str = ""
    trainer: dict[str, Any] | None = None
    message: str = ""
    shown_by: str = ""
    model: str = ""
    data: str = ""
    needs: str = ""
    cuts: tuple[int, ...] = field(default=CUTS)

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    """A class and its arguments, as in a configuration."""
    return {"class_path": path, "init_args": arguments}


def argument(name: str, value: Any, outcome: str, note: str = "", /, **options: Any) -> Feature:
    """An argument that is shown by its value."""
    trainer = {name: value, **options.pop("beside", {})}
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return Feature(name, options.pop("value", shown), outcome, note, trainer, **options)


def callback(name: str, outcome: str, note: str = "", arguments: Any = (), **options: Any) -> Feature:
    """A callback of Lightning."""
    trainer = {"callbacks": [spec(f"{CALLBACK}.{name}", **dict(arguments))], **options.pop("beside", {})}
    return Feature(name, "", outcome, note, trainer, **options)


def logger(name: str, outcome: str, note: str = "", arguments: Any = (), **options: Any) -> Feature:
    """A logger of Lightning."""
    return Feature(
        name, "", outcome, note, {"logger": spec(f"{LOGGER}.{name}", **dict(arguments))}, **options
    )


STOPPING = {"monitor": "val_loss", "patience": 1, "min_delta": 0.5}
EARLY = {"callbacks": [spec(f"{CALLBACK}.EarlyStopping", **STOPPING)], "max_epochs": 50}
PROCESSES = "tests/test_processes.py::test_two_processes_go_on_to_the_same_weights"
NODES = "tests/test_processes.py::test_two_nodes_give_the_bits_of_two_processes"
TRIAL = "a trial: no bundle is written"
BASE = "a base class: extend it; what a callback needs after an interruption belongs into its `state_dict`"
CLOCK = "which step is the last depends on the clock, and with it the weights"

ARGUMENT_ROWS = [
    argument("accelerator", "cpu", EXACT),
    Feature(
        "accelerator",
        "gpu",
        WORKS,
        "the same bits on the same model of GPU only, see [Exactness](exactness.md); refused where there is none",
        shown_by="tests/test_cli.py::test_a_training_that_cannot_be_is_refused",
    ),
    argument("accelerator", "tpu", REFUSED, "Lightning needs torch_xla", message="torch_xla"),
    argument("strategy", "auto", EXACT),
    Feature("strategy", "ddp", EXACT, "see [GPUs and clusters](clusters.md)", shown_by=PROCESSES),
    argument(
        "strategy",
        "ddp_spawn",
        REFUSED,
        "processes are started by ddp, not by fork or spawn",
        beside={"devices": 2},
    ),
    Feature(
        "strategy",
        "fsdp2",
        EXACT,
        "each process holds a part of every tensor, see [Models larger than a GPU](clusters.md#models-larger-than-a-gpu)",
        shown_by="tests/training/test_sharding.py::test_as_many_processes_go_on_to_the_same_weights",
    ),
    argument(
        "strategy",
        "fsdp",
        REFUSED,
        "torch's first FSDP, which torch has deprecated; use fsdp2",
        message="fsdp is torch's first FSDP",
        value="fsdp, fsdp_cpu_offload",
    ),
    Feature(
        "strategy",
        "deepspeed, ModelParallelStrategy",
        REFUSED,
        "the weights are split among processes, and a bundle needs all of them; use fsdp2",
        shown_by="tests/training/test_trainer.py::test_weights_in_parts_are_refused",
    ),
    argument("devices", 1, EXACT),
    Feature("devices", "2", EXACT, "see [GPUs and clusters](clusters.md)", shown_by=PROCESSES),
    Feature("num_nodes", "", EXACT, "see [GPUs and clusters](clusters.md)", shown_by=NODES),
    argument("precision", "32-true", EXACT),
    argument("precision", "64-true", EXACT, "the bundle is float64"),
    argument("precision", "16-true", EXACT, "the bundle is float16", model="Finetuned"),
    argument("precision", "bf16-true", EXACT, "the bundle is bfloat16; refused on a CPU that emulates it"),
    argument("precision", "bf16-mixed", EXACT, "refused on a CPU that emulates it"),
    argument(
        "precision",
        "16-mixed",
        EXACT,
        "for GPUs without bfloat16; on a CPU, Lightning takes bf16-mixed, which is refused where that is",
    ),
    argument("precision", "transformer-engine", REFUSED, "Lightning needs transformer_engine"),
    Feature(
        "logger",
        "",
        EXACT,
        "beside the run of W&B; for `validate` and `test`, too; `true` is Lightning's default, CSV files",
        {"logger": True},
    ),
    Feature("callbacks", "a list, or one", EXACT, "see below; own classes as well", {"callbacks": []}),
    argument("fast_dev_run", True, WORKS, TRIAL),
    argument("max_epochs", 5, EXACT),
    argument("min_epochs", 5, EXACT, beside=EARLY),
    argument("max_steps", 23, EXACT, "within an epoch, too: it is validated after the last step"),
    argument("min_steps", 26, EXACT, beside=EARLY),
    argument("max_time", "00:01:00:00", EXACT, "if it is not reached; otherwise " + CLOCK),
    argument("limit_train_batches", 0.5, WORKS, f"{TRIAL}; 1.0 is no limit"),
    argument("limit_val_batches", 0.5, WORKS, f"{TRIAL}; 1.0 is no limit"),
    argument("limit_test_batches", 0.5, WORKS, f"{TRIAL}; 1.0 is no limit"),
    argument("limit_predict_batches", 2, REFUSED, ARGUMENTS["limit_predict_batches"], value="a number"),
    argument("overfit_batches", 0.5, WORKS, TRIAL),
    argument("val_check_interval", 0.5, EXACT),
    argument("val_check_interval", 9, EXACT, beside={"check_val_every_n_epoch": None}),
    argument(
        "val_check_interval",
        "00:00:00:01",
        WORKS,
        "which weights are validated depends on the clock, and with it the best epoch",
        value="a time",
    ),
    argument("check_val_every_n_epoch", 2, EXACT, "an epoch without validation is not the best"),
    argument(
        "num_sanity_val_steps",
        3,
        EXACT,
        "default: 1 for an ordinary module, to find its mistakes early; 0 for built-in models",
    ),
    argument("log_every_n_steps", 1, EXACT, "for loggers of `trainer.logger`"),
    argument("enable_checkpointing", True, EXACT),
    argument(
        "enable_checkpointing",
        False,
        REFUSED,
        "a training goes on from its checkpoint, see `checkpoint_seconds`",
        message="trainer.enable_checkpointing: false cannot be used",
    ),
    argument("enable_progress_bar", True, EXACT, "default: on terminals only"),
    argument("enable_model_summary", True, EXACT, "default: false, since a summary is always printed"),
    argument("accumulate_grad_batches", 2, EXACT),
    argument("gradient_clip_val", 0.1, EXACT),
    argument(
        "gradient_clip_algorithm", "value", EXACT, beside={"gradient_clip_val": 0.1}, value="norm, value"
    ),
    argument(
        "deterministic",
        True,
        EXACT,
        "the default; on a GPU operations without a deterministic algorithm are refused by name, see "
        "[GPUs and clusters](clusters.md)",
    ),
    argument("deterministic", False, WORKS, "exact on a CPU; on a GPU the bits may differ from run to run"),
    argument("deterministic", "warn", WORKS, "exact on a CPU; on a GPU the bits may differ from run to run"),
    argument(
        "benchmark", True, WORKS, "exact on a CPU; on a GPU the fastest algorithms are measured and taken"
    ),
    argument("inference_mode", False, EXACT),
    argument(
        "use_distributed_sampler",
        False,
        EXACT,
        "no effect on built-in data, which share their batches out by themselves",
    ),
    argument("profiler", "simple", EXACT, "its table is printed"),
    argument("profiler", "advanced", EXACT, "its table is printed"),
    Feature(
        "profiler",
        "pytorch",
        WORKS,
        "its table is printed; torch may crash if a training fails while it is profiled",
        {"profiler": spec("lightning.pytorch.profilers.PyTorchProfiler", export_to_chrome=False)},
    ),
    argument("profiler", "xla", REFUSED, "Lightning needs torch_xla", message="torch_xla"),
    argument("detect_anomaly", True, EXACT),
    argument("barebones", True, REFUSED, ARGUMENTS["barebones"]),
    argument(
        "plugins",
        [spec("lightning.pytorch.plugins.DoublePrecision")],
        REFUSED,
        ARGUMENTS["plugins"],
    ),
    argument("sync_batchnorm", True, EXACT, "no effect in one process; several GPUs have not been tried"),
    argument("reload_dataloaders_every_n_epochs", 1, EXACT),
    argument("default_root_dir", "runs/own", EXACT, "default: `runs/`; below the project's folder"),
    argument("enable_autolog_hparams", False, EXACT),
    argument("model_registry", "mine", REFUSED, ARGUMENTS["model_registry"], value="a name"),
]

CALLBACK_ROWS = [
    callback(
        "BackboneFinetuning",
        EXACT,
        "a resumed training goes on with the layers thawed",
        {"unfreeze_backbone_at_epoch": 1},
        model="Finetuned",
    ),
    Feature("BaseFinetuning", "", EXACT, BASE, None, shown_by="BackboneFinetuning"),
    callback("BasePredictionWriter", REFUSED, CALLBACKS["BasePredictionWriter"], {"write_interval": "batch"}),
    callback(
        "BatchSizeFinder",
        WORKS,
        "prints the size and trains nothing; the size depends on the memory of the machine",
        data="Batches",
    ),
    Feature("Callback", "", EXACT, BASE, {"callbacks": [spec("tests.training.trainer_features.Shrinking")]}),
    callback("Checkpoint", EXACT, BASE),
    callback("DeviceStatsMonitor", EXACT),
    callback(
        "EarlyStopping", EXACT, "", {**STOPPING, "patience": 4}, beside={"max_epochs": 50}, cuts=(13, 7)
    ),
    callback("EMAWeightAveraging", EXACT, "the bundle holds the validated average", {"decay": 0.9}),
    callback("GradientAccumulationScheduler", EXACT, "", {"scheduling": {0: 2, 2: 1}}),
    callback("LambdaCallback", EXACT, "functions cannot be named in a configuration: extend Callback"),
    callback(
        "LearningRateFinder",
        WORKS,
        "prints the rate and trains nothing; for modules with a field `lr`",
        model="Finetuned",
    ),
    callback("LearningRateMonitor", EXACT),
    callback(
        "ModelCheckpoint",
        EXACT,
        "its files stay in `runs/<model>/<digest>/checkpoints/`; `validate` and `test` take one by `ckpt_path`; "
        "an epoch that is trained again after an interruption may have a second file, `-v1`",
        {"monitor": "val_loss", "save_top_k": 2, "save_last": True},
    ),
    callback("ModelPruning", REFUSED, CALLBACKS["ModelPruning"], {"pruning_fn": "l1_unstructured"}),
    callback("ModelSummary", EXACT),
    callback("OnExceptionCheckpoint", REFUSED, CALLBACKS["OnExceptionCheckpoint"], {"dirpath": "runs"}),
    callback("ProgressBar", EXACT, BASE),
    callback("RichModelSummary", EXACT),
    callback("RichProgressBar", EXACT, "in place of Lockstep's bar, also outside a terminal"),
    callback("SpikeDetection", REFUSED, CALLBACKS["SpikeDetection"]),
    callback(
        "StochasticWeightAveraging",
        EXACT,
        "the bundle holds the average after the last epoch, no epoch is the best, and the average is validated "
        "after the training; refused where `max_steps`, `max_time`, Timer or EarlyStopping may end it earlier",
        {"swa_lrs": 0.01, "swa_epoch_start": 2},
    ),
    Feature(
        "ThroughputMonitor",
        "",
        REFUSED,
        "it needs a function, `batch_size_fn`, which a configuration cannot name: extend it",
        {"callbacks": [spec(f"{CALLBACK}.ThroughputMonitor")]},
        "missing: trainer.callbacks.batch_size_fn",
    ),
    callback("Timer", EXACT, "if its time is not reached; otherwise " + CLOCK, {"duration": "00:01:00:00"}),
    callback("TQDMProgressBar", EXACT, "in place of Lockstep's bar, also outside a terminal"),
    callback("WeightAveraging", EXACT, "the bundle holds the validated average"),
]

ANOTHER = "a resumed training writes a further {}"
LOGGER_ROWS = [
    logger("CometLogger", WORKS, "sends to comet.com", needs="comet_ml"),
    logger("CSVLogger", EXACT, ANOTHER.format("folder `version_*`"), {"save_dir": "runs/csv"}),
    logger(
        "LitLogger",
        REFUSED,
        "in this version of Lightning it is not of the type that `trainer.logger` takes",
        message="LitLogger is no Logger",
    ),
    Feature("Logger", "", EXACT, "a base class: extend it", shown_by="CSVLogger"),
    logger(
        "MLFlowLogger",
        EXACT,
        ANOTHER.format("run") + "; MLflow 3 wants a database: `tracking_uri: sqlite:///mlflow.db`",
        {"tracking_uri": "sqlite:///mlflow.db"},
        needs="mlflow",
    ),
    logger(
        "TensorBoardLogger",
        EXACT,
        ANOTHER.format("folder `version_*`"),
        {"save_dir": "runs/tensorboard"},
        needs="tensorboard",
    ),
    logger(
        "WandbLogger",
        EXACT,
        "in place of Lockstep's run of W&B; a resumed training writes a further run; online unless `offline` or `WANDB_MODE` says otherwise",
        {"save_dir": "runs", "offline": True},
    ),
]
ROWS = [*ARGUMENT_ROWS, *CALLBACK_ROWS, *LOGGER_ROWS]

INTRODUCTION = """\
# Options of the Trainer

Each argument of Lightning's Trainer, each of its callbacks and loggers is honoured, or refused before the training with the reason in
one line. `python -m tests.training.trainer_features` writes these tables; `tests/training/test_trainer.py` tries each row, and fails if
Lightning has one that is missing.

- **works and exact**: a training that is interrupted twice ends with the weights and the history of an uninterrupted one;
- **works**: it trains, but no model is kept, or something is not reproducible, as the last column says;
- **refused**: exit code 2.

Callbacks and loggers of your own are classes that the configuration names (`trusted` in `params.yaml` allows further packages). They are
exact if what they need after an interruption is in their `state_dict`, as in Lightning.

`fit --ckpt_path` is refused: a training goes on from its own checkpoint by itself. To begin with other weights, load them in the
constructor of the module. `validate --ckpt_path FILE` and `test --ckpt_path FILE` take a checkpoint instead of the bundle.
"""


def page() -> str:
    """The content of docs/trainer.md."""
    tables = [
        ("Arguments", "argument", ARGUMENT_ROWS),
        ("Callbacks", "callback", CALLBACK_ROWS),
        ("Loggers", "logger", LOGGER_ROWS),
    ]
    parts = [INTRODUCTION]
    for title, heading, rows in tables:
        lines = [f"## {title}", "", f"| {heading} | result | remark |", "|---|---|---|"]
        for row in rows:
            several = sum(row.name == other.name for other in rows) > 1
            name = f"`{row.name}: {row.value}`" if several else f"`{row.name}`"
            note = f"needs the package {row.needs}; {row.note}" if row.needs else row.note
            lines.append(f"| {name} | {row.outcome} | {note} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
