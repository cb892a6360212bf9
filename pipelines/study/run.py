"""The command: train the cells of a study that are not trained yet, and write its report."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import yaml

from pipelines.parameters import read_parameters
from pipelines.study.cells import Cell, metric_names, train
from pipelines.study.study import Study, cells_of, read_study
from pipelines.study.workers import Workers
from src.core.atomic import file_written_whole, written_whole
from src.core.errors import ConfigurationError, LockstepError, NonFiniteError
from src.core.outputs import check_output, require_ours
from src.core.paths import REPORT_FILES, REPORTS, RUNS
from src.core.progress import progress_bar

if TYPE_CHECKING:
    from pipelines.study.cluster import Cluster
    from pipelines.study.search import Search


def study(
    name: str,
    workers: int = 0,
    sweep: Path | None = None,
    overwrite: bool = False,
    cluster: str | None = None,
) -> None:
    """Train the cells of a study and write its report: metrics.json, tables/ and plots/.

    Each cell is kept in runs/cells/ under a digest of its configuration, data and code. A trained cell is not
    trained again, and an interrupted one resumes. The report is reports/studies/<name>/, or
    runs/studies/<name>/ for a study under `more_studies`, which is not a stage of the pipeline.

    Args:
        name: a section under `studies` or `more_studies` in params.yaml.
        workers: the number of processes that train in parallel; 0 for one per core, or one per GPU.
        sweep: write the study's grid to this YAML file as a sweep of W&B, and train nothing.
        overwrite: replace that file if it exists.
        cluster: train on the nodes of a running Ray cluster: `auto` for the one that this machine is a node
            of, HOST:PORT of its head, or ray://HOST:PORT. The default is the environment variable
            RAY_ADDRESS; if it is not set, this machine trains.

    Raises:
        ConfigurationError: the study, its configurations or the cluster cannot be used.
    """
    wanted = read_study(name)
    if sweep is not None:
        check_output(sweep, overwrite)
        write_sweep(name, wanted, sweep)
        return
    require_ours(report_of(name), dict.fromkeys(REPORT_FILES))
    with _pool(workers, cluster or os.environ.get("RAY_ADDRESS")) as pool:
        search = _search(name, wanted, pool) if wanted.search else None
        cells = cells_of(name, wanted, search.rows() if search else None)
        every = [cell for group in cells.values() for cell in group]
        missing = list({cell.folder: cell for cell in every if not cell.done}.values())
        print(f"{name}: {len(every)} cells, {len(every) - len(missing)} of them are done", flush=True)
        _check(pool, missing, wanted.metric)
        for cell in every:  # those that are done were trained for another metric
            if record := cell.record():
                _require_metric(wanted.metric, sorted(record["metrics"].keys() - {"epoch", "learning_rate"}))
        _train(pool, missing, wanted.metric)
    _list_runs(name, every)
    from pipelines.study.findings import write_findings  # its imports take seconds

    report = report_of(name)
    with written_whole(report) as folder:
        write_findings(wanted.title or name, wanted.metric, wanted.direction, cells, folder)
        if search is not None:
            search.write_trials(folder)
    print(f"{name}: compared: {report}/")


def _pool(workers: int, cluster: str | None) -> "Workers | Cluster":
    """What trains: processes of this machine, or the nodes of a cluster."""
    if not cluster:
        return Workers(workers)
    if workers:
        raise ConfigurationError(
            f"workers: found {workers}, but the Ray cluster {cluster} trains on all its CPUs or GPUs; leave "
            "it out"
        )
    from pipelines.study.cluster import Cluster

    return Cluster(cluster)


def report_of(name: str) -> Path:
    """The folder of a study's report."""
    stages = read_parameters().get("studies") or {}
    return (REPORTS if name in stages else RUNS) / "studies" / name


def write_sweep(name: str, wanted: Study, path: Path) -> None:
    """Write the grid and the seeds of a study as a sweep of W&B, for `wandb sweep FILE`.

    Raises:
        ConfigurationError: the study has settings that a sweep cannot express.
    """
    if wanted.variants or wanted.folds or wanted.prepare or wanted.search:
        raise ConfigurationError(
            f"studies.{name}: a sweep of W&B cannot have variants, folds, prepare or search"
        )
    parameters: dict[str, Any] = {key: {"values": values} for key, values in wanted.grid.items()}
    parameters |= {key: {"value": value} for key, value in wanted.fixed.items()}
    parameters["seed_everything"] = {"values": wanted.seeds}
    call = ["python", "-m", "src.cli", "fit", "--config", f"configs/{wanted.model or wanted.task}.yaml"]
    goal = {"min": "minimize", "max": "maximize"}[wanted.direction]
    from src.training.tracking import wandb_project  # its imports take seconds

    sweep = {
        **{name: value for name, value in wandb_project().items() if value},
        "name": name,
        "method": "grid",
        "metric": {"name": wanted.metric, "goal": goal},
        "parameters": parameters,
        "command": ["${env}", *call, "${args}"],
    }
    with file_written_whole(path) as file:
        file.write(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True))
    print(f"{path}: start it with `wandb sweep {path}` and `wandb agent`, with WANDB_MODE=online")


def _search(name: str, study: Study, pool: "Workers | Cluster") -> "Search":
    """Run the trials of a study's search until its budget is used up."""
    from pipelines.study.search import Search, corners, try_next

    (base,) = cells_of(name, replace(study, seeds=study.seeds[:1]), {study.task: study.fixed})[study.task]
    storage = os.path.expandvars(study.storage or str(RUNS / "studies" / f"{name}.journal"))
    if (record := base.record()) is not None:
        known = list(record["metrics"])
    else:
        known = _check(pool, [base], study.metric)
    metric = validation_metric(study.metric, known)
    search = Search(base, study.grid, metric, study.direction, study.budget, study.pruning, storage)
    left = search.left()
    if left:
        _check(pool, [search.cell(settings) for settings in corners(study.grid)], study.metric)
    print(f"{name}: {study.budget} trials, {study.budget - left} of them are done", flush=True)
    failed: list[tuple[str, BaseException]] = []
    with _progress(left) as advance:
        places = (replace(search, call=uuid4().hex) for _ in range(left))
        for _, line, error in pool.each(try_next, places):
            if error is not None:
                failed.append((f"a trial: {_text(error)}", error))
            advance(line if error is None else failed[-1][0])
    _refuse_failed(failed, left)
    return search


def validation_metric(metric: str, known: list[str]) -> str:
    """The metric of the validation rows that a search chooses by, such as validation/rmse for test/rmse.

    Args:
        metric: of the study.
        known: the names of the metrics that a training has.

    Raises:
        ConfigurationError: there is none.
    """
    names = [f"validation/{metric.rpartition('/')[2]}"]
    names += [metric.replace("test", part) for part in ("validation", "val", "valid")]
    for name in names:
        if name in known and "test" not in name:
            return name
    raise ConfigurationError(
        f"metric: a search chooses by the validation rows; found none of {', '.join(names)}; name one of: "
        + ", ".join(name for name in known if "test" not in name)
    )


def _check(pool: "Workers | Cluster", missing: list[Cell], metric: str) -> list[str]:
    """Refuse invalid configurations and an unknown metric before anything is trained.

    Returns:
        The names of the metrics; empty if they are not known before a training.
    """
    known: list[str] = []
    one_each = list({cell.name: cell for cell in missing}.values())
    for cell, names, error in pool.each(metric_names, one_each):
        if error is not None:
            if isinstance(error, LockstepError):
                raise type(error)(f"{cell.name}: {error}") from None
            raise error
        if names is not None:
            known = names
            _require_metric(metric, names)
    return known


def _require_metric(metric: str, known: Iterable[str]) -> None:
    if metric not in known:
        raise ConfigurationError(f"metric: there is no '{metric}'; there are: {', '.join(known)}")


def _train(pool: "Workers | Cluster", missing: list[Cell], metric: str) -> None:
    failed: list[tuple[str, BaseException]] = []
    with _progress(len(missing)) as advance:
        for cell, seconds, error in pool.each(train, missing):
            advance(f"{cell.title}: " + (_text(error) if error else f"trained in {seconds:.1f} s"))
            if error is None and (record := cell.record()):
                _require_metric(metric, record["metrics"])  # that could not be known before
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
    """Draw a bar on a terminal; yield a function that advances it by one and prints a line."""
    with progress_bar(shown=sys.stderr.isatty()) as progress:
        bar = progress.add_task("cells", total=total)

        def advance(line: str | None) -> None:
            progress.advance(bar)
            if line:
                progress.console.print(line, soft_wrap=True, highlight=False)

        yield advance


def _list_runs(name: str, cells: list[Cell]) -> None:
    """Write the list of the study's runs, which `pipelines.compare` reads."""
    path = RUNS / "studies" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{cell.folder.name}\t{cell.title}\n" for cell in cells]
    path.write_text("".join(lines), encoding="utf-8")
