from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from src.tabular.columns import CategoricalColumn
from src.tabular.export import RawTable, as_inputs, output_names, random_rows
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn, OrderedColumn
from src.tabular.preprocessing import Preprocessing, Target, transform
from src.training.networks import MLP

LEARNT = Preprocessing(
    [
        CategoricalColumn("Alley", ["Pave", None], ["Dirt", "Gravel"], 0, "Pave"),
        NumericColumn("Rooms", 3.0, 2.0, 0.5, 0, 2.0),
        CategoricalColumn("Street", ["A", "B", "C"], [], 0, "A"),
        NumericColumn("Area", 60.0, 50.0, 10.0, 0, 50.0),
    ],
    [Target("price", log=True, center=12.0, scale=0.4)],
)

ROWS = pd.DataFrame(
    {
        "Area": [60.0, np.nan, 1.0, 2.0],
        "Rooms": [1.0, 2.0, 3.0, 4.0],
        "Street": ["C", "D", None, "A"],
        "Alley": ["Pave", "Gravel", None, "Sand"],
    }
)


def test_features_are_those_of_the_preparation() -> None:
    model = TabularModel(LEARNT, torch.nn.Linear)
    model.network = torch.nn.Identity()  # type: ignore[assignment]
    model.predict = lambda outputs: outputs  # type: ignore[method-assign]
    numbers = torch.tensor([[3.0, 60.0], [torch.nan, torch.nan]], dtype=torch.float64)
    categories = torch.tensor([[0, 2], [2, -1]])  # Pave, C; a rare one, one that training has not seen
    features = RawTable(model, LEARNT)(numbers, categories)
    # Pave, missing, rare | Rooms | A, B, C | Area
    assert features.tolist() == [[1, 0, 0, 2, 0, 0, 1, 1], [0, 0, 1, 2, 0, 0, 0, 1]]


def test_codes_of_raw_cells() -> None:
    inputs = as_inputs(ROWS, LEARNT)
    assert inputs["categories"].tolist() == [[0, 2], [2, -1], [1, -1], [-1, 0]]
    np.testing.assert_array_equal(inputs["numbers"], [[1, 60], [2, np.nan], [3, 1], [4, 2]])


def test_random_rows_hold_whatever_may_come_and_get_the_same_answers() -> None:
    model = TabularModel(LEARNT, partial(MLP, hidden_sizes=[4])).eval()
    table = random_rows(LEARNT, np.random.default_rng(0), 200)
    assert set(table["Alley"].dropna()) > {"Pave", "Dirt", "Gravel"}
    assert table["Alley"].isna().any()
    assert table["Rooms"].isna().any()
    unseen: Counter[str] = Counter()
    features = torch.from_numpy(transform(table, LEARNT, Path("rows"), unseen))
    assert set(unseen) == {"Alley", "Street"}
    inputs = {name: torch.from_numpy(array) for name, array in as_inputs(table, LEARNT).items()}
    with torch.inference_mode():
        assert torch.equal(RawTable(model, LEARNT)(**inputs), model.predict(model(features)))


def test_an_interval_and_a_threshold_are_part_of_the_program() -> None:
    inputs = {name: torch.from_numpy(array) for name, array in as_inputs(ROWS, LEARNT).items()}
    quantity = TabularModel(LEARNT, partial(MLP, hidden_sizes=[]), interval=0.9).eval()
    quantity.margin.fill_(0.5)  # type: ignore[union-attr]
    prediction, lower, upper = RawTable(quantity, LEARNT)(**inputs)
    assert output_names(quantity) == ("prediction", "lower", "upper")
    # the target is a logarithm with the scale 0.4
    torch.testing.assert_close(upper / prediction, torch.full((4,), np.exp(0.2), dtype=torch.float32))
    torch.testing.assert_close(prediction / lower, torch.full((4,), np.exp(0.2), dtype=torch.float32))

    classes = replace(LEARNT, targets=[Target("sold", ["no", "yes"])])
    network = partial(MLP, hidden_sizes=[])
    decided = TabularModel(classes, network, "cross_entropy", threshold={"no": 0.3}).eval()
    probabilities, code = RawTable(decided, classes)(**inputs)
    assert output_names(decided) == ("probabilities", "class")
    assert torch.equal(code, (probabilities[:, 0] < 0.3).long())


def test_an_unknown_text_of_an_order_has_its_typical_place() -> None:
    column = OrderedColumn("Size", None, 0.0, 1.0, 0, 1.0, order=["small", "middle", "large"])
    learnt = Preprocessing([column], [Target("price")])
    model = TabularModel(learnt, torch.nn.Linear)
    model.network = torch.nn.Identity()  # type: ignore[assignment]
    model.predict = lambda outputs: outputs  # type: ignore[method-assign]
    features = RawTable(model, learnt)(torch.tensor([[2.0], [torch.nan]], dtype=torch.float64))
    assert features.tolist() == [[2.0], [1.0]]
