"""Kill trainings of ordinary modules at random moments: python -m benchmarks.own_modules --kills 100.

The modules are those of tests/own_modules. Each is trained once as a whole, and again with SIGKILLs at random
moments of its training, restarted until it is done. The tensors of both bundles and their histories must be
equal, bit for bit.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
MODULES = ROOT / "tests" / "own_modules"
TRUSTED = ["torchvision"]
STARTED = re.compile(r"^\w+ on cpu$", re.MULTILINE)  # what `fit` prints before the first epoch


def make_project(folder: Path) -> list[str]:
    """Make a project whose tasks are the modules of tests/own_modules, one file and one YAML each.

    Args:
        folder: an empty folder.

    Returns:
        The names of the tasks.
    """
    from torchvision.models import resnet18

    for part in ("src", "pipelines"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "configs").mkdir()
    names = sorted(path.stem for path in MODULES.glob("*.yaml"))
    for name in names:
        (folder / "src" / name).mkdir()
        (folder / "src" / name / "__init__.py").touch()
        shutil.copyfile(MODULES / f"{name}.py", folder / "src" / name / "model.py")
        shutil.copyfile(MODULES / f"{name}.yaml", folder / "configs" / f"{name}.yaml")
    parameters = {"tasks": {name: name for name in names}, "trusted": TRUSTED}
    parameters |= {name: {"source": "none", "files": {}, "prepare": {}} for name in names}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    (folder / "data").mkdir()
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / "data" / "resnet18.pt")
    chance = np.random.default_rng(0)
    for number in range(40):
        path = folder / "data" / "photos" / ("dark", "light")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = chance.integers(0, 192, (48, 64, 3), dtype=np.uint8) + np.uint8(63 * (number % 2))
        Image.fromarray(pixels).save(path)
    return names


class Campaign:
    """Trainings of a project of ordinary modules, whole and killed.

    Args:
        project: as `make_project` makes it.
        epochs: of each training.
        chance: of moments.
    """

    def __init__(self, project: Path, epochs: int, chance: random.Random) -> None:
        self.project = project
        self.epochs = epochs
        self.chance = chance
        self.counts: Counter[str] = Counter()

    def fit(self, name: str, after: float | None = None) -> bool:
        """Train a module, or resume its training.

        Args:
            name: of the module.
            after: the seconds from the beginning of its training to a SIGKILL; None lets it end.

        Returns:
            Whether it has ended by itself.
        """
        log = self.project / "log.txt"
        command = [sys.executable, "-m", "src.cli", "fit", f"--config=configs/{name}.yaml"]
        command.append(f"--trainer.max_epochs={self.epochs}")
        environment = os.environ | {"PYTHONPATH": str(self.project), "WANDB_MODE": "disabled"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.project, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        while after is not None and process.poll() is None:
            if STARTED.search(log.read_text(encoding="utf-8", errors="replace")):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(after)
                break
            time.sleep(0.01)
        if after is None or process.poll() is not None:
            process.wait()
        self.counts["restarts from a checkpoint"] += "going on after epoch" in log.read_text(encoding="utf-8")
        if process.poll() is not None:
            if process.returncode:
                sys.exit(f"{name} failed: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
            return True
        # a power failure takes the loader's workers along; the kernel's killer of processes takes one
        if self.chance.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return False

    def module(self, name: str, kills: int) -> None:
        """Compare a whole training of a module with one that is killed some times."""
        self._forget(name)
        start = time.perf_counter()
        self.fit(name)
        seconds = self._seconds()
        expected = self._result(name)
        self._forget(name)
        hit = repeated = 0
        while hit < kills:
            if self.fit(name, self.chance.uniform(0, seconds)):
                repeated += 1
                seconds = min(seconds, self._seconds())  # the machine may have been busier before
                self._compare(name, expected)
                self._forget(name)  # it has ended before its kills; once more
            else:
                hit += 1
        self.fit(name)
        differing = self._compare(name, expected)
        self._forget(name)
        self.counts["kills"] += hit
        self.counts["modules"] += 1
        print(
            f"{name:14} {hit} kills of a training of {seconds:.1f} s, {repeated + 1} results of "
            f"{len(expected[0])} tensors, {differing} differ ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )

    def _seconds(self) -> float:
        """The time of the training that has just ended."""
        return float(re.findall(r"trained in ([\d.]+) s", (self.project / "log.txt").read_text())[-1])

    def _compare(self, name: str, expected: tuple[dict[str, torch.Tensor], bytes]) -> int:
        tensors, history = self._result(name)
        differing = [key for key in expected[0] if not torch.equal(tensors[key], expected[0][key])]
        self.counts["results compared"] += 1
        self.counts["tensors compared"] += len(expected[0])
        self.counts["differing tensors"] += len(differing)
        self.counts["differing histories"] += history != expected[1]
        if differing:
            print(f"DIFFERENT: {name}: {', '.join(differing)}", flush=True)
        return len(differing)

    def _result(self, name: str) -> tuple[dict[str, torch.Tensor], bytes]:
        bundle = self.project / "models" / name
        return load_file(bundle / "model.safetensors"), (bundle / "history.csv").read_bytes()

    def _forget(self, name: str) -> None:
        for part in ("models", "runs"):
            shutil.rmtree(self.project / part / name, ignore_errors=True)


def campaign(kills: int = 100, seed: int = 1, epochs: int = 60, modules: list[str] | None = None) -> None:
    """Print for each module how many tensors differ, then the sums.

    Args:
        kills: how many at least.
        seed: of the moments.
        epochs: of each training.
        modules: of tests/own_modules; all if left out.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        every = make_project(Path(place))
        names = modules or every
        run = Campaign(Path(place), epochs, random.Random(seed))  # noqa: S311
        for name in names:
            run.module(name, -(-kills // len(names)))
    for text in ("differing tensors", "differing histories"):
        run.counts[text] += 0  # told even if there is none
    print("\n".join(f"{name}: {count}" for name, count in run.counts.items()))
    sys.exit(bool(run.counts["differing tensors"] + run.counts["differing histories"]))


if __name__ == "__main__":
    auto_cli(campaign)
