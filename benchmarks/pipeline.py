"""What the pipeline costs when there is nothing to do: python -m benchmarks.pipeline [--tasks 50].

With --tasks, the times are those of a project with so many tasks, each with a model: the stages of dvc.yaml,
whose outputs are written by hand and committed. Without it they are those of this project, which is brought
up to date first.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli

ROUNDS = 5
PROJECT = ("configs", "dvc.yaml", "pipelines", "requirements.lock", "src")
TASK = "house_prices"


def seconds(folder: Path, *arguments: str) -> float:
    """The median time of a command in a folder."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write_project(folder: Path, number: int) -> None:
    """Write a project with a number of tasks, and the record of a pipeline that has run.

    Args:
        folder: an empty one.
        number: of tasks; each has the data and configuration of one of this project.
    """
    for name in PROJECT:
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy2
        copy(name, folder / name)
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    names = [f"{TASK}_{task}" for task in range(number)]
    content: dict[str, Any] = {name: deepcopy(parameters[TASK]) for name in names}  # YAML would have aliases
    content["tasks"] = dict.fromkeys(names, parameters["tasks"][TASK])
    content["models"] = {name: f"data/prepared/{name}" for name in names}
    content["studies"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    configuration = yaml.safe_load(Path(f"configs/{TASK}.yaml").read_text(encoding="utf-8"))
    for name in names:
        text = yaml.safe_dump(configuration | {"task": name}, sort_keys=False)
        (folder / "configs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name in ("data/samples/a.csv", "data/expected_scores.yaml", "report.html"):
        _write(folder / name, name)
    for name in names:
        for place in (
            f"data/raw/{name}/a.csv",
            f"data/prepared/{name}/a.npy",
            f"models/{name}/a.safetensors",
        ):
            _write(folder / place, place)
        for place in ("tables/a.csv", "metrics.json", "plots/a.csv"):
            _write(folder / "reports" / name / place, "{}")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    del stages["plots"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False), encoding="utf-8")
    for command in ("pipelines.code", "dvc init --no-scm --quiet", "dvc commit --force --quiet"):
        subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def measure(folder: Path) -> None:
    """Print what `dvc status` and `dvc repro` take in a project in which nothing is to be done."""
    status = seconds(folder, "-m", "dvc", "status")
    repro = seconds(folder, "-m", "dvc", "repro")
    print(f"dvc status {status:.2f} s, dvc repro {repro:.2f} s, {repro / status:.2f} times", flush=True)


def main(tasks: int = 0) -> None:
    """Print the times.

    Args:
        tasks: their number; 0 measures this project.
    """
    if tasks:
        with tempfile.TemporaryDirectory() as name:
            write_project(Path(name), tasks)
            said = subprocess.run(
                [sys.executable, "-m", "dvc", "status"], cwd=name, check=True, capture_output=True, text=True
            ).stdout
            assert "up to date" in said, said
            print(f"{tasks} tasks, {(Path(name) / 'dvc.lock').stat().st_size / 1e3:.0f} kB of dvc.lock")
            measure(Path(name))
        return
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    here = Path.cwd()
    measure(here)
    print(f"python -m pipelines.fetch --help {seconds(here, '-m', 'pipelines.fetch', '--help'):.2f} s")
    code = "import sys, pipelines.prepare, src.tabular.prepare; sys.exit('torch' in sys.modules)"
    print(f"import of the preparation, without torch {seconds(here, '-c', code):.2f} s")


if __name__ == "__main__":
    auto_cli(main)
