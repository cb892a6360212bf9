from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from src.core.errors import DataError
from src.tabular.data import load_split
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.predict import read_rows
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target
from src.tabular.series import forecast, forecast_errors
from src.tabular.splitting import cut_last

PNG = b"\x89PNG"


def series(folder: Path, values: list[float], **settings: Any) -> Path:
    (folder / "raw").mkdir()
    lines = [f"{time},{value}" for time, value in enumerate(values, start=1)]
    (folder / "raw" / "train.csv").write_text("\n".join(["t,y", *lines]) + "\n")
    prepare(folder / "raw", folder / "prepared", Preparation("y", drop=["t"], scale="none", **settings))
    return folder / "prepared"


def test_forecasts_go_on_from_forecasts(tmp_path: Path) -> None:
    # the values are the features doubled plus 1; the next value is 0.5 newest + 0.25 the one before
    columns = [NumericColumn(name, 0.0, 1.0, 2.0, 0, 1.0) for name in ("y_1", "y_2")]
    preprocessing = Preprocessing(columns, [Target("y")], lags=2)
    model = TabularModel(preprocessing, nn.Linear)
    with torch.no_grad():
        model.network.weight.copy_(torch.tensor([[1.0, 0.5]]))
        model.network.bias.fill_(0.75)
    features = torch.tensor([[1.5, 3.5], [0.5, 0.5]])  # values 4, 8 and 2, 2
    assert forecast(model, features, preprocessing, 1).tolist() == [4, 1.5]
    assert forecast(model, features, preprocessing, 2).tolist() == [3, 1.25]
    many = torch.tensor([[1.5, 3.5]] * 6)  # always 4, 8: the answers are 4, 3, 2.5, 2
    splits = dict.fromkeys(("train", "validation", "test"), (many, torch.full((6, 1), 5.0)))
    errors = forecast_errors(model, splits, preprocessing, tmp_path / "a.png")
    assert errors == {"test_4_steps/rmse": 3.0}
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_lags_are_the_values_before_and_the_last_rows_are_the_test_part(tmp_path: Path) -> None:
    prepared = series(
        tmp_path, [float(number) for number in range(10)], lags=2, test_share=0.25, validation_share=0.3
    )
    parts = {name: load_split(prepared, name) for name in ("train", "validation", "test")}
    assert parts["train"][0].tolist() == [[1, 0], [2, 1], [3, 2], [4, 3]]
    assert parts["train"][1][:, 0].tolist() == [2, 3, 4, 5]
    assert parts["validation"][1][:, 0].tolist() == [6, 7]
    assert parts["test"][0].tolist() == [[7, 6], [8, 7]]
    rows = (prepared / "split.csv").read_text().splitlines()
    assert (rows[1], rows[-1]) == ("3,train", "10,test")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_series_is_predicted_one_row_beyond_its_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
    learnt = Preprocessing.load(series(tmp_path, [float(number) for number in range(20)], lags=2))
    raw = tmp_path / "new.csv"
    raw.write_text("y\n5\n7\n9\n")
    rows, tables = read_rows(raw, learnt)
    found = pd.concat(list(tables))
    assert found[["y_1", "y_2"]].to_numpy().tolist() == [[7, 5], [9, 7]]
    assert (rows, found.index.tolist()) == (2, [2, 3])
    raw.write_text("y\n5\n")
    with pytest.raises(DataError, match="1 rows, a forecast needs at least 2"):
        read_rows(raw, learnt)


def test_nothing_is_forecast_where_other_columns_are_not_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "raw").mkdir()
    lines = [f"{number % 5},{number}" for number in range(30)]
    (tmp_path / "raw" / "train.csv").write_text("\n".join(["x,y", *lines]) + "\n")
    prepare(tmp_path / "raw", tmp_path / "prepared", Preparation("y", lags=2))
    preprocessing = Preprocessing.load(tmp_path / "prepared")
    count, tables = read_rows(tmp_path / "raw" / "train.csv", preprocessing)
    assert len(pd.concat(tables)) == 28
    assert count in (None, 28)
    assert "nothing is forecast after the last row, as x is not known" in caplog.text


def test_rows_of_one_time_leave_nothing_to_cut() -> None:
    rows = np.arange(0)
    assert [len(part) for part in cut_last(rows, 0.5, np.zeros(4))] == [0, 0]


def test_a_column_with_the_name_of_a_lag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rows = "\n".join(["y_1,y", *(f"1,{number}" for number in range(30))])
    (tmp_path / "raw" / "train.csv").write_text(rows + "\n")
    with pytest.raises(DataError, match=r"column 'y_1' has the name of a lag; rename it"):
        prepare(tmp_path / "raw", tmp_path / "prepared", Preparation("y", lags=2))
