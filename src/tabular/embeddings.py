"""Categories whose codes a network looks up, where a column has too many for a feature each.

B batch, F features, E embedded columns, S outputs of a vector, M copies
"""

import math

import torch
from torch import Tensor, nn

SPREAD = 0.1  # the standard deviation of the vectors at the start


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
