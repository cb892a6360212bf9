"""What is learnt for decisions about tables: class weights, temperature, threshold, intervals."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from src.core.errors import ConfigurationError
from src.tabular.data import BalancedBatches, TabularData, load_split
from src.tabular.decisions import balanced_weights, best_threshold, fit_margin
from src.tabular.model import TabularModel
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing
from src.training.calibration import fit_temperature
from src.training.loading import Batches
from src.training.networks import MLP


def test_balanced_weights_count_all_classes_alike() -> None:
    assert balanced_weights(torch.tensor([6, 2])).tolist() == pytest.approx([8 / 12, 2])
    assert balanced_weights(torch.tensor([3, 3, 3])).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # classes by probability, from above: 1 0 1 0 0 0
        ("balanced_accuracy", 0.35),  # (2 / 2 + 3 / 4) / 2
        ("accuracy", 0.35),  # 5 / 6, as above 0.75; that one is nearer to 0.5
        ("f1", 0.35),
    ],
)
def test_a_threshold_maximises_its_metric(metric: Any, expected: float) -> None:
    probability = torch.tensor([0.1, 0.8, 0.3, 0.2, 0.7, 0.4])
    target = torch.tensor([0, 1, 0, 0, 0, 1])
    assert best_threshold(probability, target, metric) == pytest.approx(expected)


def test_equal_probabilities_are_on_one_side() -> None:
    probability = torch.tensor([0.2, 0.2, 0.2, 0.6, 0.6])
    target = torch.tensor([0, 0, 1, 1, 1])
    assert best_threshold(probability, target, "balanced_accuracy") == pytest.approx(0.4)


def test_a_threshold_may_answer_one_class_only() -> None:
    probability = torch.tensor([0.9, 0.8, 0.7])
    assert best_threshold(probability, torch.tensor([0, 0, 1]), "accuracy") == pytest.approx(0.95)
    assert best_threshold(probability, torch.tensor([0, 0, 0]), "f1") == 0.5


def test_neighbouring_numbers_are_told_apart() -> None:
    low = torch.tensor(0.5)
    high = torch.nextafter(low, torch.tensor(1.0))
    found = best_threshold(torch.stack([low, high]), torch.tensor([0, 1]), "f1")
    assert low < torch.tensor(found) <= high


def test_a_margin_is_the_quantile_of_finite_samples() -> None:
    residuals = torch.tensor([1.0, -2, 3, -4, 5, -6, 7, -8, 9])
    assert fit_margin(residuals, 0.9) == 9  # the ceil(10 * 0.9)-th
    assert fit_margin(residuals, 0.5) == 5
    with pytest.raises(ConfigurationError, match="needs at least 19 validation rows, found 9"):
        fit_margin(residuals, 0.95)


PREPARED = Path("prepared")


@pytest.fixture
def loans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preprocessing:
    """A prepared table of two unbalanced classes in the current folder."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{row * 7 % 101},{'yes' if row % 7 == 0 else 'no'}\n" for row in range(210)]
    Path("train.csv").write_text("x,late\n" + "".join(lines))
    prepare(Path(), PREPARED, Preparation(target="late", task="classification", duplicates="apart"))
    return Preprocessing.load(PREPARED)


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preprocessing:
    """A prepared table of a quantity in the current folder."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{row * 7 % 101},{100 + row * 13 % 97}\n" for row in range(210)]
    Path("train.csv").write_text("x,price\n" + "".join(lines))
    prepare(Path(), PREPARED, Preparation(target="price", target_transform=["log", "standardize"]))
    return Preprocessing.load(PREPARED)


def trained(preprocessing: Preprocessing, loss: Any, **keys: Any) -> TabularModel:
    torch.manual_seed(1)
    model = TabularModel(preprocessing, partial(MLP, hidden_sizes=[4]), loss, **keys)
    options: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, **options)
    trainer.fit(model, datamodule=TabularData(PREPARED, batch_size="full"))
    return model.eval()


def test_a_model_without_the_keys_has_no_further_tensors(loans: Preprocessing) -> None:
    model = trained(loans, "cross_entropy")
    assert all(name.startswith("network.") for name in model.state_dict())


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_decisions_are_learnt_from_validation_rows_and_kept_with_the_weights(
    loans: Preprocessing, loss: Any
) -> None:
    model = trained(loans, loss, calibrate=True, threshold="f1", class_weights="auto")
    state = model.state_dict()
    train, (features, target) = load_split(PREPARED, "train")[1], load_split(PREPARED, "validation")
    shares = len(train) / (2 * train.bincount())
    assert state["class_weights"].tolist() == pytest.approx(shares.tolist())
    outputs = model(features).detach()
    logits = outputs if loss == "cross_entropy" else torch.cat([torch.zeros_like(outputs), outputs], 1)
    temperature = fit_temperature(logits, target)
    assert state["temperature"].item() == pytest.approx(temperature)
    probability = (logits / temperature).softmax(dim=1)
    torch.testing.assert_close(model.predict(outputs), probability)
    threshold = best_threshold(model.predict(outputs)[:, 1], target, "f1")
    assert state["threshold"].item() == pytest.approx(threshold)
    again = TabularModel(
        loans, partial(MLP, hidden_sizes=[4]), loss, calibrate=True, threshold="f1", class_weights="auto"
    )
    again.load_state_dict(state)
    assert torch.equal(again.predict(outputs), model.predict(outputs))


def test_what_decides_is_the_threshold(loans: Preprocessing) -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.75, 0.25], [0.25, 0.75], [0.1, 0.9]])
    rare = TabularModel(loans, partial(MLP, hidden_sizes=[]), "bce", threshold={"yes": 0.25})
    assert rare.decide(probabilities).tolist() == [0, 1, 1, 1]
    other = TabularModel(loans, partial(MLP, hidden_sizes=[]), "bce", threshold={"no": 0.25})
    assert other.decide(probabilities).tolist() == [0, 0, 0, 1]
    logits = torch.tensor([[-1.0], [0.0]])  # probabilities 0.27 and 0.5
    assert rare.metrics_of(logits, torch.tensor([0, 1]))["accuracy"] == 0.5
    # the trivial answer knows no threshold: it answers the more frequent class
    assert rare.trivial_metrics(torch.tensor([0, 0, 1]), torch.tensor([0, 1]))["recall"] == 0.5


def test_the_losses_of_the_classes_are_weighted(loans: Preprocessing) -> None:
    logits, target = torch.tensor([[0.0, 1], [2, 0]]), torch.tensor([1, 1])
    keys: dict[str, Any] = {"class_weights": {"yes": 3.0}}
    model = TabularModel(loans, partial(MLP, hidden_sizes=[]), "cross_entropy", **keys)
    alone = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    assert model.loss_of(logits, target).item() == pytest.approx(3 * sum(alone) / 2)
    assert model.loss_of(logits, torch.tensor([0, 1])).item() == pytest.approx(
        (alone[0] + 1 + 3 * alone[1]) / 2
    )
    model = TabularModel(loans, partial(MLP, hidden_sizes=[]), "bce", **keys)
    assert model.loss_of(torch.tensor([[1.0], [-2]]), target).item() == pytest.approx(3 * sum(alone) / 2)


def test_intervals_are_those_of_the_residuals(prices: Preprocessing) -> None:
    model = trained(prices, "mse", interval=0.8)
    features, target = load_split(PREPARED, "validation")
    outputs = model(features).detach()
    margin = fit_margin((target - outputs)[:, 0], 0.8)
    lower, upper = model.interval_of(torch.tensor([[0.5]]))
    found = [model.predict(torch.tensor([[0.5 + sign * margin]])).item() for sign in (-1, 1)]
    assert [lower.item(), upper.item()] == pytest.approx(found)


def test_the_loss_of_a_quantile(prices: Preprocessing) -> None:
    model = TabularModel(prices, partial(MLP, hidden_sizes=[]), "quantile", quantile=0.9)
    prediction, target = torch.tensor([[1.0], [1]]), torch.tensor([[3.0], [0]])
    assert model.loss_of(prediction, target).item() == pytest.approx((0.9 * 2 + 0.1 * 1) / 2)
    assert model.trivial_outputs(torch.arange(10.0)[:, None]).item() == 8


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            {"class_weights": {"maybe": 1.0}},
            "class_weights: found the class 'maybe', expected of 'no', 'yes'",
        ),
        ({"threshold": {True: 0.2}}, "threshold: found the class True, expected of 'no', 'yes' .in quotes."),
        ({"threshold": {"no": 0.2, "yes": 0.2}}, "threshold: expected one class, found 2"),
        ({"interval": 0.9}, "interval does not fit a target of classification"),
        ({"quantile": 0.9}, "quantile: expected 0.5 for the loss bce, found 0.9"),
        ({"loss": "perceptron", "calibrate": True}, "calibrate does not fit the loss perceptron"),
    ],
)
def test_decisions_that_do_not_fit_the_target_are_refused(
    loans: Preprocessing, keys: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        TabularModel(loans, partial(MLP, hidden_sizes=[]), **{"loss": "bce", **keys})


def test_classes_need_a_target_of_classes(prices: Preprocessing) -> None:
    with pytest.raises(ConfigurationError, match="threshold does not fit a target of regression"):
        TabularModel(prices, partial(MLP, hidden_sizes=[]), threshold="f1")
    with pytest.raises(ConfigurationError, match="balanced does not fit a target of regression"):
        TabularData(PREPARED, balanced=True)


def rows_of(batches: Batches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    return [rows.tolist() for rows, _ in batches]


def test_a_balanced_order_has_each_class_alike_often() -> None:
    target = torch.tensor([0] * 9 + [1] * 2 + [3])
    rows = torch.arange(12)
    batches = BalancedBatches((rows, target), 5, seed=1)
    first, second = rows_of(batches, 0), rows_of(batches, 1)
    assert first != second
    assert rows_of(BalancedBatches((rows, target), 5, seed=1), 1) == second  # of seed and epoch alone
    assert [len(batch) for batch in first] == [5, 5, 2]
    order = [row for batch in first for row in batch]
    assert target[order].bincount().tolist() == [4, 4, 0, 4]
    counts = torch.tensor(order).bincount(minlength=12).tolist()
    assert sorted(counts[:9]) == [0] * 5 + [1] * 4  # four different rows of the large class
    assert counts[9:] == [2, 2, 4]


def test_two_processes_share_a_balanced_batch() -> None:
    target = torch.tensor([0] * 9 + [1] * 3)
    tensors = torch.arange(12), target
    whole = rows_of(BalancedBatches(tensors, 6, seed=1), 2)
    parts = [rows_of(BalancedBatches(tensors, 6, 1, process, 2), 2) for process in (0, 1)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole
