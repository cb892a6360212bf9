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

from pipelines.parameters import checked, kind_of, task_section
from src.core.code import code_digest, modules_named
from src.core.digests import file_digest, read_source
from src.core.errors import ConfigurationError, NonFiniteError, reported_error
from src.core.paths import LOCK, MANIFEST, MODELS, PREPARED, RAW, RECORD, RUNS, SOURCE

if TYPE_CHECKING:
    from src.cli import LockstepCLI

CELLS = RUNS / "cells"
DIVERGED = "diverged.txt"
LOG = "log.txt"


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Args:
        study: its name.
        name: what tells its settings from those of the study's other cells, for people.
        task: whose configuration it changes.
        settings: the changed keys of configs/<task>.yaml, dotted, and their values.
        seed: of the training.
        fold: which part of the rows is the test part, from 1; 0 is the task's own test part.
        prepared: the folder with the prepared data.
    """

    study: str
    name: str
    task: str
    settings: dict[str, Any] = field(hash=False)
    seed: int
    fold: int
    prepared: Path

    @cached_property
    def folder(self) -> Path:
        """Where it is trained; the name is a digest of all that its result depends on."""
        configuration = yaml.safe_load(self.configuration.read_text(encoding="utf-8"))
        modules = modules_named([configuration, self.settings])
        identity = [
            yaml.safe_dump(configuration),
            yaml.safe_dump([self.settings, self.seed]),
            file_digest(self.prepared / MANIFEST),
            code_digest("src.cli", *sorted(modules)),
        ]
        return CELLS / sha256("\n".join(identity).encode()).hexdigest()[:16]

    @property
    def configuration(self) -> Path:
        """What it changes."""
        return Path("configs", f"{self.task}.yaml")

    @property
    def title(self) -> str:
        """The name, seed and fold."""
        return f"{self.name}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")

    @property
    def bundle(self) -> Path:
        """Its trained model."""
        return self.folder / MODELS / self.task

    @property
    def arguments(self) -> list[str]:
        """Those of `python -m src.cli` that train it."""
        settings = [f"--{key}={_as_argument(value)}" for key, value in self.settings.items()]
        return ["fit", "--config", str(self.configuration), *settings, f"--seed_everything={self.seed}"]

    def record(self) -> dict[str, Any] | None:
        """The record of its run; None as long as it is not trained to its end."""
        found = sorted((self.folder / RUNS / self.task).glob(f"*/{RECORD}"))
        if not found or not (self.bundle / MANIFEST).is_file():
            return None
        content: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
        return content

    @property
    def diverged(self) -> bool:
        """Whether its loss has been found to grow beyond all bounds."""
        return (self.folder / DIVERGED).is_file()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.diverged or self.record() is not None


def value_name(key: str, value: Any) -> str:
    """What a value of a key is called: that of a class by its name, that with arguments in short."""
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
    """Prepare a task's raw data with other values of some keys.

    Returns:
        The folder, below runs/prepared/; it is made once.
    """
    room = import_module(f"src.{kind_of(task)}.prepare")
    values = dict(task_section(task).get("prepare") or {}) | changes
    settings = checked(room.Preparation, values, f"{task}.prepare")
    code = code_digest(f"src.{kind_of(task)}.prepare")
    read_source(RAW / task)
    identity = f"{yaml.safe_dump(values)} {file_digest(RAW / task / SOURCE)} {code}"
    prepared = RUNS / "prepared" / task / sha256(identity.encode()).hexdigest()[:16]
    if not prepared.is_dir():
        room.prepare(RAW / task, prepared, settings)
    return prepared


@contextlib.contextmanager
def _workplace(cell: Cell, mode: str) -> Iterator[None]:
    """The cell's folder as the working folder, with the project's files in it, and a log of what is said."""
    home = Path.cwd()
    data = cell.folder / PREPARED
    data.mkdir(parents=True, exist_ok=True)
    links = {path: home / path for path in (Path("configs"), Path("src"), LOCK)}
    links[PREPARED / cell.task] = home / cell.prepared
    for link, target in links.items():
        with contextlib.suppress(FileExistsError):
            (cell.folder / link).symlink_to(os.path.relpath(target, (cell.folder / link).parent))
    os.environ["WANDB_RUN_GROUP"] = cell.study
    os.environ["WANDB_TAGS"] = f"study,{cell.study}"
    os.environ["WANDB_NAME"] = cell.title
    os.environ["WANDB_DIR"] = str(home / RUNS)
    os.chdir(cell.folder)
    try:
        with (
            Path(LOG).open(mode, encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            yield
    finally:
        os.chdir(home)


def metric_names(cell: Cell) -> list[str]:
    """Build all that the cell's training needs, without training.

    Returns:
        The metrics that it will have.

    Raises:
        ConfigurationError: its settings are no configuration.
    """
    from src.cli import LockstepCLI, main

    class Untrained(LockstepCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            # not the way of LockstepCLI, which opens a run
            return super(LockstepCLI, self).instantiate_trainer(
                enable_checkpointing=False, logger=False, **kwargs
            )

        def fit(self, **kwargs: Any) -> None:
            """Nothing."""

    try:
        with _workplace(cell, "w"):
            cli = main(cell.arguments, Untrained)
            assert cli is not None
            trivial = cli.model.trivial_metrics(*(cli.datamodule.targets(part) for part in ("train", "test")))
    except SystemExit:
        said = (cell.folder / LOG).read_text(encoding="utf-8")
        raise ConfigurationError(" ".join(said.split("error:")[-1].split())) from None
    except Exception as error:
        if (found := reported_error(error)) is not None:
            raise found from None  # not what jsonargparse has wrapped it in
        raise
    names = ["train/loss", "validation/loss", "test/loss", "best_epoch"]
    return sorted({*names, *(f"{part}/{name}" for part in ("validation", "test") for name in trivial)})


def train(cell: Cell, cli: "type[LockstepCLI] | None" = None) -> float:
    """Train a cell, or go on with it.

    Args:
        cell: what to train.
        cli: what trains it, if not the command line's own.

    Returns:
        The seconds of its training.

    Raises:
        NonFiniteError: its loss has grown beyond all bounds, which is noted in its folder.
        LockstepError: a user can mend it, memory and space included.
    """
    from src.cli import LockstepCLI, main

    with _workplace(cell, "a"):
        try:
            main(cell.arguments, cli or LockstepCLI)
        except NonFiniteError as error:
            Path(DIVERGED).write_text(f"{error}\n", encoding="utf-8")
            raise
        except Exception as error:
            if (found := reported_error(error)) is None:
                raise
            raise found from None  # what it was wrapped in does not travel between processes
    record = cell.record()
    assert record is not None
    return float(record["seconds"])
