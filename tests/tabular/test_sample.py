"""The sample tables have the content that data/samples/README.md states."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
ROUNDING = 1e-8  # values have ten significant digits


def columns(sample: str) -> dict[str, NDArray[np.float64]]:
    with (SAMPLES / sample / "train.csv").open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, np.array(rows, dtype=float).T, strict=True))


@pytest.mark.tasks("house_prices")
def test_house_prices_has_labels_in_both_languages_and_ids_that_go_on() -> None:
    tables = []
    for name in ("train.csv", "test.csv"):
        with (SAMPLES / "house_prices" / name).open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    train, test = tables
    labels = json.loads((SAMPLES / "house_prices/labels.json").read_text(encoding="utf-8"))
    assert list(train[0]) == list(labels) == [*test[0], "SalePrice"]
    assert all(set(label) == {"en", "zh"} and all(label.values()) for label in labels.values())
    assert [int(row["Id"]) for row in train + test] == list(range(1, 2920))
    truth = json.loads((SAMPLES / "house_prices/truth.json").read_text())
    for target, weights in truth.items():
        for row in train + test:
            value = sum(weight * float(row[name]) for name, weight in weights.items() if name != "bias")
            assert float(row[target]) == value + weights["bias"]


@pytest.mark.tasks("line")
@pytest.mark.parametrize(("sample", "noise"), [("line", 0.1), ("line_uniform", 0)])
def test_lines_follow_their_truth(sample: str, noise: float) -> None:
    table = columns(sample)
    truth = json.loads((SAMPLES / sample / "truth.json").read_text())["y"]
    deviation = np.std(table["y"] - truth["x"] * table["x"] - truth["bias"])
    assert deviation == pytest.approx(noise, rel=0.2, abs=ROUNDING)


@pytest.mark.tasks("polynomial")
def test_polynomial() -> None:
    table = columns("polynomial")
    expected = table["x1"] + table["x2"] ** 2 + table["x3"] ** 3
    assert table["z"] == pytest.approx(expected, abs=ROUNDING)
    shifts = np.rint(table["z_outliers"] - table["z"])
    assert set(shifts) == {-30, 0, 30}
    assert np.mean(shifts != 0) == pytest.approx(0.05, abs=0.02)


@pytest.mark.tasks("spiral")
def test_spiral() -> None:
    table = columns("spiral")
    radius = np.hypot(table["x1"], table["x2"])
    assert radius == pytest.approx(np.linspace(0, 1, 3000), abs=ROUNDING)
    angle = np.arctan2(table["x1"], table["x2"]) - 2 * np.pi * (table["arm"] + 2 * radius) / 3
    noise = (angle[1:] + np.pi) % (2 * np.pi) - np.pi  # the first point is the origin
    assert np.std(noise) == pytest.approx(0.2, rel=0.1)


@pytest.mark.tasks("perceptron")
def test_perceptron_and_xor() -> None:
    table = columns("perceptron")
    distance = (table["x1"] + table["x2"] - 1) / np.sqrt(2) * table["class"]
    assert distance.min() > 0.2 - 1e-4
    table = columns("xor")
    assert np.array_equal(table["class"], -np.sign(table["x1"] * table["x2"]))


@pytest.mark.tasks("autoregression")
def test_autoregression() -> None:
    table = columns("autoregression")
    assert np.array_equal(table["t"], np.arange(1, 1001))
    assert np.std(table["x"] - np.sin(0.01 * table["t"])) == pytest.approx(0.2, rel=0.1)
