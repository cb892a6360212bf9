"""Many small networks for tables, trained at once as one batched network, whose answers are averaged.

M members, K folds, B batch, F features, N numeric features, Q bins, E outputs of an embedding, H hidden
units, O outputs, C classes, T targets
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.tabular.columns import CategoricalColumn, TextColumn
from src.tabular.embeddings import EVERY, CategoryEmbeddings, PeriodicEmbedding, PiecewiseLinearEmbedding
from src.tabular.losses import weight_penalty
from src.tabular.model import NetworkCallable, TabularModel
from src.tabular.preprocessing import Preprocessing
from src.training.distributed import mean_over_processes

NumberEmbedding = Callable[[int, int], PiecewiseLinearEmbedding | PeriodicEmbedding]  # members, columns

LARGEST = 3.0  # what a feature cannot exceed, in units of its scale


def smooth_clip(features: Tensor) -> Tensor:
    """Values of any shape, squeezed between -3 and 3, nearly unchanged around 0.

    One value far off then cannot rule a prediction (Holzmüller et al. 2024, RealMLP).
    """
    return features / (1 + (features / LARGEST).square()).sqrt()


class MemberwiseLinear(nn.Module):
    """M linear layers side by side, in NTK parametrisation (Jacot et al. 2018).

    Weights are drawn from the standard normal distribution, and the product is divided by the square root of
    the number of inputs: one learning rate fits layers of all widths.

    Args:
        members: M.
        inputs: of each layer.
        outputs: of each layer.
        shared: whether the members have one matrix, and each a factor for every input and output (Wen et al.
            2020, "BatchEnsemble"; Gorishniy et al. 2025, "TabM").
    """

    def __init__(self, members: int, inputs: int, outputs: int, shared: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1 if shared else members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))
        self.before = nn.Parameter(torch.ones(members, inputs, 1)) if shared else None
        self.after = nn.Parameter(torch.ones(members, 1, outputs)) if shared else None

    def weight_of(self, members: slice = EVERY) -> Tensor:
        """The weights (M, inputs, outputs) of the chosen members."""
        if self.before is None or self.after is None:
            return self.weight[members]
        return self.before[members] * self.weight * self.after[members]

    def forward(self, inputs: Tensor, members: slice = EVERY) -> Tensor:
        """Map (M, B, inputs) to (M, B, outputs), M of the chosen members."""
        alpha = 1 / math.sqrt(self.weight.shape[1])
        return torch.baddbmm(self.bias[members], inputs, self.weight_of(members), alpha=alpha)


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
        embedding: from M and N to the embedding of numbers; None for none.
        categories: as `CategoryEmbeddings` has them.
        shared: whether all layers but the last have one matrix for all members, and the embeddings are the
            same for all of them. The factors of the inputs begin as random signs, which tell members apart.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        members: int,
        numeric: list[int],
        hidden_sizes: list[int],
        dropout: float,
        embedding: NumberEmbedding | None = None,
        categories: dict[int, int] | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.members, self.outputs, self.dropout = members, outputs, dropout
        self.numeric = numeric  # no buffer, which averaging of weights would round
        self.shared = shared and bool(hidden_sizes)
        copies = 1 if self.shared else members
        self.embedding = embedding(copies, len(numeric)) if numeric and embedding else None
        self.plain = [place for place in range(inputs) if place not in (categories or {})]
        self.categories = CategoryEmbeddings(categories, copies) if categories else None
        of_categories = self.categories.outputs if self.categories else 0
        of_numbers = len(numeric) * self.embedding.size if self.embedding is not None else 0
        self.parts = [len(self.plain), of_numbers, of_categories]  # inputs of the first layer
        sizes = [sum(self.parts), *hidden_sizes, outputs]
        self.scale = nn.Parameter(torch.ones(members, sizes[0], 1))
        pairs = list(pairwise(sizes))
        self.layers = nn.ModuleList(
            MemberwiseLinear(members, *pair, shared and pair is not pairs[-1]) for pair in pairs
        )
        nn.init.zeros_(self.layers[-1].get_parameter("weight"))
        if self.shared:
            signs = 2.0 * torch.randint(2, self.scale.shape) - 1
            self.layers[0].get_parameter("before").data.copy_(signs)

    def learn(self, features: Tensor) -> None:
        """Learn the edges of the bins from the training rows (rows, F)."""
        if self.embedding is not None:
            self.embedding.learn(smooth_clip(features[:, self.numeric]))

    def forward(self, features: Tensor, members: slice = EVERY) -> Tensor:
        """Map features (B, F) to the outputs (M, B, O) of the chosen members."""
        codes, features = features, smooth_clip(features)
        of_embeddings = EVERY if self.shared else members
        layers: list[Any] = [*self.layers]
        first, *others = layers
        # scaling the weights, of which there are fewer, takes less time than scaling the inputs
        weight = first.weight_of(members) * self.scale[members]
        own, of_embedding, of_categories = weight.split(self.parts, dim=1)
        alpha = 1 / math.sqrt(weight.shape[1])
        plain = features if self.categories is None else features[:, self.plain]
        hidden = torch.baddbmm(first.bias[members], plain.expand(len(own), -1, -1), own, alpha=alpha)
        if self.embedding is not None:
            embedded = self.embedding(features[:, self.numeric], of_embeddings).expand(len(own), -1, -1)
            hidden = torch.baddbmm(hidden, embedded, of_embedding, alpha=alpha)
        if self.categories is not None:
            vectors = self.categories(codes)[:, of_embeddings].transpose(0, 1)  # (M, B, outputs)
            hidden = torch.baddbmm(hidden, vectors.expand(len(own), -1, -1), of_categories, alpha=alpha)
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
        embedding: of numbers, piecewise (`PiecewiseLinearEmbedding`) or periodic (`PeriodicEmbedding`).
        bins: of the piecewise-linear embedding; their edges are quantiles of the training rows.
        frequencies: of the periodic embedding.
        frequency_scale: the standard deviation of its frequencies at the start.
        embedding_size: the outputs of the embedding of each number, beside the number; 0 for none.
        weights: own, or shared: TabM's ensemble (Gorishniy et al. 2025, "TabM: Advancing Tabular Deep
            Learning with Parameter-Efficient Ensembling"). The members then have one network but for the
            factors of inputs and outputs, the biases and the last layer, and all learn from all training
            rows: it needs `TabularData`.
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
        embedding: Literal["piecewise", "periodic"] = "piecewise",
        bins: int = 32,
        frequencies: int = 16,
        frequency_scale: float = 0.1,
        embedding_size: int = 4,
        weights: Literal["own", "shared"] = "own",
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
        if min(bins, frequencies) < 1 or embedding_size < 0 or min(delta, frequency_scale) <= 0:
            raise ConfigurationError(
                "model.bins and frequencies must be at least 1, embedding_size 0, delta and frequency_scale "
                f"above 0: {bins}, {frequencies}, {embedding_size}, {delta}, {frequency_scale}"
            )
        periodic = partial(PeriodicEmbedding, frequencies=frequencies, deviation=frequency_scale)
        of_numbers = partial(PiecewiseLinearEmbedding, bins=bins) if embedding == "piecewise" else periodic
        super().__init__(
            preprocessing,
            partial(
                EnsembleMLP,
                members=members,
                numeric=_numeric(preprocessing),
                hidden_sizes=hidden_sizes,
                dropout=dropout,
                embedding=partial(of_numbers, size=embedding_size) if embedding_size else None,
                categories=preprocessing.embedded,
                shared=weights == "shared",
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
        """Learn the edges of the bins and the range of the target from the rows of the training.

        Raises:
            ConfigurationError: members with shared weights are to be validated on rows of the training.
        """
        if stage == "fit":
            features, target, *positions = self.trainer.datamodule.tensors("train")  # type: ignore[attr-defined]
            if positions and self.network.shared:
                raise ConfigurationError(
                    "model.weights: shared weights learn from all folds, so out-of-fold metrics would be too "
                    "good; use data: src.tabular.data.TabularData"
                )
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
        features, order, weight = self.mixed(features)
        outputs = self.network(features)  # (M, B, O)
        trained = 1 - self.held_out(*positions) if positions else outputs.new_ones(outputs.shape[:2])
        self.epoch_outputs.add("train", self.combined(outputs.detach(), trained), target)
        # over the expected number of rows, so that the loss of a batch is a sum over its rows
        share = 1 - 1 / self.folds if positions else 1.0
        losses = self.losses_of(outputs, target)  # (M, B)
        if order is not None:  # a member learns from rows of which both are its own
            losses = weight * losses + (1 - weight) * self.losses_of(outputs, target[order])
            trained, share = trained * trained[:, order], share**2
        losses = losses * trained / share
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
            found = self.network(features[rows], slice(member, member + 1))[0]
            outputs[member, rows] = found.to(outputs.dtype)  # of 16 bits in mixed precision
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
