"""Training steps of ConvNet, compiled and in bfloat16, against eager float32: python -m benchmarks.compile.

The images are random. Each way has its own process, since instructions are chosen once in each; each is timed
in several rounds, which alternate.
"""

import statistics
import subprocess
import sys

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

# (name, portable, compiled, precision)
WAYS = [
    ("eager float32", False, False, "32-true"),
    ("compiled float32", False, True, "32-true"),
    ("eager bf16-mixed", False, False, "bf16-mixed"),
    ("compiled bf16-mixed", False, True, "bf16-mixed"),
    ("portable: eager float32", True, False, "32-true"),
    ("portable: compiled float32", True, True, "32-true"),
    ("portable: eager bf16-mixed, which fit refuses", True, False, "bf16-mixed"),
]
STEPS = """
import sys, time
import torch
from torch import nn
from src.training.exactness import choose_instructions
portable, compiled, precision, threads = eval(sys.argv[1])
choose_instructions(portable)
torch.set_num_threads(threads)
torch.use_deterministic_algorithms(True)
from src.images.networks import ConvNet
from src.training.compilation import compile_training
torch.manual_seed(1)
module = nn.Module()
module.network = ConvNet((1, 28, 28), 10)
if compiled:
    compile_training(module)
optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, fused=True)
images, target = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
        loss = nn.functional.cross_entropy(module.network(images), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
start = time.perf_counter()
step()
print(time.perf_counter() - start, flush=True)
for _ in sys.stdin:
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        step()
        steps += 1
    print(steps * 128 / (time.perf_counter() - start), flush=True)
"""


def compare(rounds: int = 5, threads: int = 2) -> None:
    """Print images a second and their ratio to eager float32.

    Args:
        rounds: of two seconds each, of which the median is taken.
        threads: of each process.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEPS, repr((*way[1:], threads))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in WAYS
    ]
    first = [float(_line(process)) for process in processes]
    speeds: list[list[float]] = [[] for _ in WAYS]
    for _ in range(rounds):
        for process, found in zip(processes, speeds, strict=True):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(float(_line(process)))
    for process in processes:
        process.communicate()
    medians = [statistics.median(found) for found in speeds]
    table = Table("ConvNet, batches of 128", "images a second", "against eager float32", "first step")
    for way, median, seconds in zip(WAYS, medians, first, strict=True):
        table.add_row(way[0], f"{median:,.0f}", f"{median / medians[0]:.2f}", f"{seconds:.1f} s")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


if __name__ == "__main__":
    auto_cli(compare)
