import numpy as np
import pytest

from src.preparation.splits import cut_share


@pytest.mark.parametrize("block", [1, 3, 100])
def test_groups_are_cut_alike_as_numbers_and_as_texts(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.preparation.splits.ROWS_AT_ONCE", block)
    numbers = np.array([7, 2, 7, 0, 2, 5, 3, 3, 9, 0])
    rows = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9])
    for groups in (numbers, numbers.astype(str).astype(object)):
        rest, part = cut_share(rows, 0.4, 0, groups=groups)
        assert (rest.tolist(), part.tolist()) == ([0, 2, 6, 7, 8], [1, 4, 5, 9])
        assert not set(groups[rest]) & set(groups[part])
