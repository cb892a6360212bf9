"""Kill the pipeline at random moments until it is done: python -m benchmarks.kills.

Each round clones the last commit and runs `dvc repro` of some tasks again and again. After a random time a
random part of it gets SIGKILL: all of it, as in a power failure, the stage, or DVC alone, whose stage then
lives on. What lies in the outputs after a kill must be whole; what lies there at the end must be what the
project has here (where `dvc status` must be clean), and dvc.lock must be the committed one.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from jsonargparse import auto_cli

from src.shared.folders import file_digest, folder_digest

KINDS = ("all", "stage", "dvc")
MEAN_SECONDS = 10.0
VERBS = ("pipelines.fetch", "pipelines.prepare", "src.cli", "pipelines.evaluate")
BETWEEN = "no stage"


def digests(folder: Path, paths: list[str]) -> dict[str, str | None]:
    """The sha256 of each output in a folder; None where it is not there."""
    found: dict[str, str | None] = dict.fromkeys(paths)
    for path in paths:
        place = folder / path
        if place.exists():
            found[path] = folder_digest(place) if place.is_dir() else file_digest(place)
    return found


def outputs_of(tasks: list[str]) -> list[str]:
    """The outputs of the stages of tasks in dvc.lock."""
    stages = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    return [
        output["path"]
        for name, stage in stages.items()
        if name.partition("@")[2] in tasks and not name.startswith("study@")
        for output in stage.get("outs", [])
    ]


def kill(process: subprocess.Popen[bytes], kind: str) -> str:
    """Kill a part of a running `dvc repro`; the verb that was under way."""
    children = psutil.Process(process.pid).children(recursive=True)
    at_work = BETWEEN
    for child in children:
        with suppress(psutil.Error):
            for verb in set(VERBS) & set(child.cmdline()[1:4]):
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


def one_round(
    clone: Path,
    tasks: list[str],
    expected: dict[str, str | None],
    chance: random.Random,
    counts: Counter[str],
) -> None:
    """Run and kill until `dvc repro` has come to its end in a fresh clone."""
    command = [sys.executable, "-m", "dvc", "repro", *(f"evaluate@{task}" for task in tasks)]
    environment = os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": str(clone)}
    log = clone.with_name("log.txt")
    while True:
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=clone, env=environment, stdout=file, stderr=file)
        try:
            code = process.wait(chance.expovariate(1 / MEAN_SECONDS))
        except subprocess.TimeoutExpired:
            kind = chance.choice(KINDS)
            verb = kill(process, kind)
            counts["kills"] += 1
            counts[f"kills of {kind}"] += 1
            counts[f"kills in {verb}"] += 1
            print(f"{counts['kills']:4}  {kind:5}  {verb}", flush=True)
            for path, digest in digests(clone, list(expected)).items():
                if digest not in (None, expected[path]):
                    counts["half-written outputs"] += 1
                    print(f"HALF-WRITTEN: {path}", flush=True)
            continue
        if code == 0:
            return
        said = log.read_text(encoding="utf-8", errors="replace")
        if "another process trains" in said:
            counts["refusals beside a trainer that lives on"] += 1
            time.sleep(1)
        elif "'./dvc.lock' " in said:  # is invalid, or validation failed
            # DVC writes it in place; what has run comes back from its run cache
            counts["dvc.lock cut off while DVC wrote it, taken from git"] += 1
            subprocess.run(["git", "checkout", "--quiet", "dvc.lock"], cwd=clone, check=True)  # noqa: S607
        elif "Unable to read RWLock-file" in said:
            counts["rwlock cut off while DVC wrote it, removed"] += 1
            (clone / ".dvc/tmp/rwlock").unlink()
        else:
            counts["failures"] += 1
            print(f"FAILED with {code}: {said[-400:]}", flush=True)
            return


def campaign(kills: int = 200, seed: int = 1, tasks: list[str] | None = None) -> None:
    """Print each kill, then how many results differ and how many outputs were half-written.

    Args:
        kills: how many at least.
        seed: of moments and kinds.
        tasks: of params.yaml; all if left out.
    """
    chance = random.Random(seed)  # noqa: S311
    tasks = tasks or list(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["tasks"])
    expected = digests(Path(), outputs_of(tasks))
    absent = [path for path, digest in expected.items() if digest is None]
    if absent:
        sys.exit(f"{absent[0]} is not here to compare with; run: dvc repro")
    names = ("kills", "rounds", "differing results", "half-written outputs", "failures")
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    while counts["kills"] < kills:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            clone = Path(place, "clone")
            subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)  # noqa: S607
            one_round(clone, tasks, expected, chance, counts)
            counts["rounds"] += 1
            found = digests(clone, list(expected))
            differing = [path for path in expected if found[path] != expected[path]]
            if (clone / "dvc.lock").read_bytes() != Path("dvc.lock").read_bytes():
                differing.append("dvc.lock")
            counts["differing results"] += len(differing)
            print(f"round {counts['rounds']} done; differing: {differing or 'nothing'}", flush=True)
            for process in psutil.process_iter(["cwd"]):
                if process.info["cwd"] == str(clone):  # of a DVC that was killed
                    process.kill()
    print("\n".join(f"{name}: {count}" for name, count in counts.items()))


if __name__ == "__main__":
    auto_cli(campaign)
