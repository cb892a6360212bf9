import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compare import compare
from src.core.errors import ConfigurationError


def keep(folder: Path, metrics: dict[str, float], seconds: float, **settings: Any) -> None:
    folder.mkdir(parents=True)
    model = {"class_path": "src.x.Model", "init_args": {"size": 3, **settings}}
    record = {"configuration": {"task": "tiny", "model": model}, "metrics": metrics, "seconds": seconds}
    (folder / "run.json").write_text(json.dumps(record))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of a task and two of a study, one of whose cells has not ended."""
    monkeypatch.chdir(tmp_path)
    parameters = {"tasks": {"tiny": "tabular"}, "studies": {"sizes": {}}, "more_studies": {"later": {}}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    keep(Path("runs/tiny/a1"), {"test/rmse": 0.5, "train/loss": 1.0}, 1.234, rate=0.1)
    keep(Path("runs/tiny/b2"), {"test/rmse": 0.25, "train/loss": 2.0}, 2.0, rate=0.2)
    Path("runs/tiny/half").mkdir()
    keep(Path("runs/cells/c1/runs/tiny/x"), {"test/rmse": 7.0}, 3.0, size=1)
    keep(Path("runs/cells/c2/runs/tiny/y"), {"test/rmse": 8.0, "dead/1": 0.5}, 3.0, size=2)
    Path("runs/studies").mkdir()
    Path("runs/studies/sizes.txt").write_text("c1\tsmall, seed 1\nc2\tlarge, seed 1\nc3\thuge, seed 1\n")


def rows(capsys: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    compare(*arguments, format="json", **options)
    return json.loads(capsys.readouterr().out)


def test_runs_of_a_task_show_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, "tiny") == [
        {"run": "a1", "model.rate": 0.1, "test/rmse": 0.5, "train/loss": 1.0, "seconds": 1.23},
        {"run": "b2", "model.rate": 0.2, "test/rmse": 0.25, "train/loss": 2.0, "seconds": 2.0},
    ]


def test_runs_of_a_study_go_by_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "sizes")
    assert [(row["run"], row["model.size"]) for row in found] == [("small, seed 1", 1), ("large, seed 1", 2)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sort": "test/rmse"}, ["b2", "a1"]),
        ({"sort": "-test/rmse"}, ["a1", "b2"]),
        ({"sort": "-rate"}, ["b2", "a1"]),
        ({"filter": ["rate=0.2"]}, ["b2"]),
        ({"filter": ["test/rmse<0.3"]}, ["b2"]),
        ({"filter": ["seconds>1", "model.rate=0.1"]}, ["a1"]),
    ],
)
def test_rows_are_sorted_and_filtered(
    capsys: pytest.CaptureFixture[str], options: Any, expected: list[str]
) -> None:
    assert [row["run"] for row in rows(capsys, "tiny", **options)] == expected


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    compare("tiny", format="csv")
    assert capsys.readouterr().out.splitlines()[:2] == [
        "run,model.rate,test/rmse,train/loss,seconds",
        "a1,0.1,0.5,1.0,1.23",
    ]
    compare("tiny", format="md")
    assert capsys.readouterr().out.splitlines()[2] == "| a1 | 0.1 | 0.5 | 1 | 1.23 |"
    compare("tiny", output=Path("out/runs.csv"))
    shown = capsys.readouterr().out
    assert "2 runs of tiny" in shown
    assert "train/loss" not in shown
    assert Path("out/runs.csv").read_text().startswith("run,model.rate,test/rmse,train/loss,seconds\n")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["huge"], {}, "no task or study 'huge'; there are: tiny, sizes, later"),
        (["later"], {}, "later has not run; run: python -m pipelines.study later"),
        (["tiny"], {"sort": "speed"}, "no column 'speed'; there are: model.rate, test/rmse"),
        (["tiny"], {"filter": ["rate"]}, "expected column=value"),
        (["tiny"], {"filter": ["rate<low"]}, "'low' in 'rate<low' is not a number"),
        (["tiny"], {"output": Path("runs.pdf")}, "ends with .csv, .md or .json, not .pdf"),
    ],
)
def test_mistakes_are_told(arguments: list[str], options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare(*arguments, **options)
