"""Columns of many categories, whose codes the network looks up."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from src.preparation.proposals import plain
from src.tabular.columns import CategoricalColumn
from src.tabular.data import load_split
from src.tabular.embeddings import CategoryEmbeddings, EmbeddedNetwork, vector_size
from src.tabular.ensemble import TabularEnsemble
from src.tabular.export import RawTable, as_inputs, random_rows
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target, transform
from src.tabular.propose import propose
from src.training.networks import MLP

CATEGORIES = 4000
ROWS = np.arange(3 * CATEGORIES)
LEARNT = Preprocessing(
    [
        CategoricalColumn("Street", ["A", "B", None], [], 1, "A", embedded=True),
        NumericColumn("Area", 0.0, 0.0, 1.0, 0, 0.0),
        CategoricalColumn("Kind", ["new", "old"], [], 0, "old"),
    ],
    [Target("Price")],
)


def shops() -> pd.DataFrame:
    """4,000 shops with three rows each; the sales of a shop are about those of its other rows."""
    level = (ROWS % CATEGORIES * 37) % 101
    return pd.DataFrame(
        {"shop": [f"shop {row % CATEGORIES}" for row in ROWS], "x": ROWS % 7, "sales": level + ROWS % 7 / 10}
    )


def test_the_feature_of_an_embedded_column_is_its_code() -> None:
    table = pd.DataFrame({"Street": ["B", "C", None], "Area": [1.0, 2, 3], "Kind": ["old", "new", "x"]})
    unseen: Counter[str] = Counter()
    features = transform(table, LEARNT, Path("rows.csv"), unseen)
    assert LEARNT.features == ["Street", "Area", "Kind_new", "Kind_old"]
    assert features.tolist() == [[1, 1, 0, 1], [3, 2, 1, 0], [2, 3, 0, 0]]
    assert unseen == {"Street": 1, "Kind": 1}
    assert LEARNT.embedded == {0: 3}
    assert LEARNT.columns[0].shown(features[:, :1]) == ["B", "unknown", "missing"]  # type: ignore[union-attr]


def test_vectors_are_looked_up_and_that_of_an_unknown_category_is_0() -> None:
    assert [vector_size(count) for count in (3, 1000, 4000)] == [4, 12, 16]
    embeddings = CategoryEmbeddings({1: 2}, copies=2)
    weight = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16], [0] * 8])
    embeddings.load_state_dict({"tables.0.weight": weight})
    found = embeddings(torch.tensor([[0.5, 1], [0.5, 2]]))
    assert found.tolist() == [[[9, 10, 11, 12], [13, 14, 15, 16]], [[0] * 4] * 2]


def test_a_network_has_vectors_in_place_of_codes() -> None:
    network = EmbeddedNetwork(3, CategoryEmbeddings({1: 2}), torch.nn.Identity())
    weight = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]])
    network.embeddings.load_state_dict({"tables.0.weight": weight})
    assert network(torch.tensor([[0.25, 1, 0.75]])).tolist() == [[0.25, 0.75, 5, 6, 7, 8]]


def models() -> list[TabularModel]:
    torch.manual_seed(0)
    one = TabularModel(LEARNT, partial(MLP, hidden_sizes=[4]))
    members = TabularEnsemble(LEARNT, members=2, folds=2, hidden_sizes=[4])
    torch.nn.init.normal_(members.network.layers[-1].get_parameter("weight"))
    return [one.eval(), members.eval()]


@pytest.mark.parametrize("number", [0, 1])
def test_an_exported_program_looks_codes_up(number: int) -> None:
    model = models()[number]
    table = random_rows(LEARNT, np.random.default_rng(0), 20)
    features = torch.from_numpy(transform(table, LEARNT, Path("rows"), Counter()))
    inputs = {name: torch.from_numpy(array) for name, array in as_inputs(table, LEARNT).items()}
    with torch.inference_mode():
        assert RawTable(model, LEARNT)(**inputs).equal(model.predict(model(features)))


def test_the_vectors_of_a_member_are_its_own() -> None:
    model = models()[1]
    features = torch.tensor([[1.0, 0.5, 0, 1]])
    outputs = model.network(features)
    model.network.categories.tables[0].weight.data[1, :4] += 1  # of the first member
    changed = model.network(features) != outputs
    assert changed[:, 0, 0].tolist() == [True, False]
    alone = model.network(features, slice(1, 2))
    torch.testing.assert_close(alone[0], outputs[1])


def test_a_table_with_4000_categories(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shops().to_csv(tmp_path / "train.csv", index=False)
    types: Any = {"shop": {"encode": "embedding"}}
    keys: dict[str, Any] = {"target": "sales", "target_transform": "standardize", "column_types": types}
    with caplog.at_level(logging.WARNING):
        prepare(tmp_path, tmp_path / "out", Preparation(**keys))
    assert not caplog.messages
    learnt = Preprocessing.load(tmp_path / "out")
    assert learnt.features == ["shop", "x"]
    assert (tmp_path / "out/train_codes.npy").stat().st_size < 2 * len(ROWS) + 200
    features, target = load_split(tmp_path / "out", "train")
    torch.manual_seed(0)
    model = TabularModel(learnt, partial(MLP, hidden_sizes=[32]), "mse")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step((features, target), 0).backward()
        optimizer.step()
    with torch.inference_mode():
        test, wanted = load_split(tmp_path / "out", "test")
        known = test[:, 0] < learnt.embedded[0]
        assert model.loss_of(model(test[known]), wanted[known]) < 0.2  # the variance of the target is 1


def test_many_categories_are_proposed_to_be_looked_up(tmp_path: Path) -> None:
    table = shops().assign(shop=[f"shop {row % 400}" for row in ROWS])
    table.to_csv(tmp_path / "table.csv", index=False)
    found = propose(tmp_path / "table.csv", "sales")
    assert plain(found.prepare)["column_types"] == {"shop": {"kind": "categorical", "encode": "embedding"}}
    assert found.prepare["column_types"]["shop"].note.startswith("400 categories")
    assert any("1 number, 1 categorical" in finding for finding in found.findings)
