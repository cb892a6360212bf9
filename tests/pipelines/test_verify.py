"""Verification of a small repository of one stage: what is told when something is not as it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.verify import _difference, verify
from src.core.errors import ConfigurationError, IntegrityError, LockstepError

STAGE = """
stages:
  evaluate:
    foreach: [tiny]
    do:
      cmd: python make.py
      deps: [make.py]
      outs: [models/tiny, tiny.txt]
      metrics:
        - metrics.json:
            cache: false
"""
MAKE = """
import json, os
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
noise = float(os.environ.get("NOISE", "0"))
Path("models/tiny").mkdir(parents=True)
weights = {"a": np.zeros(3), "b": np.array([1.0, 2.0 + noise])}
save_file(weights, "models/tiny/model.safetensors")
Path("models/tiny/summary.txt").write_text(f"sum {3 + noise:g}")
Path("tiny.txt").write_text("always the same")
Path("metrics.json").write_text(json.dumps({"test/rmse": 0.5 + noise, "test/mae": 0.25}))
"""


def call(*command: str) -> None:
    identity = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org")
    command = (*identity, *command[1:]) if command[0] == "git" else (sys.executable, "-m", *command)
    subprocess.run(command, check=True, capture_output=True)


def commit() -> None:
    call("git", "add", "--all")
    call("git", "commit", "--quiet", "--message", "Change")


@pytest.fixture(scope="module")
def finished(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose pipeline has run and whose dvc.lock is committed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("git", "init", "--quiet")
        call("dvc", "init", "--quiet")
        Path("dvc.yaml").write_text(STAGE)
        Path("make.py").write_text(MAKE)
        Path("requirements.lock").write_text("numpy==0.1 \\\n    --hash=sha256:00\n")
        Path(".gitignore").write_text("/models\n/tiny.txt\n__pycache__\n")
        call("dvc", "repro", "--quiet")
        commit()
    return folder


@pytest.fixture(autouse=True)
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is a clone of that repository, with its cache."""
    subprocess.run(["git", "clone", "--quiet", finished, tmp_path / "project"], check=True)
    monkeypatch.chdir(tmp_path / "project")
    Path(".dvc/cache").symlink_to(finished / ".dvc/cache")


def test_what_is_as_it_was_is_said_output_by_output(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("make.py").open("a") as file:
        file.write("raise SystemExit('not committed')\n")
    verify("tiny", keep=Path("../kept"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "there are uncommitted changes: the last commit is verified, without them"
    assert lines[1].startswith("numpy ")
    assert lines[1].endswith(" is installed, requirements.lock has 0.1")
    assert lines[-4:] == [
        "identical  evaluate@tiny: metrics.json",
        "identical  evaluate@tiny: models/tiny",
        "identical  evaluate@tiny: tiny.txt",
        "all outputs of 1 stages are those of dvc.lock",
    ]
    assert Path("../kept/tiny.txt").is_file()
    with pytest.raises(ConfigurationError, match="exists"):
        verify(keep=Path("../kept"))


def test_stages_run_with_this_python_also_where_another_one_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "bin/python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent), prepend=os.pathsep)
    verify("tiny")


def test_other_bits_are_told_by_tensor_metric_and_byte(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOISE", "0.125")
    with pytest.raises(IntegrityError, match=r"evaluate@tiny differs from dvc.lock; 1 of 1"):
        verify()
    said = capsys.readouterr().out
    for line in (
        "DIFFERS    evaluate@tiny: models/tiny",
        "identical  evaluate@tiny: tiny.txt",
        "the first stage that differs is evaluate@tiny:",
        "  metrics.json: test/rmse is 0.625, committed is 0.5",
        "  models/tiny/model.safetensors: 1 of 2 tensors differ, b the most, by 0.125",
        "  models/tiny/summary.txt: differs from byte 5 on",
        "is installed, requirements.lock has 0.1",
    ):
        assert line in said
    assert "test/mae" not in said


@pytest.mark.usefixtures("project")
def test_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA T4")
    verify()
    said = capsys.readouterr().out
    assert "trainings run on NVIDIA T4, which rounds differently" in said
    assert "CUDA_VISIBLE_DEVICES= python -m pipelines.verify" in said


def test_without_the_cache_the_difference_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".dvc/cache").unlink()
    monkeypatch.setenv("NOISE", "0.125")
    with pytest.raises(IntegrityError):
        verify()
    assert "models/tiny: the recorded output is not in the cache" in capsys.readouterr().out


def test_a_lock_older_than_the_code_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("make.py").write_text(MAKE.replace("sum", "total"))
    commit()
    with pytest.raises(IntegrityError):
        verify()
    assert "make.py has changed since the last `dvc repro`: dvc.lock is older" in capsys.readouterr().out


def test_a_stage_that_fails_is_told() -> None:
    Path("make.py").write_text("raise SystemExit('no more memory')")
    commit()
    with pytest.raises(LockstepError, match=r"dvc repro failed in the clone: .*no more memory"):
        verify()


def test_without_a_lock_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    Path("dvc.lock").unlink()
    commit()
    with pytest.raises(ConfigurationError, match=r"dvc\.lock is not committed"):
        verify()


def test_outside_of_a_repository_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"git status failed: .*not a git repository"):
        verify()


@pytest.mark.parametrize(("tolerance", "accepted"), [(0.2, True), (0.01, False)])
def test_another_architecture_is_judged_by_its_scores(
    tolerance: float, accepted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    text = STAGE.replace("metrics.json", "reports/tiny/metrics.json")
    Path("dvc.yaml").write_text(text.replace("tiny.txt]", "tiny.txt, data/raw/tiny]"))
    make = MAKE.replace('Path("metrics.json")', 'Path("reports/tiny/metrics.json")')
    origin = '{"source": "sample"}'
    folders = (
        'for name in ("reports/tiny", "data/raw/tiny"):\n    Path(name).mkdir(parents=True, exist_ok=True)\n'
    )
    Path("make.py").write_text(f"{make}\n".replace("weights =", folders + "weights =", 1))
    with Path("make.py").open("a") as file:
        file.write(f"Path('data/raw/tiny/SOURCE.json').write_text('{origin}')\n")
        file.write("Path('models/tiny/manifest.json').write_text('{\"task\": \"tiny\"}')\n")
    Path("data").mkdir(exist_ok=True)
    Path("data/expected_scores.yaml").write_text(
        f"tiny: {{sample: {{metric: rmse, score: 0.5, tolerance: {tolerance}, time: 1 s}}}}\n"
    )
    call("dvc", "repro", "--quiet")
    commit()
    monkeypatch.setenv("NOISE", "0.1")
    if accepted:
        verify()
        assert "all scores are within tolerance" in capsys.readouterr().out
    else:
        with pytest.raises(IntegrityError, match=r"tiny: rmse 0.6, expected 0.5 \+- 0.01"):
            verify()
    assert "another architecture: arm64" in capsys.readouterr().out or accepted


def test_a_project_may_be_in_a_subfolder_of_its_repository(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("inner").mkdir()
    for path in list(Path().iterdir()):
        if path.name not in (".git", "inner"):
            path.rename(Path("inner") / path.name)
    commit()
    monkeypatch.chdir("inner")
    verify()
    assert "all outputs of 1 stages are those of dvc.lock" in capsys.readouterr().out


def test_tensors_of_bfloat16_are_compared(tmp_path: Path) -> None:
    for name, value in (("old", 1.0), ("new", 1.5)):
        tensors = {"a": torch.tensor([value, 2.0], dtype=torch.bfloat16)}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    said = _difference(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    assert said == "1 of 1 tensors differ, a the most, by 0.5"
