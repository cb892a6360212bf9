"""Compare the results of two clones of the project, byte by byte: a refactor must not change a number.

python -m benchmarks.results ../before .
"""

import json
import sys
from pathlib import Path

from jsonargparse import auto_cli

from src.core.digests import file_digest


def results_of(project: Path) -> dict[str, str]:
    """The digest of each file of prepared data, of each model's tensors and of each metrics.json, by name."""
    files = [*project.glob("data/prepared/**/*"), *project.glob("reports/**/metrics.json")]
    found = {path.relative_to(project).as_posix(): file_digest(path) for path in files if path.is_file()}
    for path in project.glob("models/*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found[f"{path.parent.relative_to(project).as_posix()}, tensors"] = manifest["tensors"]
    return found


def compare(before: Path, after: Path, tasks: list[str] | None = None) -> None:
    """Print what differs; the exit code is 1 if anything does.

    Args:
        before: a clone in which the pipeline has run.
        after: another one.
        tasks: compare these tasks (or studies) only.
    """
    old, new = results_of(before), results_of(after)
    names = sorted(old | new)
    if tasks:
        names = [name for name in names if any(f"/{task}" in f"{name}/".replace(",", "/") for task in tasks)]
    different = [name for name in names if old.get(name) != new.get(name)]
    for name in different:
        print(f"{name}: {old.get(name, 'absent')} before, {new.get(name, 'absent')} after")
    print(f"{len(names) - len(different)} of {len(names)} results are the same")
    sys.exit(bool(different))


if __name__ == "__main__":
    auto_cli(compare, as_positional=True)
