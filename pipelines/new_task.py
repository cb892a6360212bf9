"""Make a task from new data: write its section in params.yaml and its configuration."""

import contextlib
import inspect
import io
import re
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from filelock import Timeout
from jsonargparse import ArgumentParser

from pipelines.fetch import check_raw, copy_raw
from pipelines.parameters import PARAMETERS, checked, kinds_with, read_parameters, studies_of
from pipelines.yaml_text import composed, with_line
from src.core.atomic import file_written_whole, locked
from src.core.errors import ConfigurationError, DataError, LockedError, exit_with_message
from src.core.outputs import check_source
from src.core.paths import CONFIGS, PREPARED, RUNS
from src.preparation.proposals import Noted, Proposal, as_yaml, one_line, plain

LOCK_FILE = RUNS / "new_task.lock"
LOCK_SECONDS = 120
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
# names with another meaning in params.yaml, runs/ or dvc.yaml
RESERVED = (
    *("tasks", "models", "studies", "more_studies", "key", "item"),
    *("cells", "prepared", "wandb", "registry", "compiled"),
)

DESCRIPTION = """Look at new data and propose a task: write its lines and section in params.yaml, and
configs/NAME.yaml, with comments about the data. Then `dvc repro evaluate@NAME` fetches, prepares, trains and
evaluates. The values are a first proposal: change any of them."""


def new_task(
    name: str,
    kind: str,
    path: Path,
    target: str | None = None,
    task: str | None = None,
    reading: dict[str, Any] | None = None,
) -> None:
    """Write the section `name` of params.yaml and configs/<name>.yaml.

    Both are written by rename, and only after the data have been prepared in a temporary folder. Several
    processes write one after the other.

    Args:
        name: of the new task.
        kind: of its data, a package of src/ with a propose.py.
        path: the file, or the folder with the files.
        target: the column of a table to predict, or several with commas between.
        task: of a table, or a table of labels of pictures, regression or classification; None decides by the
            target.
        reading: of a table, the keys of `prepare.reading` that are known; the others are found.

    Raises:
        ConfigurationError: the name cannot be used, the target is no column, or the kind has no such choice.
        DataError: there are no such data, or they cannot be prepared.
        LockedError: another process has been writing a task for long.
    """
    LOCK_FILE.parent.mkdir(exist_ok=True)
    try:
        with locked(LOCK_FILE, LOCK_SECONDS):
            _write_task(name, kind, path, target, {"task": task, "reading": reading})
    except Timeout:
        raise LockedError(
            f"{PARAMETERS}: another new_task is at work in this folder; wait for it to end, or end it"
        ) from None


def _write_task(name: str, kind: str, path: Path, target: str | None, options: dict[str, Any]) -> None:
    check_name(name)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    propose = import_module(f"src.{kind}.propose").propose
    options = {option: value for option, value in options.items() if value}
    choices = inspect.signature(propose).parameters
    for option in options:
        if option not in choices:
            raise ConfigurationError(f"--{option}: {kind} data have no such choice; leave it out")
    if "reading" in options:
        options["reading"] = checked(choices["reading"].annotation, options["reading"], "--reading")
    proposal = propose(path, target, **options)
    check_source(name, proposal.source, proposal.files)
    _try_preparation(kind, proposal)

    section = {name: _section(proposal, kind)}
    heading = "".join(f"# {one_line(finding)}\n" for finding in proposal.findings)
    with PARAMETERS.open(encoding="utf-8", newline="") as file:
        text = with_task(file.read(), name, kind, heading + as_yaml(section))
    expected = read_parameters()
    expected["tasks"] = expected["tasks"] | {name: kind}
    expected["models"] = (expected.get("models") or {}) | {name: (PREPARED / name).as_posix()}
    if yaml.safe_load(text) != expected | plain(section):
        raise ConfigurationError(
            f"{PARAMETERS}: under `tasks:` and `models:` lines such as `name: kind` are expected"
        )
    configuration = CONFIGS / f"{name}.yaml"
    with file_written_whole(configuration) as file:
        file.write(_header(name, proposal) + as_yaml({"task": name} | proposal.configuration))
    try:
        with file_written_whole(PARAMETERS) as file:
            file.write(text)
    except BaseException:
        configuration.unlink()
        raise

    for finding in proposal.findings:
        print(one_line(finding))
    print(f"\nwritten: the section {name} of {PARAMETERS}, and {configuration}; read both, then run:\n")
    print("\n".join(_commands(name, proposal)))


def check_name(name: str) -> None:
    """Refuse a name that cannot be used in params.yaml, or that is taken there or in configs/.

    Raises:
        ConfigurationError: it is one of these.
    """
    parameters = read_parameters()
    if not NAME.fullmatch(name) or yaml.safe_load(name) != name:  # `yes` and `null` are no texts in YAML
        raise ConfigurationError(
            f"name: expected a letter, then letters, digits or _, at most 60 in all, found {name!r}"
        )
    # on some file systems Wine and wine are the same folder
    taken = {
        str(other).lower()
        for other in (
            *RESERVED,
            *parameters,
            *parameters["tasks"],
            *(parameters.get("models") or {}),
            *studies_of(parameters),
        )
    }
    if name.lower() in taken:
        raise ConfigurationError(f"name: '{name}' is taken in {PARAMETERS}; choose another one")
    configuration = CONFIGS / f"{name}.yaml"
    if configuration.exists() or configuration.is_symlink():
        raise ConfigurationError(f"{configuration} exists; remove it, or choose another name")


def _try_preparation(kind: str, proposal: Proposal) -> None:
    """Prepare the data as proposed in a temporary folder, so that errors are reported before writing.

    Of some files of a folder the temporary folder has links, since a preparation may read all that it finds.
    """
    preparation = import_module(f"src.{kind}.prepare")
    settings = checked(preparation.Preparation, plain(proposal.prepare), "prepare")
    with TemporaryDirectory() as temporary:
        raw = proposal.source
        if proposal.files:
            raw = Path(temporary, "raw")
            raw.mkdir()
        for name in proposal.files:
            _link_or_copy(proposal.source / name, raw / name, proposal.source.resolve())
        warned = io.StringIO()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(warned):
                preparation.prepare(raw, Path(temporary, "prepared"), settings)
        except DataError as error:
            raise DataError(str(error).replace(str(raw), str(proposal.source))) from None
        finally:
            print(warned.getvalue().replace(str(raw), str(proposal.source)), end="", file=sys.stderr)


def _link_or_copy(path: Path, link: Path, root: Path) -> None:
    """Make a link to a raw file or folder; copy it where links cannot be made, as on some Windows systems."""
    check_raw(path, root)
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    except OSError:
        copy_raw(path, link, root)


def _section(proposal: Proposal, kind: str) -> dict[str, Any]:
    return {
        # with the slash no folder's name is taken for `sample` or `download`
        "source": f"{proposal.source.as_posix()}/",
        "files": {name: {} for name in proposal.files},
        "prepare": Noted(proposal.prepare, f"every key: class Preparation in src/{kind}/prepare.py"),
    }


def _commands(name: str, proposal: Proposal) -> list[str]:
    predict = f"python -m src.cli predict --config configs/{name}.yaml {proposal.predict}"
    return [f"dvc repro evaluate@{name}", predict]


def _header(name: str, proposal: Proposal) -> str:
    about = "A first proposal of pipelines.new_task. The data side is in params.yaml."
    commands = [f"  {one_line(command)}" for command in _commands(name, proposal)]
    lines = [f"{one_line(proposal.findings[0])}.", about, "", *commands]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def with_task(text: str, name: str, kind: str, section: str) -> str:
    """Insert lines under `tasks` and `models`, and a section before the studies, into params.yaml's text."""
    text = with_line(with_line(text, "tasks", name, kind), "models", name, (PREPARED / name).as_posix())
    lines, newline, top = composed(text)
    after = max(top[key][1].end_mark.line for key in ("tasks", "models") if key in top)
    starts = [top[studies][0] for studies in ("studies", "more_studies") if studies in top]
    place = min((line for line in starts if line >= after), default=len(lines))
    while place > after and lines[place - 1].startswith("#"):  # the comment above the studies
        place -= 1
    block = section.replace("\n", newline)
    lines.insert(place, newline + block if place == len(lines) else block + newline)
    return "".join(lines)


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.new_task", description=DESCRIPTION)
    parser.add_argument("name", type=str, help="The name of the task: letters, digits and _.")
    parser.add_argument("--kind", choices=kinds_with("propose"), required=True, help="The kind of data.")
    parser.add_argument(
        "--from",
        type=Path,
        required=True,
        help="A CSV, Excel or JSON table, also as .gz or .zip; a folder with one folder of pictures per "
        "class, idx files or a CSV file of pixels; a .txt file with one document per line, a table of texts "
        "and classes, or a folder with one folder of .txt files per class. Or the folder of such a file.",
    )
    parser.add_argument(
        "--target",
        type=str | None,
        help="The column of a table to predict, several with commas between, or that of the class of texts.",
    )
    parser.add_argument(
        "--task",
        choices=["regression", "classification"],
        help="Of a table, also of labels of pictures: a quantity, or classes.",
    )
    parser.add_argument(
        "--reading",
        type=dict[str, Any] | None,
        help="How a table is written, keys of `prepare.reading`: '{decimal: \",\"}'.",
    )
    found = parser.parse_args()
    choices = (found["target"], found["task"], found["reading"])
    new_task(found["name"], found["kind"], found["from"].expanduser(), *choices)


if __name__ == "__main__":
    exit_with_message(main)
