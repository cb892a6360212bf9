"""Merge dvc.lock by stage. Git calls it, as the merge driver that `make setup` registers.

DVC has a merge driver, `dvc git-hook merge-driver`, but for .dvc files only; it refuses dvc.lock.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from src.core.errors import ConfigurationError, exit_with_message

Blocks = dict[str, str]

SHOWN = 5  # stages in a message


def merge(ancestor: Path, ours: Path, theirs: Path) -> None:
    """Write into `ours` the stages of two versions of dvc.lock, of each stage the version that has changed.

    A stage that both have changed keeps our version, and is in conflict. Stages on whose outputs no other
    depends, such as `report`, are not, nor is `code`, of whose output the others have single keys as
    parameters: `dvc repro` finds that they are out of date.

    Args:
        ancestor: the common version; empty if there is none.
        ours: the version of the branch that is checked out; it is overwritten.
        theirs: the version of the other branch.

    Raises:
        ConfigurationError: both versions have changed a stage, or one of them is not as DVC writes it.
    """
    (_, base), (head, our), (their_head, their) = map(_blocks, (ancestor, ours, theirs))
    if head != their_head:
        raise ConfigurationError(
            "dvc.lock: the versions have different first lines; ours is kept, run: dvc repro"
        )
    merged: Blocks = {}
    conflicts = []
    for name in [*our, *(name for name in their if name not in our)]:
        before, here, there = base.get(name), our.get(name), their.get(name)
        chosen = there if here == before else here
        if before != here != there != before:
            conflicts.append(name)
        if chosen is not None:
            merged[name] = chosen
    last = _last_of(conflicts, our | their)
    with ours.open("w", encoding="utf-8", newline="") as file:
        file.write(head + "".join(merged.values()))
    if conflicts := [name for name in conflicts if name not in last]:
        more = f" and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
        shown = ", ".join(conflicts[:SHOWN]) + more
        raise ConfigurationError(
            f"dvc.lock: both branches have changed {shown}; resolve conflicts of other files first, "
            "then run: dvc repro && git add dvc.lock reports"
        )
    print("dvc.lock was merged by stage; now run: dvc repro")


def _blocks(path: Path) -> tuple[str, Blocks]:
    """The lines before the first stage, and the lines of each stage by its name.

    Raises:
        ConfigurationError: the file has another form than DVC gives it, such as marks of a conflict.
    """
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    head, *blocks = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)
    named = {block.partition(":")[0].strip().strip("'\""): block for block in blocks}
    usual = re.fullmatch(r"schema: .*\s+stages:\s+", head) and not re.search(r"^\S", "".join(blocks), re.M)
    if text and not usual:
        raise ConfigurationError("dvc.lock: a version is not as DVC writes it; ours is kept, run: dvc repro")
    return head, named


def _last_of(names: list[str], blocks: Blocks) -> list[str]:
    """Those of some stages whose outputs no stage depends on."""
    if not names:
        return []
    stages: dict[str, dict[str, Any]] = yaml.safe_load("".join(blocks.values()))
    read = [f"{dep['path']}/" for stage in stages.values() for dep in stage.get("deps", [])]

    def is_read(name: str) -> bool:
        written = [f"{out['path']}/" for out in stages[name].get("outs", [])]
        return any(one.startswith(other) or other.startswith(one) for one in written for other in read)

    return [name for name in names if not is_read(name)]


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.merge_lock", description=__doc__)
    for name, version in (("ancestor", "the common"), ("ours", "our"), ("theirs", "the other")):
        parser.add_argument(name, type=Path, help=f"A file with {version} version of dvc.lock.")
    found = parser.parse_args()
    merge(found["ancestor"], found["ours"], found["theirs"])


if __name__ == "__main__":
    exit_with_message(main)
