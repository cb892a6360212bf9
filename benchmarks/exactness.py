"""What exactness costs: python -m benchmarks.exactness [--tasks "[line, digits]"] [--rounds 5].

Each task's fit, as it is configured and with the other value of `portable`, beside one that promises nothing:
all instructions of the processor, any algorithm, no seeds of steps, no checkpoints. The three are processes
of their own, which take turns; the results of the pipeline are not touched.
"""

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from rich.table import Table

KINDS = ("portable", "native", "inexact")
# as many epochs as take a second or two; the others have their own number
EPOCHS = {"fashion_mnist": 2, "poems": 2, "words": 10, "line": 100, "digits": 60}


def serve(task: str, kind: str, epochs: int) -> None:
    """Time a fit for each line of the standard input."""
    from benchmarks.timing import fit
    from src.training.checkpoint import ResumableCheckpoint
    from src.training.exactness import Exactness

    options = [f"--trainer.max_epochs={epochs}", f"--portable={str(kind == 'portable').lower()}"]
    if kind == "inexact":
        options.append("--trainer.deterministic=false")
        Exactness.on_train_batch_start = lambda *_: None  # type: ignore[method-assign]
        ResumableCheckpoint._due = lambda *_: False  # type: ignore[method-assign]
    print("ready", flush=True)
    for _ in sys.stdin:
        with contextlib.redirect_stderr(io.StringIO()):
            print(fit(f"configs/{task}.yaml", *options), flush=True)


def _seconds(task: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of fit, round by round; the first round of each, which warms up, is left out."""
    from benchmarks.timing import alternate

    configuration = yaml.safe_load(Path("configs", f"{task}.yaml").read_text(encoding="utf-8"))
    epochs = EPOCHS.get(task, configuration["trainer"]["max_epochs"])
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        processes = {}
        for kind in KINDS:
            folder = Path(place, kind)
            for part in ("benchmarks", "configs", "src", "requirements.lock", f"data/prepared/{task}"):
                (folder / part).parent.mkdir(parents=True, exist_ok=True)
                (folder / part).symlink_to(Path(part).absolute())
            code = f"from benchmarks.exactness import serve; serve({task!r}, {kind!r}, {epochs})"
            pipe = subprocess.PIPE
            processes[kind] = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdin=pipe, stdout=pipe, text=True)
            )
        lines = alternate(processes, rounds)
    return {kind: [float(line) for line in found] for kind, found in lines.items()}


def compare(tasks: list[str] | None = None, rounds: int = 5) -> None:
    """Print the ratios of the times of fits, as medians over the rounds.

    Args:
        tasks: of params.yaml; all if left out. Their data must be prepared.
        rounds: how often each fit is timed.
    """
    tasks = tasks or list(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["tasks"])
    table = Table("task", "configured", "exact: times inexact", "portable: times native", "seconds")
    for task in track(tasks, console=Console(stderr=True)):
        seconds = _seconds(task, rounds)
        configuration = yaml.safe_load(Path("configs", f"{task}.yaml").read_text(encoding="utf-8"))
        configured = "portable" if configuration.get("portable", True) else "native"

        def ratio(kind: str, base: str, seconds: dict[str, list[float]] = seconds) -> str:
            ratios = [a / b for a, b in zip(seconds[kind], seconds[base], strict=True)]
            return f"{statistics.median(ratios):.3f}"

        median = statistics.median(seconds[configured])
        table.add_row(
            task, configured, ratio(configured, "inexact"), ratio("portable", "native"), f"{median:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    auto_cli(compare)
