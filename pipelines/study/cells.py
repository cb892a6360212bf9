"""The cells of a study: single trainings, each in a folder of its own."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.parameters import checked, kind_of, read_parameters, task_section
from src.core.code import code_digest, modules_named
from src.core.digests import data_digest, file_digest, read_source
from src.core.documents import read_json
from src.core.errors import ConfigurationError, NonFiniteError, reported_error
from src.core.paths import (
    CELLS,
    CONFIGS,
    MANIFEST,
    MODELS,
    PARAMETERS,
    PREDICTIONS,
    PREPARED,
    RAW,
    RECORD,
    REPORTS,
    RUNS,
    SOURCE,
)

if TYPE_CHECKING:
    from src.cli import LockstepCLI

DIVERGED = "diverged.txt"
LOG = "log.txt"
# a cell has its own
WRITTEN = (MODELS, PARAMETERS, PREDICTIONS, REPORTS, RUNS, Path(LOG), Path(DIVERGED))


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Args:
        study: the name of the study.
        name: of its settings among those of the study.
        task: the task whose data it is trained on.
        settings: the changed keys of the configuration, dotted, and their values.
        seed: of the training.
        fold: the number of the fold whose rows are the test rows, from 1; 0 for the task's own test rows.
        prepared: the folder with the prepared data.
        changes: the keys of the preparation that the study or the fold changes.
        model: the model whose configuration it changes; empty for that of the task's name.
    """

    study: str
    name: str
    task: str
    settings: dict[str, Any] = field(hash=False)
    seed: int
    fold: int
    prepared: Path
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    model: str = ""

    @cached_property
    def folder(self) -> Path:
        """The folder of the training; its name is a digest of everything that the result depends on."""
        configuration = yaml.safe_load(self.configuration.read_text(encoding="utf-8"))
        modules = modules_named([configuration, self.settings])
        identity = [
            yaml.safe_dump(configuration),
            yaml.safe_dump([self.settings, self.seed]),
            data_digest(self.prepared) or "",
            code_digest("src.cli", *sorted(modules)),
        ]
        return CELLS / sha256("\n".join(identity).encode()).hexdigest()[:16]

    @property
    def configuration(self) -> Path:
        """The configuration whose keys the settings change."""
        return CONFIGS / f"{self.model or self.task}.yaml"

    @property
    def title(self) -> str:
        """The name, seed and fold."""
        return f"{self.name}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")

    @property
    def bundle(self) -> Path:
        """The folder of the trained model."""
        return self.folder / MODELS / (self.model or self.task)

    @property
    def arguments(self) -> list[str]:
        """The arguments of `python -m src.cli` for this training."""
        settings = [f"--{key}={_as_argument(value)}" for key, value in self.settings.items()]
        return [
            "fit",
            f"--config={self.configuration.absolute()}",
            *settings,
            f"--seed_everything={self.seed}",
        ]

    def record(self) -> dict[str, Any] | None:
        """The content of run.json; None until the training has ended."""
        found = sorted((self.folder / RUNS / (self.model or self.task)).glob(f"*/{RECORD}"))
        if not found or not (self.bundle / MANIFEST).is_file():
            return None
        return read_json(found[-1], f"study@{self.study}")

    @property
    def diverged(self) -> bool:
        """Whether the loss became infinite or NaN."""
        return (self.folder / DIVERGED).is_file()

    @property
    def done(self) -> bool:
        """Whether the training has ended, with a model or by divergence."""
        return self.diverged or self.record() is not None


def value_name(key: str, value: Any) -> str:
    """A short name of a value: a class by its name and arguments, a number with the last part of its key."""
    if isinstance(value, dict) and "class_path" in value:
        arguments = value.get("init_args", {})
        inner = ", ".join(f"{name}={item}" for name, item in arguments.items())
        text = value["class_path"].rpartition(".")[2] + (f"({inner})" if inner else "")
    elif isinstance(value, dict) and len(value) == 1:
        ((outer, arguments),) = value.items()
        text = f"{outer} " + " ".join(map(str, arguments.values())) if isinstance(arguments, dict) else outer
    elif isinstance(value, list) and len(value) > 1 and len(set(map(str, value))) == 1:
        text = f"{len(value)} x {value[0]}"
    else:
        text = str(value)
    return text if isinstance(value, str | dict | list) else f"{key.rpartition('.')[2]} {text}"


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def prepare_anew(task: str, changes: dict[str, Any]) -> Path:
    """Prepare the raw data of a task with other values of some keys.

    Returns:
        A folder below runs/prepared/, whose name is a digest of everything that its content depends on. An
        existing folder is used again.
    """
    module = f"src.{kind_of(task)}.prepare"
    kind = import_module(module)
    values = dict(task_section(task).get("prepare") or {}) | changes
    settings = checked(kind.Preparation, values, f"{task}.prepare")
    read_source(RAW / task)
    identity = f"{yaml.safe_dump(values)} {file_digest(RAW / task / SOURCE)} {code_digest(module)}"
    prepared = RUNS / "prepared" / task / sha256(identity.encode()).hexdigest()[:16]
    if not prepared.is_dir():
        kind.prepare(RAW / task, prepared, settings)
    return prepared


@contextlib.contextmanager
def _working_folder(cell: Cell, mode: str) -> Iterator[None]:
    """Make the cell's folder the working folder, and its log file the output.

    The command line reads and writes paths below the working folder, so what lies in the project's folder is
    linked into it: the prepared data, and whatever an ordinary module reads. Its params.yaml has the
    preparation of the cell, for W&B's record.
    """
    home = Path.cwd()
    parameters = read_parameters()
    if section := parameters.get(cell.task):  # a model of data of its own has none
        parameters[cell.task] = {**section, "prepare": {**(section.get("prepare") or {}), **cell.changes}}
    data = PREPARED.parent
    links = {path: path for path in (*Path().iterdir(), *data.glob("*"))}
    for path in [path for path in links if path.name.startswith(".") or path in (*WRITTEN, data, PREPARED)]:
        del links[path]
    for path, target in {**links, PREPARED / cell.task: cell.prepared}.items():
        link = cell.folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(os.path.relpath(home / target, link.parent))
    text = yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True)
    (cell.folder / PARAMETERS).write_text(text, encoding="utf-8")
    os.environ["WANDB_RUN_GROUP"] = cell.study
    os.environ["WANDB_TAGS"] = f"study,{cell.study}"
    os.environ["WANDB_NAME"] = cell.title
    os.environ["WANDB_DIR"] = str(home / RUNS)
    with (
        contextlib.chdir(cell.folder),
        Path(LOG).open(mode, encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def metric_names(cell: Cell) -> list[str] | None:
    """Build the model and the data of a cell without training, and return the names of its metrics.

    An ordinary module tells its metrics by logging them: it is trained, validated and tested with one batch.

    Returns:
        None if that batch fails; then the training will say why.

    Raises:
        ConfigurationError: the settings are not a valid configuration.
    """
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import BatchSizeFinder, Checkpoint, LearningRateFinder, ProgressBar
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.loggers.logger import DummyLogger

    from src.bundle.module import scores
    from src.cli import LockstepCLI, main

    found = {"best_epoch"}
    failed = False
    without = BatchSizeFinder, Checkpoint, LearningRateFinder, ProgressBar

    class OneBatch(Checkpoint):  # as such it comes after the module at the end of the epoch
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = True

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            found.update(trainer.callback_metrics)

    class UntrainedCLI(LockstepCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            # LockstepCLI would start a run
            if hasattr(self.model, "trivial_metrics"):
                kwargs["enable_checkpointing"] = False
            else:
                limits = dict.fromkeys(("train", "val", "test"), 1)
                kwargs |= {f"limit_{part}_batches": number for part, number in limits.items()}
                given = self._get(self.config_init, "trainer")["callbacks"] or []
                given = given if isinstance(given, list | tuple) else [given]
                callbacks = [each for each in given if not isinstance(each, without)]
                kwargs |= {"callbacks": [*callbacks, OneBatch()], "enable_progress_bar": False}
                kwargs["logger"] = DummyLogger()  # some callbacks ask for one
                kwargs |= {"min_epochs": None, "min_steps": None, "val_check_interval": None}
                kwargs |= {"check_val_every_n_epoch": 1, "overfit_batches": 0}
            return LightningCLI.instantiate_trainer(self, **{"logger": False, **kwargs})

        def fit(self, **kwargs: Any) -> None:
            nonlocal failed
            if hasattr(self.model, "trivial_metrics"):
                trivial = self.model.trivial_metrics(
                    *(self.datamodule.targets(part) for part in ("train", "test"))
                )
                found.update(f"{part}/{name}" for part in ("validation", "test") for name in trivial)
                found.update(("train/loss", "validation/loss", "test/loss"))
                return
            try:
                self.trainer.fit(**kwargs)
                found.update(scores(self.trainer, "test", self.model, self.datamodule, verbose=False))
            except Exception as error:  # an ordinary module raises anything
                if reported_error(error) is not None:
                    raise
                failed = True

    arguments = cell.arguments
    try:
        with _working_folder(cell, "w"):
            main(arguments, UntrainedCLI)
    except Exception as error:
        if (known := reported_error(error)) is not None:
            raise known from None  # not the error of jsonargparse around it
        raise
    return None if failed else sorted(found)


def train(cell: Cell, cli: "type[LockstepCLI] | None" = None) -> float:
    """Train a cell, or resume its training.

    Args:
        cell: the cell.
        cli: the command line that trains it; None for LockstepCLI.

    Returns:
        The duration of the training in seconds.

    Raises:
        NonFiniteError: the loss became infinite or NaN; the folder records it.
        LockstepError: an error that a user can mend.
    """
    from src.cli import LockstepCLI, main

    arguments = cell.arguments
    with _working_folder(cell, "a"):
        try:
            main(arguments, cli or LockstepCLI)
        except NonFiniteError as error:
            Path(DIVERGED).write_text(f"{error}\n", encoding="utf-8")
            raise
        except Exception as error:
            if (found := reported_error(error)) is None:
                raise
            raise found from None  # the error around it cannot be sent to another process
    record = cell.record()
    if record is None:
        raise ConfigurationError(
            f"studies.{cell.study}: a trial leaves no model; leave out trainer.limit_*_batches, "
            "trainer.overfit_batches and trainer.fast_dev_run"
        )
    return float(record["seconds"])
