"""The kinds of columns: what they learn from training values, and the features of raw cells."""

import json
import math
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import PowerTransformer, QuantileTransformer

from src.tabular.columns import NumericColumn, Rules, yeo_johnson
from src.tabular.export import RawTable, as_inputs, random_rows
from src.tabular.model import TabularModel
from src.tabular.prepare import Preparation
from src.tabular.preprocessing import Preprocessing, Target, transform
from src.training.networks import MLP

NAN = math.nan


def numbers(*values: float, **rules: Any) -> NumericColumn:
    return NumericColumn.learn("x", np.array(values), Rules(**rules))


def features(column: Any, cells: list[Any]) -> list[list[float]]:
    table = pd.DataFrame({column.name: cells})
    found = transform(table, Preprocessing([column], Target("y")), Path("rows.csv"), Counter())
    return np.round(found.astype(float), 4).tolist()


def test_an_indicator_is_a_feature_of_its_own_where_training_values_are_missing() -> None:
    column = numbers(1, NAN, 3, missing_indicators=True, scale="none")
    assert (column.feature_names, column.missing) == (["x", "x_nan"], 1)
    assert features(column, [5, None]) == [[5, 0], [2, 1]]
    complete = numbers(1, 3, missing_indicators=True, scale="none")
    assert complete.feature_names == ["x"]
    assert features(complete, [None]) == [[2]]


def test_the_robust_scale_is_the_interquartile_range_or_where_it_is_0_the_standard_deviation() -> None:
    spread = numbers(0, 1, 2, 3, 4, scale="robust")
    assert (spread.center, spread.scale) == (2, 2)
    mostly_zero = numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 10, scale="robust")
    assert (mostly_zero.center, mostly_zero.scale) == (0, 3)
    constant = numbers(7, 7, 7, scale="robust")
    assert (constant.center, constant.scale) == (7, 1)


def test_log1p_keeps_the_sign_and_comes_before_the_scale() -> None:
    column = numbers(0, math.e - 1, math.e**2 - 1, transform="log1p", scale="minmax")
    assert (column.center, round(column.scale, 12)) == (0, 2)
    assert features(column, [math.e - 1, 1 - math.e]) == [[0.5], [-0.5]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0, 0, 1, 0, 2, 1, 0, 40], "log1p"),
        ([-1, 0, 1, 0, 2, 1, 0, 40], "none"),  # below 0
        ([0, 1, 2, 3, 4, 5, 6, 7], "none"),  # no heavy tail
        ([NAN, 0, 1, 0, 2, 1, 0, 40], "log1p"),
        ([3, 3, 3], "none"),
    ],
)
def test_auto_takes_the_logarithm_of_a_heavy_tail(values: list[float], found: str) -> None:
    assert numbers(*values, transform="auto").transform == found


def test_a_missing_value_is_replaced_before_the_transform() -> None:
    column = numbers(0, 2, NAN, 4, transform="log1p", impute="median", scale="none")
    assert features(column, [None, 2]) == [[round(math.log(3), 4)]] * 2


@pytest.mark.parametrize("power", [-1.5, 0.0, 0.4, 1.0, 2.0, 3.5])
def test_yeo_johnson_is_that_of_scipy(power: float) -> None:
    from scipy.stats import yeojohnson

    values = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0])
    np.testing.assert_allclose(yeo_johnson(values, power), yeojohnson(values, power), rtol=1e-12)


def test_yeo_johnson_learns_the_exponent_of_scikit_learn() -> None:
    values = np.random.default_rng(0).lognormal(size=200) - 0.5
    column = numbers(*values, transform="yeo_johnson")
    expected = PowerTransformer().fit_transform(values[:, np.newaxis])
    np.testing.assert_allclose(features(column, list(values)), expected, atol=1e-3)


def test_quantiles_become_those_of_the_normal_distribution_and_ends_are_kept() -> None:
    values = np.random.default_rng(0).lognormal(size=5000)
    column = numbers(*values, transform="quantile", scale="none")
    others = QuantileTransformer(n_quantiles=101, output_distribution="normal")
    expected = others.fit(values[:, np.newaxis]).transform([[0.5], [1.0], [2.0]])
    np.testing.assert_allclose(features(column, [0.5, 1.0, 2.0]), expected, atol=0.03)
    assert features(column, [-1e9, 1e9]) == [[-2.5793], [2.5793]]


def test_equal_quantiles_have_the_score_of_their_mean_rank() -> None:
    column = numbers(0, 0, 0, 1, 2, transform="quantile", scale="none")
    assert column.quantiles == [0, 1, 2]
    # the ranks 0.1, 0.3 and 0.5 of the zeros have the mean 0.3
    assert np.round(column.scores, 4).tolist() == [-0.5244, 0.5244, 1.2816]
    assert features(column, [0, 0.5, 1]) == [[-0.5244], [0], [0.5244]]


def test_a_column_has_keys_of_its_own() -> None:
    keys: dict[str, Any] = {"x": {"transform": "log1p", "impute": "median"}, "code": "categorical"}
    settings = Preparation(target="y", column_types=keys, scale="robust")
    assert settings.rules_of("x") == Rules(None, "median", 0.0, "robust", "log1p")
    assert settings.rules_of("code") == Rules("categorical", scale="robust")
    assert settings.rules_of("z") == Rules(scale="robust")
    assert settings.text_columns == ["code"]


def every_column() -> Preprocessing:
    values = np.random.default_rng(1).lognormal(size=300)
    values[::7] = NAN
    kinds: list[dict[str, Any]] = [
        {"transform": "log1p"},
        {"transform": "yeo_johnson", "missing_indicators": True},
        {"transform": "quantile", "scale": "none", "impute": "median"},
        {"missing_indicators": True, "scale": "robust"},
    ]
    columns = [
        NumericColumn.learn(f"x{number}", values, Rules(**rules)) for number, rules in enumerate(kinds)
    ]
    return Preprocessing(columns, Target("y"))


def test_columns_are_loaded_as_they_were_saved_and_defaults_are_not_written(tmp_path: Path) -> None:
    learnt = every_column()
    learnt.save(tmp_path)
    assert Preprocessing.load(tmp_path).columns == learnt.columns
    written = json.loads((tmp_path / "preprocessing.json").read_text())["columns"]
    assert sorted(written[0]) == sorted(
        ["kind", "name", "fill", "center", "scale", "missing", "typical", "transform"]
    )


def test_an_exported_model_transforms_raw_cells_alike() -> None:
    learnt = every_column()
    model = TabularModel(learnt, partial(MLP, hidden_sizes=[4])).eval()
    table = random_rows(learnt, np.random.default_rng(0), 100)
    expected = torch.from_numpy(transform(table, learnt, Path("rows"), Counter()))
    model.network = torch.nn.Identity()  # type: ignore[assignment]
    model.predict = lambda outputs: outputs  # type: ignore[method-assign]
    inputs = {name: torch.from_numpy(array) for name, array in as_inputs(table, learnt).items()}
    torch.testing.assert_close(RawTable(model, learnt)(**inputs), expected)
