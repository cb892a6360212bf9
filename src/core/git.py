"""Ask git about the project."""

import subprocess
from pathlib import Path


def git(*arguments: str, folder: Path = Path()) -> str:
    """The output of a git command in a folder, without white space around it.

    Raises:
        OSError: git is not installed.
        subprocess.CalledProcessError: the command failed; `stderr` has its message.
    """
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
