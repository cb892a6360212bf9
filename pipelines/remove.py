"""Remove a task, model, study or kind of data, with all that the project has of it."""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from pipelines.fetch import fetched
from pipelines.parameters import LOADER, every_kind, read_parameters, studies_of
from pipelines.report.scores import EXPECTED
from pipelines.yaml_text import without
from src.core.atomic import file_written_whole
from src.core.digests import manifest_files
from src.core.errors import ConfigurationError, exit_with_message
from src.core.outputs import require_ours
from src.core.paths import (
    CONFIGS,
    MANIFEST,
    MODELS,
    PARAMETERS,
    PREPARED,
    RAW,
    REPORT_FILES,
    REPORTS,
    RUNS,
    SAMPLES,
)

DVC_LOCK, PIPELINE = Path("dvc.lock"), Path("dvc.yaml")
BENCHMARKS, MAKEFILE = Path("benchmarks"), Path("Makefile")
# a line of `plots` in dvc.yaml; the first of equal values may define them for the others
PLOT = re.compile(r"^  - reports/([\w-]+)/.*?: *(&\w+ )?(.*)\n", re.MULTILINE)
THINGS = ("task", "model", "study", "kind")

DESCRIPTION = """Remove a task with its models and studies, a model, a study, or a kind of data with its
package, tasks, samples and tests. Without --yes the command lists what it would remove. The data that a
source names are never touched; what git has committed can be had back from it."""

Entry = tuple[str, ...]


@dataclass(frozen=True)
class Removal:
    """What goes when some kinds, tasks, models and studies go.

    Args:
        parameters: entries of params.yaml, each the keys that lead to it.
        scores: entries of data/expected_scores.yaml.
        stages: entries of dvc.lock.
        plots: models whose plots dvc.yaml lists.
        paths: files and folders.
    """

    parameters: list[Entry]
    scores: list[str]
    stages: list[str]
    plots: list[str]
    paths: list[Path]

    def __iter__(self) -> Iterator[str]:
        """The lines of the list that the user reads."""
        named = {
            PARAMETERS: [".".join(entry) for entry in self.parameters],
            EXPECTED: self.scores,
            DVC_LOCK: self.stages,
            PIPELINE: [f"plots of {model}" for model in self.plots],
            MAKEFILE: [f"benchmarks.{path.stem}" for path in self.paths if _bench_line(path)],
        }
        yield from (f"{path}: {', '.join(entries)}" for path, entries in named.items() if entries)
        yield from (f"{path}/" if path.is_dir() else str(path) for path in self.paths)

    def apply(self) -> None:
        """Remove everything.

        params.yaml is written last, so that the same command goes on where it was interrupted.

        Raises:
            ConfigurationError: params.yaml does not have one line or block for each entry, or a folder holds
                files that the project has not written. Nothing is removed then.
        """
        text = _without_parameters(self.parameters)
        for path in self.paths:
            _check_ours(path)
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if self.scores:
            scores = _read(EXPECTED)
            for name in self.scores:
                scores = without(scores, name)
            _write(EXPECTED, scores)
        if self.stages:
            _write(DVC_LOCK, _without_stages(_read(DVC_LOCK), self.stages))
        if self.plots:
            _write(PIPELINE, _without_plots(_read(PIPELINE), self.plots))
        for path in self.paths:
            if line := _bench_line(path):
                _write(MAKEFILE, _read(MAKEFILE).replace(line, ""))
        _write(PARAMETERS, text)


def removal(
    kinds: Iterable[str] = (),
    tasks: Iterable[str] = (),
    models: Iterable[str] = (),
    studies: Iterable[str] = (),
) -> Removal:
    """What belongs to kinds of data, tasks, models and studies of the project in the working folder.

    With a kind go its tasks, with a task its models and studies, with a model its studies.

    Raises:
        ConfigurationError: there is no such kind, task, model or study, or the model has the name of a task
            that stays.
    """
    parameters = read_parameters()
    all_tasks, all_studies = parameters["tasks"], studies_of(parameters)
    all_models = _tasks_of_models(parameters.get("models") or {})
    kinds, wanted, models, studies = [*kinds], [*tasks], [*models], [*studies]
    _check_known("kind of data", kinds, every_kind())
    _check_known("task", wanted, all_tasks)
    _check_known("model", models, all_models)
    _check_known("study", studies, all_studies)

    gone = [task for task, kind in all_tasks.items() if task in wanted or kind in kinds]
    for model in models:
        if model in all_tasks and model not in gone:
            raise ConfigurationError(
                f"model {model}: it has the name of its task, whose studies begin with "
                f"{CONFIGS}/{model}.yaml; remove the task, or edit that file"
            )
    models = [model for model, task in all_models.items() if model in models or task in gone]
    studies = [
        name
        for name, study in all_studies.items()
        if name in studies or _field(study, "task") in gone or _field(study, "model") in models
    ]
    return Removal(
        [*_entries(parameters, gone, models, studies)],
        [name for name in models if EXPECTED.is_file() and name in _mapping(EXPECTED)],
        [*_stages(gone, models, studies)],
        [model for model in models if PIPELINE.is_file() and model in _plotted(_read(PIPELINE))],
        [path for path in _paths(kinds, gone, models, studies) if path.exists() or path.is_symlink()],
    )


def remove(thing: str, name: str, yes: bool = False) -> None:
    """List what belongs to a task, model, study or kind of data, and remove it.

    Args:
        thing: task, model, study or kind.
        name: of it.
        yes: remove; without it, the list is all.

    Raises:
        ConfigurationError: there is no such thing, or it cannot be removed safely; nothing is removed then.
    """
    plural = {"task": "tasks", "model": "models", "study": "studies", "kind": "kinds"}[thing]
    found = removal(**{plural: [name]})
    print("to remove:" if not yes else "removing:")
    for line in found:
        print(f"  {line}")
    if not yes:
        print(f"nothing was removed; to remove: python -m pipelines.remove {thing} {name} --yes")
        return
    found.apply()
    print("DVC's cache still has the outputs: dvc gc --workspace removes what no stage refers to")


def _check_known(what: str, names: list[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(f"there is no {what} '{name}'; there are: {', '.join(known)}")


def _tasks_of_models(listed: Mapping[str, str]) -> dict[str, str]:
    """The task of each model: of the files in configs/, and of models without one in params.yaml."""
    found = {name: Path(data).name for name, data in listed.items()}
    for path in sorted(CONFIGS.glob("*.yaml")):
        found[path.stem] = str(_field(_mapping(path), "task"))
    return found


def _entries(
    parameters: Mapping[str, Any], tasks: list[str], models: list[str], studies: list[str]
) -> Iterator[Entry]:
    sections = (("tasks", tasks), ("models", models), ("studies", studies), ("more_studies", studies))
    for section, names in sections:
        yield from ((section, name) for name in names if name in (parameters.get(section) or {}))
    yield from ((task,) for task in tasks if task in parameters)


def _stages(tasks: list[str], models: list[str], studies: list[str]) -> Iterator[str]:
    """The stages of dvc.lock."""
    by_name = (
        ("fetch", tasks),
        ("prepare", tasks),
        ("train", models),
        ("evaluate", models),
        ("study", studies),
    )
    recorded = re.findall(r"^  (\S+):$", _read(DVC_LOCK), re.MULTILINE) if DVC_LOCK.is_file() else []
    for stage, names in by_name:
        yield from (f"{stage}@{name}" for name in names if f"{stage}@{name}" in recorded)


def _paths(kinds: list[str], tasks: list[str], models: list[str], studies: list[str]) -> Iterator[Path]:
    for task in tasks:
        yield from (RAW / task, PREPARED / task, RUNS / "prepared" / task)
    for model in models:
        yield from (CONFIGS / f"{model}.yaml", MODELS / model, REPORTS / model, RUNS / model)
    for study in studies:
        of_study = RUNS / "studies" / study
        yield from (REPORTS / "studies" / study, of_study)
        yield from (of_study.with_name(f"{study}.{ending}") for ending in ("txt", "journal"))
    if not kinds:
        return
    folders = [Path(part) / kind for kind in kinds for part in ("src", "tests")]
    yield from folders
    yield from (path for path in _importing(kinds) if not any(map(path.is_relative_to, folders)))
    for task in tasks:  # not if only a task goes: every stage `fetch` depends on data/samples
        yield from (SAMPLES / task, SAMPLES / f"{task}.yaml", SAMPLES / f"{task}.registry")


def _importing(kinds: list[str]) -> list[Path]:
    """The tests and benchmarks that import a kind of data, or a benchmark that does."""
    left = {path: _read(path) for folder in ("tests", BENCHMARKS) for path in Path(folder).rglob("*.py")}
    found: list[Path] = []
    gone = [f"src.{kind}" for kind in kinds]
    while gone:
        # also in the programs that tests write, which are texts
        imports = re.compile(rf"^ *(?:from|import) (?:{'|'.join(map(re.escape, gone))})\b", re.MULTILINE)
        new = [path for path, text in left.items() if imports.search(text)]
        for path in new:
            del left[path]
        gone = [f"benchmarks.{path.stem}" for path in new if path.parent == BENCHMARKS]
        found += new
    return sorted(found)


def _check_ours(path: Path) -> None:
    """Refuse a folder that holds other files than those that the stage has written there."""
    if path.is_symlink():  # the link goes, and what it leads to stays
        return
    if path.parent == RAW:
        require_ours(path, fetched(path))
    elif path.parent in (PREPARED, MODELS):
        require_ours(path, dict.fromkeys([*manifest_files(path), MANIFEST]))
    elif path.parent in (REPORTS, REPORTS / "studies"):
        require_ours(path, dict.fromkeys(REPORT_FILES))


def _without_parameters(entries: list[Entry]) -> str:
    """The text of params.yaml without some entries; nothing else may change."""
    text, expected = _read(PARAMETERS), yaml.load(_read(PARAMETERS), LOADER)  # noqa: S506
    for entry in entries:
        text = without(text, *entry)
        section = expected
        for key in entry[:-1]:
            section = section[key]
        del section[entry[-1]]
    try:
        found = yaml.load(text, LOADER)  # noqa: S506
    except yaml.YAMLError:  # an anchor went, and its alias stayed
        found = None
    if found != expected:
        names = ", ".join(".".join(entry) for entry in entries)
        raise ConfigurationError(
            f"{PARAMETERS}: {names}: expected a line or a block for each, not in braces beside others and "
            "without anchors that others use; remove them by hand, then run the command again"
        )
    return text


def _without_stages(text: str, stages: list[str]) -> str:
    for stage in stages:
        text = re.sub(rf"^  {re.escape(stage)}:\n(?:   .*\n)*", "", text, flags=re.MULTILINE)
    return text.removesuffix("stages:\n") + "stages: {}\n" if text.endswith("stages:\n") else text


def _plotted(text: str) -> set[str]:
    """The models whose plots are listed in the text of dvc.yaml."""
    return {found[1] for found in PLOT.finditer(text)}


def _without_plots(text: str, models: list[str]) -> str:
    """The text of dvc.yaml without the plots of some models; an anchor that goes moves to its first alias."""
    anchors: dict[str, str] = {}

    def keep_anchor(found: re.Match[str]) -> str:
        if found[1] not in models:
            return found[0]
        if found[2]:
            anchors[found[2].strip("& ")] = found[3]
        return ""

    text = PLOT.sub(keep_anchor, text)
    for name, value in anchors.items():
        text = re.sub(rf"\*{name}\b", lambda _: f"&{name} {value}", text, count=1)  # noqa: B023 - called now
    return re.sub(r"^plots:\n\Z", "plots: []\n", text, flags=re.MULTILINE)


def _bench_line(path: Path) -> str:
    """The line of the Makefile that runs a benchmark; empty for other files."""
    line = f"\tpython -m benchmarks.{path.stem}\n"
    return line if path.parent == BENCHMARKS and MAKEFILE.is_file() and line in _read(MAKEFILE) else ""


def _mapping(path: Path) -> Any:
    try:
        return yaml.load(_read(path), LOADER) or {}  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from None


def _field(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else None


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def _write(path: Path, text: str) -> None:
    with file_written_whole(path) as file:
        file.write(text)


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.remove", description=DESCRIPTION)
    parser.add_argument("thing", choices=THINGS, help="What to remove.")
    parser.add_argument("name", type=str, help="Its name.")
    parser.add_argument("--yes", action="store_true", help="Remove it.")
    found = parser.parse_args()
    remove(found["thing"], found["name"], found["yes"])


if __name__ == "__main__":
    exit_with_message(main)
