"""Give a trained model a stage such as production, as tags of git; without a model, list all stages.

The tags have the form of GTO, which DVC installs: `house_prices@v0.0.1` registers the model of a commit as a
version, `house_prices#production#1` assigns the stage to it.
"""

import re
import subprocess

import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from src.bundle.registry import commit_of, fetched, tags
from src.core.errors import ConfigurationError, exit_with_message
from src.core.git import git
from src.core.paths import MODELS, require_name

ASSIGNMENT = re.compile(r"(?P<model>[\w-]+)#(?P<stage>[\w-]+)#(?P<number>\d+)")
FIRST = "v0.0.1"
COLUMNS = ("model", "stage", "version", "commit", "date")


def promote(model: str, stage: str, commit: str = "HEAD") -> None:
    """Give the model of a commit a stage; the stage leaves its earlier version.

    Args:
        model: its name, that of its folder in models/.
        stage: such as production.
        commit: whose dvc.lock has the model.

    Raises:
        ConfigurationError: the commit has no such model, DVC does not have it, or git makes no tag.
    """
    require_name(model, "model")
    require_name(stage, "--stage")
    revision = _git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    if f"{MODELS}/{model}" not in _outputs(revision):
        raise ConfigurationError(
            f"dvc.lock of {commit} has no {MODELS}/{model}; run: dvc repro train@{model}, and commit dvc.lock"
        )
    fetched(model, revision, commit)
    versions = tags(f"{model}@v*")
    version = next((tag for tag, place in versions.items() if place == revision), None)
    if version is None:
        version = f"{model}@{_next(versions)}"
        _git("tag", "--annotate", "--message", f"Register {version.replace('@', ' ')}", version, revision)
        print(f"registered: {version}")
    number = 1 + len(assignments := tags(f"{model}#{stage}#*"))
    if assignments and commit_of(model, stage)[1] == revision:
        print(f"{version} is in {stage} already")
        return
    tag = f"{model}#{stage}#{number}"
    _git("tag", "--annotate", "--message", f"Assign {stage} to {version}", tag, revision)
    print(f"{stage}: {version}; predict with --bundle {model}@{stage}; for others: git push --tags, dvc push")


def show() -> None:
    """Print a table of the stages of all models, with version, commit and date."""
    if not (rows := stages()):
        print("no model has a stage; give it one: python -m pipelines.promote MODEL --stage production")
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def stages() -> list[tuple[str, ...]]:
    """The stages of all models, each with the values of COLUMNS.

    Raises:
        ConfigurationError: this is no git repository.
    """
    found = {(name["model"], name["stage"]) for tag in tags("*#*") if (name := ASSIGNMENT.fullmatch(tag))}
    rows: list[tuple[str, ...]] = []
    for model, stage in sorted(found):
        commit = commit_of(model, stage)[1]
        versions = [each for each, place in tags(f"{model}@v*").items() if place == commit]
        date = _git("log", "-1", "--format=%cs", commit)
        rows.append((model, stage, ", ".join(each.partition("@")[2] for each in versions), commit[:12], date))
    return rows


def _outputs(revision: str) -> set[str]:
    """The paths of all outputs in the dvc.lock of a commit; none without that file."""
    try:
        lock = yaml.safe_load(git("show", f"{revision}:./dvc.lock"))
    except subprocess.CalledProcessError:
        return set()
    return {out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def _next(versions: dict[str, str]) -> str:
    """The version after the highest one; its last number is one higher."""
    numbers = [
        tuple(map(int, found.groups()))
        for tag in versions
        if (found := re.search(r"@v(\d+)\.(\d+)\.(\d+)$", tag))
    ]
    if not numbers:
        return FIRST
    major, minor, patch = max(numbers)
    return f"v{major}.{minor}.{patch + 1}"


def _git(*arguments: str) -> str:
    try:
        return git(*arguments)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = " ".join(str(getattr(error, "stderr", error)).split())
        raise ConfigurationError(f"git {arguments[0]} failed: {reason}") from None


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.promote", description=__doc__)
    parser.add_argument("model", nargs="?", help="The name of a model, that of its folder in models/.")
    parser.add_argument("--stage", help="The stage to give, such as production.")
    parser.add_argument("--commit", default="HEAD", help="The commit whose dvc.lock has the model.")
    found = parser.parse_args()
    if found["model"] is None:
        show()
    elif found["stage"] is None:
        raise ConfigurationError("the stage is missing: add --stage production")
    else:
        promote(found["model"], found["stage"], found["commit"])


if __name__ == "__main__":
    exit_with_message(main)
