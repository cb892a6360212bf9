"""Weights & Biases, offline by default (WANDB_MODE). A failure of it never ends a training.

Each row has the epoch, from 1, and Lightning's `trainer/global_step`. The axis of a metric is the epoch, or
the step if the module logs it within an epoch.
"""

import contextlib
import inspect
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger

from src.core.atomic import file_written_whole
from src.core.paths import PARAMETERS, RECORD

PROJECT = "lockstep"
LONGEST_NAME = 128  # that W&B takes
UNFINISHED = "wandb.jsonl"  # in the folder of a run until its training has ended: its id and its rows
OFFLINE = ("offline", "dryrun")
EPOCH, STEP = "epoch", "trainer/global_step"
# a text that a model has written, in tables/*.md: its settings, then the lines of a quotation
SAMPLE = re.compile(r"^`(.+)`\n\n((?:^>.*\n)+)", re.MULTILINE)

logger = logging.getLogger(__name__)


class Tracker(WandbLogger):
    """Lightning's W&B logger. After a call has failed it warns once and makes no further call.

    Args:
        run: of W&B.
        kept: a file with the rows of the training, since W&B loses the last ones of a killed process.
        older: folders of W&B with the same training before it was interrupted.
    """

    def __init__(self, run: Any, kept: Path | None = None, older: Sequence[Path] = ()) -> None:
        super().__init__(experiment=run, log_model=False)
        self.kept = kept
        self.older = older
        self.trainer: Trainer | None = None
        self.by_step: set[str] = set()
        self.failed = False
        self.ended = False

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self.failed:
            return
        try:
            call(*arguments)
        except Exception as error:  # W&B and its helper process raise many kinds
            self.failed = True
            _warn(error)
            _tear_down()

    def follow(self, trainer: Trainer, rows: list[dict[str, float]]) -> None:
        """Take the epochs from a trainer; log again what its training had logged before it was interrupted.

        W&B cannot resume a run that is offline. It begins another folder, which replaces the older one.

        Args:
            trainer: that starts to train.
            rows: of its finished epochs.
        """
        self.trainer = trainer
        if self.kept is not None:
            self._guarded(self._log_again, trainer.fit_loop.epoch_loop._batches_that_stepped, rows)

    def _log_again(self, step: int, rows: list[dict[str, float]]) -> None:
        assert self.kept is not None
        first, *lines = self.kept.read_text(encoding="utf-8").splitlines()
        known = []
        for line in lines:
            with contextlib.suppress(ValueError):  # a line that was cut off
                row = json.loads(line)
                if row[EPOCH] <= len(rows) or row.get(STEP, step) < step:
                    known.append(row)
        with file_written_whole(self.kept) as file:
            file.write("\n".join([first, *map(json.dumps, known), ""]))
        if not self.experiment.offline:
            return
        there = {row[EPOCH] for row in known}
        # after a power failure, or if W&B was disabled
        known += [row for row in rows if row[EPOCH] not in there]
        for row in sorted(known, key=lambda row: row[EPOCH]):
            self.experiment.log(row)
        for folder in self.older:
            if not (folder / "files" / "media").exists():  # pictures that the module logged are only there
                shutil.rmtree(folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row of metrics."""
        if not self.ended:
            self._guarded(self._log_row, metrics, step)

    def _log_row(self, metrics: Mapping[str, float], step: int | None) -> None:
        row = dict(metrics) if step is None else {**metrics, STEP: step}
        if self.trainer is not None:
            row[EPOCH] = self.trainer.current_epoch + 1
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            if self.trainer.training and progress.processed < progress.ready:
                for name in metrics.keys() - self.by_step - {EPOCH}:
                    self.experiment.define_metric(name, step_metric=STEP, step_sync=True)
                    self.by_step.add(name)
            if self.kept is not None:
                kept = {name: _number(value) for name, value in row.items()}
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(
                        json.dumps({name: kept[name] for name in kept if kept[name] is not None}) + "\n"
                    )
        self.experiment.log(row)

    def log_hyperparams(self, params: Any) -> None:
        """Do nothing: the run has the whole configuration."""

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Do nothing."""

    def finalize(self, status: str) -> None:
        """End the rows of the epochs; the metrics of the test follow by `finish`."""
        self.ended = True

    def finish(
        self, scores: dict[str, float], kept: Mapping[str, float] | None = None, bundle: Path | None = None
    ) -> None:
        """Add the final metrics and close the run.

        Args:
            scores: the metrics on the test rows, and `best_epoch`, where they stand in the history.
            kept: the row of that epoch, which replaces the last one in the summary.
            bundle: the folder of the model, which becomes an artifact of a run that is online.
        """

        def close() -> None:
            row = {name: value for name, value in scores.items() if name != "best_epoch"}
            self.experiment.log({**row, EPOCH: scores["best_epoch"]})
            self.experiment.summary.update({**(kept or {}), **scores})
            if bundle is not None and not self.experiment.offline:
                self.experiment.log_artifact(_artifact(bundle, scores))
            self.experiment.finish()

        self._guarded(close)


def start_tracker(
    folder: Path, model: str, configuration: dict[str, Any], run: Path | None = None, name: str | None = None
) -> Tracker | None:
    """Start a W&B run. Return None with WANDB_MODE=disabled, or after a warning if W&B fails.

    Args:
        folder: below which all files of W&B lie.
        model: the run's tag and, unless WANDB_RUN_GROUP names another, its group.
        configuration: what W&B's tables compare.
        run: the folder of the training, which keeps the run's id until the training has ended.
        name: shown by W&B, unless WANDB_NAME is set.
    """
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        return None
    given = os.environ.get("WANDB_RUN_ID")  # by an agent of a sweep
    kept = run / UNFINISHED if run and not given else None
    try:
        goes_on = kept is not None and kept.is_file()
        found = _init(
            folder,
            id=given or (_id_of(kept) if kept else None),
            name=os.environ.get("WANDB_NAME") or name,  # W&B itself reads it once per process
            group=os.environ.get("WANDB_RUN_GROUP", model),
            tags=[model, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))],
            config=configuration,
            mode=mode,
            resume="allow" if goes_on and mode not in OFFLINE else None,
        )
        for axis in (EPOCH, STEP):
            found.define_metric(axis)
        found.define_metric("*", step_metric=EPOCH, step_sync=True)
        here = Path(found.settings.sync_dir)
        older = [path for path in here.parent.glob(f"offline-run-*-{found.id}") if path != here]
        return Tracker(found, kept, older if kept else [])
    except Exception as error:
        _warn(error)
        return None


def log_report(
    report: Path,
    folder: Path,
    model: str,
    configuration: dict[str, Any],
    samples: Callable[[], tuple[list[str], list[list[Any]]]] | None = None,
) -> None:
    """Add the plots and tables of a report to the run of its training, with WANDB_MODE=online.

    W&B cannot add to a run that is offline. Without a record of the training nothing is done.

    Args:
        report: with plots/ and tables/.
        folder: of the runs of all models.
        model: its name.
        configuration: of the training.
        samples: makes a table of single predictions, its headings and rows; pictures of Pillow may be cells.
    """
    if os.environ.get("WANDB_MODE") != "online":
        return
    paths = sorted((folder / model).glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    ids = [record.get("wandb_id") for record in records if record["configuration"] == configuration]
    if not any(ids):
        return
    try:
        run = _init(folder, id=next(filter(None, reversed(ids))), mode="online", resume="must")
        import wandb

        content: dict[str, Any] = {path.stem: wandb.Image(str(path)) for path in report.glob("plots/*.png")}
        if samples is not None:
            content["samples"] = _table_of_samples(*samples())
        table: list[Any]
        for path in report.glob("tables/*.md"):
            text = path.read_text(encoding="utf-8")
            if written := SAMPLE.findall(text):
                table = [[keys, re.sub("^> ?", "", quoted, flags=re.MULTILINE)] for keys, quoted in written]
                content[path.stem] = wandb.Table(columns=["settings", "text"], data=table)
                continue
            lines = [line.rstrip() for line in text.splitlines() if line.startswith("|")]
            table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in lines]
            if len({len(row) for row in table}) == 1:  # a file with several tables has none for W&B
                content[path.stem] = wandb.Table(columns=table[0], data=table[2:])
        run.log({f"report/{name}": part for name, part in sorted(content.items())})
        run.finish()
    except Exception as error:
        _warn(error)


def _table_of_samples(headings: list[str], rows: list[list[Any]]) -> Any:
    """A table of W&B whose pictures are shown."""
    import wandb
    from PIL import Image

    def shown(cell: Any) -> Any:
        return wandb.Image(cell) if isinstance(cell, Image.Image) else cell

    return wandb.Table(columns=[*headings], data=[[shown(cell) for cell in row] for row in rows])


def _init(folder: Path, **options: Any) -> Any:
    """Start or resume a run of W&B without what it records of the machine, its files below the folder."""
    folder = folder.absolute()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # without a limit, W&B waits for an unreachable server for ever at the end of a run
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")
    os.environ.setdefault("WANDB_FINISH_TIMEOUT_RAISES", "true")
    for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(folder / "wandb" / kind.lower()))
    import wandb  # takes seconds

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    # a private method that imports W&B Launch to look for inputs of a job: `init` takes 0.3 s, not 0.9 s
    wandb.sdk.wandb_run.Run._detect_and_apply_job_inputs = lambda run: None  # type: ignore[assignment, method-assign]
    return wandb.init(
        **wandb_project(),
        **options,
        dir=os.environ.get("WANDB_DIR", folder),
        settings=settings,
        reinit="finish_previous",  # the run of a failed training in the same process
    )


def wandb_project() -> dict[str, Any]:
    """The project and the entity of W&B: of the environment, or of the section `wandb` of params.yaml."""
    section = _parameters().get("wandb") or {}
    return {
        "project": os.environ.get("WANDB_PROJECT") or section.get("project") or PROJECT,
        "entity": os.environ.get("WANDB_ENTITY") or section.get("entity"),
    }


def described(
    configuration: Mapping[str, Any], task: str, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What W&B records of a training: its configuration and its section of params.yaml.

    Args:
        configuration: resolved. The keys of the trainer that have their default are left out.
        task: whose data it reads.
        defaults: of the trainer, where they differ from Lightning's.
    """
    usual = {name: found.default for name, found in inspect.signature(Trainer).parameters.items()}
    usual |= defaults or {}
    trainer = configuration["trainer"]
    changed = {name: value for name, value in trainer.items() if value != usual.get(name)}
    section = _parameters().get(task) or {}
    preparation = {name: section[name] for name in ("source", "prepare") if name in section}
    return {**configuration, "trainer": changed, **preparation}


def run_name(model: str, arguments: Sequence[str]) -> str:
    """The name of a run: the model's, and the settings that the command line changes.

    Args:
        model: its name.
        arguments: of `fit`, such as `--config configs/line.yaml --model.optimizer.lr 0.1`.
    """
    words = [word for item in arguments for word in (item.split("=", 1) if item.startswith("--") else [item])]
    parts = [model]
    for place, word in enumerate(words):
        if not word.startswith("--") or word == "--config":
            continue
        following = words[place + 1 : place + 2]
        values = [] if not following or following[0].startswith("--") else following
        # a class by its last name
        values = [re.sub(r"^(?:\w+\.)+(?=[A-Z])", "", value) for value in values]
        parts.append(" ".join([word.removeprefix("--").rpartition(".")[2], *values]))
    return ", ".join(parts)[:LONGEST_NAME]


def _number(value: Any) -> float | None:
    """A metric as it is kept; None for the pictures, tables and so on that `log_image` and the like log."""
    try:
        return value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        return None


def _parameters() -> dict[str, Any]:
    """params.yaml; empty where it cannot be read, since the training does not depend on it."""
    try:
        return dict(yaml.safe_load(PARAMETERS.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return {}


def _id_of(kept: Path) -> str:
    """The id of a training's run: another each time that it begins, the same when it goes on."""
    if not kept.is_file():
        first = {"id": f"{kept.parent.name}-{secrets.token_hex(2)}"}
        kept.write_text(json.dumps(first) + "\n", encoding="utf-8")
    with kept.open(encoding="utf-8") as file:
        return str(json.loads(file.readline())["id"])


def _artifact(bundle: Path, scores: dict[str, float]) -> Any:
    """The model as an artifact of W&B."""
    import wandb

    name = re.sub(r"[^A-Za-z0-9_.-]", "-", bundle.name)  # the characters that W&B takes
    artifact = wandb.Artifact(name, type="model", metadata=scores)
    artifact.add_dir(str(bundle))
    return artifact


def _tear_down() -> None:
    """Shut W&B down after its helper process died; otherwise it reports errors at exit and in later runs."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def _warn(error: Exception) -> None:
    text = " ".join(str(error).split())
    logger.warning("W&B failed (%s: %s): going on without it", type(error).__name__, text)
