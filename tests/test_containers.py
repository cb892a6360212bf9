"""The Dockerfile, by its steps: what they copy is in the build context, and is enough for what they run.

No image is built: that needs Docker and the base image.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = [
    line.removeprefix("**/")
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def steps() -> dict[str, list[list[str]]]:
    """The instructions of each stage, with those of the stages that it is built from."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found: dict[str, list[list[str]]] = {}
    stage: list[list[str]] = []
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, stage_name = rest.split()
            stage = found[stage_name] = list(found.get(base, []))
        elif name:
            stage.append([name, rest])
    return found


def in_context(path: Path) -> bool:
    relative = path.relative_to(ROOT).as_posix()
    return not any(fnmatch(relative, pattern) or relative.startswith(f"{pattern}/") for pattern in IGNORED)


def copy(rest: str, folder: Path) -> None:
    """Do a COPY into a folder; of the whole project only the files of its root."""
    *sources, place = [
        word for word in shlex.split(rest.replace("${MODEL}", "")) if not word.startswith("--")
    ]
    for source in (ROOT / source for source in sources):
        assert in_context(source), source
        if source == ROOT:
            for path in filter(Path.is_file, ROOT.iterdir()):
                shutil.copyfile(path, folder / path.name)
        elif source.is_dir():
            shutil.copytree(source, folder / place, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.name != "models":  # which is there after a training only
            shutil.copyfile(source, folder / place / source.name)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("stage", "expected"),
    [("serve", [".venv/packages", ".venv/serve-ready"]), ("project", [".venv/packages", "setup"])],
)
def test_what_is_copied_is_enough_for_each_target(stage: str, expected: list[str], tmp_path: Path) -> None:
    targets = []
    for name, rest in steps()[stage]:
        if name == "COPY" and "models" not in rest:
            copy(rest, tmp_path)
        for target in re.findall(r"(?:^|&& )make (\S+)", rest) if name == "RUN" else []:
            command = ["make", "--dry-run", target, "TORCH=cpu"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            targets.append(target)
    assert targets == expected


def test_the_server_starts_from_what_is_copied(tmp_path: Path) -> None:
    instructions = steps()["serve"]
    for name, rest in instructions:
        if name == "COPY" and "models" not in rest:
            copy(rest, tmp_path)
    assert instructions[-1][0] == "CMD"
    command = [sys.executable, *json.loads(instructions[-1][1])[1:]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: models contains no bundle; train first: dvc repro\n"


def test_an_image_runs_as_a_user_and_keeps_no_secrets() -> None:
    for stage in ("serve", "project"):
        assert [rest for name, rest in steps()[stage] if name == "USER"] == ["1000"]
    for name in (".dvc/config.local", ".env", ".venv/bin/python", ".dvc/cache/files/md5/00", "runs/line"):
        assert not in_context(ROOT / name), name
    for name in (".dvc/config", ".git", "dvc.lock", "reports/line/metrics.json", "models/line", "src/cli.py"):
        assert in_context(ROOT / name), name
