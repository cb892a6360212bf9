"""What has changed in the metrics since another revision of git: `python -m pipelines.compare --against`.

`dvc metrics diff` shows the numbers, too, but not which metric stands for a model, whether higher is better,
what the seed alone changes, or that a model is new, removed or not run.
"""

import math
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from yaml import YAMLError, safe_load

from pipelines.parameters import read_parameters, studies_of
from pipelines.report.scores import Expectation, Metrics, read_expectations, score_of, value_of
from src.core.documents import parsed_json, read_json
from src.core.errors import ConfigurationError, IntegrityError
from src.core.git import git
from src.core.paths import CONFIGS, REPORTS

COLUMNS = ["name", "metric", "before", "now", "difference", "result"]
STUDIES = "studies/"  # below reports/
MOST_NAMED = 3  # of the metrics that changed beside an equal main metric

Row = tuple[str, str, float, float, float, str]  # of COLUMNS


def changed_metrics(commit: str, name: str | None = None) -> pd.DataFrame:
    """The models and studies whose metrics differ from those that another commit holds.

    Args:
        commit: its digest.
        name: a model, a study, or a task, whose models all are taken; None for all.

    Returns:
        A row for each model that changed, with its main metric, and for each cell of a study whose mean
        changed; the names are the index. `result` is `better`, `worse`, `within the tolerance` (of
        data/expected_scores.yaml; of a cell, the half width of its 95 % interval), `new`, `removed`,
        `not run`, or names other metrics that changed.

    Raises:
        ConfigurationError: no model or study has that name.
        IntegrityError: a file of metrics is damaged.
    """
    parameters = read_parameters()
    before, now = _committed(commit), _present()
    tasks = {place: _task_of(place) for place in {*before, *now}}
    chosen = [place for place, task in tasks.items() if name in (None, place.rpartition("/")[2], task)]
    if not chosen:
        known = ", ".join(sorted(place.rpartition("/")[2] for place in tasks))
        raise ConfigurationError(f"no model or study of '{name}' has metrics; there are those of: {known}")
    expected = read_expectations()
    rows: list[Row] = []
    for place in sorted(chosen, key=lambda place: (place.startswith(STUDIES), place)):
        old, new = before.get(place), now.get(place)
        if old == new:
            continue
        label = place.rpartition("/")[2]
        if place.startswith(STUDIES):
            section = studies_of(parameters).get(label)
            rows += _study_rows(label, old, new, section)
        else:
            source = (parameters.get(tasks[place] or "") or {}).get("source")
            known_model = label in (parameters.get("models") or {})
            rows.append(_model_row(label, old, new, expected.get((label, str(source))), known_model))
    return pd.DataFrame(rows, columns=COLUMNS).set_index("name")


def commit_of(revision: str) -> str:
    """The digest of a commit, branch or tag.

    Raises:
        ConfigurationError: git does not know it.
    """
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except OSError:
        raise ConfigurationError("--against needs git, which is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().removeprefix("fatal: ")
        raise ConfigurationError(
            f"against: git finds no revision '{revision}' ({reason}); `git branch --all` lists branches; a "
            "shallow clone gets all revisions by: git fetch --unshallow"
        ) from None


def _committed(commit: str) -> dict[str, Metrics]:
    """The metrics of a commit by their folder below reports/, such as `spiral` or `studies/losses`."""
    listed = git("ls-tree", "-r", "-z", "--name-only", commit, "--", f"{REPORTS}/").split("\0")
    found: dict[str, Metrics] = {}
    for path in (PurePosixPath(line) for line in listed):
        if path.name == "metrics.json":
            try:
                content = parsed_json(git("show", f"{commit}:./{path}"))
            except ValueError as error:
                raise IntegrityError(f"{path} of {commit[:8]} is damaged: {error}") from None
            found[path.parent.relative_to(REPORTS.as_posix()).as_posix()] = content
    return found


def _present() -> dict[str, Metrics]:
    """The metrics of the working tree, by the same names."""
    found: dict[str, Metrics] = {}
    for path in [*REPORTS.glob("*/metrics.json"), *REPORTS.glob("studies/*/metrics.json")]:
        place = path.parent.relative_to(REPORTS).as_posix()
        stage = f"study@{path.parent.name}" if place.startswith(STUDIES) else f"evaluate@{place}"
        found[place] = read_json(path, stage)
    return found


def _task_of(place: str) -> str | None:
    """The task that the configuration of a model names; None without a configuration, as for a study."""
    try:
        return str(safe_load((CONFIGS / f"{place}.yaml").read_text(encoding="utf-8"))["task"])
    except (OSError, YAMLError, TypeError, KeyError):
        return None


def _model_row(
    name: str, old: Metrics | None, new: Metrics | None, expectation: Expectation | None, known: bool
) -> Row:
    """The main metric of a model before and now."""
    score = score_of(new or old or {}, expectation)
    before, now = (value_of(metrics or {}, score.metric) for metrics in (old, new))
    if old is None:
        result = "new"
    elif new is None:
        result = "not run" if known else "removed"
    elif before == now:
        result = _others_changed(old, new)
    else:
        tolerance = score.expectation.tolerance if score.expectation else 0.0
        result = _result(before, now, tolerance, score.higher_is_better)
    return name, score.metric, before, now, now - before, result


def _study_rows(
    name: str, old: Metrics | None, new: Metrics | None, section: dict[str, Any] | None
) -> list[Row]:
    """The cells of a study whose means changed; one row without numbers if none did."""
    nothing = math.nan, math.nan, math.nan
    if old is None or new is None:
        gone = "removed" if section is None else "not run"
        return [(name, "", *nothing, "new" if old is None else gone)]
    higher = (section or {}).get("mode") == "max"
    rows: list[Row] = []
    for metric in (key for key in {**new, **old} if key.endswith("/mean")):
        before, now = old.get(metric, math.nan), new.get(metric, math.nan)
        if before == now:
            continue
        if metric not in old:
            result = "new"
        elif metric not in new:
            result = "removed"
        else:
            result = _result(before, now, new.get(f"{metric.removesuffix('mean')}ci", 0.0), higher)
        rows.append((name, metric, before, now, now - before, result))
    return rows or [(name, "", *nothing, _others_changed(old, new))]


def _result(before: float, now: float, tolerance: float, higher_is_better: bool) -> str:
    if math.isnan(before):
        return "not measured before"
    if abs(now - before) <= tolerance * (1 + 1e-9):
        return "within the tolerance"
    return "better" if (now > before) == higher_is_better else "worse"


def _others_changed(old: Metrics, new: Metrics) -> str:
    """The metrics that changed, the first few by name."""
    names = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"changed: {', '.join(names[:MOST_NAMED])}{more}"


def markdown_of(table: str, names: list[str], revision: str, commit: str) -> str:
    """A comment on a pull request: what was compared, the table of changes, the plots of what changed.

    GitHub shows no picture of a comment or summary that is not on a server, so the plots are named only.

    Args:
        table: the changes in Markdown.
        names: the models and studies that changed, without repetition.
        revision: as given.
        commit: its digest.
    """
    other = f"`{revision}`" if commit.startswith(revision) else f"`{revision}` ({commit[:8]})"
    if not names:
        return f"No metric differs from {other}.\n"
    lines = [f"Metrics that differ from {other}:", "", table]
    for name in names:
        found = [path for path in _plots_of(name) if path.is_dir()]
        lines += [f"- plots of {name}: {_named(path)}" for path in found]
    return "\n".join(lines).rstrip("\n") + "\n"


def _plots_of(name: str) -> list[Path]:
    return [REPORTS / name / "plots", REPORTS / "studies" / name / "plots"]


def _named(folder: Path) -> str:
    files = sorted(path.name for path in folder.glob("*.png"))
    return f"`{folder.as_posix()}/` {', '.join(files)}".rstrip()
