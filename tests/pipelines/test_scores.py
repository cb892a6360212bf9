import json
import math
import re
from pathlib import Path

import pytest
import yaml

from pipelines.report.scores import (
    EXPECTED,
    Expectation,
    baselines_of,
    metric_names,
    read_expectations,
    score_of,
    shown_metric,
    shown_number,
)
from src.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
ERRORS = {
    "test/rmse": 20.0,
    "test/r2": 0.9,
    "validation/rmse": 1.0,
    "baseline/ridge/rmse": 30.0,
    "baseline/ridge/r2": 0.8,
    "baseline/boosting/rmse": 25.0,
    "baseline/boosting/r2": 0.7,
}


@pytest.mark.parametrize(
    ("metrics", "metric", "higher"),
    [
        ({"test_loss": 0.5, "test_acc": 0.75, "val_acc": 1.0}, "test_acc", True),
        ({"test_loss/a": 0.5, "test_mae": 1.0, "val_r2": 0.9}, "test_loss/a", False),
        ({"g_loss": 1.0, "d_loss": 2.0}, "d_loss", False),
        ({"test/loss": 0.5, "test/acc": 0.75}, "acc", True),
    ],
)
def test_an_ordinary_module_is_judged_by_a_metric_of_its_test(
    metrics: dict[str, float], metric: str, higher: bool
) -> None:
    score = score_of(metrics, None)
    assert (score.metric, score.higher_is_better) == (metric, higher)
    assert score.value == metrics.get(metric, metrics.get(f"test/{metric}"))


@pytest.fixture
def expected(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Expectation]:
    monkeypatch.chdir(ROOT)
    return read_expectations()


@pytest.mark.parametrize(
    "task", sorted({*PARAMETERS["tasks"]} & {*yaml.safe_load((ROOT / EXPECTED).read_text())})
)
def test_the_expected_scores_are_those_of_the_committed_metrics(
    expected: dict[tuple[str, str], Expectation], task: str
) -> None:
    expectation = expected[task, "sample"]
    path = ROOT / "reports" / task / "metrics.json"
    if not path.is_file():
        pytest.skip(f"nothing is committed yet: dvc repro evaluate@{task}")
    metrics = json.loads(path.read_text(encoding="utf-8"))
    score = score_of(metrics, expectation)
    assert score.metric == expectation.metric
    # shown with fewer digits than measured
    assert math.isclose(score.value, expectation.score, rel_tol=0.01)
    assert score.verdict == "as expected"
    assert expectation.time.endswith((" s", " min"))


def test_the_readme_has_the_expected_scores(expected: dict[tuple[str, str], Expectation]) -> None:
    # | `task` | data | metric score | best baseline | time |, without the baseline
    pattern = r"^\| `(\w+)` \| ([^|]+) \| (\S+) ([\d.]+) \| [^|]+ \| ([^|]+) \|$"
    rows = re.findall(pattern, (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not rows:
        pytest.skip("the README of this project has no results")
    for task, data, metric, score, time in rows:
        known = [entry for (of, _), entry in expected.items() if of == task]
        if known and "configs/" not in data:  # neither a task that was removed nor a further configuration
            assert any(
                (metric, time) == (shown_metric(entry.metric), entry.time)
                and math.isclose(float(score), entry.score, rel_tol=0.01)
                for entry in known
            ), (task, data, metric, score, time)


def test_damaged_expectations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_expectations() == {}
    (tmp_path / EXPECTED).parent.mkdir()
    for text in ("line: [", "line: 3", "line: {sample: {metric: rmse}}"):
        (tmp_path / EXPECTED).write_text(text)
        with pytest.raises(ConfigurationError, match=r"expected_scores\.yaml is damaged"):
            read_expectations()


@pytest.mark.parametrize(
    ("metric", "score", "verdict"),
    [
        ("rmse", 2.0, "as expected"),
        ("rmse", 2.25, "as expected"),
        ("rmse", 2.26, "below"),
        ("rmse", 1.74, "better"),
        ("accuracy", 2.26, "better"),
        ("accuracy", 1.74, "below"),
    ],
)
def test_a_score_is_judged_by_the_tolerance(metric: str, score: float, verdict: str) -> None:
    assert Expectation(metric, 2.0, 0.25, "1 s").verdict(score) == verdict


def test_a_score_that_is_not_finite_is_below_expectation() -> None:
    # metrics.json holds finite numbers only
    score = score_of({"baseline/ridge/rmse": 1.0}, Expectation("rmse", 2.0, 0.25, "1 s"))
    assert (score.metric, score.verdict, score.difference, score.ahead) == ("rmse", "below", "", False)
    assert shown_number(score.value) == "not finite"
    assert score_of({}, None).metric == "loss"


def test_the_best_baseline_is_the_lowest_error_or_the_highest_score() -> None:
    assert metric_names(ERRORS) == ["r2", "rmse"]
    assert baselines_of(ERRORS, "rmse") == {"ridge": 30.0, "boosting": 25.0}
    score = score_of(ERRORS, None)
    assert (score.metric, score.value) == ("rmse", 20.0)
    assert (score.baseline, score.baseline_value) == ("boosting", 25.0)
    score = score_of(ERRORS, Expectation("r2", 0.9, 0.01, "1 s"))
    assert (score.metric, score.value, score.baseline, score.baseline_value) == ("r2", 0.9, "ridge", 0.8)


@pytest.mark.parametrize(
    ("metric", "score", "baseline", "difference", "ahead"),
    [
        ("rmse", 20.0, 25.0, "20 % lower", True),
        ("rmse", 30.0, 25.0, "20 % higher", False),
        ("rmse", 25.0, 25.0, "equal", False),
        ("rmse", 1.0, 1e-45, "more than ten times higher", False),
        ("rmse", 1.0, 0.0, "more than ten times higher", False),
        ("accuracy", 0.9, 0.8, "10 points higher", True),
        ("accuracy", 0.8, 0.805, "0.5 points lower", False),
    ],
)
def test_the_difference_to_the_baseline_is_told_in_words(
    metric: str, score: float, baseline: float, difference: str, ahead: bool
) -> None:
    found = score_of({f"test/{metric}": score, f"baseline/a/{metric}": baseline}, None)
    assert (found.difference, found.ahead) == (difference, ahead)


def test_a_metric_without_baselines_and_expectation_stands_alone() -> None:
    score = score_of({"test/strange": 1.0}, Expectation("rmse", 1.0, 0.1, "1 s"))
    assert (score.metric, score.baseline, score.difference, score.verdict) == ("strange", None, "", "unknown")
    assert not score.ahead


@pytest.mark.parametrize(
    ("value", "shown"),
    [(28672.7512, "28,673"), (0.93751234, "0.9375"), (4.31379e-05, "4.314e-05"), (2.0, "2")],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert shown_number(value) == shown


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "unknown"),
        ({"not_better_than_trivial/p_value": 0.3}, "trivial"),
        ({"baseline/trivial/rmse": 20.0}, "trivial"),
        ({"baseline/trivial/rmse": 21.0}, "unknown"),
    ],
)
def test_a_score_no_better_than_the_trivial_answer_is_called_so(
    changed: dict[str, float], verdict: str
) -> None:
    assert score_of(ERRORS | changed, None).verdict == verdict


def test_balanced_accuracy_stands_for_unbalanced_classes() -> None:
    metrics = {f"{part}/accuracy": 0.98 for part in ("test", "baseline/trivial")}
    metrics |= {"test/recall": 0.5, "baseline/trivial/recall": 0.5}
    score = score_of(metrics, None)
    assert (shown_metric(score.metric), score.verdict) == ("balanced accuracy", "trivial")
