"""Networks that map a document to the logits of its class.

All of them ignore what is behind the end of a document, so that its logits do not depend on the longest of
the batch.

B batch, T tokens, V vocabulary, E embedding, H hidden, K classes
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.networks import positions, token_embedding, transformer_layers
from src.text.preprocessing import PAD

EncoderCallable = Callable[[int, int], nn.Module]  # V, K

Pooling = Literal["mean", "max", "attention"]
HASH = 1_000_003  # a prime, so that pairs spread over the buckets
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class Pool(nn.Module):
    """Reduce the vectors of the tokens of a document to one vector.

    Args:
        size: H, of the vectors.
        how: the mean, the largest of each component, or a weighted mean whose weights a linear layer gives
            (Yang et al. 2016, section 2.2).
    """

    def __init__(self, size: int, how: Pooling) -> None:
        super().__init__()
        self.how = how
        self.score = nn.Linear(size, 1) if how == "attention" else None

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Vectors (B, T, H) and which tokens there are (B, T, 1) to (B, H)."""
        if self.how == "max":
            return vectors.masked_fill(~present, -torch.inf).amax(dim=1)
        if self.score is None:
            return (vectors * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        weights = self.score(vectors).masked_fill(~present, -torch.inf).softmax(dim=1)  # (B, T, 1)
        return (vectors * weights).sum(dim=1)


class BagOfEmbeddings(nn.Module):
    """The pooled embeddings of the tokens, and a linear layer (Joulin et al. 2017), or one hidden layer.

    Args:
        vocabulary: V.
        classes: K.
        embedding_size: E.
        pair_buckets: how many embeddings the pairs of neighbouring tokens share by a hash, which are pooled,
            too (Joulin et al. 2017, section 2.1); 0 for no pairs.
        hidden_size: of a hidden layer with ReLU (Iyyer et al. 2015); 0 for none.
        pooling: mean, max or attention.
        dropout: of the embeddings and of the pooled vector.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        embedding_size: int = 64,
        pair_buckets: int = 0,
        hidden_size: int = 0,
        pooling: Pooling = "mean",
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.pairs = nn.Embedding(pair_buckets, embedding_size) if pair_buckets else None
        if self.pairs is not None:
            nn.init.zeros_(self.pairs.weight)  # a pair that training never saw adds nothing
        self.dropout = nn.Dropout(dropout)
        self.pool = Pool(embedding_size, pooling)
        self.hidden = nn.Linear(embedding_size, hidden_size) if hidden_size else None
        self.output = nn.Linear(hidden_size or embedding_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        present = (tokens != PAD).unsqueeze(2)  # (B, T, 1)
        pooled = self.pool(self.dropout(self.embedding(tokens)), present)
        if self.pairs is not None:
            # of all T places, since torch.export makes a case of T - 1 = 1; the last token has none behind it
            following = tokens.roll(-1, dims=1)  # (B, T)
            both = present & present.roll(-1, dims=1)
            both = both & (torch.arange(tokens.shape[1], device=tokens.device) < tokens.shape[1] - 1)[:, None]
            buckets = (tokens * HASH + following) % self.pairs.num_embeddings
            pooled = pooled + self.pool(self.dropout(self.pairs(buckets)), both)
        if self.hidden is not None:
            pooled = functional.relu(self.hidden(pooled))
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


class Convolutional(nn.Module):
    """Convolutions of several widths over the tokens, and the largest of each channel (Kim 2014).

    Args:
        vocabulary: V.
        classes: K.
        embedding_size: E.
        channels: of each width.
        widths: of the convolutions, in tokens.
        dropout: of the embeddings and of the pooled vector.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        embedding_size: int = 64,
        channels: int = 64,
        widths: list[int] | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [1, 2, 3] if widths is None else widths
        if not widths or min(widths) < 1:
            raise ConfigurationError(f"network.widths must be whole numbers above 0: {widths}")
        self.widths = widths
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_size, channels, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels * len(widths), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        present = (tokens != PAD).unsqueeze(1)  # (B, 1, T)
        embedded = self.dropout(self.embedding(tokens)).transpose(1, 2) * present  # (B, E, T)
        found = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            # a window begins at each token, and may reach beyond the end of the document
            answers = functional.relu(convolution(functional.pad(embedded, (0, width - 1))))
            found.append((answers * present).amax(dim=2))  # ReLU: no answer is below 0
        logits: Tensor = self.output(self.dropout(torch.cat(found, dim=1)))
        return logits


class Directions(nn.Module):
    """A recurrent layer for each direction.

    Args:
        layer: a class of torch.nn.
        embedding_size: E.
        hidden_size: H.
    """

    def __init__(self, layer: Callable[..., nn.RNNBase], embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forwards = layer(embedding_size, hidden_size, batch_first=True)
        self.backwards = layer(embedding_size, hidden_size, batch_first=True)

    def forward(self, forwards: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
        """Both inputs (B, T, E) to the states (B, T, H) of their direction."""
        return self.forwards(forwards)[0], self.backwards(backwards)[0]


class Bidirectional(nn.Module):
    """Recurrent layers over the tokens in both directions, pooled.

    Args:
        vocabulary: V.
        classes: K.
        cell: gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997).
        embedding_size: E.
        hidden_size: H, of each direction.
        pooling: mean, max or attention.
        dropout: of the embeddings and of the pooled vector.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        cell: Literal["gru", "lstm"] = "gru",
        embedding_size: int = 64,
        hidden_size: int = 64,
        pooling: Pooling = "max",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.directions = Directions(CELLS[cell], embedding_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.pool = Pool(2 * hidden_size, pooling)
        self.output = nn.Linear(2 * hidden_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        present = tokens != PAD  # (B, T)
        embedded = self.dropout(self.embedding(tokens))  # (B, T, E)
        # a document read backwards begins with its last token, not with the padding
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        places = (present.sum(dim=1, keepdim=True) - 1 - steps).clamp(min=0)[:, :, None]  # (B, T, 1)
        forwards, backwards = self.directions(embedded, _taken(embedded, places))
        hidden = torch.cat([forwards, _taken(backwards, places)], dim=2)  # (B, T, 2 H)
        logits: Tensor = self.output(self.dropout(self.pool(hidden, present.unsqueeze(2))))
        return logits


class TransformerEncoder(nn.Module):
    """A transformer encoder with sinusoidal positions (Vaswani et al. 2017) and pre-norm, pooled.

    Args:
        vocabulary: V.
        classes: K.
        embedding_size: E, even and a multiple of `heads`.
        heads: of each attention layer.
        layers: their number.
        pooling: mean, max or attention.
        dropout: of the embeddings, in each layer and of the pooled vector.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        embedding_size: int = 64,
        heads: int = 4,
        layers: int = 1,
        pooling: Pooling = "mean",
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(vocabulary, embedding_size)
        self.encoder = transformer_layers(embedding_size, heads, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.pool = Pool(embedding_size, pooling)
        self.output = nn.Linear(embedding_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        size = self.embedding.embedding_dim
        embedded = self.embedding(tokens) * size**0.5
        embedded = self.dropout(embedded + positions(tokens.shape[1], size).to(embedded))  # (B, T, E)
        absent = tokens == PAD
        # added to the attention: the fast path of evaluation would not take booleans with these layers
        mask = embedded.new_zeros(absent.shape).masked_fill(absent, -torch.inf)
        hidden = self.encoder(embedded, src_key_padding_mask=mask)
        logits: Tensor = self.output(self.dropout(self.pool(hidden, ~absent.unsqueeze(2))))
        return logits


def begin_with(network: nn.Module, vectors: NDArray[np.float32]) -> None:
    """Put pretrained vectors (V, E) into the layer `embedding` of a network.

    Raises:
        ConfigurationError: it has no such layer, or one of another size.
    """
    layer = getattr(network, "embedding", None)
    if not isinstance(layer, nn.Embedding):
        raise ConfigurationError(
            f"model.network: {type(network).__name__} has no layer `embedding` for prepare.vectors"
        )
    if layer.weight.shape != vectors.shape:
        raise ConfigurationError(
            f"model.network.embedding_size: found {layer.embedding_dim}, expected {vectors.shape[1]}, the "
            "size of prepare.vectors"
        )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(vectors))


def _taken(vectors: Tensor, places: Tensor) -> Tensor:
    """The vectors (B, T, H) at places (B, T, 1)."""
    return vectors.gather(1, places.expand(-1, -1, vectors.shape[2]))
