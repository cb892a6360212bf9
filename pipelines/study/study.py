"""Compare: train every cell of a study that is not trained yet, then say what the differences are worth."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.parameters import checked, kind_of, read_parameters
from pipelines.study.cells import Cell, metric_names, prepare_anew, train, value_name
from pipelines.study.workers import Workers
from src.core.atomic import written_whole
from src.core.errors import ConfigurationError, LockstepError, NonFiniteError
from src.core.paths import MANIFEST, PREPARED, REPORTS, RUNS

if TYPE_CHECKING:
    from pipelines.study.search import Search

Settings = dict[str, Any]

# values that the command line, not this section's signature, knows the types of
FREE = ("fixed", "grid", "variants", "prepare")


@dataclass
class Study:
    """What a study compares: a section under `studies` in params.yaml.

    Args:
        task: whose configs/<task>.yaml is changed.
        metric: what is compared, such as test/rmse or validation/loss.
        mode: which end of the metric is better.
        fixed: keys of the configuration, dotted, and the value that all cells have.
        grid: keys of the configuration, dotted, and the values of each: every combination is a cell. Where
            `search` chooses, a range `{low: 0.001, high: 0.1, log: true}` may take the place of the values;
            it is of whole numbers if both ends are, in steps of `step`.
        variants: named cells, each with its keys and values; combined with the grid.
        prepare: keys of the task's preparation (its section in params.yaml) with other values.
        seeds: of the trainings of each cell.
        folds: cross-validation: each cell is trained on so many preparations of the data, every one with
            another part as its test rows; 0 keeps the test rows of the task.
        search: optuna tries settings out of the grid, guided by the metric on the validation rows and with
            the first seed; then the best are compared with the task's own on all seeds.
        budget: of a search, how many trials there are in all.
        pruning: end a trial that lies behind the median of the others, after a quarter of its epochs.
        storage: of a search, a journal file or the URL of a database, which all machines that run the same
            command work on; it may name environment variables. Left out: runs/studies/<name>.journal.
        title: for people.
    """

    task: str
    metric: str
    mode: Literal["min", "max"] = "min"
    fixed: Settings = field(default_factory=dict)
    grid: Settings = field(default_factory=dict)
    variants: dict[str, Settings] = field(default_factory=dict)
    prepare: Settings = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    folds: int = 0
    search: Literal["optuna"] | None = None
    budget: int = 20
    pruning: bool = True
    storage: str | None = None
    title: str = ""

    def check(self, place: str) -> None:
        """Refuse what cannot be compared.

        Args:
            place: the section's name, for error messages.
        """
        for key in FREE:
            if not isinstance(getattr(self, key), dict):
                raise ConfigurationError(f"{place}.{key} must be a mapping: {getattr(self, key)!r}")
        for key, values in self.grid.items():
            if not isinstance(values, list):
                self._check_range(values, f"{place}.grid.{key}")
        empty = [f"grid.{key}" for key, values in self.grid.items() if not values]
        if not (self.grid or self.variants or self.folds):
            empty = ["grid"]
        if not self.seeds:
            empty = ["seeds"]
        if empty:
            raise ConfigurationError(f"{place}.{empty[0]} is empty: there is nothing to compare")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"{place}.seeds: one stands there twice: {self.seeds}")
        if self.folds < 0 or self.folds == 1:
            raise ConfigurationError(f"{place}.folds must be 0 or at least 2: {self.folds}")
        if self.search and (self.variants or self.folds or not self.grid):
            raise ConfigurationError(f"{place}.search needs a grid, and knows no variants and no folds")
        if self.budget < 1:
            raise ConfigurationError(f"{place}.budget must be at least 1: {self.budget}")

    def _check_range(self, values: Any, place: str) -> None:
        if not self.search or not isinstance(values, dict):
            kinds = "a list of values" + (" or a range {low: ..., high: ...}" if self.search else "")
            raise ConfigurationError(f"{place} must be {kinds}: {values!r}")
        from pipelines.study.search import distribution_of

        try:
            distribution_of(values)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{place} is no range {{low, high, log, step}}: {error}") from None

    def rows(self) -> dict[str, Settings]:
        """The settings of each cell by its name, in the order of the file."""
        variants = self.variants or {"": {}}
        rows = {}
        for variant, *values in itertools.product(variants, *self.grid.values()):
            chosen = dict(zip(self.grid, values, strict=True))
            names = [variant] if variant else []
            names += [value_name(key, value) for key, value in chosen.items()]
            rows[", ".join(names) or self.task] = {**self.fixed, **(variants[variant] or {}), **chosen}
        return rows


def read_study(name: str) -> Study:
    """The section of a study in params.yaml, checked.

    Raises:
        ConfigurationError: there is none, a key is unknown or has a wrong value, or there is no such task.
    """
    parameters = read_parameters()
    studies = {**(parameters.get("studies") or {}), **(parameters.get("more_studies") or {})}
    if name not in studies:
        raise ConfigurationError(f"params.yaml has no study '{name}'; its studies are: {', '.join(studies)}")
    section, place = dict(studies[name] or {}), f"studies.{name}"
    # jsonargparse would import the classes that they name
    free = {key: section.pop(key) for key in FREE if section.get(key) is not None}
    study = replace(checked(Study, section, place), **free)
    study.check(place)
    kind_of(study.task)
    return study


def report_of(name: str) -> Path:
    """The folder of a study's report."""
    stages = read_parameters().get("studies") or {}
    return (REPORTS if name in stages else RUNS) / "studies" / name


def cells_of(name: str, study: Study, rows: dict[str, Settings] | None = None) -> dict[str, list[Cell]]:
    """The cells of a study: for each name those of all folds and seeds.

    Args:
        name: of the study.
        study: its section.
        rows: the settings of each cell by its name, if they are not those of the grid.
    """
    folds = range(1, study.folds + 1) if study.folds else [0]
    prepared = dict.fromkeys(folds, PREPARED / study.task)
    if study.folds or study.prepare:
        for fold in folds:
            part = {"folds": study.folds, "fold": fold} if fold else {}
            prepared[fold] = prepare_anew(study.task, study.prepare | part)
    if not (prepared[folds[0]] / MANIFEST).is_file():
        raise ConfigurationError(f"{PREPARED / study.task} is not here; run: dvc repro prepare@{study.task}")
    return {
        row: [
            Cell(name, row, study.task, settings, seed, fold, prepared[fold])
            for fold in folds
            for seed in study.seeds
        ]
        for row, settings in (study.rows() if rows is None else rows).items()
    }


def _search(name: str, study: Study, pool: Workers) -> "Search":
    """Try settings until the budget of a study's search is used up."""
    from pipelines.study.search import Search, corners, try_next

    (base,) = cells_of(name, replace(study, seeds=study.seeds[:1]), {study.task: study.fixed})[study.task]
    storage = os.path.expandvars(study.storage or str(RUNS / "studies" / f"{name}.journal"))
    metric = f"validation/{study.metric.rpartition('/')[2]}"
    search = Search(base, study.grid, metric, study.mode, study.budget, study.pruning, storage)
    left = search.left()
    if left:
        tried = [search.cell(settings) for settings in corners(study.grid)]
        _check(pool, tried, study.metric)
        _check(pool, tried[:1], metric)
    print(f"{name}: {study.budget} trials, {study.budget - left} of them are there", flush=True)
    failed: list[tuple[str, BaseException]] = []
    with _progress(left) as done:
        for _, told, error in pool.each(try_next, [search] * left):
            if error is not None:
                failed.append((f"a trial: {_text(error)}", error))
            done(told if error is None else failed[-1][0])
    _refuse_failed(failed, left)
    return search


def write_sweep(name: str, wanted: Study, path: Path) -> None:
    """Write the grid and the seeds of a study as a sweep of W&B, for `wandb sweep FILE`."""
    if wanted.variants or wanted.folds or wanted.prepare or wanted.search:
        kinds = "variants, folds, preparations and searches of Optuna"
        raise ConfigurationError(f"studies.{name}: a sweep of W&B knows no {kinds}")
    parameters: Settings = {key: {"values": values} for key, values in wanted.grid.items()}
    parameters |= {key: {"value": value} for key, value in wanted.fixed.items()}
    parameters["seed_everything"] = {"values": wanted.seeds}
    call = ["python", "-m", "src.cli", "fit", "--config", f"configs/{wanted.task}.yaml"]
    goal = {"min": "minimize", "max": "maximize"}[wanted.mode]
    sweep = {
        "project": "lockstep",
        "name": name,
        "method": "grid",
        "metric": {"name": wanted.metric, "goal": goal},
        "parameters": parameters,
        "command": ["${env}", *call, "${args}"],
    }
    path.write_text(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True), encoding="utf-8")
    print(f"{path}: start it with `wandb sweep {path}` and `wandb agent`, with WANDB_MODE=online")


def study(name: str, workers: int = 0, sweep: Path | None = None) -> None:
    """Train the cells of a study and write its report: metrics.json, tables/ and plots/.

    Each cell is kept in runs/cells/ under a digest of its configuration, data and code: what is there is not
    trained again, and a cell that was cut off goes on where it was. The report is reports/studies/<name>/,
    or runs/studies/<name>/ for those under `more_studies`, which are no stages of the pipeline.

    Args:
        name: a section under `studies` or `more_studies` in params.yaml.
        workers: processes that train side by side; 0 means one for each core, or for each GPU.
        sweep: only write the study's grid to this YAML file, as a sweep of W&B.
    """
    wanted = read_study(name)
    if sweep is not None:
        write_sweep(name, wanted, sweep)
        return
    with Workers(workers) as pool:
        search = _search(name, wanted, pool) if wanted.search else None
        cells = cells_of(name, wanted, search.rows() if search else None)
        every = [cell for group in cells.values() for cell in group]
        missing = list({cell.folder: cell for cell in every if not cell.done}.values())
        print(f"{name}: {len(every)} cells, {len(every) - len(missing)} of them are there", flush=True)
        _check(pool, missing, wanted.metric)
        _train(pool, missing)
    _list_runs(name, every)
    from pipelines.study.findings import write_findings  # takes seconds that a wrong section should not

    report = report_of(name)
    with written_whole(report) as folder:
        write_findings(wanted.title or name, wanted.metric, wanted.mode, cells, folder)
        if search is not None:
            search.write_trials(folder)
    print(f"{name}: compared: {report}/")


def _check(pool: Workers, missing: list[Cell], metric: str) -> None:
    """Refuse settings that are no configuration, and a metric that there is not, before anything trains."""
    one_each = list({cell.name: cell for cell in missing}.values())
    for cell, names, error in pool.each(metric_names, one_each):
        if error is not None:
            if isinstance(error, LockstepError):
                raise type(error)(f"{cell.name}: {error}") from None
            raise error
        if metric not in names:
            raise ConfigurationError(f"metric: there is no '{metric}'; there are: {', '.join(names)}")


def _train(pool: Workers, missing: list[Cell]) -> None:
    failed: list[tuple[str, BaseException]] = []
    with _progress(len(missing)) as done:
        for cell, seconds, error in pool.each(train, missing):
            done(f"{cell.title}: " + (_text(error) if error else f"trained in {seconds:.1f} s"))
            if error and not isinstance(error, NonFiniteError):
                failed.append((f"{cell.title}: {_text(error)} (see {cell.folder}/log.txt)", error))
    _refuse_failed(failed, len(missing))


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _refuse_failed(failed: list[tuple[str, BaseException]], total: int) -> None:
    if failed:
        text, error = failed[0]
        kind = type(error) if isinstance(error, LockstepError) else LockstepError
        raise kind(f"{len(failed)} of {total} cells failed, the first: {text}; the others are kept")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str | None], None]]:
    """A bar, and what to call with a line to say when one of the `total` has ended."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task("cells", total=total)

        def done(line: str | None) -> None:
            progress.advance(bar)
            if line:
                progress.console.print(line, soft_wrap=True, highlight=False)

        yield done


def _list_runs(name: str, cells: list[Cell]) -> None:
    """Note for `pipelines.compare` which runs are those of the study."""
    path = RUNS / "studies" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{cell.folder.name}\t{cell.title}\n" for cell in cells]
    path.write_text("".join(lines), encoding="utf-8")
