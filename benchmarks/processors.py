"""Training on emulated processors against training on this one: python -m benchmarks.processors.

QEMU's user-mode emulator (Debian: qemu-user) stands for machines that are not here: an AMD and an Intel
processor with AVX2 and no AVX-512. A few steps of some tasks are trained with `portable: true`; their data
must be prepared. Emulation is some thirty times slower than the processor.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from rich.table import Table

EMULATOR = "qemu-x86_64"
PROCESSORS = {"this one": None, "AMD EPYC (Zen)": "EPYC", "Intel Haswell": "Haswell"}
STEPS = ("max_epochs=2", "limit_train_batches=3", "limit_val_batches=1", "limit_test_batches=1")


def tensors_of(task: str, processor: str | None) -> str:
    """The digest over the weights that a short training of a task ends with on a processor."""
    emulated = [EMULATOR, "-cpu", processor] if processor else []
    options = [f"--trainer.{step}" for step in STEPS]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in ("configs", "src", "requirements.lock", f"data/prepared/{task}"):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(Path(part).absolute())
        subprocess.run(
            [
                *emulated,
                *(sys.executable, "-m", "src.cli", "fit", "--config", f"configs/{task}.yaml"),
                *(*options, "--portable=true", "--trainer.accelerator=cpu"),
            ],
            cwd=folder,
            env=os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": str(folder)},
            check=True,
            capture_output=True,
        )
        manifest = json.loads((folder / "models" / task / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["tensors"])


def compare(tasks: list[str] | None = None) -> None:
    """Print for each task and processor whether the weights are those of this one.

    Args:
        tasks: of params.yaml; one of each kind of network if left out.
    """
    if shutil.which(EMULATOR) is None:
        sys.exit(f"there is no {EMULATOR}; Debian and Ubuntu: apt install qemu-user")
    tasks = tasks or ["line", "house_prices", "fashion_mnist", "poems"]
    table = Table("task", *PROCESSORS)
    runs = [(task, name) for task in tasks for name in PROCESSORS]
    found = {
        (task, name): tensors_of(task, PROCESSORS[name])
        for task, name in track(runs, console=Console(stderr=True))
    }
    for task in tasks:
        here = found[task, "this one"]
        said = ["equal" if found[task, name] == here else "others" for name in PROCESSORS]
        table.add_row(task, here[:12], *said[1:])
    Console().print(table)


if __name__ == "__main__":
    auto_cli(compare)
