"""The command line: python -m src.cli fit | validate | test | predict --config configs/<model>.yaml.

`fit` trains on the prepared data and writes the bundle models/<model>/; the others use that bundle.
`predict` takes any bundle (--bundle FOLDER) and raw input, but no options of the Trainer.
"""

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import lightning
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.model_summary import ModelSummary
from rich.console import Console
from rich.table import Table
from torch.distributed import is_torchelastic_launched

from src.bundle.bundle import Bundle, check_bundle_folder, restrict_imports, weights_of, write_bundle
from src.bundle.module import NEEDED, lacking, repeat_setup
from src.bundle.module import scores as scores_of
from src.core.atomic import file_written_whole
from src.core.cluster import ADDRESS
from src.core.code import run_digest
from src.core.digests import data_digest, prepared_manifest
from src.core.errors import ConfigurationError, exit_with_message, reported_error
from src.core.paths import CHECKPOINT, HISTORY, MODELS, PREPARED, RECORD, RUNS, require_name
from src.core.scores import chosen_by
from src.training.checkpoint import ResumableCheckpoint, averages_at_the_end
from src.training.cluster import Shape, shape_of, train_on
from src.training.compilation import compile_training, require_compilable, require_precision
from src.training.distributed import Termination, launched_by, require_all_processes
from src.training.exactness import Exactness, choose_instructions
from src.training.failures import interruptions, refusal
from src.training.finders import found_by, stop_after_finding
from src.training.gradient_norms import GradientNorms
from src.training.keys import add_keys, add_seed, explained_errors
from src.training.non_finite_loss import NonFiniteLossGuard
from src.training.options import require_usable, require_whole_weights, trial_by
from src.training.overhead import NoProfiler
from src.training.ownership import only_trainer, require_stage, require_writable
from src.training.parts import whole
from src.training.progress import ProgressLines, TrainingProgress
from src.training.provenance import environment, provenance
from src.training.sharding import FullySharded, make_layers, require_shardable
from src.training.stored import DurableCheckpointIO, load_weights, place_in, require_storable, unstorable
from src.training.tracking import UNFINISHED, Tracker, described, run_name, start_tracker

TRAINER_DEFAULTS = {
    "default_root_dir": str(RUNS),
    "deterministic": True,
    "enable_model_summary": False,
}

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
        with explained_errors(self._subcommand_parsers):
            super().parse_arguments(parser, args)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the seed."""
        add_seed(parser, self.seed_everything_default)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys that every task has beside trainer, model and data."""
        add_keys(parser)
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
        # where arrays are changes no result
        arguments = self.configuration["data"].get("init_args", {}) if not self.own_data else {}
        here = arguments.pop("remote", None) is None
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
            require_stage(self.name, None if self.own_data else prepared)
            if not self.own_data:
                prepared_manifest(prepared, arrays=here)
            self.prepared = data_digest(prepared)
            return
        if chosen:
            return
        self.bundle = Bundle.open(MODELS / self.name)
        self.bundle.require_model(self.configuration)
        self.bundle.require_data(prepared, arrays=here)

    def after_instantiate_classes(self) -> None:
        """Let an ordinary module split its rows alike in every command."""
        if self.own_data or not hasattr(self.model, "trivial_metrics"):
            repeat_setup(int(self.configuration["seed_everything"]), self.model, self.datamodule)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what each run has: exactness and, for `fit`, the record, the tracker and the bar."""
        options = self._get(self.config_init, "trainer")
        given = options["callbacks"] or []
        given = list(given) if isinstance(given, list | tuple) else [given]
        seed, threads = self.configuration["seed_everything"], self.configuration["threads"]
        own_bar = any(isinstance(callback, ProgressBar) for callback in given)
        bar = options["enable_progress_bar"]
        bar = (sys.stderr.isatty() or own_bar) if bar is None else bar
        kwargs |= {
            "callbacks": [Exactness(int(seed), threads), *given],
            "enable_progress_bar": bar,
            "num_sanity_val_steps": self.configuration["trainer"]["num_sanity_val_steps"],
            "logger": options["logger"] or False,  # Lightning's own default would be a logger
        }
        if options["profiler"] is None:
            kwargs["profiler"] = NoProfiler()
        else:  # it shows its table there
            logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
        if self.subcommand != "fit":
            files = any(isinstance(callback, Checkpoint) for callback in given)
            return super().instantiate_trainer(enable_checkpointing=files, **kwargs)
        self.lacks = []
        if not hasattr(self.model, "trivial_metrics"):
            self.lacks = lacking(self.model, self.datamodule, self.configuration.get("monitor"))
        self.run_folder = RUNS / self.name / run_digest(self.configuration, self.prepared)
        self.run_folder.mkdir(parents=True, exist_ok=True)
        progress: type[TrainingProgress | ProgressLines] | None = None
        if not bar and options["enable_progress_bar"] is None:
            progress = ProgressLines
        elif bar and not own_bar and not self.own_data:
            progress = TrainingProgress  # Lightning's own bar shows what a module logs with prog_bar
        kwargs["callbacks"] += self._callbacks_of_fit(given, progress)
        launcher = launched_by()
        plugins = [DurableCheckpointIO(), *([launcher] if launcher else [])]
        trainer = super().instantiate_trainer(plugins=plugins, **kwargs)
        require_whole_weights(trainer)
        require_all_processes(launcher, trainer)
        require_precision(trainer)
        chosen = self.configuration.get("compile")
        require_shardable(trainer, chosen, self.configuration.get("checkpoint_steps"))
        portable = self.configuration["portable"]
        self.compiler = require_compilable(chosen, trainer, portable) if chosen else None
        device, processes = trainer.strategy.root_device, trainer.world_size
        self.record.environment = environment(device, processes, portable, self.compiler)
        self.tracker = self._begin(trainer) if trainer.is_global_zero else None
        if self.tracker is not None:
            trainer.loggers = [*trainer.loggers, self.tracker]
        if (given or self.own_data) and not trainer.loggers:
            trainer.loggers = [DummyLogger()]  # callbacks and modules call it
        return trainer

    def _callbacks_of_fit(
        self, given: list[Callback], progress: type[TrainingProgress | ProgressLines] | None
    ) -> list[Callback]:
        """The callbacks of a training beside those of the configuration, which is adapted.

        Args:
            given: those of the configuration.
            progress: what shows the progress; None if it is nothing of ours.
        """
        for callback in given:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((self.run_folder / "checkpoints").absolute())
        stop_after_finding(given)
        monitor, mode = chosen_by(self.configuration, ())
        checkpoints = self.configuration["checkpoint_seconds"], self.configuration.get("checkpoint_steps")
        self.record = ResumableCheckpoint(self.run_folder, monitor, mode, *checkpoints)
        callbacks: list[Callback] = [NonFiniteLossGuard(), self.record, Termination()]
        if self.configuration["log_gradient_norms"]:
            callbacks.append(GradientNorms())
        if progress is not None:
            callbacks.append(progress(monitor or "validation/loss"))
        return callbacks

    def _begin(self, trainer: Trainer) -> Tracker | None:
        """Make sure that the bundle can be written, and begin the run of W&B, unless it has a logger."""
        require_writable(MODELS)
        check_bundle_folder(MODELS / self.name)
        self.lock = only_trainer(self.name)
        if any(isinstance(each, WandbLogger) for each in trainer.loggers):
            return None
        record = described(self.configuration, self.task, TRAINER_DEFAULTS)
        record |= {"prepared_sha256": self.prepared, "run": self.run_folder.name}
        name = run_name(self.name, self.arguments)
        return start_tracker(RUNS, self.name, record, self.run_folder, name)

    def fit(self, **kwargs: Any) -> None:
        """Train, or go on with an interrupted training of the same configuration, data and code."""
        if left_out := unstorable(self.model, self.datamodule):
            _say(self.trainer, f"not stored in checkpoints: {', '.join(left_out)}")
        make_layers(self.model, self.trainer)
        require_storable(self.model)
        self.record.weights = frozenset(self.model.state_dict())
        if self.compiler:
            compile_training(self.model)
        summary = str(ModelSummary(self.model, max_depth=-1))
        _say(self.trainer, summary)
        for line in self.lacks:
            _say(self.trainer, line)
        _say(self.trainer, f"{self.name} on {self.trainer.strategy.root_device}")
        try:
            with interruptions(self.trainer):
                place = place_in(
                    self.run_folder / CHECKPOINT,
                    self.record,
                    isinstance(self.trainer.strategy, FullySharded),
                )
                if place:
                    _say(self.trainer, place)
                checkpoint = self.run_folder / CHECKPOINT if place else None
                self.trainer.fit(**kwargs | {"ckpt_path": checkpoint, "weights_only": True})
                seconds = self.record.seconds_in_all
                if found := found_by(self.trainer):
                    _say(self.trainer, found)
                    if self.tracker is not None:
                        self.tracker.finish({})
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
                self._keep_weights(summary)
                stages = ("validate", "test") if averages_at_the_end(self.trainer) else ("test",)
                scores: dict[str, float] = {}
                for stage in stages:
                    scores |= scores_of(self.trainer, stage, self.model, self.datamodule, verbose=False)
                trivial = self._trivial_scores()
                if self.trainer.is_global_zero:
                    self._end(scores, trivial, seconds)
        finally:
            if self.trainer.is_global_zero:
                self.lock.release()

    def _trivial_scores(self) -> tuple[dict[str, float], int | None]:
        """The scores of the constant answer, and the number of test rows; nothing of an ordinary module."""
        if not (hasattr(self.model, "trivial_metrics") and hasattr(self.datamodule, "targets")):
            return {}, None
        train, test = (self.datamodule.targets(split) for split in ("train", "test"))
        return self.model.trivial_metrics(train, test), len(test)

    def _keep_weights(self, summary: str) -> None:
        """Write the bundle of a finished training, unless it was a trial.

        It comes before the test, whose mistakes then cost no training.
        """
        weights = whole(weights_of(self.model))  # all processes take part where weights are in parts
        if trial_by(self.configuration["trainer"]):
            return
        if not self.record.best_row:
            monitor = self.configuration.get("monitor")
            if any(monitor in row for row in self.record.rows):
                raise ConfigurationError(f"monitor: '{monitor}' was not a number in any epoch")
            raise ConfigurationError(f"monitor: no epoch had the metric '{monitor}'; validate more often")
        failure: Exception | None = None
        if self.trainer.is_global_zero:
            try:
                history = (self.run_folder / HISTORY).read_text(encoding="utf-8")
                write_bundle(
                    MODELS / self.name,
                    weights,
                    self.task,
                    yaml.safe_dump(self.configuration, allow_unicode=True),
                    PREPARED / self.task,
                    {HISTORY: history, "summary.txt": summary + "\n"},
                )
            except Exception as error:
                failure = error
        # the other processes would wait in the test for ever
        if not self.trainer.strategy.reduce_boolean_decision(failure is None, all=True):
            raise failure or ConfigurationError("the first process could not write the bundle")

    def _end(
        self,
        test_metrics: Mapping[str, float],
        trivial_scores: tuple[dict[str, float], int | None],
        seconds: float,
    ) -> None:
        """Keep the record of a finished training, unless it was a trial, and print its scores."""
        trial = trial_by(self.configuration["trainer"])
        best = self.record.best_row or self.record.rows[-1]
        trivial, test_rows = trivial_scores
        scores = {"best_epoch": best["epoch"], **test_metrics}
        if not trial:
            self._keep_record(scores, trivial, test_rows, seconds)
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

    def _keep_record(
        self,
        scores: Mapping[str, float],
        trivial: Mapping[str, float],
        test_rows: int | None,
        seconds: float,
    ) -> None:
        """Write the record of a training, which `pipelines.compare` and `pipelines.study` read."""
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
            make_layers(self.model, self.trainer)
        # Lightning would convert the module later, after float64 was rounded to float32
        self.trainer.precision_plugin.convert_module(self.model)
        if path:
            load_weights(self.model, Path(path))
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


class ClusterCLI(LockstepCLI):
    """A `fit` that runs on the nodes of the Ray cluster of RAY_ADDRESS if it has several processes."""

    shape: Shape | None = None

    def instantiate_classes(self) -> None:
        """Leave that to the nodes."""
        self.shape = shape_of(self.configuration) if self.subcommand == "fit" else None
        if self.shape is None:
            super().instantiate_classes()

    def after_instantiate_classes(self) -> None:
        """Nothing is built here for the nodes."""
        if self.shape is None:
            super().after_instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        if self.shape is None:
            super()._run_subcommand(subcommand)
        else:
            train_on(os.environ[ADDRESS], self.arguments, self.configuration, self.shape)


def _reads_prepared_data(configuration: Mapping[str, Any]) -> bool:
    """Whether the data module has an argument for data/prepared/<task>, as the built-in ones do."""
    module, _, name = (configuration.get("data") or {}).get("class_path", "").rpartition(".")
    return bool(module) and "prepared" in signature(getattr(import_module(module), name)).parameters


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        print(text, flush=True)


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
        from src.bundle.predict import predict

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
        if reported_error(error) is None and (reason := refusal(error)):
            raise ConfigurationError(reason) from error
        raise


def command() -> None:
    """Run the command line of this process; torchrun's processes train here, whatever RAY_ADDRESS says."""
    main(cli=ClusterCLI if os.environ.get(ADDRESS) and not is_torchelastic_launched() else LockstepCLI)


if __name__ == "__main__":
    exit_with_message(command)
