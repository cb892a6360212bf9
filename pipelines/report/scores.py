"""The score of a task beside its best baseline and the expected score of data/expected_scores.yaml."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from src.core.errors import ConfigurationError
from src.core.scores import higher_is_better
from src.reporting.noise import P_VALUE, usual_metric

EXPECTED = Path("data/expected_scores.yaml")

# the score of a task without an expectation is the first of these that it has
USUAL = ("accuracy", "acc", "quantile_loss", "rmse", "perplexity", "loss")
SHOWN = {
    "log_rmse": "log-RMSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "f1": "F1",
    "recall": "balanced accuracy",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "brier": "Brier score",
    "ece": "ECE",
    "all_right": "rows with all classes right",
}

Metrics = dict[str, float]


@dataclass(frozen=True)
class Expectation:
    """The expected score of a task.

    Args:
        metric: its name, without `test/`.
        score: on the test rows.
        tolerance: two standard deviations over the seed.
        time: of the training on one core, such as `3 s`.
    """

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
        ahead = score - self.score if higher_is_better(self.metric) else self.score - score
        if abs(ahead) <= self.tolerance * (1 + 1e-9):
            return "as expected"
        return "better" if ahead > 0 else "below"


@dataclass(frozen=True)
class Score:
    """The main metric of a task, beside the best baseline, the trivial answer and the expectation.

    Args:
        metric: its name, without `test/`; the whole name of a metric of an ordinary module.
        value: on the test rows.
        baseline: the name of the best one.
        baseline_value: its value.
        expectation: None for none.
        trivial: the value of the trivial answer; None for none.
        noise: the p-value of a difference to the trivial answer that noise explains; None for none.
    """

    metric: str
    value: float
    baseline: str | None
    baseline_value: float
    expectation: Expectation | None
    trivial: float | None = None
    noise: float | None = None

    @property
    def verdict(self) -> str:
        """`trivial` if not better than the trivial answer; else `better`, `as expected` or `below`.

        Without an expectation it is `unknown`.
        """
        if self.noise is not None or (self.trivial is not None and not self._better_than(self.trivial)):
            return "trivial"
        return self.expectation.verdict(self.value) if self.expectation else "unknown"

    @property
    def higher_is_better(self) -> bool:
        """Whether higher values of the metric are better."""
        return higher_is_better(self.metric)

    @property
    def ahead(self) -> bool:
        """Whether it is better than the best baseline."""
        return self._better_than(self.baseline_value)

    def _better_than(self, other: float) -> bool:
        return self.value > other if self.higher_is_better else self.value < other

    @property
    def difference(self) -> str:
        """The difference to the best baseline, in words."""
        if self.baseline is None or math.isnan(self.value):
            return ""
        if self.value == self.baseline_value:
            return "equal"
        direction = "higher" if self.value > self.baseline_value else "lower"
        if self.higher_is_better:
            return f"{abs(self.value - self.baseline_value) * 100:.2g} points {direction}"
        if self.baseline_value <= 0 or self.value > 10 * self.baseline_value:
            return f"more than ten times {direction}"
        return f"{abs(self.value / self.baseline_value - 1) * 100:.2g} % {direction}"


def best_of(metric: str, values: list[float]) -> float:
    """The highest score or the lowest error."""
    return max(values) if higher_is_better(metric) else min(values)


def shown_metric(name: str) -> str:
    """The name of a metric in text, such as log-RMSE for log_rmse."""
    return SHOWN.get(name, name.replace("_", " "))


def shown_number(value: float) -> str:
    """Four significant digits, or all digits before the point if there are more."""
    if math.isnan(value):
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read_expectations() -> dict[tuple[str, str], Expectation]:
    """The expected scores by task and source of its data; none without the file.

    Raises:
        ConfigurationError: the file is not valid.
    """
    if not EXPECTED.is_file():
        return {}
    try:
        content = yaml.safe_load(EXPECTED.read_text(encoding="utf-8")) or {}
        return {
            (task, source): Expectation(**entry)
            for task, sources in content.items()
            for source, entry in sources.items()
        }
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{EXPECTED} is damaged: {error}") from None


def metric_names(metrics: Metrics) -> list[str]:
    """The names of the metrics on test rows, without `test/`, sorted."""
    return sorted(name.removeprefix("test/") for name in metrics if name.startswith("test/"))


def main_metric(metrics: Metrics) -> str:
    """The metric of a model that stands for it.

    Returns:
        The first of USUAL, without `test/`. Of an ordinary module that names its metrics otherwise the whole
        name: of a metric of the test, if there is one, and rather of an accuracy or the like than of a loss.
    """
    if usual := usual_metric(metrics, USUAL):
        return usual
    if names := metric_names(metrics):
        return names[0]
    found = sorted(name for name in metrics if name.startswith("test")) or sorted(metrics) or ["loss"]
    chosen = [name for name in found if higher_is_better(name)] or [name for name in found if "loss" in name]
    return (chosen or found)[0]


def value_of(metrics: Metrics, metric: str) -> float:
    """The value of a metric by the name of `main_metric`; NaN if there is none."""
    return metrics.get(f"test/{metric}", metrics.get(metric, math.nan))


def baselines_of(metrics: Metrics, metric: str) -> dict[str, float]:
    """A metric of each baseline."""
    found = re.compile(rf"baseline/([^/]+)/{re.escape(metric)}")
    matches = {name: found.fullmatch(name) for name in metrics}
    return {match[1]: metrics[name] for name, match in matches.items() if match}


def score_of(metrics: Metrics, expectation: Expectation | None) -> Score:
    """The score of a task.

    Args:
        metrics: the content of metrics.json, which has finite values only.
        expectation: of the task with the source of its data; it names the metric. None for none.
    """
    names = metric_names(metrics)
    if expectation and names and expectation.metric not in names:  # the task is trained for another target
        expectation = None
    metric = expectation.metric if expectation else main_metric(metrics)
    baselines = baselines_of(metrics, metric)
    value = best_of(metric, list(baselines.values())) if baselines else math.nan
    trivial, noise = baselines.get("trivial"), metrics.get(P_VALUE)
    winner = next((name for name, found in baselines.items() if found == value), None)
    return Score(metric, value_of(metrics, metric), winner, value, expectation, trivial, noise)
