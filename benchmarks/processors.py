"""Whole stages on emulated processors against this one: python -m benchmarks.processors.

QEMU's user-mode emulator (Debian: qemu-user) stands for machines that are not here. Raw data must be
fetched. Each task is prepared as a whole, trained for some steps with `portable: true`, and evaluated.
Emulation is some thirty times slower than the processor.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from rich.table import Table

EMULATOR = "qemu-x86_64"
PROCESSORS = ("EPYC", "Haswell-noTSX", "Skylake-Server")  # AMD Zen and two of Intel
STEPS = ("--trainer.max_epochs=1", "--trainer.max_steps=6", "--trainer.accelerator=cpu", "--portable=true")
LINKED = ("configs", "src", "pipelines", "params.yaml", "requirements.lock")


def digests(task: str, processor: str | None) -> dict[str, str]:
    """What the stages of a task give on a processor: digests of prepared data, weights and metrics."""
    emulated = [EMULATOR, "-cpu", processor] if processor else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in (*LINKED, f"data/raw/{task}"):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(Path(part).absolute())

        def run(*arguments: str) -> bool:
            return not subprocess.run(
                [*emulated, sys.executable, "-m", *arguments],
                cwd=folder,
                env=os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": str(folder)},
                capture_output=True,
            ).returncode

        found = {}
        if run("pipelines.prepare", task):
            found["prepare"] = (folder / "data/prepared" / task / "manifest.json").read_text(encoding="utf-8")
            if run("src.cli", "fit", f"--config=configs/{task}.yaml", *STEPS):
                manifest = folder / "models" / task / "manifest.json"
                found["train"] = json.loads(manifest.read_text(encoding="utf-8"))["tensors"]
                if run("pipelines.evaluate", task):
                    metrics = folder / "reports" / task / "metrics.json"
                    found["evaluate"] = metrics.read_text(encoding="utf-8")
        return found


def compare(tasks: list[str] | None = None, processors: list[str] | None = None) -> None:
    """Print for each task and processor which stages give the same bytes as here.

    Args:
        tasks: of params.yaml; all if left out.
        processors: models of the emulator (`qemu-x86_64 -cpu help`); AMD Zen, Intel Haswell and Skylake if
            left out.
    """
    if shutil.which(EMULATOR) is None:
        sys.exit(f"there is no {EMULATOR}; Debian and Ubuntu: apt install qemu-user")
    tasks = tasks or list(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["tasks"])
    processors = processors or list(PROCESSORS)
    table = Table("task", *processors)
    runs = [(task, name) for task in tasks for name in (None, *processors)]
    bar = track(runs, console=Console(stderr=True))
    found = {(task, name): digests(task, name) for task, name in bar}
    for task in tasks:
        here, *others = (found[task, name] for name in (None, *processors))
        table.add_row(task, *(_comparison(here, there) for there in others))
    Console().print(table)


def _comparison(here: dict[str, str], there: dict[str, str]) -> str:
    """Which stages are equal; the emulator cannot run some instructions of scikit-learn's boosting."""
    said = {
        stage: "not run" if stage not in there else "equal" if there[stage] == value else "DIFFERENT"
        for stage, value in here.items()
    }
    return ", ".join(f"{stage} {word}" for stage, word in said.items())


if __name__ == "__main__":
    auto_cli(compare)
