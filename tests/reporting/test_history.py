import math
from pathlib import Path
from typing import Any

import pytest

from src.reporting.figures import plot_learning_curve
from src.reporting.history import best_row, read_history, rows_with

HISTORY = """epoch,train/loss,validation/loss
1,3,
2,2,0.5
3,1,
4,0.5,0.75
"""


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """That of a training with `check_val_every_n_epoch: 2`."""
    path = tmp_path / "history.csv"
    path.write_text(HISTORY, encoding="utf-8")
    return path


def test_an_epoch_without_validation_has_no_value(history: Path) -> None:
    rows = read_history(history)
    assert [row["train/loss"] for row in rows] == [3, 2, 1, 0.5]
    assert math.isnan(rows[0]["validation/loss"])
    assert [row["epoch"] for row in rows_with(rows, "validation/loss")] == [2, 4]


def test_the_best_epoch_is_one_with_a_value(history: Path) -> None:
    rows = read_history(history)
    assert best_row(rows, "validation/loss")["epoch"] == 2
    assert best_row(rows, "validation/loss", "max")["epoch"] == 4
    assert best_row(rows, "train/loss")["epoch"] == 4


def test_the_learning_curve_leaves_out_what_is_not_there(history: Path, tmp_path: Path) -> None:
    plot_learning_curve(history, tmp_path / "curve.svg")
    picture = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert "lowest, epoch 2" in picture
    assert "nan" not in picture
    assert "kept" not in picture


@pytest.mark.parametrize(
    ("configuration", "kept"),
    [({"monitor": None}, False), ({"monitor": "train/loss"}, True), ({"monitor": "absent"}, False)],
)
def test_the_kept_epoch_is_marked_if_another_metric_has_chosen_it(
    configuration: dict[str, Any], kept: bool, history: Path, tmp_path: Path
) -> None:
    plot_learning_curve(history, tmp_path / "curve.svg", configuration)
    picture = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert ("kept, epoch 4" in picture) == kept
