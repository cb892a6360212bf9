"""Layers for single columns: of numbers, and of categories that have too many values for a feature each.

M members or copies, B batch, F features, N numeric features, Q bins or frequencies, E outputs or columns
"""

import math

import torch
from torch import Tensor, nn

EVERY = slice(None)  # all members
SPREAD = 0.1  # the standard deviation of the vectors at the start


def bin_edges(values: Tensor, bins: int) -> Tensor:
    """Quantiles that cut the values of a feature into bins of about as many rows.

    Values that are frequent give equal quantiles. Quantiles of the distinct values take the place of those
    that repeat another one. With fewer distinct values than edges, the last edge is repeated.

    Args:
        values: (B,).
        bins: Q, at least 1.

    Returns:
        (Q + 1,), ascending.
    """
    shares = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    values = values.double()
    edges = values.quantile(shares).unique()
    further = values.unique().quantile(shares).unique()
    further = further[~torch.isin(further, edges)]
    if lacking := min(bins + 1 - len(edges), len(further)):
        chosen = torch.linspace(0, len(further) - 1, lacking, dtype=torch.float64).round().long()
        edges = torch.cat([edges, further[chosen]]).sort().values
    return torch.cat([edges, edges[-1:].expand(bins + 1 - len(edges))]).to(torch.get_default_dtype())


class PiecewiseLinearEmbedding(nn.Module):
    """A layer for each numeric feature: the piecewise-linear encoding, a linear layer, ReLU.

    The encoding of a number is, for each bin, the share of the bin that lies below the number (Gorishniy et
    al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"). A linear layer on it is a
    piecewise-linear function with a bend at every edge.

    Args:
        members: M, each with weights of its own.
        columns: N.
        bins: Q of each feature; their edges are those of `learn`.
        size: E.
    """

    def __init__(self, members: int, columns: int, bins: int, size: int) -> None:
        super().__init__()
        self.size: int = size
        self.edges = nn.Buffer(torch.zeros(columns, bins + 1))
        self.weight = nn.Parameter(torch.randn(columns, bins, members, size) / math.sqrt(bins))
        self.bias = nn.Parameter(torch.zeros(columns, 1, members, size))

    def learn(self, numbers: Tensor) -> None:
        """Learn the edges from the training rows (rows, N)."""
        bins = self.edges.shape[1] - 1
        for edges, values in zip(self.edges, numbers.T, strict=True):
            edges.copy_(bin_edges(values, bins))

    def forward(self, numbers: Tensor, members: slice = EVERY) -> Tensor:
        """Map (B, N) to (M, B, N * E), M of the chosen members."""
        low, width = self.edges[:, :-1], self.edges.diff()
        shares = (numbers[:, :, None] - low) / width.where(width > 0, 1)
        encoded = shares.clamp(0, 1) * (width > 0)  # (B, N, Q)
        weight, bias = self.weight[:, :, members], self.bias[:, :, members]
        outputs = torch.baddbmm(bias.flatten(2), encoded.transpose(0, 1), weight.flatten(2)).relu()
        # (N, B, M * E)
        return outputs.unflatten(2, weight.shape[2:]).permute(2, 1, 0, 3).flatten(2)


class PeriodicEmbedding(nn.Module):
    """A layer for each numeric feature: cosines of learnt frequencies, and a linear layer.

    The PBLD embedding of RealMLP (Holzmüller et al. 2024, "Better by Default"), whose raw value is an input
    of the network beside it: `weight cos(2 pi (frequency x) + phase) + bias`.

    Args:
        members: M, each with weights of its own.
        columns: N.
        frequencies: Q of each feature, drawn from a normal distribution; phases from -pi to pi.
        deviation: the standard deviation of the frequencies at the start.
        size: E.
    """

    def __init__(self, members: int, columns: int, frequencies: int, deviation: float, size: int) -> None:
        super().__init__()
        self.size: int = size
        self.frequency = nn.Parameter(deviation * torch.randn(columns, members, frequencies))
        self.phase = nn.Parameter(math.pi * (2 * torch.rand(columns, members, frequencies) - 1))
        self.weight = nn.Parameter(torch.randn(columns, members, frequencies, size) / math.sqrt(frequencies))
        self.bias = nn.Parameter(torch.zeros(columns, members, size))

    def learn(self, numbers: Tensor) -> None:
        """Learn nothing from the training rows (rows, N)."""

    def forward(self, numbers: Tensor, members: slice = EVERY) -> Tensor:
        """Map (B, N) to (M, B, N * E), M of the chosen members."""
        frequency, phase = self.frequency[:, members], self.phase[:, members]
        cosines = (2 * math.pi * numbers[:, :, None, None] * frequency + phase).cos()  # (B, N, M, Q)
        outputs = torch.einsum("bnmq,nmqe->bnme", cosines, self.weight[:, members]) + self.bias[:, members]
        return outputs.permute(2, 0, 1, 3).flatten(2)


def vector_size(categories: int) -> int:
    """The outputs of the vector of a category: twice the fourth root of their number, rounded up.

    The fourth root is a rule of thumb (Google Developers Blog 2017, "Introducing TensorFlow Feature
    Columns"); 1,000 categories have 12 outputs.
    """
    return 2 * math.ceil(categories**0.25)


class CategoryEmbeddings(nn.Module):
    """A table of vectors for each embedded column (Guo and Berkhahn 2016, "Entity Embeddings").

    The vector of a category without a training row is 0.

    Args:
        categories: by place of a feature that is a code, the number of known categories.
        copies: M, each with vectors of its own.
    """

    def __init__(self, categories: dict[int, int], copies: int = 1) -> None:
        super().__init__()
        self.places, self.copies = list(categories), copies
        sizes = [vector_size(count) for count in categories.values()]
        self.outputs = sum(sizes)  # of a copy
        self.tables = nn.ModuleList(
            nn.Embedding(count + 1, copies * size, padding_idx=count)
            for count, size in zip(categories.values(), sizes, strict=True)
        )
        for table in self.tables:
            with torch.no_grad():
                table.get_parameter("weight").mul_(SPREAD)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, F) to the vectors of all embedded columns, (B, M, outputs)."""
        vectors = [
            table(features[:, place].long()).unflatten(1, (self.copies, -1))
            for place, table in zip(self.places, self.tables, strict=True)
        ]
        return torch.cat(vectors, dim=2)


class EmbeddedNetwork(nn.Module):
    """A network on the features that are no codes, and the vectors of those that are.

    Args:
        features: F.
        embeddings: of the codes.
        network: has F - E + outputs of the embeddings as inputs.
    """

    def __init__(self, features: int, embeddings: CategoryEmbeddings, network: nn.Module) -> None:
        super().__init__()
        self.plain = [place for place in range(features) if place not in embeddings.places]
        self.embeddings = embeddings
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, F) to outputs (B, O)."""
        inputs = [features[:, self.plain], self.embeddings(features)[:, 0]]
        outputs: Tensor = self.network(torch.cat(inputs, dim=1))
        return outputs
