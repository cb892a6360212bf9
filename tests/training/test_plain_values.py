"""Plain values come out of a checkpoint as they were, and their changes are seen."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from src.training import plain_values
from src.training.plain_values import is_plain, loaded, mark, put, stored


class Move(NamedTuple):
    state: list[int]
    reward: float


@pytest.mark.parametrize(
    "value",
    [
        {"loss": deque([1.0, 2.0], maxlen=3), 4: {"seen": {1, 2}}},
        [Move([1, 2], 0.5), (None, True, "text")],
        deque([Move([], 1.0)]),
    ],
    ids=["deques and sets", "named tuples", "a deque of named tuples"],
)
def test_a_checkpoint_has_containers_as_they_were(value: Any, tmp_path: Path) -> None:
    assert is_plain(value)
    torch.save(stored(value), tmp_path / "a.ckpt")
    found = loaded(torch.load(tmp_path / "a.ckpt", weights_only=True), torch.device("cpu"))
    assert found == value
    assert repr(found) == repr(value)  # with the greatest length of a deque


def test_what_is_stored_does_not_change_with_the_value() -> None:
    value = {"a": [torch.zeros(2), np.zeros(2)], "b": {1}}
    kept = stored(value)
    value["a"][0] += 1  # type: ignore[index]
    value["a"][1] += 1  # type: ignore[index]
    value["b"].add(2)  # type: ignore[union-attr]
    assert kept["a"][0].tolist() == [0, 0]
    assert kept["a"][1].tolist() == [0, 0]
    assert kept["b"] == {1}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [object()],
        {"a": OrderedDict()},
        np.array([None]),
        torch.nn.Parameter(torch.zeros(1)),
        {(1,): 2},
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_need_a_pickle_are_not_plain(value: Any) -> None:
    assert not is_plain(value)


def test_containers_that_others_hold_are_filled() -> None:
    attributes = {
        "a": [1],
        "b": defaultdict(list, x=[1]),
        "c": {1},
        "d": torch.zeros(2, requires_grad=True),
        "e": 1,
    }
    before = dict(attributes)
    for name, value in {"a": [2, 3], "b": {"y": [4]}, "c": {5}, "d": torch.ones(2), "e": 2, "f": 3}.items():
        put(attributes, name, value)
    assert all(attributes[name] is before[name] for name in "abcd")
    assert attributes["a"] == [2, 3]
    assert attributes["b"]["y"] == [4]  # type: ignore[index]
    assert attributes["b"]["new"] == []  # type: ignore[index]
    assert attributes["d"].tolist() == [1, 1]  # type: ignore[union-attr]
    assert (attributes["c"], attributes["e"], attributes["f"]) == ({5}, 2, 3)


def has_changed(value: Any, before: Any) -> bool:
    return bool(mark(value) != before)


def test_changes_of_small_values_are_seen_by_their_content() -> None:
    value = {"a": [torch.zeros(2)]}
    before = mark(value)
    assert not has_changed(value, before)
    value["a"][0].numpy()[0] = 1
    assert has_changed(value, before)
    assert has_changed(True, mark(1))
    assert not has_changed(1, mark(1))


def test_changes_of_large_values_are_seen_by_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_values, "LARGE", 1000)
    tensor, array = torch.zeros(1000), np.zeros(1000)
    average = {"mean": torch.zeros(1000), "last": np.zeros((2, 500)).T}
    buffer = deque((str(number) * 10 for number in range(100)), maxlen=100)
    values = [tensor, array, average, average, buffer]
    changes: list[Callable[[], Any]] = [
        lambda: tensor.add_(1),
        lambda: array.put(999, 1),
        lambda: average["mean"].sub_(1),  # type: ignore[union-attr]
        lambda: average["last"].put(3, 1),  # type: ignore[union-attr, operator]
        lambda: buffer.append("the buffer is as long as before"),
    ]
    for value, change in zip(values, changes, strict=True):
        before = mark(value)
        assert not has_changed(value, before)
        change()
        assert has_changed(value, before)
    average["mean"] = average["mean"] * 1  # another tensor of the same content
    assert not has_changed(average, mark(average))
    assert has_changed(torch.zeros(1000), mark(tensor))


def test_tensors_of_a_validation_have_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        small, large = torch.zeros(2), torch.zeros(1000)
    monkeypatch.setattr(plain_values, "LARGE", 1000)
    for value in (small, large):
        assert not has_changed(value, mark(value))
    assert has_changed(small + 1, mark(small))


def test_what_cannot_be_compared_has_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_values, "LARGE", 1000)
    assert mark(lambda: None) is None
    assert mark([torch.eye(1000).to_sparse()]) is None


def test_tensors_go_back_to_the_device_that_they_were_on() -> None:
    # a device without memory, in place of a GPU
    value = {"losses": [torch.zeros(2), torch.zeros(3, device="meta")], "best": torch.ones(1)}
    found = loaded(stored(value), torch.device("meta"))
    assert [tensor.device.type for tensor in found["losses"]] == ["cpu", "meta"]
    assert found["losses"][1].shape == (3,)
    assert torch.equal(found["best"], torch.ones(1))
