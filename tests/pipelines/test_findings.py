import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipelines.study import findings
from pipelines.study.findings import compare, interval, sentence

NAN = float("nan")


def test_the_interval_is_students() -> None:
    # three values, mean 2, deviation 1: t(0.975, 2) = 4.302653, divided by the root of 3
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval(np.array([1.0])))


def test_differences_are_paired() -> None:
    values = {"first": np.array([1.0, 5.0, 9.0]), "second": np.array([2.0, 6.1, 9.9])}
    first, second = compare(values)
    assert "difference" not in first
    assert (second["runs"], second["mean"]) == (3, pytest.approx(6))
    assert second["sd"] == pytest.approx(np.std([2, 6.1, 9.9], ddof=1))
    # 1, 1.1, 0.9: small beside the spread of either
    assert second["difference"] == pytest.approx(1)
    assert second["difference_ci"] == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


def test_diverged_runs_are_counted_and_left_out_of_the_pairs() -> None:
    values = {"a": np.array([1.0, NAN, 3.0]), "b": np.array([2.0, 7.0, 4.0]), "c": np.array([NAN] * 3)}
    a, b, c = compare(values)
    assert (a["runs"], a["diverged"], a["mean"]) == (2, 1, 2)
    assert b["difference"] == 1
    assert (c["runs"], c["diverged"]) == (0, 3)
    assert math.isnan(c["mean"])
    assert "diverged in every run: c" in sentence([a, b, c], "test/rmse", "min")


def test_the_sentence_says_what_exceeds_the_noise() -> None:
    values = {
        "relu": np.array([1.0, 1.1, 1.2]),
        "tanh": np.array([0.5, 0.61, 0.7]),
        "step": np.array([3.0, 3.1, 3.3]),
        "elu": np.array([1.1, 1.0, 1.3]),
    }
    said = sentence(compare(values), "test/rmse", "min")
    assert said.startswith("test/rmse, against relu (1.1); better beyond the noise: tanh (-0.497 ± ")
    assert "; worse beyond the noise: step (+2.03 ± " in said
    assert said.endswith("; no difference that exceeds the noise of 3 runs: elu.")
    assert "better beyond the noise: step" in sentence(compare(values), "test/accuracy", "max")


def test_one_run_or_one_cell_compares_nothing() -> None:
    single = compare({"a": np.array([2.0]), "b": np.array([1.0])})
    assert sentence(single, "loss", "min") == "loss of a: 2 in one run, without noise to compare with."
    alone = compare({"a": np.array([1.0, 2.0, 3.0])})
    assert sentence(alone, "loss", "min") == "loss of a: 2 ± 2.5."


def test_a_difference_of_single_runs_has_no_interval() -> None:
    first, second = compare({"a": np.array([2.0]), "b": np.array([2.0])})
    many = compare({"a": np.array([1.0, 2.0]), "b": np.array([2.0, 3.5])})
    for row in (first, second, *many):
        row |= {"cell": "b", "gap": NAN, "weight_norm": NAN}
    assert findings._cells_of_row(first)[4:6] == ["", ""]
    assert findings._cells_of_row(second)[4:6] == ["", "+0"]
    assert findings._cells_of_row(many[1])[5] == "+1.25 ± 3.177"


@pytest.mark.parametrize(
    ("metric", "mode", "label", "scale"),
    [
        ("test/mae", "min", "validation/mae", "log"),
        ("test/accuracy", "max", "validation/accuracy", "linear"),
        ("validation/loss", "min", "validation/loss", "log"),
        ("best_epoch", "min", "validation/loss", "log"),
    ],
)
def test_the_curves_are_of_the_metric_of_the_study(
    metric: str, mode: str, label: str, scale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(findings, "save_figure", lambda figure, path: figures.append(figure))
    history = {
        "epoch": np.array([1.0, 2.0]),
        "validation/loss": np.array([3.0, 2.0]),
        "validation/mae": np.array([5.0, 4.0]),
        "validation/accuracy": np.array([0.5, 0.75]),
    }
    longer = {name: np.append(values, values[-1]) for name, values in history.items()}
    column = findings._curve(set(history), metric)
    assert column is not None
    findings._plot_curves({"a": [history, longer]}, column, mode, Path("curves.png"))
    (axes,) = figures[0].axes
    assert (axes.get_ylabel(), axes.get_yscale()) == (label, scale)
    assert axes.lines[0].get_ydata().tolist() == history[label].tolist()


def test_weights_of_bfloat16_have_a_norm(tmp_path: Path) -> None:
    weights = {"a": torch.tensor([[3.0, 4.0]]).bfloat16(), "bias": torch.ones(2).bfloat16()}
    save_file(weights, tmp_path / "model.safetensors")
    assert findings._weight_norm(tmp_path) == 5
