"""Kill the pipeline at random moments until it is done: python -m benchmarks.kills.

Each round clones the last commit and runs `dvc repro` again and again. After a random time a random part of
it gets SIGKILL: all of it, as in a power failure, the stage, or DVC alone, whose stage then lives on. What
lies in the outputs after a kill must be whole; what lies there at the end, dvc.lock too, must be what the
project has here, where `dvc status` must be clean.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from jsonargparse import auto_cli

from pipelines.verify import environment_of
from src.core.digests import file_digest, folder_digest

KINDS = ("all", "stage", "dvc")
VERBS = {
    *("pipelines.fetch", "pipelines.prepare", "src.cli", "pipelines.evaluate"),
    *("pipelines.study", "pipelines.report"),
}
BETWEEN = "no stage"


def digests(folder: Path, paths: list[str]) -> dict[str, str | None]:
    """The sha256 of each output in a folder; None where it is not there."""
    found: dict[str, str | None] = dict.fromkeys(paths)
    for path in paths:
        place = folder / path
        if place.exists():
            found[path] = folder_digest(place) if place.is_dir() else file_digest(place)
    return found


def stages_of(project: Path, tasks: list[str] | None) -> dict[str, Any]:
    """The stages in a project's dvc.lock; with tasks, those from fetch to evaluate of these alone."""
    stages: dict[str, Any] = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    if tasks is None:
        return stages
    verbs = ("fetch", "prepare", "train", "evaluate")
    return {name: stages[name] for task in tasks for name in (f"{verb}@{task}" for verb in verbs)}


def kill(process: subprocess.Popen[bytes], kind: str) -> str:
    """Kill a part of a running `dvc repro`; the verb that was under way."""
    children = psutil.Process(process.pid).children(recursive=True)
    at_work = BETWEEN
    for child in children:
        with suppress(psutil.Error):
            for verb in VERBS & set(child.cmdline()[1:4]):
                at_work = verb
                if kind == "stage":
                    child.kill()
                    process.wait()  # DVC ends by itself
                    return at_work
    process.kill()
    process.wait()
    if kind == "all":
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    return at_work


@dataclass
class Campaign:
    """Rounds of kills in fresh clones of a project.

    Args:
        project: where the pipeline has run.
        tasks: which part of it is run; None is all of it.
        seconds: the mean time from a start to the first kill of a round; it grows by a tenth with each kill.
        chance: of moments and kinds.
    """

    project: Path
    tasks: list[str] | None
    seconds: float
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.stages = stages_of(self.project, self.tasks)
        self.outputs = [output["path"] for stage in self.stages.values() for output in stage.get("outs", [])]
        self.expected = digests(self.project, self.outputs)

    def round(self, place: Path) -> None:
        """Run and kill until `dvc repro` has come to its end in a fresh clone, and compare what it has made.

        Args:
            place: an empty folder for the clone.
        """
        clone = place / "clone"
        command = ["git", "clone", "--quiet", str(self.project), str(clone)]
        subprocess.run(command, check=True)
        try:
            mean = self.seconds
            while not self._run(clone, mean):
                mean *= 1.1  # on a busy machine no stage would ever end within the first mean
        finally:
            for process in psutil.process_iter(["cwd"]):
                if process.info["cwd"] == str(clone):  # of a DVC that was killed
                    process.kill()
        found = digests(clone, self.outputs)
        differing = [path for path in self.outputs if found[path] != self.expected[path]]
        differing += [
            name for name, stage in self.stages.items() if stages_of(clone, None).get(name) != stage
        ]
        self.counts["rounds"] += 1
        self.counts["differing results"] += len(differing)
        print(f"round {self.counts['rounds']} done; differing: {differing or 'nothing'}", flush=True)

    def _run(self, clone: Path, mean: float) -> bool:
        """Run once, until a kill after `mean` seconds on average, or the end; whether that was the end."""
        targets = [f"evaluate@{task}" for task in self.tasks or []]
        log = clone.with_name("log.txt")
        log.unlink(missing_ok=True)  # a stage whose DVC was killed still writes to the old one
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", *targets],
                cwd=clone,
                env=environment_of(clone),
                stdout=file,
                stderr=file,
            )
        try:
            code = process.wait(self.chance.expovariate(1 / mean))
        except subprocess.TimeoutExpired:
            kind = self.chance.choice(KINDS)
            self._note_kill(clone, kind, kill(process, kind))
            return False
        if code == 0:
            return True
        said = log.read_text(encoding="utf-8", errors="replace")
        if "error: another process " in said:
            self.counts["refusals beside a stage that lives on"] += 1
            time.sleep(1)
        elif "'./dvc.lock' " in said:  # is invalid, or validation failed
            # DVC writes it in place; what has run comes back from its run cache
            self.counts["dvc.lock cut off while DVC wrote it, taken from git"] += 1
            (clone / "dvc.lock").unlink()
            subprocess.run(["git", "checkout", "--quiet", "dvc.lock"], cwd=clone)  # noqa: S607
        elif "Unable to read RWLock-file" in said:
            self.counts["rwlock cut off while DVC wrote it, removed"] += 1
            (clone / ".dvc/tmp/rwlock").unlink()
        else:
            self.counts["failures"] += 1
            print(f"FAILED with {code}: {said[-400:]}", flush=True)
            return True
        return False

    def _note_kill(self, clone: Path, kind: str, verb: str) -> None:
        self.counts["kills"] += 1
        self.counts[f"kills of {kind}"] += 1
        self.counts[f"kills in {verb}"] += 1
        print(f"{self.counts['kills']:4}  {kind:5}  {verb}", flush=True)
        for path, digest in digests(clone, self.outputs).items():
            if digest not in (None, self.expected[path]):
                self.counts["half-written outputs"] += 1
                print(f"HALF-WRITTEN: {path}", flush=True)


def campaign(kills: int = 200, seed: int = 1, tasks: list[str] | None = None, seconds: float = 10) -> None:
    """Print each kill, then how many results differ and how many outputs were half-written.

    Args:
        kills: how many at least.
        seed: of moments and kinds.
        tasks: of params.yaml; the whole pipeline, with studies and report, if left out.
        seconds: the mean time from a start to the first kill of a round; it grows by a tenth with each kill.
    """
    run = Campaign(Path.cwd(), tasks, seconds, random.Random(seed))  # noqa: S311
    absent = [path for path, digest in run.expected.items() if digest is None]
    if absent:
        sys.exit(f"{absent[0]} is not here to compare with; run: dvc repro")
    while run.counts["kills"] < kills:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            run.round(Path(place))
    for name in ("differing results", "half-written outputs", "failures"):
        run.counts[name] += 0  # told even if there is none
    print("\n".join(f"{name}: {count}" for name, count in run.counts.items()))


if __name__ == "__main__":
    auto_cli(campaign)
