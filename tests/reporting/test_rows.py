import pytest

from src.reporting.rows import evenly


@pytest.mark.parametrize(
    ("rows", "most", "chosen"),
    [(4, 10, [0, 1, 2, 3]), (4, 4, [0, 1, 2, 3]), (10, 4, [0, 3, 6, 9]), (9, 3, [0, 4, 8]), (5, 1, [0])],
)
def test_rows_are_in_even_distances(rows: int, most: int, chosen: list[int]) -> None:
    assert evenly(rows, most).tolist() == chosen


def test_all_rows_are_taken_as_they_are() -> None:
    assert evenly(5000, 5000).tolist() == list(range(5000))
