from pathlib import Path

import numpy as np

from src.images.study_figures import FIGURES, difference_errors


def test_errors_fall_with_h_and_its_square_until_rounding_dominates() -> None:
    forward, central = difference_errors(np.array([1e-2, 1e-3, 1e-12]))
    assert 9 < forward[0] / forward[1] < 11
    assert 90 < central[0] / central[1] < 110
    assert central[0] < forward[0]
    assert central[2] > 1e-6


def test_the_study_of_gradients_has_a_figure(tmp_path: Path) -> None:
    name, plot = FIGURES["gradient"]
    plot(tmp_path / name)
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
