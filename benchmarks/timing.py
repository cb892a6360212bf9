"""Common functions of the benchmarks: times of `fit`, of Python processes, and their memory."""

import contextlib
import copy
import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from src.cli import LockstepCLI, main

MEASURE = """
import os, re, resource, time
start = time.perf_counter()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if os.path.exists("/proc/self/status"):  # ru_maxrss is at least the memory of the parent at its fork
    peak = int(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1])
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - start, peak, used.ru_utime + used.ru_stime)
"""


def _cpu_of_children() -> float:
    """The CPU seconds (user and system) of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(*arguments: str, cwd: Path | None = None) -> float:
    """The CPU time (user and system) of `python ...` and its child processes."""
    before = _cpu_of_children()
    subprocess.run([sys.executable, *arguments], cwd=cwd, check=True)
    return _cpu_of_children() - before


def alternate(processes: Mapping[str, "subprocess.Popen[str]"], rounds: int) -> dict[str, list[str]]:
    """Let processes measure in turn, so that a slow moment of the machine meets all of them.

    Args:
        processes: by name; each prints a line when it is ready, then one for each line that it reads.
        rounds: that count; one before them warms up.

    Returns:
        The lines of each process.
    """
    lines: dict[str, list[str]] = {name: [] for name in processes}
    for process in processes.values():
        assert process.stdout is not None
        process.stdout.readline()
    for _ in range(rounds + 1):
        for name, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            lines[name].append(process.stdout.readline())
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.close()
    return {name: found[1:] for name, found in lines.items()}


class TimedCLI(LockstepCLI):
    """The command line; keeps its untrained model and the seconds of trainer.fit."""

    untrained: Any
    seconds: float

    def fit(self, **kwargs: Any) -> None:
        """As the real one, timed."""
        TimedCLI.untrained = copy.deepcopy(self.model)
        fit = self.trainer.fit

        def timed(*arguments: Any, **named: Any) -> None:
            start = time.perf_counter()
            fit(*arguments, **named)
            TimedCLI.seconds = time.perf_counter() - start

        self.trainer.fit = timed  # type: ignore[method-assign]
        super().fit(**kwargs)


def fit(config: str, *options: str, wandb_mode: str = "disabled") -> float:
    """Seconds of trainer.fit through the command line."""
    os.environ["WANDB_MODE"] = wandb_mode
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--config", config, *options], TimedCLI)
    return TimedCLI.seconds


def write_sample(path: Path, rows: int, sample: Path = Path("data/samples/house_prices/train.csv")) -> int:
    """Write the rows of a table with an Id over and over, with Ids of their own; the size in bytes."""
    header, *lines = sample.read_text(encoding="utf-8").splitlines()
    cells = [line.split(",", 1)[1] for line in lines]
    with path.open("w", encoding="utf-8") as file:
        print(header, file=file)
        file.writelines(f"{number},{cells[number % len(cells)]}\n" for number in range(rows))
    return path.stat().st_size


class Measured(NamedTuple):
    """Seconds, peak MiB and processor seconds of a process."""

    seconds: float
    peak: float
    cpu: float


def measured(code: str, folder: Path) -> Measured:
    """Measure a piece of Python in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE.format(code=code)],
        cwd=folder,
        env={"PYTHONPATH": str(Path.cwd())},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, kibibytes, cpu = map(float, answer.stdout.split()[-3:])
    return Measured(seconds, kibibytes / 1024, cpu)


class Usage(NamedTuple):
    """Seconds, CPU seconds, and the largest allocated and resident memory of a command in MiB."""

    seconds: float
    cpu: float
    allocated: float
    resident: float


def watched(arguments: list[str], helpers: bool = False, **options: Any) -> Usage:
    """Run `python ...`, and look at its memory 20 times a second.

    Args:
        arguments: of Python.
        helpers: whether the allocated memory is that of the process and those that it starts, or its own.
        **options: of Popen.
    """
    start, before = time.perf_counter(), _cpu_of_children()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, **options)
    allocated = resident = 0
    while process.poll() is None:
        started = psutil.Process(process.pid).children(recursive=True) if helpers else []
        memory = [memory_of(number) for number in (process.pid, *(each.pid for each in started))]
        allocated = max(allocated, sum(each.get("RssAnon", 0) for each in memory))
        resident = max(resident, memory[0].get("VmHWM", 0))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return Usage(time.perf_counter() - start, _cpu_of_children() - before, allocated / 1024, resident / 1024)


def memory_of(process: int) -> dict[str, int]:
    """The memory of a process in KiB, by the name of Linux; empty when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = [line.split() for line in lines if line.endswith("kB")]
    return {field[0].rstrip(":"): int(field[1]) for field in fields}
