"""The command line: python -m src.cli fit | validate | test | predict --config configs/<task>.yaml.

`fit` trains on the prepared data and writes the bundle models/<task>/; the others use that bundle.
`predict` takes any bundle (--bundle FOLDER) and raw input; it needs no Trainer (src/bundle/predict.py).
"""

import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
import yaml
from filelock import FileLock, Timeout
from jsonargparse.typing import NonNegativeFloat
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.model_summary import ModelSummary
from rich.console import Console
from rich.table import Table

from src.bundle.bundle import Bundle, check_bundle_folder, restrict_imports, write_bundle
from src.bundle.module import scores as scores_of
from src.core.atomic import file_written_whole
from src.core.code import code_digest, modules_named
from src.core.digests import file_digest, prepared_manifest
from src.core.errors import ConfigurationError, LockedError, exit_with_message
from src.core.paths import MANIFEST, MODELS, PREPARED, RECORD, RUNS
from src.training.checkpoint import (
    CHECKPOINT,
    HISTORY,
    DurableCheckpointIO,
    ResumableCheckpoint,
    require_storable,
)
from src.training.distributed import Termination, launched_by, require_all_processes
from src.training.exactness import Exactness, choose_instructions
from src.training.gradient_norms import GradientNorms
from src.training.loading import WholeData
from src.training.non_finite_loss import NonFiniteLossGuard
from src.training.overhead import NoProfiler
from src.training.progress import TrainingProgress
from src.training.provenance import provenance
from src.training.tracking import start_tracker

logger = logging.getLogger(__name__)

TRAINER_DEFAULTS = {
    "default_root_dir": str(RUNS),
    "deterministic": True,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class LockstepCLI(LightningCLI):
    """LightningCLI with one way to train, resume, keep and reload a model, the same for every task."""

    def __init__(self, *classes: Any, **options: Any) -> None:
        # LightningCLI builds the parsers of all subcommands, which takes a third of a second
        every = self.subcommands()
        chosen = {name: every[name] for name in options["args"][:1] if name in every} or every
        self.subcommands = lambda: chosen  # type: ignore[method-assign]
        super().__init__(*classes, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys that every task has beside trainer, model and data."""
        parser.add_argument("--task", type=str, required=True, help="A task of params.yaml.")
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="The metric that chooses the best epoch; by default validation/loss or val_loss. A module "
            "that logs neither keeps its last epoch.",
        )
        parser.add_argument(
            "--mode", type=Literal["min", "max"], default="min", help="Which end of it is best."
        )
        parser.add_argument(
            "--threads", type=int, default=1, help="CPU threads; another number rounds differently."
        )
        parser.add_argument(
            "--portable",
            type=bool,
            default=True,
            help="The same weights on all x86 processors with AVX2; false: all instructions of this one.",
        )
        parser.add_argument(
            "--checkpoint_seconds",
            type=NonNegativeFloat,
            default=10.0,
            help="The longest time from one checkpoint to the next, by whole epochs; saving that takes "
            "little of the time is done more often.",
        )
        parser.add_argument(
            "--log_gradient_norms",
            type=bool,
            default=False,
            help="Add each layer's gradient norm and share of dead units to the history.",
        )
        parser.link_arguments("task", "data.init_args.task")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.preprocessing", "model.init_args.preprocessing", apply_on="instantiate")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands without the options that choose weights; `main` takes `predict` itself."""
        fixed = {
            "model",
            "datamodule",
            "ckpt_path",
            "weights_only",
            "verbose",
        }
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        return dict.fromkeys(("fit", "validate", "test", "predict"), fixed | loaders)

    def before_instantiate_classes(self) -> None:
        """Resolve what the run is about before anything is built."""
        settings = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=True))
        self.configuration: dict[str, Any] = settings[self.subcommand]
        self.configuration.pop("config", None)
        choose_instructions(self.configuration["portable"])
        self.task = self.configuration["task"]
        prepared = PREPARED / self.task
        self.own_data = not _reads_prepared_data(self.configuration)
        if self.subcommand == "fit":
            if not self.own_data:
                prepared_manifest(prepared)
            manifest = prepared / MANIFEST
            self.prepared = file_digest(manifest) if manifest.is_file() else None
            return
        self.bundle = Bundle.open(MODELS / self.task)
        self.bundle.require_model(self.configuration)
        self.bundle.require_data(prepared)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what each run has: exactness and, for `fit`, the record, the tracker and the bar."""
        kwargs["callbacks"] = list(self._get(self.config_init, "trainer")["callbacks"] or [])
        seed, threads = self.configuration["seed_everything"], self.configuration["threads"]
        kwargs["callbacks"].append(Exactness(int(seed), threads))
        terminal = sys.stderr.isatty()
        kwargs["enable_progress_bar"] = terminal
        if self._get(self.config_init, "trainer")["profiler"] is None:
            kwargs["profiler"] = NoProfiler()
        if self.subcommand != "fit":
            return super().instantiate_trainer(enable_checkpointing=False, logger=False, **kwargs)
        code = code_digest("src.cli", *sorted(modules_named(self.configuration)))
        identity = yaml.safe_dump(self.configuration) + (self.prepared or "") + code
        self.run_folder = RUNS / self.task / sha256(identity.encode()).hexdigest()[:12]
        self.run_folder.mkdir(parents=True, exist_ok=True)
        monitor, mode = self.configuration.get("monitor"), self.configuration["mode"]
        seconds_between = self.configuration["checkpoint_seconds"]
        kwargs["callbacks"].append(NonFiniteLossGuard())
        self.record = ResumableCheckpoint(self.run_folder, monitor, mode, seconds_between)
        kwargs["callbacks"] += [self.record, Termination()]
        if self.configuration["log_gradient_norms"]:
            kwargs["callbacks"].append(GradientNorms())
        if terminal and not self.own_data:  # Lightning's own bar shows what a module logs with prog_bar
            kwargs["callbacks"].append(TrainingProgress(monitor or "validation/loss"))
        if self.own_data and not kwargs.get("num_sanity_val_steps"):
            kwargs["num_sanity_val_steps"] = 1  # a mistake in the validation is found before the training
        launcher = launched_by()
        plugins = [DurableCheckpointIO(), *([launcher] if launcher else [])]
        trainer = super().instantiate_trainer(logger=False, plugins=plugins, **kwargs)
        require_all_processes(launcher, trainer)
        self.tracker = None
        if trainer.is_global_zero:
            _require_writable(MODELS)
            check_bundle_folder(MODELS / self.task)
            self.lock = _only_trainer(self.task)
            described = {**self.configuration, "prepared_sha256": self.prepared}
            self.tracker = start_tracker(RUNS, self.task, described)
            trainer.logger = self.tracker
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train, or go on with an interrupted training of the same configuration, data and code."""
        require_storable(self.model)
        summary = str(ModelSummary(self.model, max_depth=-1))
        _say(self.trainer, summary)
        _say(self.trainer, f"{self.task} on {self.trainer.strategy.root_device}")
        try:
            with _interruptions(self.trainer):
                checkpoint = _usable(self.run_folder / CHECKPOINT, self.trainer)
                start = time.perf_counter()
                self.trainer.fit(**kwargs, ckpt_path=checkpoint, weights_only=True)
                seconds = time.perf_counter() - start
                scores = scores_of(self.trainer, "test", self.model, self.datamodule, verbose=False)
                if self.trainer.is_global_zero:
                    self._keep(summary, scores, seconds)
        finally:
            if self.trainer.is_global_zero:
                self.lock.release()

    def _keep(self, summary: str, test_metrics: Mapping[str, float], seconds: float) -> None:
        """Write the bundle and the record of a finished training, and print its scores."""
        scores = {"best_epoch": self.record.best_row["epoch"], **test_metrics}
        history = (self.run_folder / HISTORY).read_text(encoding="utf-8")
        write_bundle(
            MODELS / self.task,
            self.model,
            self.task,
            yaml.safe_dump(self.configuration, allow_unicode=True),
            PREPARED / self.task,
            {HISTORY: history, "summary.txt": summary + "\n"},
        )
        if self.tracker is not None:
            self.tracker.finish(scores)
        trivial: dict[str, float] = {}
        test_rows = None
        if hasattr(self.model, "trivial_metrics") and hasattr(self.datamodule, "targets"):
            train, test = (self.datamodule.targets(split) for split in ("train", "test"))
            trivial, test_rows = self.model.trivial_metrics(train, test), len(test)
        # what `pipelines.compare` and `pipelines.study` read
        record = {
            "configuration": self.configuration,
            "metrics": {**self.record.best_row, **scores},
            "trivial": trivial,
            "test_rows": test_rows,
            "seconds": seconds,
            "provenance": provenance(self.prepared, self.trainer.strategy.root_device),
        }
        with file_written_whole(self.run_folder / RECORD) as file:
            file.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        (self.run_folder / CHECKPOINT).unlink(missing_ok=True)
        self._print_scores(scores, trivial, seconds)

    def validate(self, **kwargs: Any) -> None:
        """Metrics of the bundle on the validation rows."""
        self.bundle.load_weights(self.model)
        scores_of(self.trainer, "validate", self.model, self.datamodule)

    def test(self, **kwargs: Any) -> None:
        """Metrics of the bundle on the test rows."""
        self.bundle.load_weights(self.model)
        scores_of(self.trainer, "test", self.model, self.datamodule)

    def _print_scores(self, scores: dict[str, float], trivial: dict[str, float], seconds: float) -> None:
        table = Table(title=f"{self.task}, best of {self.record.epochs} epochs: {scores['best_epoch']}")
        for heading in ("metric", "model", "trivial answer"):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        for name, value in scores.items():
            if name != "best_epoch":
                baseline = trivial.get(name.removeprefix("test/"))
                table.add_row(name, f"{value:.5g}", "" if baseline is None else f"{baseline:.5g}")
        Console().print(table)
        print(f"trained in {seconds:.1f} s; the bundle: {MODELS / self.task}/")


def _reads_prepared_data(configuration: Mapping[str, Any]) -> bool:
    """Whether the data module is one of the built-in kinds, which read data/prepared/<task>."""
    module, _, name = (configuration.get("data") or {}).get("class_path", "").rpartition(".")
    return bool(module) and issubclass(getattr(import_module(module), name), WholeData)


def _require_writable(folder: Path) -> None:
    """Fail before the training, not after it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _only_trainer(task: str) -> FileLock:
    """The lock of a task's trainings, which the system releases when the process ends, however it ends."""
    lock = FileLock(RUNS / task / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"another process trains {task} in this folder, perhaps of a `dvc repro` that was killed; "
            "wait for it to end, or end it"
        ) from None
    return lock


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        print(text, flush=True)


def _usable(checkpoint: Path, trainer: Trainer) -> Path | None:
    """The checkpoint to go on from, if there is one that can be read."""
    if not checkpoint.is_file():
        return None
    try:
        epoch = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]
    except Exception as error:  # torch raises many kinds for a damaged file
        logger.warning("%s cannot be read (%s): starting afresh", checkpoint, type(error).__name__)
        return None
    _say(trainer, f"going on after epoch {epoch + 1}")
    return checkpoint


@contextmanager
def _interruptions(trainer: Trainer) -> Iterator[None]:
    """End with 143 after SIGTERM and with KeyboardInterrupt after Ctrl-C; explain a batch of one row."""
    try:
        yield
    except SIGTERMException:  # to Lightning this is success, and DVC would keep a model cut off
        print("terminated", file=sys.stderr)
        sys.exit(143)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigurationError(
            "data.batch_size: batch norm needs at least 2 rows in a batch; raise it, or leave batch norm out"
        ) from error
    except SystemExit as error:
        if trainer.interrupted:  # Lightning turns Ctrl-C into exit 1
            raise KeyboardInterrupt from error
        raise


def main(arguments: list[str] | None = None, cli: type[LockstepCLI] = LockstepCLI) -> LockstepCLI | None:
    """Run a command line.

    Args:
        arguments: those behind `python -m src.cli`; left out, those of this process.
        cli: the class that trains.

    Returns:
        The command line's object; None of `predict`.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    # Lightning's own use of a part of torch that is going away
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if arguments[:1] == ["predict"]:
        from src.bundle.predict import predict  # needs no Trainer

        predict(arguments[1:])
        return None
    restrict_imports()
    # Lightning has every question for CUDA, also those of each step of Adam, load NVML anew
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    # about logging within an epoch, which is not done here
    warnings.filterwarnings("ignore", message="The number of training batches")
    # they are given on purpose where another process asks for a training
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    try:
        return cli(
            lightning.LightningModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            seed_everything_default=42,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"description": __doc__},
            args=arguments,
        )
    except MisconfigurationException as error:  # such as a GPU asked for where there is none
        raise ConfigurationError(f"Lightning refuses the configuration: {error}") from None


if __name__ == "__main__":
    exit_with_message(main)
