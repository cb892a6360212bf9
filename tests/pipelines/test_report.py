import json
from pathlib import Path

import pytest

from pipelines.report import report
from src.shared.errors import ConfigurationError, LockstepError

HEAD = """# Results

| task | data | metric | model | best baseline |
|---|---|---|---|---|
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose two tasks are evaluated."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("tasks: {prices: tabular, kinds: tabular}\n")
    write("prices", "sample", {"test/rmse": 28672.7512, "validation/rmse": 1.0})
    write("kinds", "download", {"test/accuracy": 0.93751234})


def write(task: str, source: str, metrics: dict[str, float]) -> None:
    for folder in (Path("reports", task), Path("data/raw", task)):
        folder.mkdir(parents=True, exist_ok=True)
    Path("reports", task, "metrics.json").write_text(json.dumps(metrics))
    Path("data/raw", task, "SOURCE.json").write_text(json.dumps({"source": source, "files": {}}))


def rows() -> str:
    report()
    return Path("report.md").read_text(encoding="utf-8").removeprefix(HEAD)


def test_one_row_a_test_metric_in_the_order_of_the_tasks() -> None:
    expected = "| prices | sample | rmse | 28673 |  |\n| kinds | download | accuracy | 0.93751 |  |\n"
    assert rows() == expected
    assert rows() == expected


def test_the_tables_of_studies_follow() -> None:
    Path("params.yaml").write_text("tasks: {prices: tabular}\nstudies: {speed: {task: prices}}\n")
    with pytest.raises(ConfigurationError, match=r"dvc repro study@speed"):
        report()
    Path("reports/studies/speed/tables").mkdir(parents=True)
    Path("reports/studies/speed/tables/cells.md").write_text("# Speed: test/rmse\n\nFast.\n")
    assert rows() == "| prices | sample | rmse | 28673 |  |\n\n## Speed: test/rmse\n\nFast.\n"


def test_the_best_baseline_is_the_lowest_error_or_the_highest_score() -> None:
    baselines = {"ridge": (30.0, 0.8), "boosting": (25.0, 0.7), "trivial": (90.0, -0.1)}
    metrics = {"test/rmse": 20.0, "test/r2": 0.9}
    for name, (rmse, r2) in baselines.items():
        metrics |= {f"baseline/{name}/rmse": rmse, f"baseline/{name}/r2": r2}
    write("prices", "sample", metrics)
    assert rows().splitlines()[:2] == [
        "| prices | sample | r2 | 0.9 | 0.8 (ridge) |",
        "| prices | sample | rmse | 20 | 25 (boosting) |",
    ]


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1"])
def test_scores_of_classes_are_better_when_higher(metric: str) -> None:
    metrics = {f"test/{metric}": 0.9, f"baseline/a/{metric}": 0.6, f"baseline/b/{metric}": 0.8}
    write("kinds", "sample", metrics)
    assert rows().splitlines()[1] == f"| kinds | sample | {metric} | 0.9 | 0.8 (b) |"


def test_a_task_that_is_not_evaluated_is_told_with_the_command_that_mends_it() -> None:
    report()
    before = Path("report.md").read_bytes()
    Path("reports/kinds/metrics.json").unlink()
    with pytest.raises(ConfigurationError, match=r"reports/kinds/metrics\.json.*dvc repro evaluate@kinds"):
        report()
    assert Path("report.md").read_bytes() == before


def test_raw_data_that_are_not_there_are_told() -> None:
    # as in a fresh clone: git holds metrics.json, DVC holds the raw data
    Path("data/raw/kinds/SOURCE.json").unlink()
    with pytest.raises(LockstepError, match=r"data/raw/kinds"):
        report()
