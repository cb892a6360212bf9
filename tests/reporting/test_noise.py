"""The verdict against the trivial answer."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from src.reporting.noise import P_VALUE, gains_of_classes, noise_of, usual_metric
from src.reporting.tables import print_metrics


def test_the_p_value_is_that_of_the_paired_t_test() -> None:
    draws = np.random.default_rng(0)
    model, trivial = draws.random((2, 50))
    found = noise_of(trivial - model)
    expected = ttest_rel(trivial, model, alternative="greater").pvalue
    assert found == ({P_VALUE: pytest.approx(expected)} if expected >= 0.05 else {})
    assert noise_of(trivial - model + 1) == {}


@pytest.mark.parametrize(
    ("gains", "p"), [([0.0, 0, 0], 1), ([-1.0, -1], 1), ([1.0], None), ([1.0, 1], None), ([], 1)]
)
def test_gains_without_a_spread(gains: list[float], p: float | None) -> None:
    assert noise_of(np.array(gains)) == ({} if p is None else {P_VALUE: p})


def test_always_saying_the_frequent_class_is_no_gain_and_finding_the_rare_one_is() -> None:
    target = np.array([0] * 90 + [1] * 10)
    never = np.zeros(100, dtype=int)
    assert noise_of(gains_of_classes(never, never, target)) == {P_VALUE: 1}
    finding = target.copy()
    finding[:12] = 1  # more mistakes than always saying 0: accuracy 0.88
    assert gains_of_classes(finding, never, target).mean() == pytest.approx((78 / 90 + 1) / 2 - 0.5)
    assert noise_of(gains_of_classes(finding, never, target)) == {}


def test_balanced_classes_are_compared_by_accuracy() -> None:
    target = np.array([0, 1] * 20)
    gains = gains_of_classes(target, np.zeros(40, dtype=int), target)
    assert gains.tolist() == [0, 1] * 20


def test_the_metric_of_unbalanced_classes_is_the_mean_over_the_classes() -> None:
    metrics = {"test/accuracy": 0.98, "test/recall": 0.5, "baseline/trivial/accuracy": 0.98}
    assert usual_metric(metrics, ("accuracy",)) == "recall"
    assert usual_metric(metrics | {"baseline/trivial/accuracy": 0.6}, ("accuracy",)) == "accuracy"
    assert usual_metric({"test/rmse": 1.0}, ("accuracy", "rmse")) == "rmse"


def test_the_summary_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics("rows", {"test/accuracy": 0.5, P_VALUE: 0.34})
    assert "not better than the trivial answer beyond noise" in capsys.readouterr().out
    print_metrics("rows", {"test/accuracy": 0.5})
    assert "trivial" not in capsys.readouterr().out
