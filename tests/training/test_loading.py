from typing import Any

import pytest
import torch

from src.training.loading import Batches


def numbered(rows: int, batch_size: Any, **options: Any) -> Batches:
    """Batches of the numbers 0, 1, ... and, beside them, their squares."""
    numbers = torch.arange(rows)
    return Batches((numbers, numbers**2), batch_size, **options)


def rows_of(batches: Batches, epoch: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    return [numbers.tolist() for numbers, _ in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (2000, 64, [64] * 31 + [16]),
        (128, 64, [64, 64]),
        (66, 64, [64, 2]),
        # batch norm has no variance of one row
        (65, 64, [65]),
        (129, 64, [64, 65]),
        (1, 64, [1]),
        (3, 10, [3]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
        (2000, "full", [2000]),
        (1, "full", [1]),
    ],
)
def test_rows_are_cut_into_batches(rows: int, batch_size: Any, sizes: list[int], seed: int | None) -> None:
    batches = numbered(rows, batch_size, seed=seed)
    found = rows_of(batches)
    assert [len(batch) for batch in found] == sizes
    assert len(batches) == len(sizes)
    assert sorted(flat(found)) == list(range(rows))


def test_the_parts_of_a_row_stay_together() -> None:
    for numbers, squares in numbered(100, 7, seed=1):
        assert torch.equal(numbers**2, squares)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = rows_of(numbered(100, 8, seed=5), epoch=3)
    torch.manual_seed(2)
    batches = numbered(100, 8, seed=5)
    rows_of(batches, epoch=0)
    assert rows_of(batches, epoch=3) == first
    assert rows_of(batches, epoch=4) != first
    assert rows_of(numbered(100, 8, seed=6), epoch=3) != first


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    assert flat(rows_of(numbered(100, 8, seed=5))) == flat(rows_of(numbered(100, 30, seed=5)))


def test_an_order_takes_nothing_from_the_random_numbers_of_training() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    rows_of(numbered(100, 8, seed=5))
    assert torch.equal(torch.rand(3), expected)


def test_without_a_seed_the_order_of_the_rows_is_kept() -> None:
    batches = numbered(10, 4)
    assert rows_of(batches, epoch=0) == rows_of(batches, epoch=1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("rows", "batch_size"), [(2000, 64), (101, 10), (30, "full")])
def test_two_processes_together_see_what_one_sees(rows: int, batch_size: Any, seed: int | None) -> None:
    alone = rows_of(numbered(rows, batch_size, seed=seed), epoch=2)
    first, second = (
        rows_of(numbered(rows, batch_size, seed=seed, process=process, processes=2), epoch=2)
        for process in (0, 1)
    )
    assert len(first) == len(second) == len(alone)
    for together, own, other in zip(alone, first, second, strict=True):
        assert own + other == together
        assert len(own) - len(other) in (0, 1)


@pytest.mark.parametrize(("rows", "sizes"), [(66, [33]), (67, [34]), (68, [32, 2])])
def test_every_process_gets_at_least_two_rows(rows: int, sizes: list[int]) -> None:
    batches = numbered(rows, 64, seed=3, process=0, processes=2)
    assert [len(batch) for batch in rows_of(batches)] == sizes
