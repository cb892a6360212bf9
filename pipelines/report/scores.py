"""What a task's metrics say: its score, the best baseline, and what the door plate of its room expects."""

import math
import re
from dataclasses import dataclass
from importlib import import_module

HIGHER_IS_BETTER = {"accuracy", "precision", "recall", "f1", "r2"}
# the metric that stands for a task without an expectation: the first that it has
USUAL = ("accuracy", "rmse", "perplexity", "loss")
SHOWN = {"log_rmse": "log-RMSE", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "f1": "F1"}
EXPECTED = re.compile(r"^ +(\S+), (\S+): (\w+) ([\d.e-]+) ± ([\d.e-]+) in (.+)$", flags=re.MULTILINE)

Metrics = dict[str, float]


@dataclass(frozen=True)
class Expectation:
    """A line of a door plate: the score on the test rows, and how far it moves with the seed."""

    metric: str
    score: float
    tolerance: float
    time: str

    @property
    def shown(self) -> str:
        """Score and tolerance."""
        return f"{self.score:g} ± {self.tolerance:g}"

    def verdict(self, score: float) -> str:
        """Whether a score is `better`, `as expected` or `below`: more than the tolerance away, or not."""
        ahead = score - self.score if self.metric in HIGHER_IS_BETTER else self.score - score
        if abs(ahead) <= self.tolerance * (1 + 1e-9):
            return "as expected"
        return "better" if ahead > 0 else "below"


@dataclass(frozen=True)
class Score:
    """The metric that stands for a task, beside the best baseline and what is expected."""

    metric: str
    value: float
    baseline: str | None
    baseline_value: float
    expectation: Expectation | None

    @property
    def verdict(self) -> str:
        """`better`, `as expected`, `below`, or `unknown` where no door plate says what to expect."""
        return self.expectation.verdict(self.value) if self.expectation else "unknown"

    @property
    def higher_is_better(self) -> bool:
        """Which end of the metric is better."""
        return self.metric in HIGHER_IS_BETTER

    @property
    def ahead(self) -> bool:
        """Whether it is better than the best baseline."""
        if self.higher_is_better:
            return self.value > self.baseline_value
        return self.value < self.baseline_value

    @property
    def difference(self) -> str:
        """How far it is from the best baseline, in words."""
        if self.baseline is None or math.isnan(self.value):
            return ""
        if self.value == self.baseline_value:
            return "equal"
        direction = "higher" if self.value > self.baseline_value else "lower"
        if self.metric in HIGHER_IS_BETTER:
            return f"{abs(self.value - self.baseline_value) * 100:.2g} points {direction}"
        if self.baseline_value <= 0 or self.value > 10 * self.baseline_value:
            return f"more than ten times {direction}"
        return f"{abs(self.value / self.baseline_value - 1) * 100:.2g} % {direction}"


def best_of(metric: str, values: list[float]) -> float:
    """The highest score or the lowest error."""
    return max(values) if metric in HIGHER_IS_BETTER else min(values)


def shown_metric(name: str) -> str:
    """A metric's name for people, such as log-RMSE for log_rmse."""
    return SHOWN.get(name, name.replace("_", " "))


def shown_number(value: float) -> str:
    """Four significant digits, and all those before the point."""
    if math.isnan(value):
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def expectations(room: str) -> dict[tuple[str, str], Expectation]:
    """What a room's door plate expects, by task and source of its data.

    A line of the docstring of src/<room>/__init__.py is `    task, source: metric score ± tolerance in time`.
    """
    plate = import_module(f"src.{room}").__doc__ or ""
    return {
        (task, source): Expectation(metric, float(score), float(tolerance), time)
        for task, source, metric, score, tolerance, time in EXPECTED.findall(plate)
    }


def metric_names(metrics: Metrics) -> list[str]:
    """The names of the metrics on test rows, without `test/`, sorted."""
    return sorted(name.removeprefix("test/") for name in metrics if name.startswith("test/"))


def baselines_of(metrics: Metrics, metric: str) -> dict[str, float]:
    """A metric of each baseline."""
    found = re.compile(rf"baseline/(.+)/{re.escape(metric)}")
    matches = {name: found.fullmatch(name) for name in metrics}
    return {match[1]: metrics[name] for name, match in matches.items() if match}


def score_of(metrics: Metrics, expectation: Expectation | None) -> Score:
    """The score that stands for a task.

    Args:
        metrics: the content of metrics.json, which leaves out what is not finite.
        expectation: of the task with its source of data; it names the metric, where it is there.
    """
    names = metric_names(metrics)
    if expectation and names and expectation.metric not in names:  # another loss than that of the door plate
        expectation = None
    usual = [name for name in USUAL if name in names]
    metric = expectation.metric if expectation else (usual or names or ["loss"])[0]
    baselines = baselines_of(metrics, metric)
    value = best_of(metric, list(baselines.values())) if baselines else math.nan
    winner = next((name for name, found in baselines.items() if found == value), None)
    return Score(metric, metrics.get(f"test/{metric}", math.nan), winner, value, expectation)
