"""What `compare --against` says of a small repository whose metrics have changed since its first commit."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compare import compare
from src.core.errors import ConfigurationError, IntegrityError

ROOT = Path(__file__).parents[2]
PARAMETERS: dict[str, Any] = {
    "tasks": {"houses": "tabular", "shapes": "images"},
    "models": {
        "houses": "data/prepared/houses",
        "shapes": "data/prepared/shapes",
        "deep": "data/prepared/shapes",
    },
    "houses": {"source": "sample"},
    "shapes": {"source": "sample"},
    "studies": {"losses": {"task": "houses", "metric": "test/mae"}, "depth": {"mode": "max"}},
}
EXPECTED = {
    "houses": {"sample": {"metric": "log_rmse", "score": 0.13, "tolerance": 0.01, "time": "3 s"}},
    "shapes": {"sample": {"metric": "accuracy", "score": 0.9, "tolerance": 0.02, "time": "3 s"}},
}
METRICS = {
    "houses": {"test/log_rmse": 0.125, "test/mae": 100.0},
    "shapes": {"test/accuracy": 0.875},
    "deep": {"test/accuracy": 0.75},
    "studies/losses": {"mse/mean": 4.0, "mse/ci": 0.5, "mae/mean": 3.0, "mae/ci": 0.5},
    "studies/depth": {"one/mean": 0.5, "one/ci": 0.0},
}


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "core.autocrlf=false")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


def write(place: str, **metrics: float) -> None:
    path = Path("reports", place, "metrics.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**METRICS.get(place, {}), **metrics}))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository with one commit, on the branch main."""
    monkeypatch.chdir(tmp_path)
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMETERS))
    Path("data").mkdir()
    Path("data/expected_scores.yaml").write_text(yaml.safe_dump(EXPECTED))
    Path("configs").mkdir()
    for model, data in PARAMETERS["models"].items():
        Path(f"configs/{model}.yaml").write_text(f"task: {Path(data).name}\n")
    for place in METRICS:
        write(place)
    git("init", "--quiet", "--initial-branch", "main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "First")


def changes(capsys: pytest.CaptureFixture[str], name: str | None = None, **options: Any) -> list[list[Any]]:
    compare(name, against="main", format="json", **options)
    return [list(row.values()) for row in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("place", "metrics", "expected"),
    [
        ("houses", {"test/log_rmse": 0.1875}, ["houses", "log_rmse", 0.125, 0.1875, 0.0625, "worse"]),
        ("houses", {"test/log_rmse": 0.0625}, ["houses", "log_rmse", 0.125, 0.0625, -0.0625, "better"]),
        ("houses", {"test/log_rmse": 0.1328125}, [*"h", 0.0078125, "within the tolerance"]),
        ("shapes", {"test/accuracy": 0.5}, ["shapes", "accuracy", 0.875, 0.5, -0.375, "worse"]),
        ("deep", {"test/accuracy": 0.78125}, ["deep", "accuracy", 0.75, 0.78125, 0.03125, "better"]),
        ("houses", {"test/mae": 1.0}, ["houses", "log_rmse", 0.125, 0.125, 0.0, "changed: test/mae"]),
        ("houses", dict.fromkeys("abcde", 1.0), [*"h", 0.0, "changed: a, b, c and 2 more"]),
        ("fresh", {"test/rmse": 0.5}, ["fresh", "rmse", None, 0.5, None, "new"]),
        ("studies/losses", {"mse/mean": 6.0}, ["losses", "mse/mean", 4.0, 6.0, 2.0, "worse"]),
        ("studies/losses", {"mae/mean": 3.25}, [*"l", 0.25, "within the tolerance"]),
        ("studies/depth", {"one/mean": 0.625}, ["depth", "one/mean", 0.5, 0.625, 0.125, "better"]),
        ("studies/depth", {"two/mean": 1.0}, ["depth", "two/mean", None, 1.0, None, "new"]),
        ("studies/depth", {"one/ci": 1.0}, ["depth", "", None, None, None, "changed: one/ci"]),
        ("studies/width", {"one/mean": 1.0}, ["width", "", None, None, None, "new"]),
    ],
)
def test_a_change_has_a_row_with_its_judgement(
    capsys: pytest.CaptureFixture[str], place: str, metrics: dict[str, float], expected: list[Any]
) -> None:
    write(place, **metrics)
    (row,) = changes(capsys)
    assert row[-len(expected) + 1 :] == expected[1:] if len(expected[0]) == 1 else row == expected


def test_what_is_gone_was_removed_or_did_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    for place in METRICS:
        Path("reports", place, "metrics.json").unlink()
    kept = {name: data for name, data in PARAMETERS["models"].items() if name != "deep"}
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMETERS, "models": kept, "studies": {"depth": {}}}))
    assert {row[0]: row[-1] for row in changes(capsys)} == {
        "deep": "removed",
        "houses": "not run",
        "shapes": "not run",
        "depth": "not run",
        "losses": "removed",
    }


def test_models_come_before_studies_and_a_name_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    for place in METRICS:
        write(place, **{"test/accuracy": 0.25, "test/log_rmse": 1.0, "one/mean": 2.0})
    assert [row[0] for row in changes(capsys)] == ["deep", "houses", "shapes", "depth", "losses"]
    assert [row[0] for row in changes(capsys, "shapes")] == ["deep", "shapes"]  # the models of the task
    assert [row[0] for row in changes(capsys, "losses")] == ["losses"]
    assert [row[0] for row in changes(capsys, filter=["result=worse"])] == ["deep", "houses", "shapes"]


def test_the_comment_names_the_revision_and_the_plots(capsys: pytest.CaptureFixture[str]) -> None:
    write("houses", **{"test/log_rmse": 0.1875})
    Path("reports/houses/plots").mkdir()
    for name in ("b.png", "a.png", "curve.csv"):
        Path("reports/houses/plots", name).touch()
    compare(against="main", format="md", output=Path("changes.md"))
    commit = git("rev-parse", "HEAD")[:8]
    told = f"""\
Metrics that differ from `main` ({commit}):

| name | metric | before | now | difference | result |
|---|---|---|---|---|---|
| houses | log_rmse | 0.125 | 0.1875 | 0.0625 | worse |

- plots of houses: `reports/houses/plots/` a.png, b.png
"""
    assert capsys.readouterr().out == told
    assert Path("changes.md").read_text() == told


def test_nothing_changed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    commit = git("rev-parse", "HEAD").strip()
    compare(against=commit, format="md")
    assert capsys.readouterr().out == f"No metric differs from `{commit}`.\n"
    compare(against="main")
    assert capsys.readouterr().out == "no metric differs from main\n"
    assert changes(capsys) == []


def test_a_project_in_a_folder_of_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    git("mv", "--verbose", "reports", "params.yaml", str(tmp_path / "data"))
    git("commit", "--quiet", "--message", "Move")
    monkeypatch.chdir(tmp_path / "data")
    write("shapes", **{"test/accuracy": 0.5})
    assert [row[0] for row in changes(capsys)] == ["shapes"]


def test_the_command_of_the_workflow_ends_with_0_whatever_has_changed() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    (step,) = [step for step in workflow["jobs"]["models"]["steps"] if "compare" in step.get("run", "")]
    python, *options = shlex.split(step["run"].replace("$AGAINST", "main"))
    assert python == ".venv/bin/python"
    assert {*step["env"]} == {"AGAINST"}
    write("houses", **{"test/log_rmse": 99.0})
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| houses | log_rmse | 0.125 | 99 | 98.875 | worse |" in Path("changes.md").read_text()


@pytest.mark.parametrize(
    ("name", "against", "message"),
    [
        (None, None, "expected the NAME of a task, model or study, or --against REVISION"),
        (None, "later", "git finds no revision 'later'.*clone gets all revisions by: git fetch --unshallow"),
        (None, "--all", "git finds no revision '--all'"),
        ("cats", "main", "'cats' has metrics; there are those of: deep, depth, houses, losses, shapes"),
    ],
)
def test_mistakes_are_told(name: str | None, against: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare(name, against=against)


def test_damaged_metrics_are_told() -> None:
    Path("reports/houses/metrics.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"reports/houses/metrics.json is damaged.*evaluate@houses"):
        compare(against="main")
    git("commit", "--quiet", "--all", "--message", "Damage")
    write("houses")
    with pytest.raises(IntegrityError, match=r"reports/houses/metrics.json of \w{8} is damaged"):
        compare(against="main")
