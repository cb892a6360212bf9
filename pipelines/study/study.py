"""The section of a study in params.yaml, and the trainings (cells) that it describes."""

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from pipelines.parameters import checked, kind_of, part_of, read_parameters, studies_of, task_section
from pipelines.study.cells import Cell, prepare_anew, value_name
from src.core.errors import ConfigurationError
from src.core.paths import CONFIGS, MANIFEST, PREPARED, require_name
from src.core.scores import higher_is_better

Settings = dict[str, Any]

# mappings whose values are checked by the command line that trains a cell, not by the signature below
FREE = ("fixed", "grid", "variants", "prepare")


@dataclass
class Study:
    """A section under `studies` in params.yaml.

    Args:
        task: the task whose data all cells are trained on.
        metric: the metric to compare, such as test/rmse or validation/loss.
        mode: whether a low (min) or a high (max) metric is better; left out, its name tells.
        fixed: dotted keys of the configuration with the value that all cells have.
        grid: dotted keys of the configuration with a list of values each: every combination is a cell. With
            `search`, a range `{low: 0.001, high: 0.1, log: true}` can replace a list; a range with two
            integers is of whole numbers and can have a `step`.
        variants: named cells, each with its keys and values; combined with the grid.
        prepare: keys of the task's preparation (its section in params.yaml) with other values.
        seeds: the seeds of the trainings of each cell.
        folds: the number of folds of a cross-validation, each with other test rows; 0 for the test rows of
            the task.
        search: `optuna` chooses settings from the grid by the metric on the validation rows, with the first
            seed; then the best settings are compared with the task's own on all seeds.
        budget: the number of trials of a search.
        pruning: whether a search stops a trial that is worse than the median of the others, after a quarter
            of its epochs.
        storage: where a search keeps its trials: a journal file or the URL of a database, shared by all
            machines that run the same command. It can contain environment variables. The default is
            runs/studies/<name>.journal.
        title: the title of the report.
        model: the model whose configs/<model>.yaml the study changes; the default is that of the task's name.
    """

    task: str
    metric: str
    mode: Literal["min", "max"] | None = None
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
    model: str = ""

    @property
    def direction(self) -> Literal["min", "max"]:
        """Whether lower or higher values of the metric are better."""
        return self.mode or ("max" if higher_is_better(self.metric) else "min")

    def check(self, place: str) -> None:
        """Refuse values that cannot be compared.

        Args:
            place: the name of the section, for error messages.

        Raises:
            ConfigurationError: a value is empty, out of range, or does not go with another one.
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
            raise ConfigurationError(f"{place}.seeds contains a value twice: {self.seeds}")
        if self.folds < 0 or self.folds == 1:
            raise ConfigurationError(f"{place}.folds must be 0 or at least 2: {self.folds}")
        if self.search and (self.variants or self.folds or not self.grid):
            raise ConfigurationError(f"{place}.search needs a grid, and does not allow variants or folds")
        if self.budget < 1:
            raise ConfigurationError(f"{place}.budget must be at least 1: {self.budget}")
        password = urlsplit(self.storage or "").password
        if password and not password.startswith("$"):  # dvc.lock would have it, too
            raise ConfigurationError(
                f"{place}.storage: the address has a password in it; name a variable of the environment, "
                "such as postgresql://user:$PASSWORD@host/searches"
            )

    def _check_range(self, values: Any, place: str) -> None:
        if not self.search or not isinstance(values, dict):
            kinds = "a list of values" + (" or a range {low: ..., high: ...}" if self.search else "")
            raise ConfigurationError(f"{place} must be {kinds}: {values!r}")
        from pipelines.study.search import distribution_of

        try:
            distribution_of(values)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{place} is not a range {{low, high, log, step}}: {error}") from None

    def rows(self) -> dict[str, Settings]:
        """The settings of each cell by its name, in the order of the file."""
        variants = self.variants or {"": {}}
        rows = {}
        for variant, *values in itertools.product(variants, *self.grid.values()):
            chosen = dict(zip(self.grid, values, strict=True))
            names = [variant] if variant else []
            names += [value_name(key, value) for key, value in chosen.items()]
            rows[", ".join(names) or self.model or self.task] = {
                **self.fixed,
                **(variants[variant] or {}),
                **chosen,
            }
        return rows


def read_study(name: str) -> Study:
    """Read and check the section of a study in params.yaml.

    Raises:
        ConfigurationError: there is no such study or task, or a key is unknown or has a wrong value.
    """
    studies = studies_of(read_parameters())
    if name not in studies:
        raise ConfigurationError(f"params.yaml has no study '{name}'; its studies are: {', '.join(studies)}")
    section, place = dict(studies[name] or {}), f"studies.{name}"
    # jsonargparse would import the classes that their values name
    free = {key: section.pop(key) for key in FREE if section.get(key) is not None}
    study = replace(checked(Study, section, place), **free)
    study.check(place)
    if study.task not in (read_parameters().get("models") or {}):
        kind_of(study.task)
    if study.model:
        _require_model_of(study.model, study.task, f"{place}.model")
    return study


def _require_model_of(model: str, task: str, place: str) -> None:
    """Refuse a model without a configuration, or one of another task or name."""
    require_name(model, place)
    path = CONFIGS / f"{model}.yaml"
    if not path.is_file():
        raise ConfigurationError(f"{place}: found {model}, but there is no {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = content["task"], content.get("name") or content["task"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{path} is no configuration of a model: {error!r}") from None
    if found != (task, model):
        raise ConfigurationError(
            f"{place}: {path} is the model {found[1]} of the task {found[0]}; expected {model} of {task}"
        )


def cells_of(name: str, study: Study, rows: dict[str, Settings] | None = None) -> dict[str, list[Cell]]:
    """The cells of a study: for each name, those of all folds and seeds.

    Args:
        name: of the study.
        study: its section.
        rows: the settings of each cell by its name; None for those of the grid and the variants.
    """
    kind = read_parameters()["tasks"].get(study.task, "")  # a model of data of its own needs no task
    prepares = part_of(kind, "prepare")
    folds = range(1, study.folds + 1) if study.folds else [0]
    prepared = dict.fromkeys(folds, PREPARED / study.task)
    changes = {fold: study.prepare | ({"folds": study.folds, "fold": fold} if fold else {}) for fold in folds}
    if study.folds or study.prepare:
        if prepares is None:
            raise ConfigurationError(
                f"studies.{name}: folds and prepare need src/{kind}/prepare.py; leave them out"
            )
        for fold in folds:
            prepared[fold] = prepare_anew(study.task, changes[fold])
    needed = prepares or (kind and task_section(study.task).get("source") != "none")
    if needed and not (prepared[folds[0]] / MANIFEST).is_file():
        raise ConfigurationError(f"{PREPARED / study.task} is not here; run: dvc repro prepare@{study.task}")
    return {
        row: [
            Cell(name, row, study.task, settings, seed, fold, prepared[fold], changes[fold], study.model)
            for fold in folds
            for seed in study.seeds
        ]
        for row, settings in (study.rows() if rows is None else rows).items()
    }
