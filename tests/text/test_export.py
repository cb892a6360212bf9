"""Modules to export."""

from typing import Any

import pytest
import torch

from src.text.export import Neighbours, Unrolled
from src.text.networks import Recurrent


@pytest.mark.parametrize(
    ("cell", "options"),
    [("gru", {}), ("lstm", {"layers": 2, "skip": False}), ("rnn", {"layers": 2, "tied": False})],
)
def test_cell_by_cell_is_the_recurrent_network(cell: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = Recurrent(20, cell, embedding_size=4, hidden_size=6, **options).eval()
    unrolled = Unrolled(network).eval()
    tokens = torch.randint(20, (3, 7))
    with torch.inference_mode():
        torch.testing.assert_close(unrolled(tokens), network(tokens))


def test_cosines_of_all_words_but_itself_and_special_tokens() -> None:
    vectors = torch.zeros(9, 2)
    vectors[6:] = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found, cosines = Neighbours(vectors)(torch.tensor([6, 8]))
    assert found.tolist() == [[3, 0], [1, 1]]
    expected = [[-1, 0, 0.5**0.5], [0.5**0.5, 0.5**0.5, -1]]
    torch.testing.assert_close(cosines[:, 6:], torch.tensor(expected))
    assert (cosines[:, :6] == -1).all()
