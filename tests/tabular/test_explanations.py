"""Importance, partial dependence, worst rows, groups, thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.tabular import explanations
from src.tabular.columns import CategoricalColumn
from src.tabular.explanations import (
    groups_table,
    importances,
    row_losses,
    sample_of,
    worst_table,
    write_explanations,
)
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target
from src.tabular.probabilities import thresholds_table, write_probabilities

COLUMNS = [
    NumericColumn("size", 0.0, 10.0, 2.0, 0, 0.0),
    CategoricalColumn("kind", ["a", None], ["b", "c"], 0, "a"),
    NumericColumn("noise", 0.0, 0.0, 1.0, 0, 0.0),
]
QUANTITY = Preprocessing(COLUMNS, [Target("y", center=100.0, scale=10.0)])
# size; a, missing, rare; noise
FEATURES = torch.tensor(
    [[0.0, 1, 0, 0, 5], [1, 0, 1, 0, 5], [2, 0, 0, 1, 5], [3, 0, 0, 0, 5]], dtype=torch.float32
)


def linear(
    preprocessing: Preprocessing, weights: list[float], loss: Any = "mse", **keys: Any
) -> TabularModel:
    """A model of one output with these weights of the features."""
    model = TabularModel(preprocessing, nn.Linear, loss, **keys)
    with torch.no_grad():
        model.network.weight.copy_(torch.tensor([weights]))  # type: ignore[operator, union-attr]
        model.network.bias.zero_()  # type: ignore[operator, union-attr]
    return model.eval()


def outputs_of(model: TabularModel) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = model(FEATURES)
    return outputs


def test_losses_of_rows_are_in_the_unit_of_the_target() -> None:
    model = linear(QUANTITY, [1, 0, 0, 0, 0])
    target = torch.tensor([[0.5], [1], [2], [1]])
    assert row_losses(model, outputs_of(model), target).tolist() == [5, 0, 0, 20]


def test_a_column_that_is_not_used_has_no_importance() -> None:
    model = linear(QUANTITY, [1, 50, 0, 0, 0])
    found = importances(model, FEATURES, outputs_of(model), COLUMNS)
    assert [one.column.name for one in found][:2] == ["kind", "size"]
    assert found[0].mean > found[1].mean > 0
    assert (found[2].column.name, found[2].mean, found[2].spread) == ("noise", 0, 0)
    assert found == importances(model, FEATURES, outputs_of(model), COLUMNS)


def test_large_networks_are_explained_by_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear(QUANTITY, [1, 0, 0, 0, 0])
    assert len(sample_of(model, 50, 3)) == 50
    assert len(sample_of(model, 10**6, 3)) == 2000
    monkeypatch.setattr(explanations, "PRODUCTS", 6 * 3 * 5 * 150)
    assert len(sample_of(model, 10**6, 3)) == 150
    monkeypatch.setattr(explanations, "PRODUCTS", 1)
    assert len(sample_of(model, 10**6, 3)) == 100


def test_cells_are_shown_as_in_the_file() -> None:
    assert COLUMNS[0].shown(FEATURES[:, :1].numpy()) == ["10", "12", "14", "16"]
    assert COLUMNS[1].shown(FEATURES[:, 1:4].numpy()) == ["a", "missing", "rare", "unknown"]


def test_the_worst_rows_come_first() -> None:
    model = linear(QUANTITY, [1, 0, 0, 0, 0])
    outputs, target = outputs_of(model), torch.tensor([[0.5], [1], [2], [1]])
    found = importances(model, FEATURES, target, COLUMNS)
    lines = worst_table(model, [7, 8, 9, 12], FEATURES, outputs, target, found).splitlines()
    assert lines[2] == "| row | actual | predicted | absolute error | size | kind | noise |"
    assert lines[4:6] == ["| 12 | 110 | 130 | 20 | 16 | unknown | 5 |", "| 7 | 105 | 100 | 5 | 10 | a | 5 |"]


def test_errors_by_category() -> None:
    model = linear(QUANTITY, [0, 0, 0, 0, 0])
    features = FEATURES[[0, 0, 1, 1, 1]]
    outputs, target = torch.zeros(5, 1), torch.tensor([[1.0], [-1], [2], [2], [-1]])
    table = groups_table(model, features, outputs, target, importances(model, features, target, COLUMNS))
    assert table is not None
    assert table.splitlines()[4:] == ["| kind | missing | 3 | 10 | 16.67 |", "| kind | a | 2 | 0 | 10 |"]


def test_what_each_threshold_answers() -> None:
    probability, wanted = np.array([0.95, 0.5, 0.45, 0.05]), np.array([True, False, True, False])
    lines = thresholds_table(probability, wanted, "yes", 0.42).splitlines()
    assert lines[0].endswith("2 of 4 test rows are yes.")
    assert "| 0.4 | 0.667 | 1.000 | 3 | 1 | 0 |" in lines
    assert "| 0.42 (this model) | 0.667 | 1.000 | 3 | 1 | 0 |" in lines
    assert "| 0.6 | 1.000 | 0.500 | 1 | 0 | 1 |" in lines


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_files_of_a_report_are_the_same_each_time(tmp_path: Path, classes: int) -> None:
    names = ["no", "yes", "maybe"][:classes]
    kinds = Preprocessing(COLUMNS, [Target("late", names)])
    torch.manual_seed(0)
    model = TabularModel(kinds, nn.Linear, "cross_entropy").eval()
    outputs, target = outputs_of(model), torch.tensor([0, 1, 1, 0])
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
        write_explanations(model, kinds, [1, 2, 3, 4], FEATURES, outputs, target, folder, folder)
        rare = 1 if classes == 2 else None
        write_probabilities(model, model.predict(outputs), target, rare, folder, folder)
    files = {"importance.md", "worst_rows.md", "groups.md", "partial_dependence.png", "reliability.png"}
    assert written(folders[0]) == files | (
        {"precision_recall.png", "thresholds.md"} if classes == 2 else set()
    )
    for name in written(folders[0]):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
