"""List what runs/, caches and W&B hold, and remove what nothing refers to."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from src.bundle.registry import REGISTRY, tags
from src.core.atomic import is_claimed
from src.core.code import run_digest
from src.core.documents import parsed_json
from src.core.errors import ConfigurationError, exit_with_message
from src.core.paths import CELLS, CHECKPOINT, MODELS, PREDICTIONS, PREPARED, RAW, RECORD, REPORTS, RUNS

STUDIES, WANDB = RUNS / "studies", RUNS / "wandb"
OTHERS = {"cells", "studies", "wandb", "prepared", "registry"}  # folders of runs/ that are of no model
LEFT = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|older)")  # of src/core/atomic.py, by a killed process
WRITTEN = (Path(), RAW, PREPARED, MODELS, REPORTS, REPORTS / "studies", PREDICTIONS, RUNS)
CACHES = (Path(".dvc/cache"), Path("data/downloads"), Path("data/shards"))
HOUR, DAY = 3600, 86400
SHOWN = 20  # paths of a list


@dataclass(frozen=True)
class Entry:
    """A file or folder.

    Args:
        group: what it is.
        path: of it.
        reason: why it can be removed; empty if it is kept.
    """

    group: str
    path: Path
    reason: str = ""


def clean(yes: bool = False, runs_older_than: float | None = None, wandb: bool = False) -> None:
    """Print sizes, and remove what nothing refers to.

    Kept are bundles of models/, unfinished trainings with their checkpoints, runs that `pipelines.compare`
    reads, DVC's cache, and all that has changed within the last hour, since a process may use it.

    Args:
        yes: remove; without it, the list is all.
        runs_older_than: remove ended runs of models that ended more than this number of days ago.
        wandb: remove runs of W&B, uploaded or not.
    """
    if not Path("dvc.yaml").is_file():
        raise ConfigurationError("dvc.yaml is not here; run the command in the project's root folder")
    sizes = disk_use(runs_older_than, wandb)
    now = time.time()
    removed = [entry for entry in sizes if entry.reason and newest(entry.path) < now - HOUR]
    _print(sizes, removed)
    if not yes:
        if removed:
            print("nothing was removed; to remove: python -m pipelines.clean --yes, with the same options")
        return
    for entry in removed:
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    print(f"removed: {decimal(sum(sizes[entry] for entry in removed))}")


def disk_use(runs_older_than: float | None = None, wandb: bool = False) -> dict[Entry, int]:
    """What the project in the working folder holds beside its results, with the bytes of each entry.

    Args:
        runs_older_than: ended runs of models can be removed after this number of days.
        wandb: runs of W&B can be removed.
    """
    found = [*runs(runs_older_than), *cells(), *registry(), *wandb_runs(wandb), *leftovers()]
    found += prepared({entry.path for entry in found if entry.reason})
    found += [Entry("studies: lists and reports", STUDIES), *(Entry("caches", path) for path in CACHES)]
    return {entry: size_of(entry.path) for entry in found if entry.path.exists()}


def runs(older_than: float | None) -> Iterator[Entry]:
    """The runs of models; with an age in days, those that ended before can be removed."""
    for folder in sorted(RUNS.glob("*/*/")):
        if folder.parent.name in OTHERS or LEFT.fullmatch(folder.name):
            continue
        record, reason = folder / RECORD, ""
        if older_than is not None and record.is_file() and not (folder / CHECKPOINT).is_file():
            days = (time.time() - record.stat().st_mtime) / DAY
            reason = f"ended {days:.0f} days ago" if days > older_than else ""
        yield Entry("runs", folder, reason)


def cells() -> Iterator[Entry]:
    """The cells of studies; those of other code that no list of a study names can be removed."""
    lists = (path.read_text(encoding="utf-8") for path in STUDIES.glob("*.txt"))
    listed = {line.partition("\t")[0] for text in lists for line in text.splitlines()}
    for folder in sorted(CELLS.glob("*/")):
        unfinished = any(folder.glob(f"runs/*/*/{CHECKPOINT}"))
        kept = folder.name in listed or unfinished or not _of_other_code(folder)
        yield Entry("cells of studies", folder, "" if kept else "of other code, in no study")


def _of_other_code(cell: Path) -> bool:
    """Whether a cell has ended, and the code of now would give its run another name."""
    for record in cell.glob(f"runs/*/*/{RECORD}"):
        try:
            content = parsed_json(record.read_text(encoding="utf-8"))
            name = run_digest(content["configuration"], content["provenance"]["prepared_sha256"])
        except (ValueError, KeyError, TypeError):
            return False  # of another version, or damaged: not ours to judge
        return name != record.parent.name
    return False


def prepared(removed: set[Path]) -> Iterator[Entry]:
    """The data that studies have prepared; those that no cell links to can be removed.

    Args:
        removed: cells that will be removed.
    """
    links = (
        link for cell in CELLS.glob("*/") if cell not in removed for link in cell.glob("data/prepared/*")
    )
    used = {link.resolve() for link in links}
    for folder in sorted((RUNS / "prepared").glob("*/*/")):
        if not LEFT.fullmatch(folder.name):
            yield Entry("data of studies", folder, "" if folder.resolve() in used else "no cell uses it")


def registry() -> Iterator[Entry]:
    """The bundles of the registry that were fetched; those without a tag can be removed."""
    folders = sorted(REGISTRY.glob("*/"))
    tagged = {commit[:12] for commit in tags("*@v*", "*#*").values()} if folders else set()
    for folder in folders:
        yield Entry(
            "fetched models of the registry", folder, "" if folder.name in tagged else "no tag has it"
        )


def wandb_runs(remove: bool) -> Iterator[Entry]:
    """The folders of W&B."""
    for folder in sorted(WANDB.glob("*/")):
        run = re.match(r"(offline-)?run-", folder.name)
        if not folder.is_symlink():
            yield Entry("W&B", folder, "asked for by --wandb" if remove and run else "")


def leftovers() -> Iterator[Entry]:
    """What killed processes have left under temporary names.

    The older version of a folder is kept where the newer one has not got its name yet.
    """
    places = [*WRITTEN, *RUNS.glob("*/"), *RUNS.glob("prepared/*/"), *CELLS.glob("*/models/")]
    places += [*CELLS.glob("*/runs/*/*/"), *RUNS.glob("*/*/")]
    for path in sorted({path for place in places for path in place.glob(".*")}):
        if (name := LEFT.fullmatch(path.name)) and not is_claimed(path):
            whole = name["kind"] == "partial" or path.with_name(name["name"]).exists()
            yield Entry("leftovers", path, "a killed process left it" if whole else "")


def size_of(path: Path) -> int:
    """The bytes of all files; links are not followed."""
    paths = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    found = (_status(each) for each in paths if not each.is_dir() or each.is_symlink())
    return sum(status.st_size for status in found if status)


def newest(path: Path) -> float:
    """The time of the last change of a file or of anything in a folder."""
    paths = [path, *(path.rglob("*") if path.is_dir() else ())]
    return max((status.st_mtime for each in paths if (status := _status(each))), default=0.0)


def _status(path: Path) -> os.stat_result | None:
    """The status of a file; None if it has been removed meanwhile, such as a file that a training writes."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat()
    return None


def groups(sizes: dict[Entry, int]) -> dict[str, dict[Entry, int]]:
    """The entries with their bytes, by group."""
    found: dict[str, dict[Entry, int]] = {}
    for entry, size in sizes.items():
        found.setdefault(entry.group, {})[entry] = size
    return found


def _print(sizes: dict[Entry, int], removed: list[Entry]) -> None:
    table = Table("what", "number", "size", "can be removed")
    for group, those in groups(sizes).items():
        free = sum(sizes[entry] for entry in those if entry in removed)
        table.add_row(group, str(len(those)), decimal(sum(those.values())), decimal(free) if free else "")
    console = Console()
    console.print(table)
    for entry in removed[:SHOWN]:
        console.print(
            f"{entry.path}: {decimal(sizes[entry])}, {entry.reason}", soft_wrap=True, highlight=False
        )
    if len(removed) > SHOWN:
        print(f"and {len(removed) - SHOWN} more")
    if not removed:
        print("nothing can be removed; what has changed within the last hour is kept")
    print("DVC's cache is not touched: dvc gc --workspace empties it of all that dvc.lock does not name")


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.clean", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="Remove; without it, the list is all.")
    parser.add_argument(
        "--runs_older_than",
        type=NonNegativeFloat | None,
        metavar="DAYS",
        help="Remove runs of models that ended before, too.",
    )
    parser.add_argument("--wandb", action="store_true", help="Remove runs of W&B, uploaded or not, too.")
    clean(**parser.parse_args().as_dict())


if __name__ == "__main__":
    exit_with_message(main)
