import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core.errors import ConfigurationError, DataError, IntegrityError
from src.tabular.columns import CategoricalColumn, Column
from src.tabular.dialect import Reading
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import (
    Preprocessing,
    Target,
    transform,
)

ROOMS = NumericColumn("Rooms", fill=3.0, center=2.0, scale=0.5, missing=1, typical=2.0)
ALLEY = CategoricalColumn("Alley", ["Pave", None], ["Dirt", "Gravel"], missing=1, typical="Pave")


def learnt_of(*columns: Column) -> Preprocessing:
    return Preprocessing(columns, [Target("Price")])


LEARNT = learnt_of(ROOMS, ALLEY)


def features_of(table: pd.DataFrame, learnt: Preprocessing = LEARNT) -> list[list[float]]:
    return transform(table, learnt, Path("rows.csv"), Counter()).tolist()


def test_feature_names_tell_column_and_category() -> None:
    assert LEARNT.features == ["Rooms", "Alley_Pave", "Alley_nan", "Alley_rare"]


def test_the_cell_that_is_named_is_the_one_that_the_notation_cannot_read() -> None:
    learnt = replace(learnt_of(ROOMS), reading=Reading(decimal=",", thousands="."))
    table = pd.DataFrame({"Rooms": ["5.914,17", np.nan, "3,5", "three", "4"]})
    with pytest.raises(DataError, match="row 4, column 'Rooms': 'three' is not a number"):
        features_of(table, learnt)
    with pytest.raises(DataError, match="row 2, column 'Rooms': '1,5' is not a number"):
        features_of(pd.DataFrame({"Rooms": ["1.5", "1,5"]}), learnt_of(ROOMS))


def test_numbers_are_filled_then_centered_then_scaled() -> None:
    table = pd.DataFrame({"Rooms": [2, None, 4], "Alley": ["Pave", "Pave", "Pave"]})
    assert [row[0] for row in features_of(table)] == [0, 2, 4]


def test_each_category_the_missing_one_and_the_rare_ones_have_a_column() -> None:
    table = pd.DataFrame({"Rooms": 2.0, "Alley": ["Pave", None, "Dirt", "Gravel"]})
    assert features_of(table) == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


ONLY_PAVE = learnt_of(replace(ALLEY, categories=["Pave"], rare=[]))


@pytest.mark.parametrize(
    ("learnt", "alleys", "features", "unseen"),
    [
        (learnt_of(ALLEY), ["Sand", "Pave", "Snow"], [[0, 0, 0], [1, 0, 0], [0, 0, 0]], 2),
        (learnt_of(ALLEY), ["Dirt", None], [[0, 0, 1], [0, 1, 0]], 0),
        (ONLY_PAVE, ["Pave", None, "nan"], [[1], [0], [0]], 2),
    ],
)
def test_an_unseen_category_is_all_zeros_and_counted(
    learnt: Preprocessing, alleys: list[str | None], features: list[list[float]], unseen: int
) -> None:
    table, counted = pd.DataFrame({"Alley": alleys}), Counter[str]()
    for times in (1, 2):
        assert transform(table, learnt, Path("rows.csv"), counted).tolist() == features
        assert counted["Alley"] == times * unseen


def test_a_missing_category_can_be_rare_or_the_only_one() -> None:
    rare = learnt_of(replace(ALLEY, categories=["Pave"], rare=[None, "Dirt"]))
    only = learnt_of(replace(ALLEY, categories=[None], rare=[]))
    table = pd.DataFrame({"Alley": ["Pave", None, "Dirt"]})
    assert features_of(table, rare) == [[1, 0], [0, 1], [0, 1]]
    assert features_of(table, only) == [[0], [1], [0]]


def test_further_columns_and_another_order_do_not_matter() -> None:
    table = pd.DataFrame({"Rooms": [2, 4], "Alley": ["Pave", None]})
    other = pd.DataFrame({"Extra": ["x", "y"], "Alley": ["Pave", None], "Rooms": [2, 4]})
    assert features_of(other) == features_of(table) == [[0, 1, 0, 0], [4, 0, 1, 0]]


def test_a_needed_column_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match=r"^rows\.csv: the needed column 'Alley' is missing$"):
        features_of(pd.DataFrame({"Rooms": [1]}))


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [("many", "'many' is not a number"), ("", "'' is not a number"), (math.inf, "'inf' is not finite")],
)
def test_a_wrong_cell_is_refused_by_row_and_column(cell: Any, complaint: str) -> None:
    table = pd.DataFrame({"Rooms": [1, 2, cell], "Alley": "Pave"})
    with pytest.raises(DataError, match=rf"^rows\.csv: row 3, column 'Rooms': {complaint}$"):
        features_of(table)
    with pytest.raises(DataError, match=r"row 3, column 'Rooms'"):
        features_of(table.iloc[2:])


def test_a_number_too_large_for_the_arrays_is_refused() -> None:
    table = pd.DataFrame({"Rooms": [1, 1e39], "Alley": "Pave"})
    with pytest.raises(DataError, match=r"^rows\.csv: row 2, column 'Rooms'"), np.errstate(over="ignore"):
        features_of(table)


def test_a_missing_number_is_refused_by_row_where_nothing_fills_it() -> None:
    learnt = learnt_of(replace(ROOMS, fill=None))
    with pytest.raises(DataError, match=r"^rows\.csv: row 2, column 'Rooms': .*is missing"):
        features_of(pd.DataFrame({"Rooms": [1.0, math.nan]}), learnt)
    assert features_of(pd.DataFrame({"Rooms": [1.0, 2.0]}), learnt) == [[-2], [0]]


@pytest.mark.parametrize(
    "learnt",
    [
        Preprocessing([ROOMS, ALLEY], [Target("Price", None, True, 2.5, 0.5, True)], ["", "NA"], "Id"),
        Preprocessing(
            [replace(ROOMS, fill=None)],
            [Target("Style", ["a", "b"])],
            lags=2,
            truth={"x": 1.0},
            labels={"Style": {"en": "style", "zh": "风格"}},
        ),
    ],
)
def test_preprocessing_is_loaded_as_it_was_saved(learnt: Preprocessing, tmp_path: Path) -> None:
    learnt.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded == replace(learnt, missing=list(learnt.missing))
    before = (tmp_path / "preprocessing.json").read_bytes()
    loaded.save(tmp_path)
    assert (tmp_path / "preprocessing.json").read_bytes() == before


def test_preprocessing_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"dvc repro prepare@houses"):
        Preprocessing.load(tmp_path / "houses")
    (tmp_path / "preprocessing.json").write_text(json.dumps({"classes": ["a"]}))
    with pytest.raises(IntegrityError, match=r"preprocessing\.json: expected the preprocessing of a table"):
        Preprocessing.load(tmp_path)
