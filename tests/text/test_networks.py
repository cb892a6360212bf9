"""Networks of texts."""

from typing import Any

import pytest
import torch
from torch import nn

from src.core.errors import ConfigurationError
from src.text.networks import ContinuousBagOfWords, Recurrent, Transformer
from src.text.preprocessing import PAD

VOCABULARY = 12
NETWORKS: dict[str, Any] = {
    "rnn": lambda: Recurrent(VOCABULARY, "rnn", 6, 8, layers=2),
    "gru": lambda: Recurrent(VOCABULARY, "gru", 6, 8),
    "lstm": lambda: Recurrent(VOCABULARY, "lstm", 6, 8, tied=False, skip=False),
    "transformer": lambda: Transformer(VOCABULARY, 8, heads=2, layers=2),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


def test_the_rnn_of_the_course_has_the_shapes_of_the_course() -> None:
    recurrent = Recurrent(VOCABULARY, "rnn", embedding_size=8, hidden_size=16, layers=2).recurrent
    # the course counts time first: one step of three sequences; here the batch is first
    steps = torch.randn(1, 3, 8)
    output, state = recurrent(steps.transpose(0, 1))
    assert (output.transpose(0, 1).shape, state.shape) == ((1, 3, 16), (2, 3, 16))


def test_a_step_of_an_rnn_is_the_formula() -> None:
    torch.manual_seed(0)
    cell: Any = Recurrent(VOCABULARY, "rnn", embedding_size=8, hidden_size=16).recurrent
    x, h = torch.randn(1, 8), torch.randn(1, 16)
    expected = torch.tanh(
        h @ cell.weight_hh_l0.T + x @ cell.weight_ih_l0.T + cell.bias_ih_l0 + cell.bias_hh_l0
    )
    assert torch.allclose(cell(x[:, None], h[None])[0][:, 0], expected, atol=1e-6)


def test_logits_have_a_row_for_each_token(network: Any) -> None:
    assert network(torch.ones(2, 5, dtype=torch.long)).shape == (2, 5, VOCABULARY)


def test_batch_mates_do_not_influence_each_other(network: Any) -> None:
    tokens = torch.tensor([[6, 7, 8, 9], [9, 9, 6, 7], [6, 7, 8, 9], [6, 8, 8, 8]])
    logits = network(tokens)
    assert torch.allclose(logits[0], logits[2], atol=1e-12)
    assert torch.allclose(logits[0], network(tokens[:1])[0], atol=1e-12)
    tokens[1] = tokens[1].roll(1)
    tokens[3] = 11
    assert torch.allclose(network(tokens)[0], logits[0], atol=1e-12)


def test_a_token_is_predicted_from_those_before_it_alone(network: Any) -> None:
    tokens = torch.tensor([[6, 7, 8, 9, 10]])
    before = network(tokens)
    tokens[0, 3] = 11
    after = network(tokens)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-6
    # what comes before counts, too
    tokens[0, 0] = 11
    assert (network(tokens)[:, 1] - before[:, 1]).abs().max() > 1e-6


def test_padding_behind_a_document_changes_nothing(network: Any) -> None:
    tokens = torch.tensor([[6, 7, 8]])
    padded = torch.tensor([[6, 7, 8, PAD, PAD]])
    assert torch.allclose(network(padded)[:, :3], network(tokens), atol=1e-12)


def test_token_by_token_is_the_same_as_all_at_once(network: Any) -> None:
    tokens = torch.tensor([[6, 7, 8, 9, 10], [11, 10, 9, 8, 7]])
    state, steps = None, []
    for token in tokens.split([1, 2, 1, 1], dim=1):
        hidden, state = network.hidden(token, state)
        steps.append(network.output(hidden))
    assert torch.allclose(torch.cat(steps, dim=1), network(tokens), atol=1e-12)


def test_tied_weights_are_one_tensor() -> None:
    tied, untied = Recurrent(VOCABULARY, tied=True), Recurrent(VOCABULARY, tied=False)
    assert tied.output.weight is tied.embedding.weight
    assert untied.output.weight is not untied.embedding.weight


def test_dropout_is_for_training_alone() -> None:
    network = Recurrent(VOCABULARY, dropout=0.5)
    tokens = torch.tensor([[6, 7, 8]])
    assert not torch.equal(network(tokens), network(tokens))
    network.eval()
    assert torch.equal(network(tokens), network(tokens))


@pytest.mark.parametrize(("size", "heads"), [(10, 4), (9, 3)])
def test_sizes_that_do_not_fit_the_heads_are_refused(size: int, heads: int) -> None:
    with pytest.raises(ConfigurationError, match=f"embedding_size {size} must be even and a multiple"):
        Transformer(VOCABULARY, size, heads)


def test_a_bag_of_words_is_the_mean_of_the_words_that_are_there() -> None:
    network = ContinuousBagOfWords(VOCABULARY, embedding_size=4).eval()
    logits = network(torch.tensor([[6, 7, PAD, PAD], [PAD, 7, 6, PAD], [PAD] * 4]))
    mean = network.embedding.weight[[6, 7]].mean(dim=0)
    assert torch.allclose(logits[0], network.output(mean), atol=1e-6)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[2], network.output.bias)


def test_one_hot_vectors_of_different_words_have_no_cosine() -> None:
    vectors = torch.eye(VOCABULARY)
    cosines = nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    assert torch.equal(cosines, vectors)
