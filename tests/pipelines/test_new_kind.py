"""A kind of data begun by pipelines.new_kind trains at once, and its own test passes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.new_kind import new_kind
from src.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
PARAMETERS = "tasks: # kinds\n  line: tabular\n\nline: {source: sample, files: {}, prepare: {}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMETERS)
    for name in ("src", "configs", "tests"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_package_a_configuration_a_task_and_a_test_are_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(folder)
    new_kind("sound")
    assert files_of(folder) - before - {"runs/new_task.lock"} == {
        "src/sound/__init__.py",
        "src/sound/model.py",
        "configs/sound.yaml",
        "tests/sound/test_sound.py",
    }
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    assert parameters["tasks"] == {"line": "tabular", "sound": "sound"}
    assert parameters["models"] == {"sound": "data/prepared/sound"}
    assert parameters["sound"] == {"source": "none", "files": {}, "prepare": {}}
    assert (
        (folder / "params.yaml").read_text().startswith("tasks: # kinds\n  line: tabular\n  sound: sound\n")
    )
    assert "dvc repro evaluate@sound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("line", "taken"),
        ("Models", "taken"),
        ("9lives", "expected a letter"),
        ("class", "word of Python"),
        ("core", "src/core exists"),
        ("cli", "src/cli.py exists"),
        ("training", "tests/training exists"),
    ],
)
def test_a_name_in_use_is_refused(folder: Path, name: str, message: str) -> None:
    for path in ("src/core", "tests/training"):
        (folder / path).mkdir()
    (folder / "src" / "cli.py").touch()
    before = files_of(folder)
    with pytest.raises(ConfigurationError, match=message):
        new_kind(name)
    assert files_of(folder) - {"runs/new_task.lock"} == before


def test_tasks_in_braces_are_refused_and_nothing_is_written(folder: Path) -> None:
    (folder / "params.yaml").write_text("tasks: {line: tabular}\n")
    with pytest.raises(ConfigurationError, match="lines `name: value` are expected"):
        new_kind("sound")
    assert files_of(folder) - {"runs/new_task.lock"} == {"params.yaml"}


@pytest.mark.slow
def test_it_trains_at_once_and_its_own_test_passes(folder: Path, python: Callable[..., Any]) -> None:
    for part in ("src", "pipelines"):
        shutil.rmtree(folder / part, ignore_errors=True)
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests/conftest.py", "dvc.yaml", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    done = python("-m", "pipelines.new_kind", "sound", cwd=folder)
    assert done.returncode == 0, done.stdout
    done = python("-m", "src.cli", "fit", "--config", "configs/sound.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "test/accuracy" in done.stdout
    done = python("-m", "pytest", "-q", "tests/sound", cwd=folder, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout
