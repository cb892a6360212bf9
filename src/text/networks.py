"""The networks of texts.

B batch, T tokens, V vocabulary, E embedding, H hidden, L layers, W context words
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.core.errors import ConfigurationError
from src.text.preprocessing import PAD

NetworkCallable = Callable[[int], nn.Module]

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
LONGEST_WAVE = 10_000


class Recurrent(nn.Module):
    """Embedding, recurrent layers, a linear layer to the embedding size, and one to the vocabulary.

    Args:
        vocabulary: V.
        cell: rnn (Elman 1990, with tanh), gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997).
        embedding_size: E.
        hidden_size: H.
        layers: L.
        dropout: of the embeddings, between the layers and before both linear layers.
        tied: the weights of the last layer are the embeddings (Press and Wolf 2017).
        skip: the linear layers also get the embedding of the token (Graves 2013, section 2), so that the
            recurrent layers need not learn the pairs of characters that dominate a small corpus.
    """

    def __init__(
        self,
        vocabulary: int,
        cell: Literal["rnn", "gru", "lstm"] = "gru",
        embedding_size: int = 128,
        hidden_size: int = 256,
        layers: int = 1,
        dropout: float = 0.5,
        tied: bool = True,
        skip: bool = True,
    ) -> None:
        super().__init__()
        self.skip = skip
        self.embedding = token_embedding(vocabulary, embedding_size)
        between = dropout if layers > 1 else 0.0
        self.recurrent: nn.RNNBase = CELLS[cell](
            embedding_size, hidden_size, layers, batch_first=True, dropout=between
        )
        self.projection = nn.Linear(hidden_size + embedding_size * skip, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.output = _output(embedding_size, vocabulary, self.embedding if tied else None)

    def hidden(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens (B, T) after those of `state` to the input of the last layer and the next state."""
        embedded = self.embedding(tokens)  # (B, T, E)
        hidden, state = self.recurrent(self.dropout(embedded), state)  # (B, T, H)
        seen = torch.cat([hidden, embedded], dim=2) if self.skip else hidden
        return self.dropout(self.projection(self.dropout(seen))), state  # (B, T, E)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, T, V) of the token after each."""
        logits: Tensor = self.output(self.hidden(tokens)[0])
        return logits


class Transformer(nn.Module):
    """A transformer decoder with sinusoidal positions (Vaswani et al. 2017) and pre-norm (Xiong et al. 2020).

    Args:
        vocabulary: V.
        embedding_size: E, even and a multiple of `heads`.
        heads: of each attention layer.
        layers: L.
        dropout: of the embeddings and in each layer.
        tied: the weights of the last layer are the embeddings.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_size: int = 128,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.3,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.decoder = transformer_layers(embedding_size, heads, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = _output(embedding_size, vocabulary, self.embedding if tied else None)

    def hidden(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) after those of `state` to the input of the last layer and all tokens so far."""
        seen = tokens if state is None else torch.cat([state, tokens], dim=1)
        size = self.embedding.embedding_dim
        embedded = self.embedding(seen) * math.sqrt(size)
        embedded = self.dropout(embedded + positions(seen.shape[1], size).to(embedded))  # (B, S, E)
        mask = nn.Transformer.generate_square_subsequent_mask(
            seen.shape[1], device=embedded.device, dtype=embedded.dtype
        )
        hidden = self.decoder(embedded, mask, is_causal=True)
        return hidden[:, -tokens.shape[1] :], seen  # (B, T, E)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, T, V) of the token after each."""
        logits: Tensor = self.output(self.hidden(tokens)[0])
        return logits


class ContinuousBagOfWords(nn.Module):
    """Predict a word from the mean of the embeddings around it (Mikolov et al. 2013, section 3.1).

    Args:
        vocabulary: V.
        embedding_size: E.
        dropout: of the mean.
    """

    def __init__(self, vocabulary: int, embedding_size: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.output = _output(embedding_size, vocabulary, None)

    def forward(self, contexts: Tensor) -> Tensor:
        """Context words (B, W) to logits (B, V); `<PAD>` is left out of the mean."""
        present = (contexts != PAD).unsqueeze(2)  # (B, W, 1)
        total = (self.embedding(contexts) * present).sum(dim=1)  # (B, E)
        logits: Tensor = self.output(self.dropout(total / present.sum(dim=1).clamp(min=1)))
        return logits


def transformer_layers(size: int, heads: int, layers: int, dropout: float) -> nn.TransformerEncoder:
    """Attention layers with pre-norm (Xiong et al. 2020), whose feedforward part is four times as wide.

    Raises:
        ConfigurationError: the size is odd, or no multiple of the heads.
    """
    if size % heads or size % 2:
        raise ConfigurationError(
            f"network.embedding_size {size} must be even and a multiple of heads {heads}"
        )
    layer = nn.TransformerEncoderLayer(size, heads, 4 * size, dropout, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(size), enable_nested_tensor=False)


def token_embedding(vocabulary: int, size: int) -> nn.Embedding:
    """The embeddings (V, E) of tokens, with a standard deviation of 0.1."""
    embedding = nn.Embedding(vocabulary, size, padding_idx=PAD)
    # torch's standard deviation of 1 makes the logits of tied weights far too large
    nn.init.normal_(embedding.weight, std=0.1)
    return embedding


def _output(size: int, vocabulary: int, tied: nn.Embedding | None) -> nn.Linear:
    output = nn.Linear(size, vocabulary)
    if tied is not None:
        output.weight = tied.weight
    return output


def positions(length: int, size: int) -> Tensor:
    """Positions (length, size) as sines and cosines (Vaswani et al. 2017, section 3.5)."""
    rates = LONGEST_WAVE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
