"""The models of the registry: git tags in the form of GTO, which DVC installs.

`house_prices@v0.0.1` is a version of a model, `house_prices#production#2` gives the version at its commit a
stage. `python -m pipelines.promote` makes them; `gto show` and `dvc artifacts` read them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from src.core.errors import ConfigurationError
from src.core.git import git
from src.core.paths import MANIFEST, MODELS, RUNS, require_name

REGISTRY = RUNS / "registry"
ROOT = Path(__file__).parents[2]
PIPELINE = Path("dvc.yaml")
VERSION = re.compile(r"v\d+\.\d+\.\d+")


def bundle_folder(place: str | Path) -> Path:
    """The folder of a bundle.

    Args:
        place: the folder, or a model and its stage or version in the registry, such as
            `house_prices@production`.

    Raises:
        ConfigurationError: the registry has no such stage or version, or its bundle is not to be had.
    """
    name, mark, wanted = str(place).partition("@")
    if not mark or Path(name).name != name or Path(place).exists():
        return Path(place)
    return registered(name, wanted)


def home() -> Path:
    """The folder of the project: the working folder, or, for a notebook elsewhere, that of this code."""
    return Path() if PIPELINE.is_file() else ROOT


def commit_of(name: str, wanted: str) -> tuple[str, str]:
    """The tag and the commit of a stage or version of a model.

    Args:
        name: of the model.
        wanted: a stage, such as production, or a version, such as v0.0.1.

    Raises:
        ConfigurationError: no tag has it, or this is no git repository.
    """
    require_name(name, "model")
    require_name(wanted.replace(".", "_"), "stage")
    patterns = (
        [f"{name}@{wanted}"] if VERSION.fullmatch(wanted) else [f"{name}#{wanted}", f"{name}#{wanted}#*"]
    )
    found = tags(*patterns)
    if not found:
        raise ConfigurationError(
            f"no tag gives {name} the stage or version {wanted}; "
            f"run: python -m pipelines.promote {name} --stage {wanted}, or: git fetch --tags"
        )
    return max(found.items(), key=lambda pair: _number(pair[0]))


def tags(*patterns: str) -> dict[str, str]:
    """The commits of the tags that match a pattern, by the names of the tags.

    Raises:
        ConfigurationError: this is no git repository.
    """
    form = "--format=%(refname:strip=2) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    try:
        lines = git("for-each-ref", form, *(f"refs/tags/{each}" for each in patterns), folder=home())
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(
            f"the registry is tags of git, and git cannot be asked here: {getattr(error, 'stderr', error)}"
        ) from None
    return dict(line.split() for line in lines.splitlines())


def _number(tag: str) -> int:
    """The number of an assignment: the last one holds."""
    end = tag.rpartition("#")[2]
    return int(end) if end.isdecimal() else 0


def registered(name: str, wanted: str) -> Path:
    """The bundle of a stage or version, from DVC's cache or remote, as runs/registry/<commit>/<model>.

    Raises:
        ConfigurationError: there is no such tag, or DVC does not have the bundle.
    """
    tag, commit = commit_of(name, wanted)
    return fetched(name, commit, tag)


def fetched(name: str, commit: str, label: str) -> Path:
    """The bundle of a model at a commit, from DVC's cache or remote.

    Args:
        name: of the model.
        commit: whose dvc.lock has it.
        label: what was asked for, for the message.

    Raises:
        ConfigurationError: DVC does not have it.
    """
    folder = home() / REGISTRY / commit[:12] / name
    if (folder / MANIFEST).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{name}.{os.getpid()}.partial")  # another process may fetch it, too
    # DVC takes the root of a git repository, which may have the project in a subfolder
    root, inner = (git("rev-parse", part, folder=home()) for part in ("--show-toplevel", "--show-prefix"))
    command = [sys.executable, "-m", "dvc", "get", root, f"{inner}{MODELS}/{name}", "--rev", commit]
    command += ["--out", str(partial.absolute()), "--force", "--quiet"]
    done = subprocess.run(command, cwd=home(), capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        reason = " ".join(done.stderr.split()).removeprefix("ERROR: ")
        raise ConfigurationError(
            f"DVC does not have {MODELS}/{name} of {label} (commit {commit[:12]}): {reason}; "
            "fetch it where it was trained: dvc push"
        )
    try:
        partial.replace(folder)
    except OSError:
        if not (folder / MANIFEST).is_file():
            raise
        shutil.rmtree(partial)
    return folder
