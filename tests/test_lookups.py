"""No command looks another machine up or connects to one, native libraries and helper processes included."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tasks("line"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

COMMANDS = """
import runpy
from pathlib import Path
from pipelines.compare import main as compare
from pipelines.evaluate import evaluate
from pipelines.export.export import export
from src.cli import main

main(["fit", "--config=configs/line.yaml", "--trainer.max_epochs=1"])  # with W&B, offline
evaluate("line")
main(["predict", "--config=configs/line.yaml", "--data.input=data/raw/line/train.csv"])
export("line", samples=10)
runpy.run_path("exports/line/example.py", run_name="__main__")
"""
OUTWARD = re.compile(r"(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?,.*")
HERE = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')


def outward(folder: Path, program: str, **variables: str) -> list[str]:
    """The system calls of a program and of its children that are addressed to another machine."""
    log = folder / "calls.txt"
    options = ["-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", log]
    done = subprocess.run(
        ["strace", *options, sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if "PTRACE" in done.stdout or "ptrace" in done.stdout:
        pytest.skip("no process may be traced here")
    assert done.returncode == 0, done.stdout
    calls = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in calls if OUTWARD.search(line) and not HERE.search(line)]


def test_no_command_looks_another_machine_up(finished: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(finished("line"), folder, symlinks=True)
    variables = {"WANDB_MODE": "offline", "PYTHONPATH": str(folder), "HOME": str(tmp_path)}
    assert outward(folder, COMMANDS, **variables) == []


def test_a_look_up_is_seen(tmp_path: Path) -> None:
    program = "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.connect(('192.0.2.1', 53))"
    (call,) = outward(tmp_path, program, PYTHONPATH="")
    assert "192.0.2.1" in call
