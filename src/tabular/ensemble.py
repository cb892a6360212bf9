"""Many small networks for tables, trained at once as one batched network, whose answers are averaged.

M members, K folds, B batch, F features, N numeric features, Q bins, E outputs of an embedding, H hidden
units, O outputs, C classes, T targets
"""

import math
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.tabular.columns import CategoricalColumn, TextColumn
from src.tabular.embeddings import CategoryEmbeddings
from src.tabular.losses import weight_penalty
from src.tabular.model import NetworkCallable, TabularModel
from src.tabular.preprocessing import Preprocessing
from src.training.distributed import mean_over_processes

LARGEST = 3.0  # what a feature cannot exceed, in units of its scale
EVERY = slice(None)  # all members


def smooth_clip(features: Tensor) -> Tensor:
    """Values of any shape, squeezed between -3 and 3, nearly unchanged around 0.

    One value far off then cannot rule a prediction (Holzmüller et al. 2024, RealMLP).
    """
    return features / (1 + (features / LARGEST).square()).sqrt()


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


class MemberwiseLinear(nn.Module):
    """M linear layers side by side, in NTK parametrisation (Jacot et al. 2018).

    Weights are drawn from the standard normal distribution, and the product is divided by the square root of
    the number of inputs: one learning rate fits layers of all widths.

    Args:
        members: M.
        inputs: of each layer.
        outputs: of each layer.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, inputs: Tensor, members: slice = EVERY) -> Tensor:
        """Map (M, B, inputs) to (M, B, outputs), M of the chosen members."""
        alpha = 1 / math.sqrt(self.weight.shape[1])
        return torch.baddbmm(self.bias[members], inputs, self.weight[members], alpha=alpha)


class EnsembleMLP(nn.Module):
    """M multilayer perceptrons with weights of their own, computed by batched products of matrices.

    Each has a factor for every input of its first layer, `scale`, which learns how much the input matters
    when its learning rate is several times that of the weights (Holzmüller et al. 2024, RealMLP).

    Args:
        inputs: F.
        outputs: O of each member.
        members: M.
        numeric: the positions of the numeric features, which are embedded.
        hidden_sizes: H of each hidden layer.
        dropout: the probability that an activation is set to 0 in training.
        bins: Q of the embedding.
        embedding_size: E; 0 leaves the embedding out.
        categories: as `CategoryEmbeddings` has them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        members: int,
        numeric: list[int],
        hidden_sizes: list[int],
        dropout: float,
        bins: int,
        embedding_size: int,
        categories: dict[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.members, self.outputs, self.dropout = members, outputs, dropout
        self.numeric = numeric  # no buffer, which averaging of weights would round
        embedded = bool(numeric and embedding_size)
        self.embedding = (
            PiecewiseLinearEmbedding(members, len(numeric), bins, embedding_size) if embedded else None
        )
        self.plain = [place for place in range(inputs) if place not in (categories or {})]
        self.categories = CategoryEmbeddings(categories, members) if categories else None
        of_categories = self.categories.outputs if self.categories else 0
        of_numbers = embedded * len(numeric) * embedding_size
        self.parts = [len(self.plain), of_numbers, of_categories]  # inputs of the first layer
        sizes = [sum(self.parts), *hidden_sizes, outputs]
        self.scale = nn.Parameter(torch.ones(members, sizes[0], 1))
        self.layers = nn.ModuleList(MemberwiseLinear(members, *pair) for pair in pairwise(sizes))
        nn.init.zeros_(self.layers[-1].get_parameter("weight"))

    def learn(self, features: Tensor) -> None:
        """Learn the edges of the bins from the training rows (rows, F)."""
        if self.embedding is not None:
            self.embedding.learn(smooth_clip(features[:, self.numeric]))

    def forward(self, features: Tensor, members: slice = EVERY) -> Tensor:
        """Map features (B, F) to the outputs (M, B, O) of the chosen members."""
        codes, features = features, smooth_clip(features)
        layers: list[Any] = [*self.layers]
        first, *others = layers
        # scaling the weights, of which there are fewer, takes less time than scaling the inputs
        weight = first.weight[members] * self.scale[members]
        own, of_embedding, of_categories = weight.split(self.parts, dim=1)
        alpha = 1 / math.sqrt(weight.shape[1])
        plain = features if self.categories is None else features[:, self.plain]
        hidden = torch.baddbmm(first.bias[members], plain.expand(len(own), -1, -1), own, alpha=alpha)
        if self.embedding is not None:
            embedded = self.embedding(features[:, self.numeric], members)
            hidden = torch.baddbmm(hidden, embedded, of_embedding, alpha=alpha)
        if self.categories is not None:
            vectors = self.categories(codes)[:, members].transpose(0, 1)  # (M, B, outputs)
            hidden = torch.baddbmm(hidden, vectors, of_categories, alpha=alpha)
        for layer in others:
            hidden = functional.dropout(functional.mish(hidden), self.dropout, self.training)
            hidden = layer(hidden, members)
        return hidden


class TabularEnsemble(TabularModel):
    """An ensemble of multilayer perceptrons, each trained without one fold of the rows.

    A cross-validation ensemble (Krogh and Vedelsby 1995): with `src.tabular.data.FoldedData` each member
    leaves one of K folds out, and each row has members that have not seen it. Their answers choose the best
    epoch, so `validation/...` are out-of-fold metrics over all of these rows, and no row is lost to
    validation. With another data module all members see all training rows. The prediction is the mean of the
    members: of their outputs, or of their probabilities.

    Args:
        preprocessing: what the preparation has learnt; it gives F, O and the transform of the target.
        members: M.
        folds: K; it divides M.
        hidden_sizes: H of each hidden layer.
        dropout: the probability that an activation is set to 0 in training, in [0, 1).
        bins: of the piecewise-linear embedding of numbers; their edges are quantiles of the training rows.
        embedding_size: the outputs of the embedding of each number, beside the number; 0 for none.
        loss: huber or mse of the transformed targets, cross_entropy of classes; bce of two classes, or of
            several targets of classes.
        delta: from which error on `huber` is linear.
        **options: those of `TabularModel` other than `network`.

    Raises:
        ConfigurationError: a value is out of range, or the loss does not fit the target.
    """

    network: EnsembleMLP

    def __init__(
        self,
        preprocessing: Preprocessing,
        members: int = 16,
        folds: int = 8,
        hidden_sizes: list[int] = [64, 64],  # noqa: B006 - the configuration copies it
        dropout: float = 0.25,
        bins: int = 32,
        embedding_size: int = 4,
        loss: Literal["huber", "mse", "cross_entropy", "bce"] = "huber",
        delta: float = 0.3,
        **options: Any,
    ) -> None:
        if folds < 2 or members < folds or members % folds:
            raise ConfigurationError(
                f"model.members: expected a multiple of model.folds, and these at least 2; found {members} "
                f"and {folds}"
            )
        if min(hidden_sizes, default=1) < 1:
            raise ConfigurationError(
                f"model.hidden_sizes: expected layers of at least 1, found {hidden_sizes}"
            )
        if not 0 <= dropout < 1:
            raise ConfigurationError(f"model.dropout must be at least 0 and below 1: {dropout}")
        if bins < 1 or embedding_size < 0 or delta <= 0:
            raise ConfigurationError(
                f"model.bins must be at least 1, embedding_size 0, and delta above 0: {bins}, "
                f"{embedding_size}, {delta}"
            )
        super().__init__(
            preprocessing,
            partial(
                EnsembleMLP,
                members=members,
                numeric=_numeric(preprocessing),
                hidden_sizes=hidden_sizes,
                dropout=dropout,
                bins=bins,
                embedding_size=embedding_size,
                categories=preprocessing.embedded,
            ),
            loss,  # type: ignore[arg-type] # huber is one of this class
            **options,
        )
        self.folds = folds
        self.delta = delta
        limits = torch.finfo(torch.get_default_dtype())
        bounds = torch.tensor([limits.min, limits.max])  # of quantities in the training rows, (2,) or (2, T)
        several = len(self.targets)
        self.range = nn.Buffer(bounds if several == 1 else bounds[:, None].repeat(1, several))

    def built(self, network: NetworkCallable, preprocessing: Preprocessing, outputs: int) -> nn.Module:
        """The network, which has vectors of embedded categories for each member."""
        return network(len(preprocessing.features), outputs)

    def setup(self, stage: str) -> None:
        """Learn the edges of the bins and the range of the target from the rows of the training."""
        if stage == "fit":
            features, target, *_ = self.trainer.datamodule.tensors("train")  # type: ignore[attr-defined]
            self.network.learn(features)
            if self.target.classes is None:
                self.range.copy_(torch.stack(target.aminmax(dim=0)).view_as(self.range))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to outputs (B, O): the transformed target, or logits; of all members together."""
        return self.combined(self.network(features))

    def combined(self, outputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """The prediction (B, O) of several members.

        Args:
            outputs: of all members, (M, B, O).
            chosen: which of them answer, (M, B) of 0 and 1; None for all.
        """
        if chosen is None:
            chosen = outputs.new_ones(outputs.shape[:2])
        shares = (chosen / chosen.sum(dim=0))[:, :, None]  # (M, B, 1)
        if self.target.classes is None:
            return (shares * outputs.clamp(*self.range)).sum(dim=0)
        logarithms = shares.log()
        if self.loss == "bce":
            yes, no = (logarithms + functional.logsigmoid(logits) for logits in (outputs, -outputs))
            return yes.logsumexp(dim=0) - no.logsumexp(dim=0)
        return (logarithms + outputs.log_softmax(dim=2)).logsumexp(dim=0)

    def held_out(self, position: Tensor) -> Tensor:
        """Which members are not trained on which rows, (M, B) of 0 and 1.

        The rows are cut into folds M / K times. Row `i` is in fold `i + r * (i // K)` modulo K of cut `r`, so
        that rows that are in one fold of a cut are in different ones of another.

        Args:
            position: of the rows in a random order, (B,).
        """
        member = torch.arange(self.network.members, device=position.device)[:, None]  # (M, 1)
        fold = position + member // self.folds * (position // self.folds)
        return (fold % self.folds == member % self.folds).to(torch.get_default_dtype())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The sum of the losses of the members, each a mean over the rows that are not left out."""
        features, target, *positions = batch
        outputs = self.network(features)  # (M, B, O)
        trained = 1 - self.held_out(*positions) if positions else outputs.new_ones(outputs.shape[:2])
        self.epoch_outputs.add("train", self.combined(outputs.detach(), trained), target)
        # over the expected number of rows, so that the loss of a batch is a sum over its rows
        share = 1 - 1 / self.folds if positions else 1.0
        losses = self.losses_of(outputs, target) * trained / share  # (M, B)
        loss = mean_over_processes(losses.mean(dim=1).sum(), len(target))
        if self.l1 or self.l2:
            loss = loss + weight_penalty(self.network, self.l1, self.l2)
        return loss

    def losses_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss (M, B) of each member and row, of outputs (M, B, O) and the prepared target."""
        members, rows = outputs.shape[:2]
        if self.target.classes is not None:
            targets = target.repeat(members, *[1] * (target.ndim - 1))
            losses = self._class_losses(outputs.flatten(0, 1), targets, "none")
            if self.class_weights is not None:
                losses = losses * self.class_weights[targets]
            return losses.view(members, rows, -1).mean(dim=2)
        targets = target.expand_as(outputs)
        if self.loss == "huber":
            losses = functional.huber_loss(outputs, targets, reduction="none", delta=self.delta)
        else:
            losses = functional.mse_loss(outputs, targets, reduction="none")
        return losses.mean(dim=2)

    def unseen_outputs(self, features: Tensor, *positions: Tensor) -> Tensor:
        """Outputs (B, O) for validation rows, of the members that were not trained on them.

        Args:
            features: (B, F).
            positions: one tensor (B,), as `FoldedData` has it; none if no member was trained on the rows.
        """
        if not positions:
            return self(features)
        unseen = self.held_out(*positions)
        outputs = features.new_zeros(*unseen.shape, self.network.outputs)  # (M, B, O)
        for member, rows in enumerate(unseen.bool()):  # all members for all rows would take K times as long
            outputs[member, rows] = self.network(features[rows], slice(member, member + 1))[0]
        return self.combined(outputs, unseen)

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of the combined outputs (B, O) and the prepared target."""
        return self.losses_of(outputs[None], target).mean()


def _numeric(preprocessing: Preprocessing) -> list[int]:
    """The positions of the features that are no one-hot codes and no hashed words."""
    numeric = [
        not isinstance(column, CategoricalColumn | TextColumn)
        for column in preprocessing.columns
        for _ in column.feature_names
    ]
    return [position for position, chosen in enumerate(numeric) if chosen]
