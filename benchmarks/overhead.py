"""What the command line adds to plain Lightning for an ordinary module: python -m benchmarks.overhead.

The same module and data are fitted by `src.cli` and by `Trainer.fit` with Lightning's default checkpoint and
CSV logger, in two processes that take turns. The time is that of `trainer.fit`, as run.json records it; the
start-up (imports, configuration) is measured apart.
"""

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

MODULE = '''
"""A network whose step takes about as long as its width asks for."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Network(L.LightningModule):
    def __init__(self, width: int = 8, layers: int = 2):
        super().__init__()
        self.save_hyperparameters()
        sizes = [16] + [width] * layers
        hidden = [part for a, b in zip(sizes, sizes[1:]) for part in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Rows(L.LightningDataModule):
    def __init__(self, rows: int = 3200, batch_size: int = 32):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(self.hparams.rows, 16, generator=generator)
        self.rows = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.rows, batch_size=self.hparams.batch_size * 8)
'''

# `import src` chooses AVX2, as the command line does; native is plain Lightning with all instructions
KINDS = {"cli": "import src; ", "plain": "", "portable": "import src; "}
CASES: dict[str, Any] = {
    "short": {
        "model": {"width": 32, "layers": 2},
        "data": {"rows": 12800, "batch_size": 32},
        "epochs": 4,
    },
    "long": {
        "model": {"width": 1024, "layers": 3},
        "data": {"rows": 15360, "batch_size": 256},
        "epochs": 2,
    },
}


def serve(case: str, kind: str) -> None:
    """Time a fit for each line of the standard input: seconds, and seconds of the processor."""
    import lightning

    fit = lightning.Trainer.fit
    times: list[float] = []

    def timed(*arguments: Any, **named: Any) -> None:
        start, start_cpu = time.perf_counter(), time.process_time()
        fit(*arguments, **named)
        times[:] = [time.perf_counter() - start, time.process_time() - start_cpu]

    lightning.Trainer.fit = timed  # type: ignore[method-assign]
    print("ready", flush=True)
    for _ in sys.stdin:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            if kind == "cli":
                from src.cli import main

                main(["fit", f"--config=configs/{case}.yaml"])
            else:
                _plain(case)
        print(*times, flush=True)


def _plain(case: str) -> None:
    """Trainer.fit with Lightning's own checkpoint and a CSV logger."""
    import lightning
    import torch
    from lightning.pytorch.loggers import CSVLogger

    torch.set_num_threads(1)
    lightning.seed_everything(42)
    settings = CASES[case]
    trainer = lightning.Trainer(
        max_epochs=settings["epochs"],
        accelerator="cpu",
        logger=CSVLogger("plain"),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = import_module("overhead")  # not below src, whose import would choose the instructions
    trainer.fit(module.Network(**settings["model"]), module.Rows(**settings["data"]))


def _project(folder: Path) -> None:
    for part in ("benchmarks", "src"):
        (folder / part).mkdir()
        for path in Path(part).iterdir():
            if path.name != "__pycache__":
                (folder / part / path.name).symlink_to(path.absolute())
    (folder / "requirements.lock").symlink_to(Path("requirements.lock").absolute())
    (folder / "src" / "overhead").mkdir()
    (folder / "src" / "overhead" / "__init__.py").touch()
    for name in ("src/overhead/model.py", "overhead.py"):
        (folder / name).write_text(MODULE, encoding="utf-8")
    (folder / "configs").mkdir()
    for case, settings in CASES.items():
        configuration = {
            "task": case,
            "trainer": {"max_epochs": settings["epochs"], "accelerator": "cpu"},
            "model": {"class_path": "src.overhead.model.Network", "init_args": settings["model"]},
            "data": {"class_path": "src.overhead.model.Rows", "init_args": settings["data"]},
        }
        (folder / "configs" / f"{case}.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


def _seconds(case: str, rounds: int, folder: Path) -> dict[str, list[list[float]]]:
    """For each kind of fit its times, round by round; the first round, which warms up, is left out."""
    from benchmarks.timing import alternate  # it imports src, which plain processes must not

    with contextlib.ExitStack() as stack:
        processes = {}
        for kind, before in KINDS.items():
            code = f"{before}from benchmarks.overhead import serve; serve({case!r}, {kind!r})"
            processes[kind] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    cwd=folder,
                    env={"PYTHONPATH": str(folder), "WANDB_MODE": "disabled"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
        lines = alternate(processes, rounds)
    return {kind: [[float(word) for word in line.split()] for line in found] for kind, found in lines.items()}


def compare(rounds: int = 5, cases: list[str] | None = None) -> None:
    """Print the ratios of the times as medians over the rounds, and the processor time of a step.

    `portable` is plain Lightning with the instructions of `portable: true`, which is not the default of
    ordinary modules.

    Args:
        rounds: how often each fit is timed.
        cases: short (steps of about 1 ms), long (about 50 ms); both if left out.
    """
    table = Table(
        "step", "cli: times plain", "of processor time", "portable: times plain", "plain, ms a step"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _project(folder)
        for case in cases or list(CASES):
            seconds = _seconds(case, rounds, folder)
            steps = CASES[case]["data"]["rows"] // CASES[case]["data"]["batch_size"] * CASES[case]["epochs"]

            def ratio(kind: str, which: int, found: dict[str, list[list[float]]] = seconds) -> str:
                pairs = zip(found[kind], found["plain"], strict=True)
                return f"{statistics.median(a[which] / b[which] for a, b in pairs):.3f}"

            step = statistics.median(times[1] for times in seconds["plain"]) / steps
            ratios = [ratio("cli", 0), ratio("cli", 1), ratio("portable", 1)]
            table.add_row(case, *ratios, f"{step * 1e3:.2f}")
        start = time.perf_counter()
        command = [sys.executable, "-m", "src.cli", "fit", "--config=configs/short.yaml"]
        environment = {"PYTHONPATH": str(folder), "WANDB_MODE": "disabled"}
        done = subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        whole = time.perf_counter() - start
        trained = float(done.stdout.rpartition("trained in ")[2].split()[0])
    Console().print(table)
    print(f"start-up and end of a command: {whole - trained:.1f} s")


if __name__ == "__main__":
    auto_cli(compare)
