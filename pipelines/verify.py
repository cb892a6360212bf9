"""Run the committed state in a fresh clone, and compare each output with dvc.lock."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from rich.console import Console

from pipelines.report.scores import EXPECTED
from src.core.errors import ConfigurationError, IntegrityError, LockstepError, exit_with_message
from src.core.git import git
from src.core.paths import MANIFEST, MODELS, RAW, REPORTS, SOURCE

LOCK = "dvc.lock"
X86 = {"x86_64", "AMD64"}  # what the committed results were computed on
Stages = dict[str, dict[str, Any]]


def verify(model: str | None = None, keep: Path | None = None) -> None:
    """Run the committed state cold, in a clone in a temporary folder, and compare its outputs with dvc.lock.

    Uncommitted changes are ignored. Nothing in the working folder changes. On another architecture, such as
    ARM, bits differ; there each score has to be within its tolerance in data/expected_scores.yaml.

    Args:
        model: run only the stages that its evaluation needs; None for the whole pipeline.
        keep: a folder for the clone, which is kept; it must not exist.

    Raises:
        IntegrityError: an output differs from dvc.lock, or a score on another architecture is too far.
    """
    if keep is not None and keep.exists():
        raise ConfigurationError(f"--keep: {keep} exists")
    if _git(Path(), "status", "--porcelain", "--untracked-files=no"):
        print("there are uncommitted changes: the last commit is verified, without them")
    # a process that is still running may write there; that must not hide the result
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        clone = keep or Path(place, "clone")
        _git(Path(), "clone", "--quiet", _git(Path(), "rev-parse", "--show-toplevel"), str(clone))
        clone /= _git(Path(), "rev-parse", "--show-prefix")  # of a project in a subfolder of its repository
        committed = _stages(clone)
        architecture = platform.machine()
        if architecture not in X86:
            print(
                f"another architecture: {architecture}. The results of {LOCK} are those of x86-64; here bits "
                f"differ, and scores are compared within the tolerances of {EXPECTED}"
            )
        machine = [*_other_versions(clone), *_other_processor(), *_gpu()]
        for line in machine:
            print(line)
        order = _run(clone, [f"evaluate@{model}"] if model else [])
        found = _stages(clone)
        differing = [stage for stage in order if not _compare(stage, committed, found)]
        if not differing:
            print(f"all outputs of {len(order)} stages are those of {LOCK}")
            return
        if architecture not in X86 and not (worse := _out_of_tolerance(clone, order)):
            print(f"{len(differing)} of {len(order)} stages differ in bits, all scores are within tolerance")
            return
        if architecture not in X86:
            raise IntegrityError("; ".join(worse))
        first = differing[0]
        print(f"\nthe first stage that differs is {first}:")
        reasons = [*_explain(first, committed, found, clone), *machine]
        for line in reasons or ["its dependencies, the versions and the processor are the recorded ones"]:
            print(f"  {line}")
    raise IntegrityError(f"{first} differs from {LOCK}; {len(differing)} of {len(order)} stages differ")


def _git(folder: Path, *arguments: str) -> str:
    try:
        return git(*arguments, folder=folder)
    except subprocess.CalledProcessError as error:
        raise ConfigurationError(f"git {arguments[0]} failed: {error.stderr.strip()}") from None


def _stages(clone: Path) -> Stages:
    """The stages of a clone's dvc.lock."""
    path = clone / LOCK
    if not path.is_file():
        raise ConfigurationError(f"{LOCK} is not committed: there is nothing to compare with")
    stages: Stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return stages


def environment_of(clone: Path) -> dict[str, str]:
    """The environment variables for `dvc repro` in a clone: its modules, and this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "PYTHONPATH": str(clone), "WANDB_MODE": "disabled"}


def _run(clone: Path, targets: list[str]) -> list[str]:
    """Run `dvc repro` without the run cache; return the stages in the order in which they ran."""
    command = [sys.executable, "-m", "dvc", "repro", "--no-run-cache", *targets]
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=clone,
        env=environment_of(clone),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    order: list[str] = []
    said: list[str] = []
    assert process.stdout is not None
    console = Console(stderr=True)
    with process.stdout, console.status("dvc repro") as status:
        for line in process.stdout:
            said.append(line.rstrip())
            if started := re.match(r"Running stage '(?:.*:)?(.+)'", line):
                order.append(started[1])
                status.update(f"running {started[1]}, stage {len(order)}")
                if not console.is_terminal:  # which alone shows a status
                    console.print(f"running {started[1]}", highlight=False)
    if process.wait():
        lines = " | ".join([line for line in said if line][-5:])
        raise LockstepError(f"dvc repro failed in the clone: {lines}")
    return order


def _outputs(stage: dict[str, Any]) -> dict[str, str]:
    return {output["path"]: output["md5"] for output in stage.get("outs", [])}


def _compare(stage: str, committed: Stages, found: Stages) -> bool:
    """Print for each output of a stage whether it is identical; return whether all are."""
    same = True
    promised = _outputs(committed.get(stage, {}))
    for path, digest in _outputs(found[stage]).items():
        if path not in promised:
            said = f"not in {LOCK}"
        else:
            said = "identical" if digest == promised[path] else "DIFFERS"
        same &= said == "identical"
        print(f"{said:9}  {stage}: {path}", flush=True)
    return same


def _explain(stage: str, committed: Stages, found: Stages, clone: Path) -> Iterator[str]:
    """The differences of a stage: of its inputs, then of its outputs."""
    if stage not in committed:
        yield f"{LOCK} has no such stage: run `dvc repro` and commit {LOCK}"
        return
    inputs = (
        {dep["path"]: dep["md5"] for dep in stages[stage].get("deps", [])} for stages in (committed, found)
    )
    before, after = inputs
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield f"{path} has changed since the last `dvc repro`: {LOCK} is older"
    if committed[stage].get("params") != found[stage].get("params"):
        yield f"its parameters have changed since the last `dvc repro`: {LOCK} is older"
    promised = _outputs(committed[stage])
    for path, digest in _outputs(found[stage]).items():
        if path in promised and digest != promised[path]:
            yield from _differences(path, promised[path], clone)


def _differences(path: str, promised: str, clone: Path) -> Iterator[str]:
    """The differences of an output from the recorded one, if that is in the cache or in git."""
    new = clone / path
    if new.name == "metrics.json":
        old = json.loads(_git(clone, "show", f"HEAD:{path}"))
        metrics = json.loads(new.read_text(encoding="utf-8"))
        for name in sorted(old.keys() | metrics.keys()):
            if old.get(name) != metrics.get(name):
                yield f"{path}: {name} is {metrics.get(name)}, committed is {old.get(name)}"
        return
    listing = Path(".dvc/cache/files/md5", promised[:2], promised[2:])
    if not promised.endswith(".dir") or not listing.is_file():
        yield f"{path}: the recorded output is not in the cache; `dvc repro` makes it"
        return
    files = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text(encoding="utf-8"))}
    here = {file.relative_to(new).as_posix(): file for file in new.rglob("*") if file.is_file()}
    for name in sorted(files.keys() | here.keys()):
        if name not in here or name not in files:
            yield f"{path}/{name}: " + ("is missing" if name not in here else "should not be there")
            continue
        cached = Path(".dvc/cache/files/md5", files[name][:2], files[name][2:])
        if cached.is_file() and cached.read_bytes() != here[name].read_bytes():
            yield f"{path}/{name}: {_difference(cached, here[name])}"


def _difference(old: Path, new: Path) -> str:
    """The difference of two files: of tensors the largest distance, of others the first differing byte."""
    if new.suffix == ".safetensors":
        import numpy as np

        from src.bundle.bundle import arrays_of

        before, after = arrays_of(old), arrays_of(new)
        if {name: tensor.shape for name, tensor in before.items()} != {
            name: tensor.shape for name, tensor in after.items()
        }:
            return "other tensors"
        far = {name: float(np.abs(before[name].astype(float) - after[name]).max()) for name in before}
        name = max(far, key=lambda each: far[each])
        count = sum(value > 0 for value in far.values())
        return f"{count} of {len(far)} tensors differ, {name} the most, by {far[name]:.3g}"
    pairs = enumerate(zip(old.read_bytes(), new.read_bytes(), strict=False))
    place = next((number for number, (a, b) in pairs if a != b), min(old.stat().st_size, new.stat().st_size))
    return f"differs from byte {place} on"


def _other_versions(clone: Path) -> Iterator[str]:
    """The packages whose installed version is not the locked one."""
    text = (clone / "requirements.lock").read_text(encoding="utf-8")
    for name, locked in re.findall(r"^([\w.-]+)==([^\s;]+) \\$", text, re.MULTILINE):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # of another system, or for development
        if found.partition("+")[0] != locked.partition("+")[0]:
            yield f"{name} {found} is installed, requirements.lock has {locked}"


def _other_processor() -> Iterator[str]:
    """The instruction set, if it differs from the one that src/__init__.py chooses on x86."""
    import torch

    found = torch.backends.cpu.get_cpu_capability()
    if found != "AVX2":
        yield f"torch computes with {found}, the results of {LOCK} are those of AVX2 on x86-64"


def _gpu() -> Iterator[str]:
    """The GPU on which trainings run, if there is one."""
    import torch

    if torch.cuda.is_available():
        yield (
            f"trainings run on {torch.cuda.get_device_name()}, which rounds differently than a processor; if "
            f"{LOCK} was computed without it: CUDA_VISIBLE_DEVICES= python -m pipelines.verify"
        )


def _out_of_tolerance(clone: Path, order: list[str]) -> list[str]:
    """The scores of the evaluated models that differ from the expected ones by more than their tolerance."""
    expected = yaml.safe_load((clone / EXPECTED).read_text(encoding="utf-8"))
    found = []
    for model in (stage.partition("@")[2] for stage in order if stage.startswith("evaluate@")):
        task = json.loads((clone / MODELS / model / MANIFEST).read_text(encoding="utf-8"))["task"]
        origin = clone / RAW / task / SOURCE
        source = json.loads(origin.read_text(encoding="utf-8"))["source"] if origin.is_file() else None
        if (entry := expected.get(model, {}).get(source)) is None:
            continue
        metrics = json.loads((clone / REPORTS / model / "metrics.json").read_text(encoding="utf-8"))
        score = metrics[f"test/{entry['metric']}"]
        if abs(score - entry["score"]) > entry["tolerance"]:
            found.append(
                f"{model}: {entry['metric']} {score:g}, expected {entry['score']:g} +- {entry['tolerance']:g}"
            )
    return found


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(
        prog="python -m pipelines.verify", description=str(verify.__doc__).partition("    Args:")[0]
    )
    parser.add_argument("model", nargs="?", help="Only the stages that the evaluation of this model needs.")
    parser.add_argument(
        "--keep", type=Path | None, help="A folder for the clone, which is kept; it must not exist."
    )
    found = parser.parse_args()
    verify(found["model"], found["keep"])


if __name__ == "__main__":
    exit_with_message(main)
