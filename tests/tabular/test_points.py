from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from src.core.digests import read_preprocessing
from src.core.errors import ConfigurationError, DataError
from src.tabular.data import load_split
from src.tabular.model import TabularModel
from src.tabular.points import forecast, forecast_errors, plot_function, separable, weights_table
from src.tabular.predict import read_rows
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import feature_names
from src.training.networks import MLP

PNG = b"\x89PNG"
CORNERS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


def column(name: str, center: float = 0.0, scale: float = 1.0) -> dict[str, Any]:
    return {"name": name, "kind": "numeric", "fill": 0.0, "center": center, "scale": scale, "missing": 0}


def learnt(*columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    target = {"name": "y", "classes": None, "log": False, "center": 0.0, "scale": 1.0, "at_least_one": False}
    content = {"columns": list(columns), "task": "regression", "target": target, "lags": 0, "truth": None}
    return content | {"features": feature_names(content)} | more


def linear(preprocessing: dict[str, Any], weights: list[float], bias: float) -> TabularModel:
    model = TabularModel(preprocessing, partial(MLP, hidden_sizes=[]))
    layer = model.network[0]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)
    return model


def as_splits(features: Tensor, target: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    return dict.fromkeys(("train", "validation", "test"), (features, target))


def test_a_perceptron_answers_with_a_side() -> None:
    target = {"name": "y", "classes": ["-1", "1"]}
    model = TabularModel(
        learnt(column("x"), task="classification", target=target),
        partial(MLP, hidden_sizes=[]),
        loss="perceptron",
    )
    assert model.predict(torch.tensor([[0.2], [-7.0]])).tolist() == [[0, 1], [1, 0]]


def test_a_line_separates_and_but_not_exclusive_or() -> None:
    assert separable(CORNERS, torch.tensor([0, 0, 0, 1]))
    assert separable(CORNERS, torch.tensor([1, 1, 1, 1]))
    assert not separable(CORNERS, torch.tensor([0, 1, 1, 0]))


def test_weights_are_in_the_units_of_the_columns_beside_least_squares_and_the_truth() -> None:
    preprocessing = learnt(column("a", center=1, scale=2), column("b"), truth={"a": 3.0, "bias": 4.0})
    preprocessing["target"] |= {"center": 10.0, "scale": 5.0}
    # y = 10 + 5 (0.4 (a - 1) / 2 + 2 b + 1) = 14 + a + 10 b
    model = linear(preprocessing, [0.4, 2.0], 1.0)
    # on the corners of the features: a = 1, 3 and y = 10 + 5 (0, 2, 1, 3), that is 5 (a - 1) / 2 + 10 b + 10
    table = weights_table(model, as_splits(CORNERS, torch.tensor([[0.0], [2], [1], [3]])), preprocessing)
    assert table is not None
    assert list(table.index) == ["a", "b", "bias"]
    assert table["learnt"].tolist() == pytest.approx([1, 10, 14])
    assert table["least squares"].tolist() == pytest.approx([2.5, 10, 7.5])
    assert table["truth"].tolist() == [3, 0, 4]


def test_deep_models_have_no_table_of_weights() -> None:
    preprocessing = learnt(column("a"))
    splits = as_splits(CORNERS[:, :1], torch.zeros(4, 1))
    assert (
        weights_table(TabularModel(preprocessing, partial(MLP, hidden_sizes=[2])), splits, preprocessing)
        is None
    )


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("classes", [None, ["left", "right", "middle"]])
def test_one_or_two_inputs_have_a_picture(tmp_path: Path, inputs: int, classes: Any) -> None:
    preprocessing = learnt(*(column(f"x{number}", 1, 3) for number in range(inputs)))
    target: Tensor = torch.zeros(4, 1)
    if classes:
        preprocessing |= {"task": "classification", "target": {"name": "side", "classes": classes}}
        target = torch.tensor([0, 1, 2, 1])
    model = TabularModel(
        preprocessing, partial(MLP, hidden_sizes=[3]), loss="cross_entropy" if classes else "mse"
    )
    plot_function(model, as_splits(CORNERS[:, :inputs], target), preprocessing, tmp_path / "function.png")
    assert (tmp_path / "function.png").read_bytes().startswith(PNG)


def test_forecasts_go_on_from_forecasts(tmp_path: Path) -> None:
    # the values are the features doubled plus 1; the next value is 0.5 newest + 0.25 the one before
    preprocessing = learnt(column("y_1", 1, 2), column("y_2", 1, 2), lags=2)
    model = linear(preprocessing, [1.0, 0.5], 0.75)
    features = torch.tensor([[1.5, 3.5], [0.5, 0.5]])  # values 4, 8 and 2, 2
    assert forecast(model, features, preprocessing, 1).tolist() == [4, 1.5]
    assert forecast(model, features, preprocessing, 2).tolist() == [3, 1.25]
    many = torch.tensor([[1.5, 3.5]] * 6)  # always 4, 8: the answers are 4, 3, 2.5, 2
    errors = forecast_errors(
        model, as_splits(many, torch.full((6, 1), 5.0)), preprocessing, tmp_path / "a.png"
    )
    assert errors == {"test_4_steps/rmse": 3.0}
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def series(folder: Path, values: list[float], **settings: Any) -> Path:
    (folder / "raw").mkdir()
    lines = [f"{time},{value}" for time, value in enumerate(values, start=1)]
    (folder / "raw" / "train.csv").write_text("\n".join(["t,y", *lines]) + "\n")
    prepare(folder / "raw", folder / "prepared", Preparation("y", drop=["t"], scale="none", **settings))
    return folder / "prepared"


def test_lags_are_the_values_before_and_the_last_rows_are_the_test_part(tmp_path: Path) -> None:
    prepared = series(tmp_path, [float(number) for number in range(10)], lags=2, test_share=0.25)
    parts = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    assert parts["train"][0].tolist() == [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]
    assert parts["train"][1][:, 0].tolist() == [2, 3, 4, 5, 6]
    assert parts["validation"][1][:, 0].tolist() == [7]
    assert parts["test"][0].tolist() == [[7, 6], [8, 7]]
    rows = (prepared / "split.csv").read_text().splitlines()
    assert (rows[1], rows[-1]) == ("3,train", "10,test")


@pytest.mark.parametrize(
    "settings",
    [{"folds": 1}, {"folds": -1}, {"folds": 3, "fold": 4}, {"folds": 3, "fold": 0}, {"folds": 3, "lags": 2}],
)
def test_folds_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.fold"):
        Preparation("y", **settings)


def test_folds_leave_the_official_test_part_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, rows in (("train.csv", range(9)), ("test.csv", range(100, 104))):
        (tmp_path / "raw" / name).write_text("x,y\n" + "".join(f"{row},{row}\n" for row in rows))
    seen = []
    for fold in (1, 2, 3):
        settings = Preparation("y", test="test.csv", scale="none", folds=3, fold=fold)
        prepare(tmp_path / "raw", tmp_path / "prepared", settings)
        seen += load_split(tmp_path / "prepared", "test")[1][:, 0].tolist()
    assert sorted(seen) == list(range(9))


def test_folds_of_classes_keep_their_shares(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    table = "x,y\n" + "".join(f"{row},{'rare' if row % 5 == 0 else 'common'}\n" for row in range(40))
    (tmp_path / "raw" / "train.csv").write_text(table)
    for fold in (1, 4):
        prepare(
            tmp_path / "raw", tmp_path / "prepared", Preparation("y", "classification", folds=4, fold=fold)
        )
        target = load_split(tmp_path / "prepared", "test")[1]
        assert target.bincount().tolist() == [8, 2]


@pytest.mark.parametrize("settings", [{"lags": -1}, {"lags": 1, "test": "test.csv"}])
def test_lags_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.lags"):
        Preparation("y", **settings)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_series_is_predicted_one_row_beyond_its_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
    learnt = read_preprocessing(series(tmp_path, [float(number) for number in range(20)], lags=2))
    raw = tmp_path / "new.csv"
    raw.write_text("y\n5\n7\n9\n")
    rows, tables = read_rows(raw, learnt)
    found = pd.concat(list(tables))
    assert found[["y_1", "y_2"]].to_numpy().tolist() == [[7, 5], [9, 7]]
    assert (rows, found.index.tolist()) == (2, [2, 3])
    raw.write_text("y\n5\n")
    with pytest.raises(DataError, match="1 rows, a forecast needs 2"):
        read_rows(raw, learnt)


def test_the_truth_of_the_sample_goes_along(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "truth.json").write_text('{"z": {"x": 1.0}, "y": {"x": 2.0, "bias": 1.0}}')
    table = "x,y\n" + "".join(f"{x},{2 * x + 1}\n" for x in np.arange(10.0))
    (tmp_path / "raw" / "train.csv").write_text(table)
    prepare(tmp_path / "raw", tmp_path / "prepared", Preparation("y"))
    assert read_preprocessing(tmp_path / "prepared")["truth"] == {"x": 2.0, "bias": 1.0}
