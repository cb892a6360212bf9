"""The comparison with the trivial answer, and equal rows."""

import pytest
import torch
from torch import nn

from src.reporting.noise import P_VALUE, noise_of
from src.tabular.columns import NumericColumn
from src.tabular.evaluate import _gains, _repeated
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing, Target


def model(target: Target, loss: str) -> TabularModel:
    columns = [NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0)]
    return TabularModel(Preprocessing(columns, target), nn.Linear, loss)  # type: ignore[arg-type]


def test_the_gain_of_a_quantity_is_in_squares_of_its_unit() -> None:
    quantity = model(Target("y", center=10.0, scale=2.0), "mse")
    outputs, trivial, target = (torch.tensor(values)[:, None] for values in ([0.0, 2], [1.0, 1], [0.0, 1]))
    assert _gains(quantity, outputs, trivial, target).tolist() == [4, -4]  # 10 against 12, 14 against 12
    assert P_VALUE in noise_of(_gains(quantity, outputs, trivial, target))


def test_the_gain_of_classes_is_a_right_answer() -> None:
    classes = model(Target("y", ["a", "b"]), "cross_entropy")
    outputs = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    trivial = torch.tensor([[1.0, 0]]).expand(3, -1)
    assert _gains(classes, outputs, trivial, torch.tensor([0, 1, 1])).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ([[3.0], [4]], {}),
        ([[3.0], [3]], {"repeated/rows": 1}),
        ([[1.0], [4]], {"repeated/rows": 1, "repeated/test_rows_of_training": 1}),
    ],
)
def test_equal_rows_are_counted(test: list[list[float]], found: dict[str, float]) -> None:
    features = {"train": [[1.0], [2]], "validation": [[5.0]], "test": test}
    splits = {name: (torch.tensor(rows), torch.zeros(len(rows), 1)) for name, rows in features.items()}
    assert _repeated(splits) == found
