"""The whole pipeline in two clones, and the contract that the results of every task and study keep."""

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

PARAMETERS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
TASKS, MODELS = PARAMETERS["tasks"], PARAMETERS["models"]
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


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def studies_of(clone: Path) -> dict[str, Any]:
    return read_yaml(clone / "params.yaml")["studies"]


# ------------------------------------------------------------------------------------- two environments


def test_two_clones_give_the_same_lock_byte_for_byte(clones: tuple[Path, Path]) -> None:
    first, second = clones
    assert first.name != second.name
    one, two = (stages_in(clone / "dvc.lock") for clone in clones)
    assert one == two
    assert len(one) == 2 * len(TASKS) + 2 * len(MODELS) + len(studies_of(first)) + 2  # code, report


def stages_in(lock: Path) -> dict[str, str]:
    """The text of each stage in dvc.lock."""
    parts = re.split(r"^  (\S+):\n", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_second_repro_runs_nothing(clones: tuple[Path, Path], python: Callable[..., Any]) -> None:
    lock = (clones[1] / "dvc.lock").read_bytes()
    done = python("-m", "dvc", "repro", cwd=clones[1])
    assert done.returncode == 0, done.stdout
    assert "Running stage" not in done.stdout
    assert done.stdout.count("didn't change, skipping") == len(stages_in(clones[1] / "dvc.lock"))
    assert (clones[1] / "dvc.lock").read_bytes() == lock


def test_git_sees_only_the_lock_and_the_metrics(clones: tuple[Path, Path]) -> None:
    for clone in clones:
        command = ["git", "status", "--porcelain", "--untracked-files=all"]
        status = subprocess.run(command, cwd=clone, check=True, stdout=subprocess.PIPE, text=True).stdout
        changed = {line[3:] for line in status.splitlines()}
        names = [*MODELS, *(f"studies/{study}" for study in studies_of(clone))]
        assert changed == {"dvc.lock", *(f"reports/{name}/metrics.json" for name in names)}


def test_results_hold_no_path_of_the_machine(clones: tuple[Path, Path]) -> None:
    clone = clones[0]
    files = [clone / "dvc.lock", clone / "report.html"]
    for part in ("data/raw", "data/prepared", "models", "reports"):
        files += [path for path in (clone / part).rglob("*") if path.is_file()]
    assert len(files) > 15 * len(TASKS)
    for path in files:
        assert str(clone).encode() not in path.read_bytes(), path
        assert str(Path.home()).encode() not in path.read_bytes(), path


def test_the_report_has_every_model_and_the_finding_of_every_study(clones: tuple[Path, Path]) -> None:
    text = (clones[0] / "report.html").read_text(encoding="utf-8")
    for model in MODELS:
        assert f'<article aria-labelledby="model-{model}">' in text
    for study in studies_of(clones[0]):
        table = clones[0] / "reports/studies" / study / "tables/cells.md"
        assert f">{escape(table.read_text(encoding='utf-8').splitlines()[-1])}</p>" in text


def test_every_study_keeps_the_contract(clones: tuple[Path, Path]) -> None:
    for name, study in studies_of(clones[0]).items():
        folder = clones[0] / "reports" / "studies" / name
        metrics = read_json(folder / "metrics.json")
        assert list(metrics) == sorted(metrics)
        cells = {key.rpartition("/")[0] for key in metrics}
        assert len(cells) == math.prod(len(values) for values in study.get("grid", {}).values())
        for cell in cells:
            assert metrics[f"{cell}/runs"] == len(study["seeds"]) * study.get("folds", 1), (name, cell)
        for plot in ("metric", "curves", "weights"):
            assert (folder / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


# --------------------------------------------------------------------------------------------- each task


@pytest.mark.parametrize("model", MODELS)
def test_every_model_keeps_the_contract(finished: Callable[..., Path], model: str) -> None:
    task = Path(MODELS[model]).name
    project = finished(task)
    bundle, reports = project / "models" / model, project / "reports" / model
    assert sorted(path.name for path in bundle.iterdir()) == BUNDLE
    manifest = read_json(bundle / "manifest.json")
    assert manifest["task"] == task
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

    # the bundle is of the best epoch
    config = read_yaml(bundle / "config.yaml")
    with (bundle / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == list(range(1, config["trainer"]["max_epochs"] + 1))
    choose = min if config["mode"] == "min" else max
    best = choose(rows, key=lambda row: row[config["monitor"]])
    shared = [name for name in best if name.startswith("validation/") and name in metrics]
    assert shared
    for name in shared:
        assert metrics[name] == pytest.approx(best[name], rel=1e-4), name
