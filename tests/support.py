"""What several tests do: call a command line in this process, and read whole folders."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.cli import main
from src.core.errors import exit_with_message


def ended(function: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    """The exit code of a function that is called as a command line."""
    try:
        exit_with_message(lambda: function(*arguments, **options))
    except SystemExit as stopped:
        return stopped.code
    return 0


def cli(*arguments: str) -> Any:
    """Run `python -m src.cli ...` in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["src.cli", *arguments])
        return ended(main)


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file below some folders, hidden ones too."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def slurm_variables(rank: int) -> dict[str, str]:
    """The variables that srun sets for one of two processes on a machine, but for MASTER_PORT."""
    return {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "lockstep",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def free_port() -> str:
    """A port of this machine that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def address_of(cluster: Any) -> str:
    """That of the head; the tests may not connect to another one than the loopback's."""
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    last = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)
