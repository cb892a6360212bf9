"""Search: Optuna chooses the settings of the next cell from the metrics of the earlier ones.

The state of a search is in Optuna's storage, a journal file or a database. Any number of processes, on
any number of machines, can work on a search: each takes the next trial, trains its cell, reports its metric.
"""

import contextlib
import itertools
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from pipelines.study.cells import Cell, train, value_name
from src.core.errors import ConfigurationError, NonFiniteError
from src.reporting.tables import markdown_table

Settings = dict[str, Any]

STARTUP_TRIALS = 10  # drawn at random, before the sampler learns from them
COMPARED_TRIALS = 5  # the number that must have ended before a trial is pruned
FEWEST_EPOCHS = 0.25  # the share of its epochs after which a trial can be pruned
AGAIN = "again"
PROCESS = "process"
CALL = "call"
DIGITS = 4


def distribution_of(values: Any) -> BaseDistribution:
    """The distribution of a key: a list of values, or a range as in class Study of pipelines/study/study.py.

    Raises:
        TypeError: a range has an unknown key or an end that is not a number.
        ValueError: a range is empty.
    """
    if isinstance(values, list):
        # as JSON, since the storages accept strings and numbers only
        return CategoricalDistribution([json.dumps(value) for value in values])
    ends = [values.get("low"), values.get("high")]
    for end in ends:
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise TypeError(f"{end!r} is not a number")
    if all(isinstance(end, int) for end in ends):
        return IntDistribution(**values)
    return FloatDistribution(**values)


def corners(space: dict[str, Any]) -> list[Settings]:
    """Few settings that contain each value, and both ends of each range, at least once."""
    ends = {
        key: values if isinstance(values, list) else [values["low"], values["high"]]
        for key, values in space.items()
    }
    longest = max(map(len, ends.values()))
    return [
        {key: values[min(place, len(values) - 1)] for key, values in ends.items()} for place in range(longest)
    ]


@dataclass(frozen=True)
class Search:
    """A search; every process that works on it has an equal object.

    Args:
        base: the cell whose settings the trials change.
        space: keys of the configuration, dotted, and the values or the range of each.
        metric: the metric to optimise.
        mode: min or max.
        budget: the number of trials.
        pruning: whether bad trials are stopped early.
        storage: a path or the URL of a database.
        call: names one call of `try_next`, which is repeated if the machine dies that executes it.
    """

    base: Cell
    space: dict[str, Any]
    metric: str
    mode: str
    budget: int
    pruning: bool
    storage: str
    call: str = ""

    @property
    def name(self) -> str:
        """Its name in the storage: the study, and a digest of everything that the trials depend on."""
        text = yaml.safe_dump([self.base.folder.name, self.space, self.metric, self.mode, self.pruning])
        return f"{self.base.study}-{sha256(text.encode()).hexdigest()[:12]}"

    def cell(self, settings: Settings) -> Cell:
        """The cell with some settings."""
        names = (value_name(key, _short(value)) for key, value in settings.items())
        return replace(self.base, name=", ".join(names), settings=self.base.settings | settings)

    def open(self) -> optuna.Study:
        """Open the search in its storage, or begin it.

        Raises:
            ConfigurationError: the storage is locked, damaged or not a storage of Optuna, or holds a trial
                with settings outside the grid.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage: BaseStorage | str = self.storage
            if "://" not in self.storage:
                path = Path(self.storage).absolute()
                path.parent.mkdir(parents=True, exist_ok=True)
                storage = JournalStorage(JournalFileBackend(str(path)))
            study = optuna.create_study(
                storage=storage,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=COMPARED_TRIALS),
                study_name=self.name,
                direction="minimize" if self.mode == "min" else "maximize",
                load_if_exists=True,
            )
        except Exception as error:  # each kind of storage has errors of its own
            found = str(error).splitlines()[0] if str(error) else ""
            raise ConfigurationError(
                f"studies.{self.base.study}.storage cannot be used: it is locked, damaged or not a storage: "
                f"{type(error).__name__}: {found}"
            ) from None
        for trial in study.get_trials(deepcopy=False):
            self._require_inside(trial)
        _give_back(study, self.call)
        return study

    def _require_inside(self, trial: FrozenTrial) -> None:
        """Refuse a trial that this search cannot have made, whose settings it would train."""
        # a waiting trial has its settings under `fixed_params`
        for key, value in (trial.system_attrs.get("fixed_params", {}) | trial.params).items():
            if not _is_inside(self.space.get(key), value):
                raise ConfigurationError(
                    f"studies.{self.base.study}.storage: trial {trial.number} ({trial.state.name.lower()}) "
                    f"has {key} = {value}, which is not in the grid, so the search did not write it; name "
                    "another storage, or move this one away"
                )

    def left(self) -> int:
        """The number of trials that are left."""
        return _left(self.open(), self.budget)

    def rows(self) -> dict[str, Settings]:
        """The settings to compare: the task's own configuration, and the best ones found."""
        best = _best(self.open())
        if best is None:
            raise NonFiniteError(f"{self.base.study}: no trial of the search has ended with a finite loss")
        settings = _settings(best, self.space)
        return {
            str(self.base.configuration): self.base.settings,
            f"found: {self.cell(settings).name}": self.base.settings | settings,
        }

    def write_trials(self, folder: Path) -> None:
        """Write tables/trials.md, the best first, and plots/trials.png."""
        trials = [trial for trial in self.open().trials if trial.state in RESULTS]
        sign = 1 if self.mode == "min" else -1
        trials.sort(
            key=lambda trial: (trial.state != TrialState.COMPLETE, sign * _value(trial), trial.number)
        )
        headings = ["trial", self.metric, "epochs", *self.space]
        rows = []
        for trial in trials:
            settings = _settings(trial, self.space)
            said = f"{_value(trial):.4g}" + ("" if trial.state == TrialState.COMPLETE else " (pruned)")
            cells = [trial.number, said, len(trial.intermediate_values), *map(_short, settings.values())]
            rows.append([str(cell) for cell in cells])
        (folder / "tables" / "trials.md").write_text(markdown_table(headings, rows), encoding="utf-8")
        _plot_trials(trials, self, folder / "plots" / "trials.png")


RESULTS = (TrialState.COMPLETE, TrialState.PRUNED)


def try_next(search: Search) -> str | None:
    """Train the next trial of a search, and report its metric to the storage.

    Returns:
        A line about it; None if the budget is used up.
    """
    study = search.open()
    if not _left(study, search.budget):
        return None
    trial = study.ask()
    # seeded by the trial's number: processes draw different settings, and one process the same again
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP_TRIALS, seed=search.base.seed + trial.number
    )
    trial.set_user_attr(PROCESS, _this_process())
    trial.set_user_attr(CALL, search.call)
    cell = search.cell({key: _suggest(trial, key, values) for key, values in search.space.items()})
    said = f"trial {trial.number}: {cell.name}: "
    try:
        if not cell.done:
            _train_reporting(cell, trial, search)
        record = cell.record()
        if record is None:
            raise NonFiniteError("its loss became infinite or NaN")
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return said + "pruned"
    except Exception as error:
        study.tell(trial, state=TrialState.FAIL)
        if isinstance(error, NonFiniteError):
            return said + str(error)
        raise
    value = record["metrics"][search.metric]
    study.tell(trial, value)
    return f"{said}{search.metric} {value:.4g}"


def _train_reporting(cell: Cell, trial: Trial, search: Search) -> None:
    """Train a cell; report each epoch to the storage, and stop when it prunes the trial."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint

    from src.cli import LockstepCLI

    home = Path.cwd()  # the path of a storage is relative to it

    class Report(Checkpoint):  # as such it comes after the module at the end of an epoch
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            epoch = trainer.current_epoch + 1
            if search.metric not in trainer.callback_metrics:
                return  # an epoch without validation
            with contextlib.chdir(home):
                trial.report(float(trainer.callback_metrics[search.metric]), epoch)
                late = epoch >= FEWEST_EPOCHS * (trainer.max_epochs or math.inf)
                if search.pruning and late and trial.should_prune():
                    raise optuna.TrialPruned

    class ReportingCLI(LockstepCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(Report())  # type: ignore[attr-defined]
            return trainer

    train(cell, ReportingCLI)


def _suggest(trial: Trial, key: str, values: Any) -> Any:
    distribution = distribution_of(values)
    if isinstance(distribution, CategoricalDistribution):
        return json.loads(str(trial.suggest_categorical(key, distribution.choices)))
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, **values)
    return trial.suggest_float(key, **values)


def _settings(trial: FrozenTrial, space: dict[str, Any]) -> Settings:
    return {
        key: json.loads(trial.params[key]) if isinstance(values, list) else trial.params[key]
        for key, values in space.items()
    }


def _is_inside(values: Any, found: Any) -> bool:
    """Whether a setting of a trial is one of the values, or in the range, of its key."""
    if isinstance(values, list):
        return found in [json.dumps(value) for value in values]
    if values is None or isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return bool(values["low"] <= found <= values["high"])


def _this_process() -> list[Any]:
    process = psutil.Process()
    return [platform.node(), process.pid, process.create_time()]


def _give_back(study: optuna.Study, call: str) -> None:
    """Queue again the trials that nobody works on any longer.

    Those that an earlier attempt of this very call has left unfinished, since its machine has died; and, once
    each, those of a dead process on this machine.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lost = bool(call) and trial.user_attrs.get(CALL) == call
        node, number, born = trial.user_attrs.get(PROCESS, (None, 0, 0))
        if not lost and node != platform.node():
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            if not lost and psutil.Process(number).create_time() == born:
                continue
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        if lost or AGAIN not in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})


def _left(study: optuna.Study, budget: int) -> int:
    trials = study.get_trials(deepcopy=False)
    new = sum(AGAIN not in trial.user_attrs for trial in trials)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return max(budget - new, 0) + waiting


def _best(study: optuna.Study) -> FrozenTrial | None:
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(ended, key=lambda trial: (sign * _value(trial), trial.number), default=None)


def _value(trial: FrozenTrial) -> float:
    """The metric of a trial; of a pruned one, after its last epoch."""
    if trial.value is not None:
        return trial.value
    return list(trial.intermediate_values.values())[-1]


def _short(value: Any) -> Any:
    """A number rounded to the digits that are shown."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _plot_trials(trials: list[FrozenTrial], search: Search, path: Path) -> None:
    """The metric by trial, with the best so far, and by each key."""
    from matplotlib.figure import Figure

    from src.reporting.figures import save_figure

    columns = min(3, len(search.space) + 1)
    lines = -(-(len(search.space) + 1) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    settings = [_settings(trial, search.space) for trial in trials]
    for axes, key in itertools.zip_longest(panels, [None, *search.space]):
        if axes is panels[0]:
            places: list[float] = [trial.number for trial in trials]
            axes.set_xlabel("trial")
            by_number = sorted(trials, key=lambda trial: trial.number)
            ended = [trial for trial in by_number if trial.state == TrialState.COMPLETE]
            best = list(itertools.accumulate(map(_value, ended), {"min": min, "max": max}[search.mode]))
            axes.step([trial.number for trial in ended], best, where="post", linewidth=1, color="grey")
        elif key is None:
            axes.set_axis_off()
            continue
        else:
            places = list(_places(axes, key, search.space[key], [each[key] for each in settings]))
        for state, marker in ((TrialState.COMPLETE, "o"), (TrialState.PRUNED, "x")):
            shown = [(x, _value(t)) for x, t in zip(places, trials, strict=True) if t.state == state]
            if shown:
                axes.plot(*zip(*shown, strict=True), marker, markersize=4, label=state.name.lower())
        axes.grid(alpha=0.3)
    figure.supylabel(search.metric)
    panels[0].legend(fontsize=7)
    save_figure(figure, path)


def _places(axes: Any, key: str, values: Any, found: list[Any]) -> Iterator[float]:
    """The positions of the trials' settings on the axis of a key."""
    axes.set_xlabel(key.rpartition(".")[2])
    if isinstance(values, list):
        axes.set_xticks(range(len(values)), [str(value) for value in values], fontsize=7)
        yield from (values.index(value) for value in found)
        return
    if values.get("log"):
        axes.set_xscale("log")
    yield from found
