"""The LightningModules of texts: language models and word vectors.

B batch, T tokens, V vocabulary, W context words, E embedding
"""

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeFloat
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.networks import NetworkCallable
from src.text.preprocessing import PAD, SPECIAL, UNK, Preprocessing
from src.training.distributed import mean_over_processes
from src.training.epoch_outputs import EpochOutputs
from src.training.optimizers import ParameterGroups, optimizer_and_schedule
from src.training.overhead import log_epoch

Batch = tuple[Tensor, ...]


def nats_per_token(nats: Tensor, sizes: Tensor) -> Tensor:
    """Return the mean over all tokens of nats (B,) for sizes (B, 2): tokens and characters."""
    return nats.sum() / sizes[:, 0].sum()


def divergence(logits: Tensor, present: Tensor) -> Tensor:
    """Return how far two predictions of the same tokens are apart, in nats per token.

    It is the mean of the Kullback-Leibler divergences in both directions. R-Drop (Liang et al. 2021,
    https://arxiv.org/abs/2106.14448) makes networks that dropout draws agree by it.

    Args:
        logits: (2B, T, V), the first prediction of B documents and then the second one.
        present: (2B, T), which tokens count.
    """
    first, second = logits.log_softmax(dim=-1).chunk(2)
    apart = ((first.exp() - second.exp()) * (first - second)).sum(dim=-1)  # (B, T)
    counted = present.chunk(2)[0]
    return apart.masked_fill(~counted, 0).sum() / (2 * counted.sum().clamp(min=1))


class TokenModel(LightningModule):
    """Predict tokens from tokens; the loss is the negative log-likelihood of a token in nats.

    For the metrics of an epoch, three numbers a document are kept instead of its logits: the negative
    log-likelihood of its tokens (`nats`), and the numbers of tokens and characters (`sizes`).

    Args:
        preprocessing: of the data; gives the vocabulary.
        network: a class of src.text.networks, or one with the same call.
        unknown_share: the share of the tokens occurring only once that training replaces by `<UNK>`, so that
            the network learns to read it.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the scheduler steps.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).
        r_drop: above 0, training computes each document twice, with other dropout, and adds this number times
            the divergence of both predictions to the loss (`divergence`); it takes about twice the time.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: NetworkCallable,
        unknown_share: float = 0.5,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        parameter_groups: ParameterGroups | None = None,
        r_drop: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.parameter_groups = parameter_groups
        self.epoch_outputs = EpochOutputs()
        if not 0 <= unknown_share <= 1:
            raise ConfigurationError(f"model.unknown_share must lie between 0 and 1: {unknown_share}")
        self.unknown_share = unknown_share
        self.r_drop = r_drop
        self.vocabulary = preprocessing.vocabulary
        counts = torch.tensor(preprocessing.counts)
        characters = torch.tensor([0 if token in SPECIAL else len(token) for token in self.vocabulary])
        characters[UNK] = 1
        # not persistent, as a bundle has them in preprocessing.json
        self.rare = nn.Buffer((counts == 1) & (characters > 0), persistent=False)
        self.characters = nn.Buffer(characters, persistent=False)
        built: Any = network(len(self.vocabulary))
        with torch.no_grad():  # training starts from the best prediction that ignores the input
            built.output.bias.copy_(counts.clamp(min=1).div(counts.sum()).log())
        self.network: nn.Module = built
        self.example_input_array = torch.full((2, 8), UNK)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits, as the network."""
        logits: Tensor = self.network(tokens)
        return logits

    @abstractmethod
    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Split a batch (B, T) into the input of the network and the tokens to predict."""

    def negative_log_likelihood(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return nats (B,) of a batch (B, T), and its numbers of predicted tokens and characters (B, 2)."""
        inputs, target = self.split(tokens)
        return self._nats(self(inputs), target)

    def _nats(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same from logits, (B, V) of a word or (B, T, V) of a document, and the predicted tokens."""
        nats = functional.cross_entropy(
            logits.flatten(0, -2), target.flatten(), ignore_index=PAD, reduction="none"
        )
        sizes = torch.stack([(target != PAD).long(), self.characters[target]], dim=-1)
        return nats.view_as(target).sum(dim=1), sizes.sum(dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss over the tokens of a batch; of several processes, each has a part of it."""
        tokens = batch[0].long()
        if self.r_drop:
            tokens = tokens.repeat(2, 1)
        if self.unknown_share:
            drawn = torch.rand(tokens.shape, device=tokens.device) < self.unknown_share
            tokens = tokens.masked_fill(self.rare[tokens] & drawn, UNK)
        inputs, target = self.split(tokens)
        logits = self(inputs)
        nats, sizes = self._nats(logits, target)
        self.epoch_outputs.add("train", nats, sizes)
        loss = nats_per_token(nats, sizes)
        if self.r_drop:
            loss = loss + self.r_drop * divergence(logits.view(*target.shape, -1), target != PAD)
        return mean_over_processes(loss, sizes[:, 0].sum())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep nats and sizes of a batch."""
        self.epoch_outputs.add("validation", *self.negative_log_likelihood(batch[0].long()))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep nats and sizes of a batch."""
        self.epoch_outputs.add("test", *self.negative_log_likelihood(batch[0].long()))

    def on_train_epoch_end(self) -> None:
        """Log the training loss, with the network as it was at each step."""
        log_epoch(self, "train", {"loss": nats_per_token(*self.epoch_outputs.take("train"))})

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        self._log_metrics("validation")

    def on_test_epoch_end(self) -> None:
        """Log the test loss and metrics."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        nats, sizes = self.epoch_outputs.take(stage)
        log_epoch(self, stage, {"loss": nats_per_token(nats, sizes), **self.metrics_of(nats, sizes)})

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of the configuration."""
        return optimizer_and_schedule(
            self, self.optimizer, self.lr_scheduler, self.lr_interval, self.parameter_groups
        )

    @abstractmethod
    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return metrics by name, of nats (B,) for sizes (B, 2): tokens and characters."""

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Return the metrics of a prediction by token frequencies with add-one smoothing.

        Args:
            train: tokens (B,) of the training documents.
            test: tokens (B,) of the test documents.
        """
        counts = train.bincount(minlength=len(self.vocabulary)) + 1
        nats = -counts.div(counts.sum()).log()[test]
        sizes = torch.stack([torch.ones_like(test), self.characters.to(test.device)[test]], dim=1)
        metrics = {"loss": nats_per_token(nats, sizes), **self.metrics_of(nats, sizes)}
        return {name: float(value) for name, value in metrics.items()}


class WordVectors(TokenModel):
    """Predict a word from the words around it; batches are (B, W + 1) with the word in the middle."""

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words around (B, W), and the word (B, 1)."""
        middle = tokens.shape[1] // 2
        return torch.cat([tokens[:, :middle], tokens[:, middle + 1 :]], dim=1), tokens[:, middle, None]

    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the perplexity."""
        return {"perplexity": nats_per_token(nats, sizes).exp()}

    @property
    def vectors(self) -> Tensor:
        """The vectors (V, E) of the vocabulary."""
        network: Any = self.network
        vectors: Tensor = network.embedding.weight.detach()
        return vectors


class LanguageModel(TokenModel):
    """Predict each token of a document from those before it; batches are (B, T), padded at the end."""

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return all tokens but the last (B, T - 1), and the next token of each (B, T - 1)."""
        return tokens[:, :-1], tokens[:, 1:]

    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the perplexity of a token, and bits a character; `<EOS>` adds bits but no character."""
        bits = nats.sum() / math.log(2) / sizes[:, 1].sum()
        return {"perplexity": nats_per_token(nats, sizes).exp(), "bits_per_character": bits}
