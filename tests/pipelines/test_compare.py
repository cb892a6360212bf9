import io
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import compare as module
from pipelines.compare import compare, runs_table
from src.core.errors import ConfigurationError

DATE = datetime.fromtimestamp(1.7e9).strftime("%Y-%m-%d %H:%M")


def keep(folder: Path, metrics: dict[str, float], seconds: float, **settings: Any) -> None:
    folder.mkdir(parents=True)
    model = {"class_path": "src.x.Model", "init_args": {"size": 3, **settings}}
    record = {"configuration": {"task": "tiny", "model": model}, "metrics": metrics, "seconds": seconds}
    (folder / "run.json").write_text(json.dumps(record))
    os.utime(folder / "run.json", (1.7e9, 1.7e9))


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
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {row.pop("date")[:7] for row in found} <= {"2023-11"}
    return found


def test_runs_of_a_task_show_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, "tiny") == [
        {"run": "a1", "model.rate": 0.1, "test/rmse": 0.5, "train/loss": 1.0, "seconds": 1.23},
        {"run": "b2", "model.rate": 0.2, "test/rmse": 0.25, "train/loss": 2.0, "seconds": 2.0},
    ]


def test_the_models_of_a_task_are_compared_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    keep(Path("runs/huge/c3"), {"test/rmse": 0.1}, 9.0, rate=0.1)
    path = Path("runs/huge/c3/run.json")
    record = json.loads(path.read_text())
    record["configuration"]["name"] = "huge"
    path.write_text(json.dumps(record))
    os.utime(path, (1.7e9, 1.7e9))
    shown = {row["run"]: row["model"] for row in rows(capsys, "tiny")}
    assert shown == {"a1": "tiny", "b2": "tiny", "c3": "huge"}
    assert [row["run"] for row in rows(capsys, "huge")] == ["c3"]


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


def test_numbers_are_sorted_by_value_before_texts(capsys: pytest.CaptureFixture[str]) -> None:
    for run, rate in (("c3", "auto"), ("d4", 10), ("e5", [1, 2])):
        keep(Path(f"runs/tiny/{run}"), {"test/rmse": 0.125}, 2.0, rate=rate)
    rates = [row["model.rate"] for row in rows(capsys, "tiny", sort="model.rate")]
    assert rates == [0.1, 0.2, 10, [1, 2], "auto"]


def test_names_that_end_alike_are_shown_whole() -> None:
    names = ["model.network.class_path", "model.optimizer.class_path", "model.lr", "test/rmse"]
    assert list(module._short_names(names).values()) == [*names[:2], "lr", "test/rmse"]


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    compare("tiny", format="csv")
    assert capsys.readouterr().out.splitlines()[:2] == [
        "run,model.rate,test/rmse,train/loss,seconds,date",
        f"a1,0.1,0.5,1.0,1.23,{DATE}",
    ]
    compare("tiny", format="md")
    assert capsys.readouterr().out.splitlines()[2] == f"| a1 | 0.1 | 0.5 | 1 | 1.23 | {DATE} |"
    compare("tiny", output=Path("out/runs.csv"))
    shown = capsys.readouterr().out
    assert "2 runs of tiny" in shown
    assert "train/loss" not in shown
    assert Path("out/runs.csv").read_text().startswith("run,model.rate,test/rmse,train/loss,seconds,date\n")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["huge"], {}, "no task, model or study 'huge'; there are: tiny, sizes, later"),
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


def shown(capsys: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> str:
    compare(*arguments, **options)
    return capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_study_of_classes_shows_names_and_whole_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate("ab"):
        arguments = {f"{name}_{key}": key for key in range(30)}
        folder = Path(f"runs/cells/d{number}/runs/tiny/x")
        keep(folder, {f"test/{'metric' * 3}_{key}": 0.123456 for key in range(9)}, 3.0, **arguments)
    Path("runs/studies/sizes.txt").write_text("d0\tSGD, seed 1\nd1\tAdam, seed 1\n")
    told = shown(capsys, "sizes")
    assert "a_1" not in told
    assert told.count("0.12346") == 18
    assert "…" not in told
    assert "a_1" in shown(capsys, "sizes", columns=["a_1"])
    assert "test/" not in shown(capsys, "sizes", columns=["a_1"])


@pytest.mark.parametrize("name", ["sizes", "tiny"])
def test_metrics_of_ordinary_modules_are_shown(capsys: pytest.CaptureFixture[str], name: str) -> None:
    for folder in ("runs/cells/e1/runs/tiny/x", "runs/tiny/e1"):
        keep(Path(folder), {"test_acc": 0.75, "val_f1": 0.5, "train/loss": 0.123}, 3.0)
    Path("runs/studies/sizes.txt").write_text("e1\tsmall, seed 1\n")
    told = shown(capsys, name, filter=["test_acc=0.75"])
    assert "1 run of" in told
    assert "test_acc" in told
    assert "val_f1" in told
    assert "0.123" not in told


def test_a_narrow_terminal_keeps_the_sorted_metric_whole_and_names_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {f"test/{'long' * 4}_{key}": 0.123456 + key for key in range(5)}
    keep(Path("runs/cells/c9/runs/tiny/x"), metrics, 3.0)
    Path("runs/studies/sizes.txt").write_text("c9\tall the settings of a cell of a search, seed 1\n")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(module.sys, "stdout", terminal := Terminal())
    compare("sizes", sort=f"test/{'long' * 4}_4")
    told = terminal.getvalue()
    assert "4.1235" in told
    assert "not shown for want of room: test/" in told
    lines = re.sub(r"\x1b\[\d*m", "", told).splitlines()
    assert max(map(len, lines[:-1])) <= 70


def test_runs_on_different_data_say_so() -> None:
    record = {"configuration": {"task": "tiny"}, "metrics": {"test/rmse": 1.0}, "seconds": 1.0}
    runs = {name: record | {"provenance": {"prepared_sha256": name * 64}} for name in "ab"}
    assert runs_table(runs)["data"].tolist() == ["a" * 8, "b" * 8]
    assert "data" not in runs_table(dict.fromkeys("xy", runs["a"]))


def test_the_run_of_the_current_model_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(Path("runs/tiny/b2/run.json").read_text())
    record["provenance"] = {"prepared_sha256": "f" * 64}
    Path("runs/tiny/b2/run.json").write_text(json.dumps(record))
    Path("models/tiny").mkdir(parents=True)
    Path("models/tiny/manifest.json").write_text(json.dumps({"prepared": "f" * 64}))
    Path("models/tiny/config.yaml").write_text(yaml.safe_dump(record["configuration"]))
    compare("tiny", format="json")
    assert [row["current"] for row in json.loads(capsys.readouterr().out)] == ["", "yes"]


@pytest.mark.parametrize(
    ("metrics", "trivial", "named"),
    [
        ({"test/accuracy": 0.99, "test/recall": 0.5}, {"accuracy": 0.98, "recall": 0.5}, True),
        ({"test/accuracy": 0.97, "test/recall": 0.9}, {"accuracy": 0.98, "recall": 0.5}, False),
        ({"test/accuracy": 0.55}, {"accuracy": 0.5}, True),
        ({"test/accuracy": 0.75}, {"accuracy": 0.5}, False),
        ({"test/rmse": 2.0}, {"rmse": 2.0}, True),
        ({"test/rmse": 1.0}, {"rmse": 2.0}, False),
    ],
)
def test_runs_no_better_than_the_trivial_answer_are_named(
    capsys: pytest.CaptureFixture[str], metrics: dict[str, float], trivial: dict[str, float], named: bool
) -> None:
    record = json.loads(Path("runs/tiny/b2/run.json").read_text())
    record |= {"metrics": metrics, "trivial": trivial, "test_rows": 100}
    Path("runs/tiny/b2/run.json").write_text(json.dumps(record))
    assert ("not better than the trivial answer beyond noise: b2" in shown(capsys, "tiny")) == named


def test_a_file_that_exists_is_replaced_on_wish_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs.csv").write_text("mine")
    with pytest.raises(
        ConfigurationError, match=r"runs\.csv exists; name another output, or add --overwrite"
    ):
        compare("tiny", output=Path("runs.csv"))
    assert Path("runs.csv").read_text() == "mine"
    compare("tiny", output=Path("runs.csv"), overwrite=True)
    assert Path("runs.csv").read_text().startswith("run,model.rate")
