from pathlib import Path

import numpy as np

from src.images.pictures import difference_errors, plot_difference_errors


def test_errors_fall_with_h_and_its_square_until_rounding_takes_over() -> None:
    forward, central = difference_errors(np.array([1e-2, 1e-3, 1e-12]))
    assert 9 < forward[0] / forward[1] < 11
    assert 90 < central[0] / central[1] < 110
    assert central[0] < forward[0]
    assert central[2] > 1e-6


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    plot_difference_errors(tmp_path / "differences.png")
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
