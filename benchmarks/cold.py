"""The CPU time of a cold `dvc repro` of everything, of an older commit against this one.

Both run in temporary clones, one after the other: python -m benchmarks.cold COMMIT.
"""

import subprocess
import tempfile
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.timing import cpu_seconds


def compare(before: str) -> None:
    """Print the CPU time of both and their ratio.

    Args:
        before: the older commit.
    """
    found = {}
    for commit in (before, "HEAD"):
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder) / "project"
            subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)  # noqa: S607
            subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)  # noqa: S607
            found[commit] = cpu_seconds("-m", "dvc", "repro", "--quiet", cwd=clone)
            print(f"{commit}: {found[commit]:.0f} s of CPU time", flush=True)
    print(f"HEAD takes {found['HEAD'] / found[before]:.2f} times as long as {before}")


if __name__ == "__main__":
    auto_cli(compare, as_positional=True)
