import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from src.bundle.bundle import Bundle, weights_of, write_bundle
from src.images import evaluate as evaluation
from src.images.backprop import BackpropMLP
from src.images.evaluate import evaluate
from src.images.model import ImageModel
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing


class LeftOrRight(nn.Module):
    """Class 0 if the first column is brighter than the last one, else class 1."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[..., 0].sum(dim=(1, 2)), images[..., -1].sum(dim=(1, 2))], dim=1)


def test_shifted_images_get_a_black_border() -> None:
    learnt = Preprocessing((1, 3, 3), 255, [], [], "none", [[[0.0]]], [[[1.0]]], ["left", "right"])
    model = ImageModel(learnt, LeftOrRight)
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    images[0, 0, :, 0] = images[1, 0, :, 2] = 200
    target = torch.tensor([0, 1])
    assert evaluation._accuracy_of_shifted(model, images, target, 0) == 1
    # a column that leaves the picture or comes to the middle leaves 0 against 0, which is answered 0:
    # the left image stays right in all four, the right one only when it moves up or down
    assert evaluation._accuracy_of_shifted(model, images, target, 1) == (2 * 0.5 + 2 * 1) / 4


def test_of_many_images_some_are_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = Preprocessing((1, 3, 3), 255, [], [], "none", [[[0.0]]], [[[1.0]]], ["left", "right"])
    model = ImageModel(learnt, LeftOrRight)
    images = torch.zeros(5, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, :, 0] = 200
    target = torch.tensor([0, 1, 0, 1, 0])
    assert evaluation._accuracy_of_shifted(model, images, target, 0) == pytest.approx(3 / 5)
    monkeypatch.setattr(evaluation, "SHIFTED_IMAGES", 3)  # the first, third and fifth
    assert evaluation._accuracy_of_shifted(model, images, target, 0) == 1


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an untrained net on bright and dark pictures."""
    tmp_path = tmp_path_factory.mktemp("report")
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        path = tmp_path / "raw" / ("bright", "dark")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = torch.randint(0, 100, (6, 6), dtype=torch.uint8, generator=generator)
        Image.fromarray((values + (150 if number % 2 == 0 else 0)).numpy()).save(path)
    prepare(tmp_path / "raw", tmp_path / "prepared", Preparation(train=".", scale="range"))
    torch.manual_seed(0)
    network = {"class_path": "src.images.backprop.BackpropMLP", "init_args": {"hidden_sizes": [4]}}
    section = {"class_path": "src.images.model.ImageModel", "init_args": {"network": network}}
    bundle, prepared, report = (tmp_path / name for name in ("bundle", "prepared", "report"))
    model = ImageModel(Preprocessing.load(prepared), lambda shape, classes: BackpropMLP(shape, classes, [4]))
    history = "epoch,train/loss,validation/loss,train/accuracy,validation/accuracy\n"
    documents = {"history.csv": history + "1,1,1,0.5,0.5\n2,0.5,0.6,1,1\n"}
    write_bundle(
        bundle, weights_of(model), "pictures", yaml.safe_dump({"model": section}), prepared, documents
    )
    report.mkdir()
    evaluate(Bundle.open(bundle), prepared, report)
    return report


def test_a_report_has_metrics_pictures_and_tables(report: Path) -> None:
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test/accuracy"] == 0.5
    assert metrics["baseline/logistic/accuracy"] == 1
    assert metrics["baseline/trivial/accuracy"] == 0.5
    assert metrics["not_better_than_trivial/p_value"] >= 0.5
    assert {"shifted/1/accuracy", "shifted/2/accuracy", "validation/f1"} < set(metrics)
    assert sorted(path.name for path in (report / "plots").iterdir()) == [
        "confusion_matrix.png",
        "learning_curve.csv",
        "learning_curve.png",
        "most_wrong.png",
        "occlusion.png",
        "reliability.png",
        "sheet.png",
    ]
    assert 0 <= metrics["test/ece"] < 0.1
    confused = (report / "tables/confused.md").read_text(encoding="utf-8").splitlines()
    assert confused[0] == "| actual | predicted | images | of the actual class |"
    assert confused[2].endswith("| 6 | 100.0% |")
    rows = (report / "tables/classes.md").read_text(encoding="utf-8").splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| bright", "| dark"]


def test_the_three_gradients_are_compared(report: Path) -> None:
    text = (report / "tables/gradients.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\S+) \|$", text, flags=re.MULTILINE)
    passes = {name: int(number) for name, number, _ in rows}
    assert passes == {"autograd": 1, "manual": 1, "numerical": 100}
    assert all(float(error) < 1e-8 for *_, error in rows)
    assert float(rows[2][2]) > 0  # differences are not exact


def test_samples_are_pictures_with_their_predictions(report: Path) -> None:
    bundle, prepared = (report.parent / name for name in ("bundle", "prepared"))
    headings, rows = evaluation.samples(Bundle.open(bundle), prepared)
    assert headings == ["image", "class", "predicted", "probability"]
    assert len(rows) == len(np.load(prepared / "test_target.npy"))
    picture, actual, predicted, probability = rows[0]
    assert np.array_equal(np.asarray(picture), np.load(prepared / "test_images.npy")[0, 0])
    assert actual == ("bright" if np.asarray(picture).min() >= 150 else "dark")
    assert predicted in ("bright", "dark")
    assert 0.5 <= probability <= 1


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    # bins: two of 0.9, half of them right; one of 0.6, wrong; one of 1, right
    expected = (2 * abs(0.5 - 0.9) + abs(0 - 0.6) + 0) / 4
    found = evaluation.calibration_error(probabilities, torch.tensor([0, 1, 0, 1]))
    assert found == pytest.approx(expected)


def test_confused_pairs_are_sorted_by_their_images() -> None:
    target, answers = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 1, 2])
    lines = evaluation._confused_table(answers, target, ["a", "b", "c"]).splitlines()
    assert lines[2:] == ["| a | b | 2 | 66.7% |", "| b | a | 1 | 50.0% |"]
    assert evaluation._confused_table(target, target, ["a", "b", "c"]) == ""


def test_one_image_of_each_answer_comes_first() -> None:
    answers = np.array([0, 0, 0, 2, 1])
    assert evaluation._first_of_each_class(answers, 3).tolist() == [0, 3, 4]
    assert evaluation._first_of_each_class(answers, 4).tolist() == [0, 1, 3, 4]
    assert evaluation._first_of_each_class(answers, 9).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("shape", "classes", "expected"),
    [
        ((60_000, 1, 28, 28), 10, (5000, None, 784)),  # those of the built-in tasks
        ((600, 3, 224, 200), 10, (600, 32, 3072)),
        ((9000, 3, 64, 64), 2, (5000, None, 12_288)),
        ((9000, 3, 64, 64), 10, (5000, 32, 3072)),
        ((9000, 3, 64, 64), 200, (1302, 16, 768)),
        ((9000, 1, 12, 12), 5000, (277, None, 144)),
    ],
)
def test_the_baseline_takes_bounded_time(
    shape: tuple[int, int, int, int], classes: int, expected: tuple[int, int | None, int]
) -> None:
    images = torch.zeros(1, dtype=torch.uint8).expand(*shape)
    assert evaluation._baseline_size(images, classes) == expected


def test_the_baseline_has_each_class_and_predicts_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(62, 1, 2, 2, dtype=torch.uint8)
    target = torch.tensor([0] * 20 + [1] * 2 + [0] * 40)  # few images of class 1, between the others
    images[target == 0, 0, 0, 0] = images[target == 1, 0, 1, 1] = 200
    monkeypatch.setattr(evaluation, "BASELINE_IMAGES", 3)
    whole = evaluation._logistic_regression(images, target, images, 2)
    assert (whole[20] - whole[0])[1] > 0
    monkeypatch.setattr(evaluation, "BASELINE_VALUES", 40)
    assert torch.allclose(evaluation._logistic_regression(images, target, images, 2), whole)


def test_the_baseline_sees_all_classes_of_sorted_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(60, 1, 2, 2, dtype=torch.uint8)
    target = torch.arange(3).repeat_interleave(20)
    for code in range(3):
        images[target == code, 0, code // 2, code % 2] = 200
    monkeypatch.setattr(evaluation, "BASELINE_IMAGES", 12)  # the first are all of one class
    answers = evaluation._logistic_regression(images, target, images[::20], 3)
    assert answers.argmax(dim=1).tolist() == [0, 1, 2]
