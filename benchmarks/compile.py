"""Training steps of ConvNet, compiled and in bfloat16, against eager float32: python -m benchmarks.compile.

The first way has torch's own memory layout, as a loop that is written by hand has; all others ConvNet's,
where the channels of a pixel lie together.
The images are random. The ways take turns in one process, with all instructions of this processor, or on the
GPU if there is one.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import nn

from src.images.networks import ConvNet
from src.training.compilation import compile_training, computes_in_bfloat16
from src.training.exactness import choose_instructions

AHEAD = 20  # steps that a GPU may lag behind


def step_of(
    compiled: bool, precision: torch.dtype, layout: torch.memory_format, batch: int, device: torch.device
) -> Callable[[], None]:
    """A function that takes a step on the same images each time, as a fit does."""
    torch.manual_seed(1)
    module = nn.Module()
    module.network = ConvNet((1, 28, 28), 10).to(memory_format=layout).to(device)
    if compiled:
        compile_training(module)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(batch, 1, 28, 28, device=device)
    target = torch.randint(10, (batch,), device=device)

    def step() -> None:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            loss = nn.functional.cross_entropy(module.network(images), target)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def wait(device: torch.device) -> None:
    """Wait until the device has computed all that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(rounds: int = 5, threads: int = 2, batch: int = 128) -> None:
    """Print images a second, and their ratio to eager float32.

    Args:
        rounds: of two seconds each, of which the median is taken.
        threads: of the CPU.
        batch: images of a step.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    choose_instructions(portable=False)
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True)
    types = [torch.float32]
    if device.type == "cuda" or computes_in_bfloat16():
        types.append(torch.bfloat16)
    ways = {"by hand: eager float32": step_of(False, torch.float32, torch.contiguous_format, batch, device)}
    ways |= {
        f"{'compiled' if compiled else 'eager'} {precision}": step_of(
            compiled, precision, torch.channels_last, batch, device
        )
        for precision in types
        for compiled in (False, True)
    }
    first: list[float] = []
    for step in ways.values():
        start = time.perf_counter()
        step()
        wait(device)
        first.append(time.perf_counter() - start)
    speeds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for step, found in zip(ways.values(), speeds, strict=True):
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < 2:
                step()
                steps += 1
                if steps % AHEAD == 0:
                    wait(device)
            wait(device)
            found.append(steps * batch / (time.perf_counter() - start))
    table = Table(
        f"ConvNet on {name}, batches of {batch}", "images a second", "against by hand", "first step"
    )
    medians = [statistics.median(found) for found in speeds]
    for name, median, seconds in zip(ways, medians, first, strict=True):
        table.add_row(name, f"{median:,.0f}", f"{median / medians[0]:.2f}", f"{seconds:.1f} s")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    auto_cli(compare)
