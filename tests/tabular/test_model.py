import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning import LightningModule
from lightning.pytorch.utilities.model_summary import ModelSummary
from torch import Tensor, nn
from torch.optim import SGD

from src.bundle.bundle import restrict_imports
from src.core.errors import ConfigurationError
from src.tabular.data import load_split
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target
from src.training.networks import MLP


def quantity(inputs: int = 1, **target: Any) -> Preprocessing:
    """The preprocessing of a regression."""
    columns = [NumericColumn(f"feature {number}", 0.0, 0.0, 1.0, 0, 0.0) for number in range(inputs)]
    return Preprocessing(columns, [Target("Price", **{"at_least_one": True, **target})])


def kinds(classes: int, inputs: int = 1) -> Preprocessing:
    """The preprocessing of a classification."""
    names = [f"class {number}" for number in range(classes)]
    return replace(quantity(inputs), targets=[Target("Kind", names)])


def passing_on(preprocessing: Preprocessing, **settings: Any) -> TabularModel:
    """A linear model whose outputs are its inputs."""
    model = TabularModel(preprocessing, partial(MLP, hidden_sizes=[]), **settings)
    with torch.no_grad():
        nn.init.eye_(model.network[0].weight)
        model.network[0].bias.zero_()
    return model


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


PLAIN: tuple[dict[str, Any], Any, Any] = ({}, (1, 2, 3), (0.5, 2.5, 3.5))
TRANSFORMED: tuple[dict[str, Any], Any, Any] = (
    {"log": True, "center": 2.0, "scale": 3.0},
    (0.5, 1),
    (0, 1.5),
)


@pytest.mark.parametrize(
    ("loss", "case", "expected"),
    [
        ("mse", PLAIN, 0.25),
        ("mae", PLAIN, 0.5),
        ("smooth_l1", PLAIN, 0.125),
        ("smooth_l1", ({}, (0,), (3,)), 2.5),  # linear beyond 1
        ("log_rmse", PLAIN, math.sqrt((0 + math.log(2 / 2.5) ** 2 + math.log(3 / 3.5) ** 2) / 3)),
        # on the transformed target, but log_rmse in the target's unit
        ("mse", TRANSFORMED, 0.25),
        ("log_rmse", TRANSFORMED, 3 * 0.5),
    ],
)
def test_the_loss_of_a_regression(loss: Any, case: tuple[dict[str, Any], Any, Any], expected: float) -> None:
    target, outputs, values = case
    batch = (column(*outputs), column(*values))
    assert passing_on(quantity(**target), loss=loss).training_step(batch, 0).item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_a_classification(smoothing: float) -> None:
    model = passing_on(kinds(3, inputs=3), loss="cross_entropy", label_smoothing=smoothing)
    logits = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
    evenly = -logits.log_softmax(dim=1).mean().item()
    loss = model.training_step((logits, torch.tensor([0, 2])), 0).item()
    assert loss == pytest.approx((1 - smoothing) * 1.16478 + smoothing * evenly, abs=1e-5)


def test_the_loss_of_two_classes() -> None:
    model = passing_on(kinds(2), loss="bce")
    logits = column(*(math.log(share / (1 - share)) for share in (0.9, 0.2, 0.8)))
    loss = model.training_step((logits, torch.tensor([1, 0, 1])), 0).item()
    assert loss == pytest.approx(0.18388, abs=1e-5)


def test_smoothed_labels_of_two_classes() -> None:
    model = passing_on(kinds(2), loss="bce", label_smoothing=0.2)
    yes, no = math.log1p(math.exp(-2)), math.log1p(math.exp(2))  # the losses of the logit 2
    assert model.loss_of(column(2.0), torch.tensor([1])).item() == pytest.approx(0.9 * yes + 0.1 * no)


def test_mixup_is_the_mean_of_two_rows_and_of_their_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = passing_on(quantity(), mixup=0.5)
    monkeypatch.setattr("src.tabular.model.Beta.sample", lambda _: torch.tensor(0.25))
    monkeypatch.setattr(torch, "randperm", lambda rows: torch.arange(rows).flip(0))
    features, order, weight = model.mixed(column(0.0, 4.0))
    assert (features.tolist(), weight) == ([[1], [3]], 0.75)
    assert order is not None
    assert order.tolist() == [1, 0]
    # outputs 1 and 3: the targets 0 and 4 have the weight 0.75, those of the other row 0.25
    loss = model.training_step((column(0.0, 4.0), column(0.0, 4.0)), 0)
    assert loss.item() == pytest.approx(0.75 * 1 + 0.25 * 9)
    outputs, target = model.epoch_outputs.take("train")
    assert (outputs.tolist(), target.tolist()) == ([[1], [3]], [[0], [4]])


def test_mixup_draws_anew_for_each_batch_by_the_seed_of_the_step() -> None:
    model = passing_on(quantity(), mixup=0.5)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.mixed(torch.arange(9.0)[:, None])[0].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("l1", "l2", "penalty"), [(0.1, 0, 0.3), (0, 0.2, 0.9), (0.1, 0.2, 1.2)])
def test_penalties_join_the_training_loss(l1: float, l2: float, penalty: float) -> None:
    model = passing_on(quantity(), l1=l1, l2=l2)
    with torch.no_grad():
        model.network[0].weight.fill_(-3)
        model.network[0].bias.fill_(100)
    assert model.training_step((column(1, 2), column(97.5, 94.5)), 0).item() == pytest.approx(0.25 + penalty)


@pytest.mark.parametrize(
    ("preprocessing", "loss", "complaint"),
    [
        (quantity(), "cross_entropy", "loss: cross_entropy does not fit a target of regression"),
        (quantity(), "bce", "loss: bce does not fit a target of regression"),
        (kinds(2), "mse", "loss: mse does not fit a target of classification"),
        (kinds(2), "log_rmse", "loss: log_rmse does not fit a target of classification"),
        (kinds(3), "bce", "loss: bce needs two classes, the target has 3"),
    ],
)
def test_a_loss_that_does_not_fit_the_target_is_refused(
    preprocessing: Preprocessing, loss: Any, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{complaint}$") as caught:
        TabularModel(preprocessing, partial(MLP, hidden_sizes=[4]), loss=loss)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("log", "center", "scale", "expected"),
    [
        (False, 0.0, 1.0, [-1, 0.5]),
        (True, 0.0, 1.0, [math.exp(-1), math.exp(0.5)]),
        (False, 10.0, 4.0, [6, 12]),
        (True, 2.0, 3.0, [math.exp(-1), math.exp(3.5)]),
    ],
)
def test_predict_undoes_the_transform(log: bool, center: float, scale: float, expected: list[float]) -> None:
    model = TabularModel(quantity(log=log, center=center, scale=scale), partial(MLP, hidden_sizes=[]))
    assert model.predict(column(-1, 0.5)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("steps", ["none", "log", "standardize", ["log", "standardize"]])
def test_predict_gives_prepared_targets_back_in_their_unit(tmp_path: Path, steps: Any) -> None:
    prices = [float(100_000 + 7_000 * row) for row in range(20)]
    lines = [f"{row},{price}\n" for row, price in enumerate(prices)]
    (tmp_path / "train.csv").write_text("Area,Price\n" + "".join(lines))
    settings = Preparation(target="Price", target_transform=steps, scale="none")
    prepare(tmp_path, tmp_path / "prepared", settings)
    model = TabularModel(Preprocessing.load(tmp_path / "prepared"), partial(MLP, hidden_sizes=[]))
    for split in ("train", "validation", "test"):
        areas, target = load_split(tmp_path / "prepared", split)
        expected = [prices[int(area)] for area in areas]
        assert model.predict(target).tolist() == pytest.approx(expected, rel=1e-5)


def test_predictions_of_classes_are_probabilities() -> None:
    model = passing_on(kinds(4, inputs=4), loss="cross_entropy")
    scores = torch.tensor([[1.0, 3.0, 5.0, 10.0]])
    expected = [1.22458e-4, 9.04848e-4, 6.685975e-3, 0.9922867]
    assert model.predict(model(scores))[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_predictions_of_two_classes_are_probabilities_of_both() -> None:
    model = passing_on(kinds(2), loss="bce")
    found = model.predict(model(column(math.log(0.9 / 0.1), 0)))
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.9], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("preprocessing", "loss", "outputs"),
    [(quantity(5), "mse", 1), (kinds(2, 5), "bce", 1), (kinds(2, 5), "cross_entropy", 2)],
)
def test_the_target_decides_how_many_outputs_there_are(
    preprocessing: Preprocessing, loss: Any, outputs: int
) -> None:
    model = TabularModel(preprocessing, partial(MLP, hidden_sizes=[7]), loss=loss)
    assert model(torch.zeros(3, 5)).shape == (3, outputs)


def numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.items()}


def test_metrics_of_a_regression() -> None:
    metrics = passing_on(quantity()).metrics_of(column(1, 2, 3), column(1, 4, 4))
    logarithms = [math.log(4 / 2) ** 2, math.log(4 / 3) ** 2]
    assert numbers(metrics) == pytest.approx(
        {
            "rmse": math.sqrt(5 / 3),
            "mae": 1,
            # 1 - 5 / (4 + 1 + 1)
            "r2": 1 / 6,
            "log_rmse": math.sqrt(sum(logarithms) / 3),
        }
    )


def test_log_rmse_is_left_out_where_targets_lie_below_1() -> None:
    metrics = passing_on(quantity(at_least_one=False)).metrics_of(column(1, 2, 3), column(1, 4, 4))
    assert set(metrics) == {"rmse", "mae", "r2"}


def test_metrics_of_classes() -> None:
    # the largest score says which class is meant: 0, 0, 1, 1, 2, 0
    logits = torch.tensor([[9.0, 1, 0], [5, 1, 1], [0, 3, 1], [0, 2, 1], [0, 1, 7], [8, 1, 0]])
    model = passing_on(kinds(3, inputs=3), loss="cross_entropy")
    metrics = model.metrics_of(logits, torch.tensor([0, 1, 1, 1, 2, 0]))
    assert numbers(metrics) == pytest.approx(
        {
            "accuracy": 5 / 6,
            "precision": (2 / 3 + 1 + 1) / 3,
            "recall": (1 + 2 / 3 + 1) / 3,
            "f1": (0.8 + 0.8 + 1) / 3,
        }
    )


def logged(model: TabularModel, stage: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a stage's epoch logs at its end."""
    rows: list[dict[str, Tensor]] = []
    monkeypatch.setattr(
        "src.training.supervised.log_epoch", lambda module, stage, metrics: rows.append(metrics)
    )
    trainer: Any = SimpleNamespace(world_size=1)
    model.trainer = trainer
    getattr(model, f"on_{stage}_epoch_end")()
    return numbers(rows[0])


def test_the_training_loss_of_an_epoch_is_without_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    model = passing_on(quantity(), loss="mse", l1=0.5)
    model.training_step((column(1, 2), column(0, 2)), 0)
    model.training_step((column(5), column(3)), 1)
    assert logged(model, "train", monkeypatch) == pytest.approx({"loss": 5 / 3})


def test_the_training_accuracy_of_classes_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = passing_on(kinds(2, inputs=2), loss="cross_entropy")
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    model.training_step((logits, torch.tensor([0, 0, 1])), 0)
    assert logged(model, "train", monkeypatch)["accuracy"] == pytest.approx(2 / 3)


def test_the_trivial_answer_of_a_regression_is_the_mean_of_training() -> None:
    model = TabularModel(quantity(center=10.0, scale=2.0), partial(MLP, hidden_sizes=[]))
    found = model.trivial_metrics(column(0, 1, 5), column(1, 3))
    # the mean is 2, which is 14; the test rows are 12 and 16
    logarithms = [math.log(14 / 12) ** 2, math.log(16 / 14) ** 2]
    assert found == pytest.approx({"rmse": 2, "mae": 2, "r2": 0, "log_rmse": math.sqrt(sum(logarithms) / 2)})


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_the_trivial_answer_of_a_classification_is_the_commonest_class(loss: Any) -> None:
    model = TabularModel(kinds(2), partial(MLP, hidden_sizes=[]), loss=loss)
    found = model.trivial_metrics(torch.tensor([1, 0, 1]), torch.tensor([1, 1, 0, 1]))
    assert found["accuracy"] == 0.75
    assert found["recall"] == 0.5


def test_the_summary_counts_the_parameters_of_each_layer() -> None:
    model = TabularModel(kinds(2, inputs=3), partial(MLP, hidden_sizes=[4, 4]), loss="cross_entropy")
    summary = str(ModelSummary(model, max_depth=-1))
    cells = [[cell.strip() for cell in line.split("|")] for line in summary.splitlines()]
    layers = {row[1]: row[3] for row in cells if len(row) > 3}
    assert {name: layers[f"network.{name}"] for name in ("0", "2", "4")} == {"0": "16", "2": "20", "4": "10"}
    assert layers["network"] == "46"
    assert "46        Total params" in summary


EPOCHS, STEPS = 4, 20


def build(
    preprocessing: Preprocessing, kind: type[TabularModel], *arguments: Any, **more: Any
) -> TabularModel:
    return kind(preprocessing, *arguments, **more)


def configured_model(**settings: Any) -> TabularModel:
    """A model built from a configuration as the command line builds it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", skip={"preprocessing"})
    network = {"class_path": "src.training.networks.MLP", "init_args": {"hidden_sizes": [3]}}
    values = {"class_path": "src.tabular.model.TabularModel", "init_args": {"network": network, **settings}}
    instantiators = [(partial(build, quantity(2)), LightningModule, True)]
    return parser.instantiate(parser.parse_object({"model": values}), instantiators=instantiators).model


@pytest.mark.parametrize(
    ("interval", "told", "expected"),
    [
        ("epoch", {}, EPOCHS),
        ("step", {}, STEPS),
        ("step", {"total_steps": 7}, 7),
        ("step", {"epochs": 3, "steps_per_epoch": 5}, 15),
    ],
)
def test_one_cycle_spans_the_training_unless_told_otherwise(
    interval: str, told: dict[str, Any], expected: int
) -> None:
    model = configured_model(
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
        lr_scheduler={
            "class_path": "torch.optim.lr_scheduler.OneCycleLR",
            "init_args": {"max_lr": 0.5, **told},
        },
        lr_interval=interval,
    )
    # a name of its own, because the model holds it weakly
    trainer: Any = SimpleNamespace(estimated_stepping_batches=STEPS, max_epochs=EPOCHS)
    model.trainer = trainer
    settings = model.configure_optimizers()
    assert isinstance(settings["optimizer"], SGD)
    assert settings["lr_scheduler"]["interval"] == interval
    scheduler = settings["lr_scheduler"]["scheduler"]
    assert scheduler.total_steps == expected
    found = [scheduler.get_last_lr()[0]]
    for _ in range(expected - 1):
        settings["optimizer"].step()
        scheduler.step()
        found.append(scheduler.get_last_lr()[0])
    # up to the maximum and down to next to nothing, once
    assert max(found) == pytest.approx(0.5, rel=0.2)
    assert found[-1] == pytest.approx(0.5 / 25 / 1e4)


def test_a_configuration_names_optimizer_and_schedule() -> None:
    model = configured_model(
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.02}},
        lr_scheduler={
            "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
            "init_args": {"monitor": "validation/rmse"},
        },
    )
    settings = model.configure_optimizers()
    assert type(settings["optimizer"]) is torch.optim.AdamW
    assert settings["optimizer"].param_groups[0]["lr"] == 0.02
    assert len(settings["optimizer"].param_groups[0]["params"]) == 4
    assert settings["lr_scheduler"]["monitor"] == "validation/rmse"


def test_a_perceptron_answers_with_a_side() -> None:
    model = TabularModel(kinds(2), nn.Linear, loss="perceptron")
    assert model.predict(torch.tensor([[0.2], [-7.0]])).tolist() == [[0, 1], [1, 0]]


class Quadratic(nn.Module):
    """A network of a user: a linear function of the inputs and their squares."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * inputs, outputs)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        scaled = self.scale * features
        return self.layer(torch.cat([scaled, scaled**2], dim=1))


def test_a_network_of_the_user_is_built_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("src.mine")
    module.Quadratic = Quadratic
    monkeypatch.setitem(sys.modules, "src.mine", module)
    monkeypatch.setattr(Quadratic, "__module__", "src.mine")
    restrict_imports()
    model = configured_model(
        network={"class_path": "src.mine.Quadratic", "init_args": {"scale": 0.5}}, l1=0.1
    )
    assert isinstance(model.network, Quadratic)
    assert (model.network.scale, model.network.layer.weight.shape) == (0.5, (1, 4))
    assert model(torch.zeros(3, 2)).shape == (3, 1)
    assert model.training_step((torch.randn(3, 2), torch.randn(3, 1)), 0).isfinite()
    with pytest.raises(ArgumentError, match="scale"):
        configured_model(network={"class_path": "src.mine.Quadratic", "init_args": {"scale": "much"}})


def test_a_layer_of_torch_can_be_the_network() -> None:
    model = configured_model(network={"class_path": "torch.nn.Linear", "init_args": {"bias": False}})
    assert isinstance(model.network, nn.Linear)
    assert (model.network.weight.shape, model.network.bias) == ((1, 2), None)
