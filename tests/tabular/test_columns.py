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

from src.core.errors import ConfigurationError, DataError
from src.tabular.columns import COLUMNS
from src.tabular.dates import PARTS, date_text, seconds_of
from src.tabular.export import RawTable, as_inputs, random_rows
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.prepare import Preparation
from src.tabular.preprocessing import Preprocessing, Target, transform
from src.tabular.rules import Rules
from src.tabular.transforms import yeo_johnson, yeo_johnson_inverse
from src.training.networks import MLP

NAN = math.nan


def numbers(*values: float, **rules: Any) -> NumericColumn:
    return NumericColumn.learn("x", np.array(values), Rules(**rules))


def features(column: Any, cells: list[Any]) -> list[list[float]]:
    table = pd.DataFrame({column.name: cells})
    found = transform(table, Preprocessing([column], [Target("y")]), Path("rows.csv"), Counter())
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
    columns: list[Any] = [
        NumericColumn.learn(f"x{number}", values, Rules(**rules)) for number, rules in enumerate(kinds)
    ]
    columns += [learnt_column(kind, cells, **rules) for kind, cells, rules in OTHERS]
    return Preprocessing(columns, [Target("y")])


OTHERS: list[tuple[Any, list[Any], dict[str, Any]]] = [
    ("date", ["2024-01-31 10:30", "2024-03-01", None], {"missing_indicators": True}),
    ("categorical", ["a", "b", None, "a"], {}),
    ("date", ["31/1/2024", "1/3/2023", "2/3/2023", None], {"day_first": True, "parts": ["year", "weekday"]}),
    ("boolean", ["yes", "no", None, "no"], {"missing_indicators": True}),
    ("ordered", ["low", "high", None, "low"], {"order": ["low", "middle", "high"]}),
    ("text", ["a long text", "another", None], {"width": 8}),
    ("categorical", ["x", "y", "z", "y"], {"encode": "ordinal"}),
]


def learnt_column(kind: Any, cells: list[Any], **rules: Any) -> Any:
    """What a column of a kind learns from raw cells, all of them training rows."""
    chosen, path = Rules(kind, **rules), Path("train.csv")
    values = COLUMNS[kind].read(pd.Series(cells, name="c", dtype=object), path, chosen)
    return COLUMNS[kind].learn("c" + kind + str(len(cells)) + rules.get("encode", ""), values, chosen)


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
    model.network = torch.nn.Identity()
    model.predict = lambda outputs: outputs  # type: ignore[method-assign]
    inputs = {name: torch.from_numpy(array) for name, array in as_inputs(table, learnt).items()}
    torch.testing.assert_close(RawTable(model, learnt)(**inputs), expected)


def test_cells_are_shown_as_they_were(tmp_path: Path) -> None:
    for column in every_column().columns:
        assert len(column.shown(np.zeros((3, len(column.feature_names)), dtype=np.float32))) == 3
    for power in (-1.0, 0.0, 0.5, 2.0, 2.5):
        values = np.array([-3.0, 0.0, 5.0])
        np.testing.assert_allclose(yeo_johnson_inverse(yeo_johnson(values, power), power), values, rtol=1e-9)


def test_the_parts_of_dates_are_numbers_of_the_calendar() -> None:
    cells = ["2024-02-29 13:45", "2023-12-31 00:00"]
    column = learnt_column("date", cells, parts=list(PARTS), scale="none")
    assert column.feature_names == [f"cdate2_{part}" for part in PARTS]
    assert features(column, [*cells, None]) == [
        [2024, 2, 29, 3, 13, 19782.5723],  # a Thursday
        [2023, 12, 31, 6, 0, 19722.0],  # a Sunday
        [2023.5, 7, 30, 4.5, 6.5, 19752.2871],
    ]
    assert column.shown(np.array([[2024, 2, 29, 3, 13, 19783]], dtype=np.float32)) == ["2024-03-01"]


def test_the_parts_are_those_that_vary_among_the_training_rows() -> None:
    assert learnt_column("date", ["2024-01-31", "2024-03-31"]).parts == ["month", "weekday", "elapsed"]
    assert learnt_column("date", ["2024-01-31"] * 2).parts == ["elapsed"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-05-17", "2024-05-17"),
        ("2024/5/17 08:30", "2024-05-17 08:30:00"),
        ("2024-05-17T08:30:15Z", "2024-05-17 08:30:15"),
        ("2024-05-17 00:30:00+02:00", "2024-05-16 22:30:00"),
        ("20240517", "2024-05-17"),
        ("17.5.2024", "2024-05-17"),
        ("17.5.69", "1969-05-17"),
        ("17/5/2024", "2024-05-17"),
        ("3/4/2024", "2024-04-03"),
        ("3rd Apr 2024", "2024-04-03"),
        ("Wed, April 3, 2024 1:05 pm", "2024-04-03 13:05:00"),
        ("May 2024", "2024-05-01"),
        ("2024-05", "2024-05-01"),
        ("2024年5月3日", "2024-05-03"),
        ("5/17/2024", None),  # there is no month 17 where the day comes first
        ("2024-02-30", None),
        ("2024-02-03 24:30", None),
        ("10:35", None),
        ("soon", None),
    ],
)
def test_dates_are_read_as_they_are_written(text: str, found: str | None) -> None:
    seconds = seconds_of(text, day_first=True)
    assert (seconds if seconds is None else date_text(seconds)) == found


def test_a_date_that_may_be_two_is_refused_by_row_without_the_key() -> None:
    with pytest.raises(DataError, match=r"row 2, column 'c': '3/4/2024' is no date .*`day_first`"):
        learnt_column("date", ["2024-01-31", "3/4/2024"])


def test_booleans_are_1_and_0_in_any_usual_spelling() -> None:
    column = learnt_column("boolean", ["Yes", "no", "TRUE", "f", None, "是"], missing_indicators=True)
    assert features(column, ["y", "0", None]) == [[1, 0], [0, 0], [0.6, 1]]
    with pytest.raises(
        DataError, match=r"rows\.csv: row 2, column 'cboolean6': 'maybe' is neither yes nor no"
    ):
        features(column, ["yes", "maybe"])


def test_ordered_texts_are_places_and_an_unknown_one_is_counted_as_missing() -> None:
    column = learnt_column("ordered", ["low", "high", "low"], order=["low", "middle", "high"], scale="none")
    table, unseen = pd.DataFrame({column.name: ["middle", "huge", None]}), Counter[str]()
    found = transform(table, Preprocessing([column], [Target("y")]), Path("rows.csv"), unseen)
    assert np.round(found, 4).tolist() == [[1], [np.float32(0.6667)], [np.float32(0.6667)]]
    assert unseen == {column.name: 1}
    numbers = learnt_column("ordered", [1, 3, 2], order=[1, 2, 3], scale="none")
    assert features(numbers, ["3", 1]) == [[2], [0]]
    with pytest.raises(DataError, match="'hgih' is not in `order`: 'low', 'high'"):
        learnt_column("ordered", ["low", "hgih"], order=["low", "high"])


def test_an_ordinal_category_is_one_feature() -> None:
    column = learnt_column("categorical", ["b", "a", "c", "a"], encode="ordinal", scale="none")
    assert (column.kind, column.order) == ("ordered", ["a", "b", "c"])
    assert features(column, ["c", "a"]) == [[2], [0]]


def test_texts_are_hashed_to_a_width_and_a_missing_one_is_0() -> None:
    column = learnt_column("text", ["some words", "other words"], width=16)
    found = np.array(features(column, ["some words", "Some  words", None, "其他文字"]))
    assert found.shape == (4, 16)
    assert found[0].tolist() == found[1].tolist() != found[3].tolist()
    assert np.round((found**2).sum(axis=1), 3).tolist() == [1, 1, 0, 1]


def test_the_bytes_of_many_categories_are_told(caplog: pytest.LogCaptureFixture) -> None:
    cells = [f"city {number}" for number in range(2000)] * 3
    learnt_column("categorical", cells)
    assert caplog.messages == [
        "column 'ccategorical6000' has 2000 categories, 8000 bytes in each row of a batch: consider "
        "`min_frequency` or `encode: embedding`"
    ]


def test_an_order_is_needed() -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.column_types\.grade: .* needs `order`"):
        Preparation(target="y", column_types={"grade": "ordered"})


def test_the_form_has_a_field_for_every_column() -> None:
    import gradio

    from src.tabular.form import table_form

    learnt = every_column()
    model = TabularModel(learnt, partial(MLP, hidden_sizes=[4])).eval()
    with gradio.Blocks():
        fields, predict = table_form(model, learnt)
    shown: list[Any] = [field.value for field in fields]  # type: ignore[attr-defined]
    assert shown[4:] == ["2024-02-15 05:15:00", "a", "2023-03-02", "no", "low", "", "y"]
    assert predict(*shown).startswith("y: ")
    assert predict(*[None] * len(shown)).startswith("y: ")


@pytest.mark.parametrize(("seconds", "text"), [(-1e14, "0001-01-01"), (1e14, "9999-12-31")])
def test_dates_beyond_the_calendar_are_its_ends(seconds: float, text: str) -> None:
    assert date_text(seconds).partition(" ")[0] == text
