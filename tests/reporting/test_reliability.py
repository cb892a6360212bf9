from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from src.reporting.reliability import plot_reliability


def test_the_accuracy_of_each_bin_is_over_its_mean_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("src.reporting.reliability.save_figure", lambda figure, path: figures.append(figure))
    # bins of a tenth: 0.52 and 0.58, one of them right; 0.85, wrong; 1, right
    probabilities = torch.tensor([[0.52, 0.48], [0.42, 0.58], [0.85, 0.15], [0.0, 1.0]])
    plot_reliability(probabilities, torch.tensor([0, 0, 1, 1]), 10, tmp_path / "reliability.png", "images")
    upper, lower = figures[0].axes
    confidence, accuracy = upper.lines[1].get_data()
    assert list(confidence) == pytest.approx([0.55, 0.85, 1])
    assert list(accuracy) == pytest.approx([0.5, 0, 1])
    assert [bar.get_height() for bar in lower.patches] == [0, 0, 0, 0, 0, 2, 0, 0, 1, 1]
    assert (upper.get_title(), lower.get_ylabel()) == ("Test images", "images")


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    probabilities, target = torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([0, 0])
    for name in ("one.png", "other.png"):
        plot_reliability(probabilities, target, 15, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
