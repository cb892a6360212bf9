"""Losses and metrics of the models."""

import math

import pytest
import torch
from torch import Tensor, nn

from src.core.errors import ConfigurationError
from src.text.model import LanguageModel, WordVectors, divergence, nats_per_token
from src.text.networks import ContinuousBagOfWords
from src.text.preprocessing import BOS, EOS, PAD, SPECIAL, UNK, Preprocessing

VOCABULARY = [*SPECIAL, "，", "。", *"春花秋月何时"]
COUNTS = [0, 2, 0, 0, 0, 0, 9, 9, 6, 5, 4, 3, 2, 1]
PREPROCESSING = Preprocessing(tokenizer="char", vocabulary=VOCABULARY, counts=COUNTS)


class Fixed(nn.Module):
    """Logits that do not depend on the tokens."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.output = nn.Linear(1, vocabulary)
        nn.init.zeros_(self.output.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(torch.zeros(*tokens.shape, 1))


def model_of(unknown_share: float = 0.5) -> LanguageModel:
    return LanguageModel(PREPROCESSING, Fixed, unknown_share).eval()


def test_loss_ignores_padding_and_counts_characters() -> None:
    model = model_of()
    with torch.no_grad():
        model.network.output.bias.zero_()  # type: ignore[union-attr, operator]
    tokens = torch.tensor([[BOS, 8, 9, UNK, EOS], [BOS, 8, EOS, PAD, PAD]])
    with torch.no_grad():
        nats, sizes = model.negative_log_likelihood(tokens)
    one = math.log(len(VOCABULARY))
    assert nats.tolist() == pytest.approx([4 * one, 2 * one])
    # the unknown token is a character, the end is none
    assert sizes.tolist() == [[4, 3], [2, 1]]
    metrics = model.metrics_of(nats, sizes)
    assert float(metrics["perplexity"]) == pytest.approx(len(VOCABULARY))
    assert float(metrics["bits_per_character"]) == pytest.approx(6 * one / math.log(2) / 4)
    assert float(nats_per_token(nats, sizes)) == pytest.approx(one)


def test_training_starts_from_the_token_frequencies() -> None:
    shares = model_of()(torch.tensor([[BOS]]))[0, 0].softmax(dim=0)
    counts = torch.tensor(COUNTS).clamp(min=1)
    assert torch.allclose(shares, counts / counts.sum(), atol=1e-6)


def test_rare_characters_become_unknown_in_training_only() -> None:
    rare, frequent = len(VOCABULARY) - 1, 8
    batch = (torch.tensor([[BOS, rare, frequent, EOS]]),)
    known, _ = model_of().negative_log_likelihood(batch[0])
    unknown, _ = model_of().negative_log_likelihood(torch.tensor([[BOS, UNK, frequent, EOS]]))
    for share, expected in ((1.0, unknown), (0.0, known)):
        model = model_of(share)
        model.training_step(batch, 0)
        model.validation_step(batch, 0)
        assert torch.equal(model.epoch_outputs.take("train")[0], expected)
        assert torch.equal(model.epoch_outputs.take("validation")[0], known)


def test_half_of_the_rare_characters_become_unknown() -> None:
    seen: list[Tensor] = []

    class Watching(LanguageModel):
        def forward(self, tokens: Tensor) -> Tensor:
            seen.append(tokens)
            return super().forward(tokens)

    torch.manual_seed(0)
    model = Watching(PREPROCESSING, Fixed, unknown_share=0.5)
    model.training_step((torch.full((100, 10), len(VOCABULARY) - 1),), 0)
    assert 0.4 < float((seen[0] == UNK).float().mean()) < 0.6


def test_the_divergence_is_the_mean_of_both_directions() -> None:
    first = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    second = torch.tensor([[[0.8, 0.2], [0.1, 0.9]]]).log()
    present = torch.tensor([[True, False]] * 2)
    # half of (0.5 - 0.8) (log 0.5 - log 0.8) + (0.5 - 0.2) (log 0.5 - log 0.2) = 0.15 log 4
    found = divergence(torch.cat([first, second]), present)
    assert float(found) == pytest.approx(0.15 * math.log(4))
    assert float(divergence(torch.cat([first, first]), present)) == 0


def test_r_drop_adds_the_divergence_of_two_computations() -> None:
    class Dropping(Fixed):
        def forward(self, tokens: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(tokens) + 1, training=self.training)

    batch = (torch.tensor([[BOS, 8, 9, EOS], [BOS, 8, EOS, PAD]]),)
    losses = []
    for factor in (0.0, 2.0, 4.0):
        model = LanguageModel(PREPROCESSING, Dropping, unknown_share=0, r_drop=factor).train()
        torch.manual_seed(0)
        losses.append(model.training_step(batch, 0).item())
        # of each document twice, if at all
        assert len(model.epoch_outputs.take("train")[0]) == (4 if factor else 2)
    twice, more = losses[1:]
    assert more > twice > 0
    model = LanguageModel(PREPROCESSING, Fixed, unknown_share=0, r_drop=2)
    plain = LanguageModel(PREPROCESSING, Fixed, unknown_share=0)
    assert model.training_step(batch, 0).item() == pytest.approx(plain.training_step(batch, 0).item())


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown_share must lie between 0 and 1: {share}"):
        model_of(unknown_share=share)


def test_trivial_metrics_are_of_token_frequencies_with_add_one_smoothing() -> None:
    train, test = torch.tensor([8, 8, 9, EOS]), torch.tensor([8, EOS])
    metrics = model_of().trivial_metrics(train, test)
    total = len(VOCABULARY) + 4
    nats = -math.log(3 / total) - math.log(2 / total)
    assert metrics["loss"] == pytest.approx(nats / 2)
    assert metrics["bits_per_character"] == pytest.approx(nats / math.log(2))


def test_the_middle_word_is_predicted_from_those_around_it() -> None:
    model = WordVectors(PREPROCESSING, lambda size: ContinuousBagOfWords(size, 4))
    inputs, target = model.split(torch.tensor([[6, 7, 8, 9, 10], [PAD, PAD, 11, 12, PAD]]))
    assert inputs.tolist() == [[6, 7, 9, 10], [PAD, PAD, 12, PAD]]
    assert target.tolist() == [[8], [11]]
