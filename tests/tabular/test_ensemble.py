import json
import math
import shutil
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from src.cli import main
from src.core.errors import ConfigurationError
from src.tabular.columns import CategoricalColumn, Column
from src.tabular.data import FoldedData, TabularData, fold_positions, load_split, of_equal_rows
from src.tabular.embeddings import PeriodicEmbedding, PiecewiseLinearEmbedding, bin_edges
from src.tabular.ensemble import (
    EnsembleMLP,
    MemberwiseLinear,
    TabularEnsemble,
    smooth_clip,
)
from src.tabular.number_columns import NumericColumn
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target
from tests.support import PowerFailureError, power_failure

PREPARED = Path("data/prepared/houses")
COLUMNS: list[Column] = [
    NumericColumn("Area", 0.0, 0.0, 1.0, 0, 0.0),
    CategoricalColumn("Kind", ["brick", "wood"], [], 0, "wood"),
    NumericColumn("Year", 0.0, 0.0, 1.0, 0, 0.0),
]
QUANTITY = Preprocessing(COLUMNS, [Target("Price")])
CLASSES = Preprocessing(COLUMNS, [Target("Kind", ["a", "b", "c"])])


def ensemble(preprocessing: Preprocessing = QUANTITY, **settings: Any) -> TabularEnsemble:
    small: dict[str, Any] = {"members": 4, "folds": 2, "hidden_sizes": [5], "bins": 3, "embedding_size": 2}
    if preprocessing.target.classes is not None:
        small["loss"] = "cross_entropy"
    torch.manual_seed(0)
    return TabularEnsemble(preprocessing, **small | settings)


def random_batch(rows: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Features (rows, 4), a target of one feature, positions."""
    features = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    return features, features[:, :1] * 2, torch.arange(rows)


def test_a_value_far_off_is_clipped_and_others_stay() -> None:
    clipped = smooth_clip(torch.tensor([0.0, 0.3, -3.0, 1e6]))
    assert clipped.tolist() == pytest.approx([0, 0.2985, -3 / math.sqrt(2), 3], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([8, 1, 0, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 8]),
        # the quantiles are 0, 0, 0, 1 and 16; of those of 0, 4, 8, 12, 16 that are new the outer two fill in
        ([0] * 12 + [4, 8, 12, 16], [0, 1, 4, 12, 16]),
        ([0, 1, 0, 1], [0, 0.25, 0.5, 0.75, 1]),
        ([7, 7], [7, 7, 7, 7, 7]),
    ],
)
def test_edges_are_quantiles_and_ties_are_filled(values: list[float], edges: list[float]) -> None:
    found = bin_edges(torch.tensor(values, dtype=torch.float32), 4)
    assert found.tolist() == edges


def test_an_embedding_is_linear_between_the_edges() -> None:
    embedding = PiecewiseLinearEmbedding(members=2, columns=1, bins=2, size=1)
    embedding.learn(torch.tensor([[0.0], [1.0], [3.0]]))
    with torch.no_grad():
        embedding.weight[0, :, 0, 0] = torch.tensor([10.0, 20.0])  # of the first member
        embedding.weight[0, :, 1, 0] = torch.tensor([10.0, -20.0])
        outputs = embedding(torch.tensor([[-5.0], [0.5], [2.0], [9.0]]))
    assert outputs[:, :, 0].tolist() == [[0, 5, 20, 30], [0, 5, 0, 0]]


def test_a_feature_of_one_value_is_embedded_as_nothing() -> None:
    embedding = PiecewiseLinearEmbedding(members=1, columns=1, bins=4, size=3)
    embedding.learn(torch.full((5, 1), 2.0))
    assert not embedding(torch.tensor([[1.0], [2.0], [3.0]])).any()


def test_only_numbers_are_embedded() -> None:
    assert ensemble().network.numeric == [0, 3]
    assert ensemble().network.layers[0].get_parameter("weight").shape == (4, 4 + 2 * 2, 5)
    assert ensemble(embedding_size=0).network.embedding is None


def test_each_row_is_left_out_once_in_each_cut() -> None:
    held_out = ensemble(members=8, folds=4).held_out(torch.arange(64))  # (8, 64)
    cuts = held_out.view(2, 4, 64)
    assert cuts.sum(dim=1).unique().tolist() == [1]
    assert cuts.sum(dim=2).unique().tolist() == [16]
    # rows that are in one fold of the first cut are in all folds of the second
    assert (cuts[0] @ cuts[1].T).unique().tolist() == [4]


def test_a_member_does_not_learn_from_the_rows_that_it_leaves_out() -> None:
    model = ensemble(dropout=0.0)
    features, target, position = random_batch()
    gradients = []
    for target_of_first in (0.0, 100.0):
        changed = target.clone()
        changed[0] = target_of_first  # row 0 is left out by the members 0 and 2
        model.zero_grad()
        model.training_step((features, changed, position), 0).backward()
        gradient = model.network.layers[-1].get_parameter("bias").grad
        assert gradient is not None
        gradients.append(gradient[:, 0, 0].clone())
    assert (gradients[0] == gradients[1]).tolist() == [True, False, True, False]


def test_out_of_fold_answers_are_those_of_members_that_left_the_row_out() -> None:
    model = ensemble().eval()
    with torch.no_grad():  # weights of the output are 0 at first
        model.network.layers[-1].get_parameter("bias")[:, 0, 0] = torch.tensor([1.0, 2.0, 30.0, 40.0])
        features, _, position = random_batch(4)
        found = model.unseen_outputs(features, position)
        together = model(features)
    # the folds of the rows 0, 1, 2, 3 are 0, 1, 0, 1 in the first cut, 0, 1, 1, 0 in the second
    assert found[:, 0].tolist() == [15.5, 21, 20.5, 16]
    assert together[:, 0].tolist() == [18.25] * 4
    assert model.unseen_outputs(features)[:, 0].tolist() == [18.25] * 4


def one_member(model: TabularEnsemble, member: int) -> EnsembleMLP:
    """A network of one member with the weights of a member of the model."""
    network = model.network
    embedding = partial(PiecewiseLinearEmbedding, bins=3, size=2)
    alone = EnsembleMLP(4, 1, 1, network.numeric, hidden_sizes=[5], dropout=0.0, embedding=embedding)
    state = network.state_dict()
    for name in set(state) - {"embedding.edges"}:
        state[name] = state[name].narrow(2 if name.startswith("embedding") else 0, member, 1)
    alone.load_state_dict(state)
    return alone


def trained(model: TabularEnsemble, batch: tuple[Tensor, ...]) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()


def test_a_member_alone_is_the_same_as_among_others() -> None:
    model = ensemble(dropout=0.0)
    features, target, _ = random_batch(64)
    model.network.learn(features)
    alone = deepcopy(model)
    alone.network = one_member(model, 2)
    trained(model, (features, target))
    trained(alone, (features, target))
    with torch.no_grad():
        together, single = model.network(features), alone.network(features)
        assert together[2].std() > 0.1
        torch.testing.assert_close(single[0], together[2], atol=1e-5, rtol=0)
        chosen = model.network(features, slice(2, 3))
    torch.testing.assert_close(chosen[0], together[2], atol=1e-6, rtol=0)


def test_the_probability_is_the_mean_of_the_members() -> None:
    model = ensemble(CLASSES)
    outputs = torch.tensor(
        [[[0.9, 0.05, 0.05]], [[0.5, 0.3, 0.2]], [[0.1, 0.8, 0.1]], [[0.1, 0.1, 0.8]]]
    ).log()
    probabilities = model.predict(model.combined(outputs))
    assert probabilities[0].tolist() == pytest.approx([0.4, 0.3125, 0.2875])
    chosen = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    assert model.predict(model.combined(outputs, chosen))[0].tolist() == pytest.approx([0.7, 0.175, 0.125])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": 6, "folds": 4}, "model.members: expected a multiple of model.folds"),
        ({"folds": 1}, "at least 2"),
        ({"hidden_sizes": [4, 0]}, "model.hidden_sizes"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"bins": 0}, "model.bins"),
        ({"embedding": "periodic", "frequencies": 0}, "model.bins and frequencies"),
        ({"loss": "cross_entropy"}, "does not fit a target of regression"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ensemble(**settings)


def test_positions_are_an_order_of_all_rows() -> None:
    target = torch.zeros(50, 1)
    positions = fold_positions(target, 1)
    assert positions.sort().values.tolist() == list(range(50))
    assert positions.equal(fold_positions(target, 1))
    assert not positions.equal(fold_positions(target, 2))


def test_each_fold_has_its_share_of_each_class() -> None:
    target = torch.tensor([0] * 40 + [1] * 8 + [2] * 4)[torch.randperm(52)]
    held_out = ensemble(members=8, folds=4).held_out(fold_positions(target, 0))
    for code, rows in ((0, 10), (1, 2), (2, 1)):
        assert held_out[:, target == code].sum(dim=1).tolist() == [rows] * 8


@pytest.mark.parametrize("way", ["group", "time", "split_column", "lags"])
def test_rows_that_belong_together_are_not_folded(way: str, tmp_path: Path) -> None:
    parts = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    by = parts if way == "split_column" else range(30)
    table = pd.DataFrame({"x": range(30), "y": range(1, 31), "by": by})
    table.to_csv(tmp_path / "train.csv", index=False)
    settings: dict[str, Any] = {way: 2 if way == "lags" else "by"}
    prepare(tmp_path, tmp_path / "prepared", Preparation(target="y", **settings))
    with pytest.raises(ConfigurationError, match=rf"prepare\.{way} keeps rows together"):
        FoldedData(tmp_path / "prepared")
    TabularData(tmp_path / "prepared")


@pytest.mark.usefixtures("houses")
def test_no_row_is_lost_to_validation() -> None:
    data = FoldedData(PREPARED)
    features, target, _ = data.tensors("train")
    parts = [load_split(PREPARED, name) for name in ("train", "validation")]
    assert features.equal(torch.cat([part[0] for part in parts]))
    assert target.equal(torch.cat([part[1] for part in parts]))
    assert data.targets("train").equal(target)
    for found, expected in zip(data.tensors("validation"), data.tensors("train"), strict=True):
        assert found.equal(expected)
    assert len(data.tensors("test")) == 2


CONFIGURATION = """
task: houses
seed_everything: 3
portable: true
checkpoint_seconds: 0
trainer:
  max_epochs: 6
  callbacks:
    - class_path: lightning.pytorch.callbacks.EMAWeightAveraging
      init_args: {decay: 0.9}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: validation/loss, patience: 15}
data: {class_path: src.tabular.data.FoldedData, init_args: {batch_size: 16}}
model:
  class_path: src.tabular.ensemble.TabularEnsemble
  init_args:
    members: 4
    folds: 2
    hidden_sizes: [8]
    bins: 4
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.02, betas: [0.9, 0.95], fused: true}}
    lr_scheduler:
      class_path: torch.optim.lr_scheduler.LinearLR
      init_args: {start_factor: 0.1, total_iters: 10}
    lr_interval: step
"""


def fit(monkeypatch: pytest.MonkeyPatch, last_step: int | None = None) -> Any:
    """Train, or fail after `last_step` steps; the manifest of the bundle."""
    Path("configs").mkdir(exist_ok=True)
    Path("configs/houses.yaml").write_text(CONFIGURATION, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["src.cli", "fit", "--config", "configs/houses.yaml"])
    with power_failure(TabularEnsemble, last_step):
        main()
    return json.loads(Path("models/houses/manifest.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("houses", "settings_of_the_process")
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = fit(monkeypatch)
    shutil.rmtree("models")
    with pytest.raises(PowerFailureError):
        fit(monkeypatch, last_step=23)  # of 6 epochs of 5 steps
    capsys.readouterr()
    assert fit(monkeypatch) == expected
    assert "going on after epoch 4\n" in capsys.readouterr().out


def test_the_periodic_embedding_is_a_sum_of_cosines() -> None:
    embedding = PeriodicEmbedding(members=2, columns=1, frequencies=2, deviation=0.1, size=1)
    with torch.no_grad():
        embedding.frequency.copy_(torch.tensor([[[0.5, 0.25], [0.0, 0.5]]]))  # (N, M, Q)
        embedding.phase.copy_(torch.tensor([[[0.0, math.pi / 2], [0.0, 0.0]]]))
        embedding.weight.copy_(torch.tensor([[[[1.0], [10.0]], [[1.0], [10.0]]]]))
        embedding.bias.copy_(torch.tensor([[[100.0], [200.0]]]))
    found = embedding(torch.tensor([[0.0], [1.0]]))  # (M, B, N * E)
    # cos(0) + 10 cos(pi / 2), cos(pi) + 10 cos(pi); cos(0) + 10 cos(0), cos(0) + 10 cos(pi)
    torch.testing.assert_close(found[:, :, 0], torch.tensor([[101.0, 89.0], [211.0, 191.0]]))
    torch.testing.assert_close(embedding(torch.tensor([[1.0]]), slice(1, 2)), torch.tensor([[[191.0]]]))


def test_members_with_shared_weights_differ_by_their_factors() -> None:
    layer = MemberwiseLinear(members=2, inputs=2, outputs=1, shared=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0], [2.0]]]))
        layer.before.copy_(torch.tensor([[[1.0], [1.0]], [[-1.0], [3.0]]]))  # type: ignore[union-attr]
        layer.after.copy_(torch.tensor([[[1.0]], [[10.0]]]))  # type: ignore[union-attr]
    found = layer(torch.ones(2, 1, 2)) * math.sqrt(2)
    torch.testing.assert_close(found, torch.tensor([[[3.0]], [[50.0]]]))


def test_the_parameter_efficient_ensemble_has_one_network_and_different_members() -> None:
    settings: dict[str, Any] = {"members": 8, "hidden_sizes": [32, 32], "dropout": 0.0}
    own, shared = ensemble(**settings), ensemble(**settings, weights="shared")
    sizes = [sum(weight.numel() for weight in model.parameters()) for model in (own, shared)]
    assert sizes[1] < 0.5 * sizes[0]
    features, target, _ = random_batch(64)
    shared.network.learn(features)
    assert shared.network.layers[0].get_parameter("before").unique().tolist() == [-1, 1]
    trained(shared, (features, target))
    with torch.no_grad():
        outputs = shared.network(features)
        assert outputs.std(dim=0).mean() > 0.01
        torch.testing.assert_close(shared.network(features, slice(2, 3))[0], outputs[2])


@pytest.mark.usefixtures("houses")
def test_members_with_shared_weights_are_not_validated_out_of_fold() -> None:
    model = ensemble(weights="shared")
    model._trainer = SimpleNamespace(datamodule=FoldedData(PREPARED))  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"model\.weights: shared weights learn from all folds"):
        model.setup("fit")


@pytest.mark.parametrize("keys", [{"embedding": "periodic"}, {"weights": "shared"}, {"mixup": 0.4}])
def test_options_of_the_literature_learn_a_line(keys: dict[str, Any]) -> None:
    model = ensemble(dropout=0.0, **keys)
    features, target, _ = random_batch(64)
    model.network.learn(features)
    before = model.loss_of(model(features), target)
    for _ in range(8):
        trained(model, (features, target))
    assert model.loss_of(model(features), target) < 0.5 * before


def test_a_member_does_not_learn_from_rows_of_its_fold_by_mixing() -> None:
    model = ensemble(mixup=1.0, dropout=0.0)
    features, target, positions = random_batch(12)
    model.network.learn(features)

    def gradient(target: Tensor) -> Tensor:
        model.zero_grad()
        torch.manual_seed(3)
        model.training_step((features, target, positions), 0).backward()
        return model.network.layers[-1].get_parameter("bias").grad.clone()  # type: ignore[union-attr]

    held_out = model.held_out(positions)[1].bool()
    changed = target.clone()
    changed[held_out] += 100
    different = (gradient(target) != gradient(changed))[:, 0, 0].tolist()
    assert not different[1]
    assert any(different)


def test_equal_rows_have_one_position() -> None:
    features = torch.tensor([[1.0], [2.0], [1.0], [3.0], [3.0]])
    target = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0]])
    positions = torch.tensor([3, 0, 1, 4, 2])
    # the last two rows are of the validation
    assert of_equal_rows(positions, features, target, 3).tolist() == [3, 0, 3, 4, 4]
    # a validation row repeats a training row: the preparation has split them as other rows
    assert of_equal_rows(positions, features, target, 4).equal(positions)
    other = torch.tensor([[0.0], [0.0], [9.0], [1.0], [2.0]])
    assert of_equal_rows(positions, features, other, 3).equal(positions)


def test_answers_out_of_fold_are_computed_in_mixed_precision() -> None:
    model = ensemble().eval()
    features, _, position = random_batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model.unseen_outputs(features, position).dtype == torch.float32


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_decisions_are_learnt_in_the_precision_of_the_weights(precision: torch.dtype) -> None:
    features, target, position = random_batch()
    data: Any = SimpleNamespace(tensors=lambda split: (features, target, position))
    outputs, found = ensemble().to(precision).validation_outputs(data)
    assert outputs.dtype == (torch.float64 if precision == torch.float64 else torch.float32)
    assert found is target
