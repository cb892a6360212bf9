"""Several targets of one model: quantities, or classes of two values each."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.evaluate import evaluate
from pipelines.export.export import export
from src import load
from src.cli import main
from src.core.documents import read_json
from src.core.errors import ConfigurationError, DataError
from src.tabular.baselines import baseline_outputs, trees_of_round
from src.tabular.ensemble import TabularEnsemble
from src.tabular.evaluate import _gains, _losses, scores
from src.tabular.explanations import row_losses
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target
from src.tabular.propose import propose
from src.training.networks import MLP

ROWS = np.arange(120)
TABLE = pd.DataFrame(
    {
        "x": ROWS * 37 % 121 / 10,
        "kind": ["a", "b", "c"] * 40,
        "height": ROWS * 37 % 121 + 100.0,
        "price": np.exp(ROWS * 37 % 121 / 40),
        "sold": (ROWS * 37 % 121 > 60).astype(int),
        "new": np.where(ROWS % 3 == 0, "yes", "no"),
    }
)
COLUMNS = [NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0)]
QUANTITIES = Preprocessing(COLUMNS, [Target("a", center=10.0, scale=2.0), Target("b", log=True)])
LABELS = Preprocessing(COLUMNS, [Target("sold", ["0", "1"]), Target("new", ["no", "yes"])])


def model(preprocessing: Preprocessing, loss: Any, **keys: Any) -> TabularModel:
    return TabularModel(preprocessing, partial(MLP, hidden_sizes=[4]), loss, **keys)


def prepared(folder: Path, target: list[str], **keys: Any) -> Path:
    """The prepared TABLE, with only these targets."""
    left_out = {"height", "price", "sold", "new"} - set(target)
    folder.mkdir(exist_ok=True)
    TABLE.to_csv(folder / "train.csv", index=False)
    task: Any = "regression" if {"height", "price"} & set(target) else "classification"
    prepare(folder, folder / "out", Preparation(target=target, task=task, drop=sorted(left_out), **keys))
    return folder / "out"


def test_prepared_quantities_are_a_column_each(tmp_path: Path) -> None:
    both = np.load(prepared(tmp_path / "both", ["height", "price"]) / "train_target.npy")
    assert both.shape == (86, 2)
    assert both.dtype == np.float32
    for place, name in enumerate(("height", "price")):
        alone = np.load(prepared(tmp_path / name, [name]) / "train_target.npy")
        assert both[:, [place]].tolist() == alone.tolist()


def test_prepared_labels_are_codes_of_two_classes(tmp_path: Path) -> None:
    folder = prepared(tmp_path, ["sold", "new"])
    codes = np.load(folder / "train_target.npy")
    assert codes.shape == (86, 2)
    assert codes.dtype == np.int64
    rows = pd.read_csv(folder / "split.csv").query("split == 'train'")["row"].to_numpy() - 1
    assert codes[:, 0].tolist() == TABLE["sold"][rows].tolist()
    assert codes[:, 1].tolist() == (TABLE["new"][rows] == "yes").astype(int).tolist()
    assert [target.classes for target in Preprocessing.load(folder).targets] == [["0", "1"], ["no", "yes"]]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"target": []}, "must be the name of a column, or a list of different names"),
        ({"target": ["a", "a"]}, "must be the name of a column, or a list of different names"),
        ({"target": ["a", "b"], "id": "b"}, "prepare.id and prepare.target are the same column"),
        ({"target": ["a", "b"], "time": "a"}, "prepare.time and prepare.target are the same column"),
        ({"target": ["a", "b"], "lags": 2}, "prepare.lags must be 0 for several targets"),
        (
            {"target": ["a", "b"], "task": "classification", "drop_rare_classes": 2},
            "prepare.drop_rare_classes must be 0 for several targets",
        ),
        ({"target": ["a", "b"], "prediction_columns": ["id", "a"]}, "must be 3 different names"),
    ],
)
def test_keys_that_do_not_fit_several_targets(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Preparation(**keys)


@pytest.mark.parametrize(
    ("target", "task", "complaint"),
    [
        (["sold", "kind"], "classification", "target 'kind': expected two classes.*found 3: 'a', 'b', 'c'"),
        (["sold", "height"], "classification", "target 'height': expected two classes"),
        (["height", "new"], "regression", "column 'new'.*is not a number"),
    ],
)
def test_a_mix_of_targets_is_refused_by_name(
    target: list[str], task: Any, complaint: str, tmp_path: Path
) -> None:
    TABLE.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=complaint):
        prepare(tmp_path, tmp_path / "out", Preparation(target=target, task=task))
    assert not (tmp_path / "out").exists()


def test_values_are_in_the_unit_of_each_target() -> None:
    found = model(QUANTITIES, "mse").predict(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[12.0, 1.0], [8.0, torch.e**2]]))


def test_the_loss_is_the_mean_over_rows_and_targets() -> None:
    outputs, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    assert model(QUANTITIES, "mse").loss_of(outputs, target).item() == pytest.approx((4 + 1) / 2)
    logits, codes = torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]])
    expected = (np.log(2) + np.log(1 + np.exp(2))) / 2
    assert model(LABELS, "bce").loss_of(logits, codes).item() == pytest.approx(expected)


def test_metrics_are_those_of_each_target_and_their_means() -> None:
    answers, codes = torch.tensor([[0.2, 0.9], [0.6, 0.4]]), torch.tensor([[0, 1], [0, 0]])
    both = torch.stack([1 - answers, answers], dim=2)
    found = scores(model(LABELS, "bce"), torch.logit(answers), codes, [1, 1], "test")
    assert found["test/sold/accuracy"] == 0.5
    assert found["test/new/accuracy"] == 1
    assert found["test/accuracy"] == 0.75
    assert found["test/all_right"] == 0.5
    assert found["test/new/roc_auc"] == 1
    assert model(LABELS, "bce").decide(both).tolist() == [[0, 1], [1, 0]]
    quantities = model(QUANTITIES, "mse")
    found = scores(
        quantities, torch.tensor([[0.0, 0], [0, 0]]), torch.tensor([[1.0, 0], [1, 0]]), [None] * 2, "x"
    )
    assert (found["x/a/rmse"], found["x/b/rmse"], found["x/rmse"]) == (2, 0, 1)


def test_losses_of_rows_do_not_depend_on_units() -> None:
    outputs, target = torch.zeros(2, 2), torch.tensor([[1.0, 0], [-1, 0]])
    narrow = model(QUANTITIES, "mse")
    wide = model(Preprocessing(COLUMNS, [Target("a", scale=2000.0), Target("b", log=True)]), "mse")
    for losses in (_losses, row_losses):
        assert losses(narrow, outputs, target).tolist() == pytest.approx(
            losses(wide, outputs, target).tolist()
        )
    labels = model(LABELS, "bce")
    logits, codes = torch.tensor([[1.0, 1], [1, -1]]), torch.tensor([[1, 1], [0, 0]])
    assert _losses(labels, logits, codes).tolist() == [0, 0.5]
    trivial = torch.tensor([[-1.0, -1], [-1, -1]])
    assert _gains(labels, logits, trivial, codes).tolist() == [1, -0.5]


def test_the_trivial_answer_and_the_baselines_have_an_output_a_target() -> None:
    features = torch.arange(40.0)[:, None]
    values = torch.cat([features, -features], dim=1)
    quantities = model(QUANTITIES, "mse")
    assert quantities.trivial_outputs(values).tolist() == [[19.5, -19.5]]
    for outputs in baseline_outputs(quantities, features, values, features[10:12]).values():
        assert (outputs.sum(dim=1).abs() < 1).all()
        assert (outputs[:, 0] - features[10:12, 0]).abs().max() < 6
    codes = torch.stack([(features[:, 0] >= 20).long(), (features[:, 0] < 20).long()], dim=1)
    labels = model(LABELS, "bce")
    torch.testing.assert_close(labels.trivial_outputs(codes[10:]), torch.tensor([[2.0, 0.5]]).log())
    for outputs in baseline_outputs(labels, features, codes, features[[0, 39]]).values():
        assert (outputs > 0).tolist() == [[False, True], [True, False]]
    assert trees_of_round(QUANTITIES.targets) == trees_of_round(LABELS.targets) == 2


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"loss": "cross_entropy"}, "loss: cross_entropy is for one target of classes; of several it is bce"),
        ({"loss": "perceptron"}, "loss: perceptron is for one target"),
        ({"loss": "bce", "threshold": "f1"}, "threshold is for one target; there are 2"),
        ({"loss": "bce", "calibrate": True}, "calibrate is for one target"),
        ({"loss": "bce", "class_weights": "auto"}, "class_weights is for one target"),
    ],
)
def test_options_of_one_target_are_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        model(LABELS, **keys)


def test_members_answer_every_target() -> None:
    settings: dict[str, Any] = {"members": 2, "folds": 2, "hidden_sizes": [3]}
    labels = TabularEnsemble(LABELS, loss="bce", **settings)
    probabilities = torch.tensor([[[0.9, 0.2]], [[0.5, 0.6]]])  # (M, B, T)
    found = labels.predict(labels.combined(probabilities.logit()))
    torch.testing.assert_close(found[0, :, 1], torch.tensor([0.7, 0.4]))
    losses = labels.losses_of(torch.zeros(2, 3, 2), torch.tensor([[0, 1]] * 3))
    torch.testing.assert_close(losses, torch.full((2, 3), np.log(2)))
    quantities = TabularEnsemble(QUANTITIES, loss="huber", **settings)
    quantities.range.copy_(torch.tensor([[0.0, -1.0], [1.0, 1.0]]))
    assert quantities.combined(torch.tensor([[[5.0, -5.0]]] * 2)).tolist() == [[1, -1]]


CONFIGURATION = """
task: made
seed_everything: 1
portable: true
trainer: {max_epochs: 2}
data: {class_path: %s, init_args: {batch_size: 16}}
model:
  class_path: %s
  init_args: %s
"""
ONE_NETWORK = (
    "src.tabular.data.TabularData",
    "src.tabular.model.TabularModel",
    "{network: {class_path: src.training.networks.MLP, init_args: {hidden_sizes: [8]}}, loss: %s%s}",
)
ENSEMBLE = (
    "src.tabular.data.FoldedData",
    "src.tabular.ensemble.TabularEnsemble",
    "{members: 2, folds: 2, hidden_sizes: [8], loss: %s%s}",
)


def train(
    parts: tuple[str, str, str], targets: list[str], loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train and evaluate the model `made` of two targets in the current folder."""
    prepared(Path("raw"), targets)
    Path("data/prepared").mkdir(parents=True)
    Path("raw/out").rename("data/prepared/made")
    Path("configs").mkdir()
    name, comma, more = loss.partition(",")
    text = CONFIGURATION % (parts[0], parts[1], parts[2] % (name, comma + more))
    Path("configs/made.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["src.cli", "fit", "--config", "configs/made.yaml"])
    main()
    evaluate("made")


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize(
    ("parts", "targets", "loss", "columns"),
    [
        (
            ONE_NETWORK,
            ["height", "price"],
            "mse, interval: 0.5",
            ["lower_height", "upper_height", "lower_price", "upper_price"],
        ),
        (ENSEMBLE, ["height", "price"], "huber", []),
        (ONE_NETWORK, ["sold", "new"], "bce", ["probability_sold", "probability_new"]),
        (ENSEMBLE, ["sold", "new"], "bce", ["probability_sold", "probability_new"]),
    ],
)
def test_a_model_of_two_targets_from_rows_to_predictions(
    parts: tuple[str, str, str],
    targets: list[str],
    loss: str,
    columns: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    train(parts, targets, loss, monkeypatch)
    metrics = read_json(Path("reports/made/metrics.json"), "")
    kind = "rmse" if "height" in targets else "accuracy"
    means = np.mean([metrics[f"test/{target}/{kind}"] for target in targets])
    assert metrics[f"test/{kind}"] == pytest.approx(means, rel=1e-4)
    assert f"baseline/boosting/{targets[1]}/{kind}" in metrics
    assert Path("reports/made/tables/targets.md").read_text(encoding="utf-8").count("boosting") == 2
    found = load(Path("models/made")).predict(TABLE.drop(columns=targets))
    assert list(found) == ["row", *targets, *columns]
    assert len(found) == 120
    if kind == "accuracy":
        assert ((found["probability_new"] >= 0.5) == (found["new"] == "yes")).all()
    elif columns:
        assert found["price"].between(found["lower_price"], found["upper_price"]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize(
    ("parts", "targets", "loss", "lines"),
    [
        (ONE_NETWORK, ["height", "price"], "mse, interval: 0.5", ["height:", "price:"]),
        (ENSEMBLE, ["sold", "new"], "bce", ["sold 1:", "new yes:"]),
    ],
)
def test_an_exported_program_has_both_targets(
    parts: tuple[str, str, str],
    targets: list[str],
    loss: str,
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    train(parts, targets, loss, monkeypatch)
    export("made", samples=50)
    shown = subprocess.run(
        [sys.executable, "exports/made/example.py"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.rpartition(" ")[0] for line in shown.splitlines()] == lines
    assert f"`{targets[0]}`, `{targets[1]}`" in Path("exports/made/README.md").read_text(encoding="utf-8")


def test_targets_of_a_proposal(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    TABLE.to_csv(path, index=False)
    found = propose(path, "height,price")
    assert found.prepare["target"].value == ["height", "price"]
    assert found.prepare["task"] == "regression"
    assert sum(finding.startswith("target: '") for finding in found.findings) == 2
    labels = propose(path, "sold, new")
    assert labels.prepare["target"].value == ["sold", "new"]
    assert labels.configuration["model"]["init_args"]["loss"] == "bce"
    for target, complaint in {
        "height,sold": "'height' is a quantity and 'sold' has classes",
        "sold,kind": "'kind' has 3 classes, and each of several targets needs two",
        "sold,sold": "expected different columns",
        "sold,other": "there is no column 'other'",
    }.items():
        with pytest.raises(ConfigurationError, match=complaint):
            propose(path, target)
