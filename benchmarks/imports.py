"""The CPU time of `import src.cli` against that of `import torch`, each in a process of its own."""

import statistics

from benchmarks.timing import cpu_seconds

ROUNDS = 5


def main() -> None:
    """Print both and their ratio."""
    found = {
        module: statistics.median(cpu_seconds("-c", f"import {module}") for _ in range(ROUNDS))
        for module in ("torch", "src.cli")
    }
    for module, seconds in found.items():
        print(f"import {module}: {seconds:.2f} s of CPU time")
    print(f"src.cli takes {found['src.cli'] / found['torch']:.2f} times as long as torch")


if __name__ == "__main__":
    main()
