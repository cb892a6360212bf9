"""The comparison with the trivial answer, baselines, intervals, and equal rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import nn

from src.reporting.noise import P_VALUE, noise_of
from src.tabular import baselines, evaluate
from src.tabular.baselines import sampled_rows
from src.tabular.evaluate import _draw_answers, _gains
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target


def model(target: Target, loss: Any, **keys: Any) -> TabularModel:
    columns = [NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0)]
    return TabularModel(Preprocessing(columns, [target]), nn.Linear, loss, **keys)


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
def test_equal_rows_are_counted(
    test: list[list[float]], found: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {"train": [[1.0], [2]], "validation": [[5.0]], "test": test}

    def split(prepared: Path, name: str) -> tuple[torch.Tensor, ...]:
        rows = torch.tensor(features[name])
        return rows, torch.zeros(len(rows), 0), torch.zeros(len(rows))

    monkeypatch.setattr(evaluate, "mapped_split", split)
    assert evaluate._repeated(Path()) == found


def test_the_share_of_rows_in_their_intervals() -> None:
    quantity = model(Target("y", center=10.0, scale=2.0), "mse", interval=0.5)
    quantity.margin.fill_(1.0)  # type: ignore[union-attr]
    outputs, target = torch.zeros(4, 1), torch.tensor([[0.0], [0.9], [-1.1], [3.0]])
    assert evaluate._intervals(quantity, outputs, target) == {
        "interval/wanted_coverage": 0.5,
        "interval/coverage": 0.5,
        "interval/mean_width": 4,
    }
    assert evaluate._intervals(model(Target("y"), "mse"), outputs, target) == {}


def test_the_scores_of_each_class(tmp_path: Path) -> None:
    kinds = Preprocessing([NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0)], [Target("late", ["no", "yes"])])
    classes = TabularModel(kinds, nn.Linear, "cross_entropy")
    outputs, target = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]), torch.tensor([0, 0, 1, 1])
    _draw_answers(classes, kinds, outputs, target, [1], tmp_path, tmp_path)
    assert (tmp_path / "classes.md").read_text(encoding="utf-8").splitlines() == [
        "| late | rows | precision | recall | F1 |",
        "|---|---|---|---|---|",
        "| no | 2 | 1.0000 | 0.5000 | 0.6667 |",
        "| yes | 2 | 0.6667 | 1.0000 | 0.8000 |",
    ]


def test_baselines_are_judged_without_the_decisions_of_the_model() -> None:
    classes = model(Target("y", ["a", "b"]), "bce", threshold={"b": 0.1}, calibrate=True)
    outputs, target = torch.tensor([[-1.0], [1]]), torch.tensor([0, 1])  # probabilities 0.27 and 0.73
    assert evaluate.scores(classes, outputs, target, [1], "test")["test/accuracy"] == 0.5
    found = evaluate.scores(classes, outputs, target, [1], "baseline/x", of_model=False)
    assert found["baseline/x/accuracy"] == 1


def test_a_quantile_is_judged_by_its_own_loss() -> None:
    quantity = model(Target("y", scale=2.0), "quantile", quantile=0.75)
    outputs, target = torch.tensor([[0.0], [1]]), torch.tensor([[1.0], [0]])  # 2 too low, 2 too high
    assert evaluate._losses(quantity, outputs, target).tolist() == [1.5, 0.5]
    assert evaluate.scores(quantity, outputs, target, [None], "test")["test/quantile_loss"] == 1


def test_the_rare_class_is_the_one_with_fewer_training_rows() -> None:
    assert evaluate.rare_class(torch.tensor([0, 1, 1])) == 0
    assert evaluate.rare_class(torch.tensor([0, 1, 0])) == 1
    assert evaluate.rare_class(torch.tensor([0, 1])) == 1


def test_baselines_of_large_tables_are_fitted_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sampled_rows(1000, 10) is None
    monkeypatch.setattr(baselines, "CELLS", 40)
    assert len(sampled_rows(10, 5, trees=4)) == 2  # type: ignore[arg-type]
    sample = sampled_rows(10, 10)
    assert sample is not None
    assert len(set(sample.tolist())) == 4
    assert sample.tolist() == sorted(sample)
    assert sample.tolist() == sampled_rows(10, 10).tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("target", [Target("y"), Target("y", ["a", "b"])])
def test_boosting_learns_from_few_rows(target: Target) -> None:
    features = torch.linspace(-1, 1, 12)[:, None]
    loss, wanted = ("cross_entropy", (features[:, 0] > 0).long()) if target.classes else ("mse", features)
    found = baselines.baseline_outputs(model(target, loss), features, wanted, features[[0, -1]])["boosting"]
    assert not torch.equal(found[0], found[1])


def test_a_class_without_a_row_in_the_sample_has_no_probability() -> None:
    classes = model(Target("y", ["a", "b", "c"]), "cross_entropy")
    features = torch.tensor([[0.0], [0], [1], [1]])
    found = baselines.baseline_outputs(classes, features, torch.tensor([0, 0, 2, 2]), torch.tensor([[1.0]]))
    for outputs in found.values():
        assert outputs.shape == (1, 3)
        assert outputs.softmax(dim=1)[0, 1] < 1e-6


def test_a_class_of_one_row_does_not_stop_the_boosting() -> None:
    target = Target("y", ["a", "b", "c"])
    features = torch.randn(10_050, 1, generator=torch.Generator().manual_seed(0))
    codes = (features[:, 0] > 0).long()
    codes[0] = 2
    classifier = HistGradientBoostingClassifier(random_state=0, max_iter=2)
    found = baselines._probabilities(classifier, target, features, codes, features[:3])
    assert found.shape == (3, 3)
