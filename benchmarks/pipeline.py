"""What the pipeline costs when there is nothing to do: python -m benchmarks.pipeline."""

import statistics
import subprocess
import sys
import time

ROUNDS = 5


def seconds(*arguments: str) -> float:
    """The median time of a command."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print the times; the pipeline is brought up to date first."""
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    status = seconds("-m", "dvc", "status")
    repro = seconds("-m", "dvc", "repro")
    print(f"dvc repro with nothing to do {repro:.2f} s, {repro / status:.2f} times dvc status")
    print(f"python -m pipelines.fetch --help {seconds('-m', 'pipelines.fetch', '--help'):.2f} s")
    code = "import sys, pipelines.prepare, src.tabular.prepare; sys.exit('torch' in sys.modules)"
    print(f"import of the preparation, without torch {seconds('-c', code):.2f} s")


if __name__ == "__main__":
    main()
