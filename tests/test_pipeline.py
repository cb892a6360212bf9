"""The whole pipeline, run by DVC in fresh clones."""

import csv
import json
import math
import re
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
import yaml

TASKS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))["tasks"]
STUDIES = ("activations", "losses_with_outliers", "folds")  # those that the clones keep
BUNDLE = [
    "config.yaml",
    "history.csv",
    "manifest.json",
    "model.safetensors",
    "preprocessing.json",
    "summary.txt",
]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_two_clones_give_the_same_lock_byte_for_byte(clones: tuple[Path, Path]) -> None:
    first, second = clones
    assert first.name != second.name
    whole, part = (stages_in(clone / "dvc.lock") for clone in clones)
    rooms = {TASKS[name.partition("@")[2]] for name in part if name.startswith("evaluate@")}
    assert rooms == set(TASKS.values())
    assert "study@losses_with_outliers" in part
    assert part == {name: whole[name] for name in part}


def stages_in(lock: Path) -> dict[str, str]:
    """The text of each stage in dvc.lock."""
    parts = re.split(r"^  (\S+):\n", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_second_repro_runs_nothing(clones: tuple[Path, Path], repro: Callable[..., str]) -> None:
    lock = (clones[0] / "dvc.lock").read_bytes()
    output = repro(clones[0])
    assert "Running stage" not in output
    assert output.count("didn't change, skipping") == 4 * len(TASKS) + len(STUDIES) + 1
    assert (clones[0] / "dvc.lock").read_bytes() == lock


def test_status_is_clean(clones: tuple[Path, Path], python: Callable[..., Any]) -> None:
    done = python("-m", "dvc", "status", cwd=clones[0])
    assert (done.returncode, done.stdout.strip()) == (0, "Data and pipelines are up to date.")


def test_git_sees_only_the_lock_and_the_metrics(clones: tuple[Path, Path]) -> None:
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    status = subprocess.run(command, cwd=clones[0], check=True, stdout=subprocess.PIPE, text=True).stdout
    changed = {line[3:] for line in status.splitlines()}
    names = [*TASKS, *(f"studies/{study}" for study in STUDIES)]
    assert changed == {"dvc.lock", *(f"reports/{name}/metrics.json" for name in names)}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_keeps_the_contract(clones: tuple[Path, Path], task: str) -> None:
    clone = clones[0]
    bundle, reports = clone / "models" / task, clone / "reports" / task
    assert sorted(path.name for path in bundle.iterdir()) == BUNDLE
    manifest = read_json(bundle / "manifest.json")
    assert (manifest["task"], manifest["room"]) == (task, TASKS[task])
    assert sorted(manifest["files"]) == sorted(set(BUNDLE) - {"manifest.json"})
    assert re.fullmatch("[0-9a-f]{64}", manifest["tensors"])

    metrics = read_json(reports / "metrics.json")
    assert list(metrics) == sorted(metrics)
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    for prefix in ("validation/", "test/", "baseline/"):
        assert any(name.startswith(prefix) for name in metrics), prefix
    for name in metrics:
        if name.startswith("test/"):
            assert f"baseline/trivial/{name.removeprefix('test/')}" in metrics

    for path in (reports / "plots").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG"), path.name
    assert (reports / "plots" / "learning_curve.png").is_file()
    assert any((reports / "tables").iterdir())
    assert f'<article aria-labelledby="task-{task}">' in (clone / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_the_bundle_is_of_the_best_epoch(clones: tuple[Path, Path], task: str) -> None:
    bundle = clones[0] / "models" / task
    config = yaml.safe_load((bundle / "config.yaml").read_text(encoding="utf-8"))
    with (bundle / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == list(range(1, config["trainer"]["max_epochs"] + 1))
    choose = min if config["mode"] == "min" else max
    best = choose(rows, key=lambda row: row[config["monitor"]])
    metrics = read_json(clones[0] / "reports" / task / "metrics.json")
    shared = [name for name in best if name.startswith("validation/") and name in metrics]
    assert shared
    for name in shared:
        assert metrics[name] == pytest.approx(best[name], rel=1e-4), name


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_keeps_the_contract(clones: tuple[Path, Path], study: str) -> None:
    folder = clones[0] / "reports" / "studies" / study
    metrics = read_json(folder / "metrics.json")
    assert list(metrics) == sorted(metrics)
    cells = {name.rpartition("/")[0] for name in metrics}
    assert (
        cells
        == {
            "activations": {"relu", "tanh"},
            "losses_with_outliers": {"mse", "mae", "smooth_l1"},
            "folds": {"house_prices"},
        }[study]
    )
    for cell in cells:
        assert metrics[f"{cell}/runs"] == (10 if study == "folds" else 2)
    for name in ("metric", "curves", "weights"):
        assert (folder / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    finding = (folder / "tables" / "cells.md").read_text(encoding="utf-8").splitlines()[-1]
    assert f">{escape(finding)}</p>" in (clones[0] / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_bundles_and_reports_hold_no_path_of_the_machine(clones: tuple[Path, Path], task: str) -> None:
    files = [clones[0] / "dvc.lock", clones[0] / "report.html"]
    for part in ("data/raw", "data/prepared", "models", "reports"):
        files += [path for path in (clones[0] / part / task).rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        assert str(clones[0]).encode() not in path.read_bytes(), path
        assert str(Path.home()).encode() not in path.read_bytes(), path
