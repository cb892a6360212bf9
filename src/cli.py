"""The command line: python -m src.cli fit | validate | test | predict --config configs/<model>.yaml.

`fit` trains on the prepared data and writes the bundle models/<model>/; the others use that bundle.
`predict` takes any bundle (--bundle FOLDER) and raw input; it needs no Trainer (src/bundle/predict.py).
"""

import json
import logging
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import lightning
import torch
import yaml
from filelock import FileLock, Timeout
from jsonargparse import ArgumentError
from jsonargparse import Path as ConfigurationPath
from jsonargparse.typing import NonNegativeFloat, PositiveInt, restricted_number_type
from lightning import Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    LearningRateFinder,
    ModelCheckpoint,
    ProgressBar,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.model_summary import ModelSummary
from rich.console import Console
from rich.table import Table

from src.bundle.bundle import Bundle, check_bundle_folder, restrict_imports, write_bundle
from src.bundle.module import NEEDED, lacking, repeat_setup
from src.bundle.module import scores as scores_of
from src.core.arguments import explained
from src.core.atomic import NO_LOCKS, file_written_whole, warn_of_no_lock
from src.core.code import run_digest
from src.core.digests import data_digest, prepared_manifest
from src.core.errors import (
    TRACEBACK_VARIABLE,
    ConfigurationError,
    LockedError,
    exit_with_message,
    reported_error,
)
from src.core.paths import MODELS, PARAMETERS, PREPARED, RECORD, RUNS, require_name
from src.training.checkpoint import (
    CHECKPOINT,
    HISTORY,
    DurableCheckpointIO,
    ResumableCheckpoint,
    averages_at_the_end,
    chosen_by,
    unstorable,
)
from src.training.compilation import Compile, compile_training, require_compilable, require_precision
from src.training.distributed import Termination, launched_by, require_all_processes
from src.training.exactness import Exactness, choose_instructions
from src.training.gradient_norms import GradientNorms
from src.training.non_finite_loss import NonFiniteLossGuard
from src.training.options import require_usable, require_whole_weights, trial_by
from src.training.overhead import NoProfiler
from src.training.progress import TrainingProgress
from src.training.provenance import environment, provenance
from src.training.tracking import UNFINISHED, described, run_name, start_tracker

logger = logging.getLogger(__name__)

TRAINER_DEFAULTS = {
    "default_root_dir": str(RUNS),
    "deterministic": True,
    "enable_model_summary": False,
}


PROGRAM = "python -m src.cli"
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])  # what NumPy takes

# their errors can be about what a configuration asks for
OWNERS = ("lightning", "torch.optim", "jsonargparse")

# such as Timer's `interval`
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class LockstepCLI(LightningCLI):
    """LightningCLI with one way to train, resume, keep and reload a model, the same for every task."""

    def __init__(self, *classes: Any, **options: Any) -> None:
        # LightningCLI builds the parsers of all subcommands, which takes a third of a second
        every = self.subcommands()
        chosen = {name: every[name] for name in options["args"][:1] if name in every} or every
        self.subcommands = lambda: chosen  # type: ignore[method-assign]
        super().__init__(*classes, **options)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors, and takes no key for the beginning of another."""
        return super().init_parser(**kwargs | {"exit_on_error": False, "allow_abbrev": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line and the files that it names.

        Raises:
            ConfigurationError: an unknown key, or a value that cannot be used.
        """
        self.arguments = [*args]
        linked = [item for item in args if re.match(r"--data\.(init_args\.)?(prepared|order_seed)\b", item)]
        if linked:
            key = linked[0].partition("=")[0]
            raise ConfigurationError(f"{key}: it follows from the keys task and seed_everything; give those")
        try:
            with mock.patch.object(ConfigurationPath, "read_text", _text_of):
                super().parse_arguments(parser, args)
        except ArgumentError as error:
            if (found := reported_error(error)) is not None:
                raise found from error
            command = next(iter(self._subcommand_parsers)) if len(self._subcommand_parsers) == 1 else ""
            keys = {action.dest for each in self._subcommand_parsers.values() for action in each._actions}
            program = f"{PROGRAM} {command}".strip()
            raise ConfigurationError(explained(error, sorted(keys), program)) from error

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the seed."""
        parser.add_argument(
            "--seed_everything",
            type=Seed,
            default=self.seed_everything_default,
            help="The seed of all noise.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys that every task has beside trainer, model and data."""
        parser.add_argument(
            "--task", type=str, required=True, help="The task: the data are data/prepared/TASK."
        )
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="The name of the model: it is written to models/NAME; by default that of the task.",
        )
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="The metric that chooses the best epoch; by default validation/loss or val_loss. A module "
            "that logs neither keeps its last epoch.",
        )
        parser.add_argument(
            "--mode",
            type=Literal["min", "max"] | None,
            default=None,
            help="Which end of it is best; by default max for accuracies, F1 and the like, otherwise min.",
        )
        parser.add_argument(
            "--threads", type=PositiveInt, default=1, help="CPU threads; another number rounds differently."
        )
        parser.add_argument(
            "--portable",
            type=bool | None,
            default=None,
            help="The same weights on all x86 processors with AVX2, by default for models of prepared data; "
            "false: all instructions of this one, as ordinary modules have by default.",
        )
        parser.add_argument(
            "--compile",
            type=Compile | None,
            default=None,
            help="true: compile the network for training by torch.compile (mode default). The weights are "
            "then the same on this machine alone; the bundle needs no compiler.",
        )
        parser.add_argument(
            "--checkpoint_seconds",
            type=NonNegativeFloat,
            default=10.0,
            help="The longest time from one checkpoint to the next, by whole epochs; saving that takes "
            "little of the time is done more often.",
        )
        parser.add_argument(
            "--checkpoint_steps",
            type=PositiveInt | None,
            default=None,
            help="Save a checkpoint within an epoch, too, after so many optimizer steps, for epochs that are "
            "long; by default at ends of epochs only. One process only.",
        )
        parser.add_argument(
            "--log_gradient_norms",
            type=bool,
            default=False,
            help="Add each layer's gradient norm and share of dead units to the history.",
        )
        # data modules that have arguments of these names get them
        parser.link_arguments("task", "data.init_args.prepared", compute_fn=PREPARED.joinpath)
        parser.link_arguments("seed_everything", "data.init_args.order_seed")
        parser.link_arguments("data.preprocessing", "model.init_args.preprocessing", apply_on="instantiate")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands without what is always the same; `main` takes `predict` itself."""
        fixed = {"model", "datamodule", "weights_only", "verbose"}
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        return dict.fromkeys(("fit", "validate", "test", "predict"), fixed | loaders)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: the model is that of the configuration, not of the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Resolve what the run is about before anything is built."""
        settings = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=True))
        self.configuration: dict[str, Any] = settings[self.subcommand]
        self.configuration.pop("config", None)
        self.task = self.configuration["task"]
        require_name(self.task, "task")
        self.name = self.configuration.get("name") or self.task
        require_name(self.name, "name")
        require_usable(self.configuration["trainer"])
        prepared = PREPARED / self.task
        self.own_data = not _reads_prepared_data(self.configuration)
        # a matrix product of 1,024 columns takes five times as long with the instructions of all processors
        self.configuration.setdefault("portable", not self.own_data)
        choose_instructions(self.configuration["portable"])
        # a mistake in the validation of an ordinary module is found before the training
        self.configuration["trainer"].setdefault("num_sanity_val_steps", int(self.own_data))
        chosen = self.configuration.get("ckpt_path")
        if self.subcommand == "fit":
            if chosen:
                raise ConfigurationError(
                    f"ckpt_path: {chosen} cannot be used: a training goes on from its own checkpoint by "
                    "itself; to begin with other weights, load them in the constructor of the module"
                )
            _require_stage(self.name, None if self.own_data else prepared)
            if not self.own_data:
                prepared_manifest(prepared)
            self.prepared = data_digest(prepared)
            return
        if chosen:
            return
        self.bundle = Bundle.open(MODELS / self.name)
        self.bundle.require_model(self.configuration)
        self.bundle.require_data(prepared)

    def after_instantiate_classes(self) -> None:
        """Let an ordinary module split its rows alike in every command."""
        if self.own_data:
            repeat_setup(int(self.configuration["seed_everything"]), self.model, self.datamodule)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what each run has: exactness and, for `fit`, the record, the tracker and the bar."""
        options = self._get(self.config_init, "trainer")
        given = options["callbacks"] or []
        given = list(given) if isinstance(given, list | tuple) else [given]
        seed, threads = self.configuration["seed_everything"], self.configuration["threads"]
        kwargs["callbacks"] = [Exactness(int(seed), threads), *given]
        own_bar = any(isinstance(callback, ProgressBar) for callback in given)
        bar = options["enable_progress_bar"]
        kwargs["enable_progress_bar"] = bar = (sys.stderr.isatty() or own_bar) if bar is None else bar
        kwargs["num_sanity_val_steps"] = self.configuration["trainer"]["num_sanity_val_steps"]
        user_loggers = options["logger"] or False  # Lightning's own default would be a logger
        if options["profiler"] is None:
            kwargs["profiler"] = NoProfiler()
        else:
            logging.getLogger("lightning.pytorch.profilers").setLevel(
                logging.INFO
            )  # it shows its table there
        if self.subcommand != "fit":
            files = any(isinstance(callback, Checkpoint) for callback in given)
            return super().instantiate_trainer(enable_checkpointing=files, logger=user_loggers, **kwargs)
        self.lacks = [] if hasattr(self.model, "trivial_metrics") else lacking(self.model, self.datamodule)
        self.run_folder = RUNS / self.name / run_digest(self.configuration, self.prepared)
        self.run_folder.mkdir(parents=True, exist_ok=True)
        for callback in given:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((self.run_folder / "checkpoints").absolute())
            if isinstance(callback, BatchSizeFinder | LearningRateFinder):
                callback._early_exit = True  # as Lightning's Tuner: it finds, and nothing is trained
        monitor, mode = chosen_by(self.configuration, ())
        checkpoints = self.configuration["checkpoint_seconds"], self.configuration.get("checkpoint_steps")
        kwargs["callbacks"].append(NonFiniteLossGuard())
        self.record = ResumableCheckpoint(self.run_folder, monitor, mode, *checkpoints)
        kwargs["callbacks"] += [self.record, Termination()]
        if self.configuration["log_gradient_norms"]:
            kwargs["callbacks"].append(GradientNorms())
        # Lightning's own bar shows what a module logs with prog_bar
        if bar and not own_bar and not self.own_data:
            kwargs["callbacks"].append(TrainingProgress(monitor or "validation/loss"))
        launcher = launched_by()
        plugins = [DurableCheckpointIO(), *([launcher] if launcher else [])]
        trainer = super().instantiate_trainer(logger=user_loggers, plugins=plugins, **kwargs)
        require_whole_weights(trainer)
        require_all_processes(launcher, trainer)
        require_precision(trainer)
        chosen = self.configuration.get("compile")
        portable = self.configuration["portable"]
        self.compiler = require_compilable(chosen, trainer, portable) if chosen else None
        device, processes = trainer.strategy.root_device, trainer.world_size
        self.record.environment = environment(device, processes, portable, self.compiler)
        self.tracker = None
        if trainer.is_global_zero:
            _require_writable(MODELS)
            check_bundle_folder(MODELS / self.name)
            self.lock = _only_trainer(self.name)
            if not any(isinstance(each, WandbLogger) for each in trainer.loggers):  # a run of its own
                record = described(self.configuration, self.task, TRAINER_DEFAULTS)
                record |= {"prepared_sha256": self.prepared, "run": self.run_folder.name}
                name = run_name(self.name, self.arguments)
                self.tracker = start_tracker(RUNS, self.name, record, self.run_folder, name)
        if self.tracker is not None:
            trainer.loggers = [*trainer.loggers, self.tracker]
        if (given or self.own_data) and not trainer.loggers:
            trainer.loggers = [DummyLogger()]  # callbacks and modules call it
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train, or go on with an interrupted training of the same configuration, data and code."""
        if left_out := unstorable(self.model, self.datamodule):
            _say(self.trainer, f"not stored in checkpoints: {', '.join(left_out)}")
        self.model.configure_model()
        self.record.weights = frozenset(self.model.state_dict())
        if self.compiler:
            compile_training(self.model)
        summary = str(ModelSummary(self.model, max_depth=-1))
        _say(self.trainer, summary)
        for line in self.lacks:
            _say(self.trainer, line)
        _say(self.trainer, f"{self.name} on {self.trainer.strategy.root_device}")
        try:
            with _interruptions(self.trainer):
                checkpoint = self._usable_checkpoint()
                start = time.perf_counter()
                self.trainer.fit(**kwargs | {"ckpt_path": checkpoint, "weights_only": True})
                seconds = time.perf_counter() - start
                if self._show_what_was_found():
                    return
                if not self.record.epochs:
                    if self.trainer.num_training_batches == 0 and not trial_by(self.configuration["trainer"]):
                        raise ConfigurationError(
                            "train_dataloader has no batches; lower batch_size or leave drop_last out"
                        )
                    raise ConfigurationError(
                        "no epoch was trained; raise trainer.max_epochs, max_steps, max_time or "
                        "limit_train_batches"
                    )
                stages = ("validate", "test") if averages_at_the_end(self.trainer) else ("test",)
                scores: dict[str, float] = {}
                for stage in stages:
                    scores |= scores_of(self.trainer, stage, self.model, self.datamodule, verbose=False)
                if self.trainer.is_global_zero:
                    self._end(summary, scores, seconds)
        finally:
            if self.trainer.is_global_zero:
                self.lock.release()

    def _show_what_was_found(self) -> bool:
        """Print what a finder has found, after which nothing is trained; whether there was one."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LearningRateFinder) and callback.optimal_lr is not None:
                text = f"learning rate {callback.optimal_lr.suggestion()}"
            elif isinstance(callback, BatchSizeFinder):
                text = f"batch size {callback.optimal_batch_size}"
            else:
                continue
            _say(self.trainer, f"{type(callback).__name__}: {text}; write it into the configuration")
            if self.tracker is not None:
                self.tracker.finish({})
            return True
        return False

    def _usable_checkpoint(self) -> Path | None:
        """The checkpoint to go on from, if one can be read and was begun in the same environment."""
        path = self.run_folder / CHECKPOINT
        if not path.is_file():
            return None
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            epoch, within = checkpoint["epoch"], checkpoint["within_epoch"]
            began = checkpoint["callbacks"][self.record.state_key].get("environment")
        except Exception as error:  # torch raises many kinds for a damaged file
            logger.warning("%s cannot be read (%s): starting afresh", path, type(error).__name__)
            return None
        here = self.record.environment
        changes = [
            f"{name} {began.get(name)}, now {here[name]}" for name in here if began.get(name) != here[name]
        ]
        if changes:
            logger.warning("%s was begun with %s: starting afresh", path, "; ".join(changes))
            return None
        batches = f", after batch {within['batches']}" if within else ""
        _say(self.trainer, f"going on {'in' if within else 'after'} epoch {epoch + 1}{batches}")
        return path

    def _end(self, summary: str, test_metrics: Mapping[str, float], seconds: float) -> None:
        """Keep a finished training, unless it was a trial, and print its scores."""
        trial = trial_by(self.configuration["trainer"])
        best = self.record.best_row or self.record.rows[-1]
        trivial: dict[str, float] = {}
        test_rows = None
        if hasattr(self.model, "trivial_metrics") and hasattr(self.datamodule, "targets"):
            train, test = (self.datamodule.targets(split) for split in ("train", "test"))
            trivial, test_rows = self.model.trivial_metrics(train, test), len(test)
        scores = {"best_epoch": best["epoch"], **test_metrics}
        if not trial:
            if not self.record.best_row:
                monitor = self.configuration.get("monitor")
                raise ConfigurationError(f"monitor: no epoch had the metric '{monitor}'; validate more often")
            self._keep(summary, scores, trivial, test_rows, seconds)
        if self.tracker is not None:
            self.tracker.finish(scores, best, None if trial else MODELS / self.name)
        for name in (CHECKPOINT, UNFINISHED):
            (self.run_folder / name).unlink(missing_ok=True)
        self._print_scores(scores, trivial)
        if trial:
            reasons = ", ".join(f"trainer.{name}" for name in trial)
            print(f"a trial, because of {reasons}: {MODELS / self.name}/ is left as it was")
        else:
            print(f"trained in {seconds:.1f} s; the bundle: {MODELS / self.name}/")

    def _keep(
        self,
        summary: str,
        scores: Mapping[str, float],
        trivial: Mapping[str, float],
        test_rows: int | None,
        seconds: float,
    ) -> None:
        """Write the bundle and the record of a training."""
        history = (self.run_folder / HISTORY).read_text(encoding="utf-8")
        write_bundle(
            MODELS / self.name,
            self.model,
            self.task,
            yaml.safe_dump(self.configuration, allow_unicode=True),
            PREPARED / self.task,
            {HISTORY: history, "summary.txt": summary + "\n"},
        )
        # what `pipelines.compare` and `pipelines.study` read
        record = {
            "configuration": self.configuration,
            "metrics": {**self.record.best_row, **scores},
            "trivial": trivial,
            "test_rows": test_rows,
            "seconds": seconds,
            "provenance": provenance(self.prepared, self.trainer.strategy.root_device, self.compiler),
            "wandb_id": None if self.tracker is None else self.tracker.version,
        }
        with file_written_whole(self.run_folder / RECORD) as file:
            file.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def validate(self, **kwargs: Any) -> None:
        """Metrics of the bundle, or of the weights of `ckpt_path`, on the validation rows."""
        self._judge("validate")

    def test(self, **kwargs: Any) -> None:
        """Metrics of the bundle, or of the weights of `ckpt_path`, on the test rows."""
        self._judge("test")

    def _judge(self, stage: Literal["validate", "test"]) -> None:
        if path := self.configuration.get("ckpt_path"):
            _load_checkpoint(self.model, Path(path))
        else:
            self.bundle.load_weights(self.model)
        if not scores_of(self.trainer, stage, self.model, self.datamodule):
            step, loader = NEEDED[stage]
            raise ConfigurationError(f"{type(self.model).__name__} has no {step}, or its data no {loader}")

    def _print_scores(self, scores: Mapping[str, float], trivial: Mapping[str, float]) -> None:
        if len(scores) == 1:  # no test_step: what the kept epoch has logged
            scores = {"best_epoch": scores["best_epoch"], **self.record.best_row}
            del scores["epoch"], scores["learning_rate"]
        chosen = f"best of {self.record.epochs} epochs: {scores['best_epoch']}"
        if self.record.chosen_by is None:
            chosen = f"the last of {self.record.epochs} epochs"
        table = Table(title=f"{self.name}, {chosen}")
        for heading in ("metric", "model", "trivial answer"):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        for name, value in scores.items():
            if name != "best_epoch":
                baseline = trivial.get(name.removeprefix("test/"))
                table.add_row(name, f"{value:.5g}", "" if baseline is None else f"{baseline:.5g}")
        Console().print(table)


def _load_checkpoint(model: lightning.LightningModule, path: Path) -> None:
    """Put the weights of a checkpoint of Lightning into a module, without running code from it."""
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises many kinds
        text = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"ckpt_path: {path} has no weights of this model: {text}") from error


def _reads_prepared_data(configuration: Mapping[str, Any]) -> bool:
    """Whether the data module has an argument for data/prepared/<task>, as the built-in ones do."""
    module, _, name = (configuration.get("data") or {}).get("class_path", "").rpartition(".")
    return bool(module) and "prepared" in signature(getattr(import_module(module), name)).parameters


def _require_stage(name: str, prepared: Path | None) -> None:
    """Refuse a model that a stage of DVC does not expect, or data that it does not depend on.

    Args:
        name: of the model.
        prepared: the folder of its data; None for data of its own.
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if not stage.startswith("train@"):
        return
    if stage != f"train@{name}":
        raise ConfigurationError(
            f"name: found {name}, but the stage {stage} has to write {MODELS / stage[6:]}: it would "
            f"replace {MODELS / name}, which belongs to train@{name}"
        )
    data = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["models"][name]
    if prepared is not None and Path(data) != prepared:
        raise ConfigurationError(
            f"{PARAMETERS}: models.{name}: found {data}, but its configuration reads {prepared}: a change of "
            "these data would not train it again"
        )


def _require_writable(folder: Path) -> None:
    """Fail before the training, not after it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _only_trainer(name: str) -> FileLock:
    """The lock of a model's trainings, which the system releases when the process ends, however it ends."""
    # a lock that is a file of its own would outlive a killed process
    lock = FileLock(RUNS / name / "lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"another process trains {name} in this folder, perhaps of a `dvc repro` that was killed; "
            "wait for it to end, or end it"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warn_of_no_lock(str(error.strerror))
    return lock


def _text_of(path: ConfigurationPath) -> str:
    """The text of a configuration file, which is UTF-8 in every locale."""
    try:
        return Path(str(path.absolute)).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        print(text, flush=True)


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
    # loaders begin at the batch where the training was interrupted (src/training/seeding.py)
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
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
    except Exception as error:
        if reported_error(error) is None and (reason := _refusal(error)):
            raise ConfigurationError(reason) from error
        raise


def _refusal(error: Exception) -> str | None:
    """The message of an error that Lightning or an optimizer raises about what a configuration asks of it.

    Which options go together is known to them alone, and they say it by errors of many kinds. An error of
    the project's own code, or of a model's, is none of these.
    """
    if isinstance(error, MisconfigurationException):  # such as a GPU asked for where there is none
        return f"Lightning refuses the configuration: {error}"
    modules = [
        frame.f_globals.get("__name__", "")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        # where a module says that it has no such part
        if frame.f_globals.get("__name__") != "torch.nn.modules.module"
    ]
    module = modules[-1] if modules else ""
    owner = next((name for name in OWNERS if module.startswith(name)), None)
    if owner is None or isinstance(error, OSError):
        return None
    if owner == "jsonargparse":
        cause: BaseException = error
        while inner := cause.__cause__ or cause.__context__:
            cause = inner  # what the constructor of a class says
        known = cause is error or isinstance(cause, ModuleNotFoundError)
        text = explained(error) if known else f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        return f"{text} (for the traceback: {TRACEBACK_VARIABLE}=1)"
    text = f"{type(error).__name__}: {error}"
    return f"{module} refuses the configuration: {text} (for the traceback: {TRACEBACK_VARIABLE}=1)"


if __name__ == "__main__":
    exit_with_message(main)
