"""Batches -> loss and metrics: the LightningModules of the text room, and poems.

B batch, T tokens, V vocabulary, W context words
"""

import copy
import logging
import math
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.networks import NetworkCallable
from src.text.preprocessing import BOS, PAD, RHYME, SPECIAL, UNK, Composition, Slot
from src.training.distributed import mean_over_processes
from src.training.epoch_outputs import EpochOutputs
from src.training.exactness import derived_seed
from src.training.optimizers import optimizer_and_schedule
from src.training.overhead import log_epoch

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, ...]

RARE = 1
# some times what rounding to 32 bits moves the edges between the choices by: 2.4e-6 at most when measured
MARGIN = 1e-5
BLOCK = 64
WORTH_ALL_CORES = 16


def nats_per_token(nats: Tensor, sizes: Tensor) -> Tensor:
    """The mean over tokens, of nats (B,) for tokens and characters (B, 2)."""
    return nats.sum() / sizes[:, 0].sum()


class TokenModel(LightningModule):
    """What predicts tokens from tokens; it is judged by the probability that it gives to the right ones.

    An epoch keeps two numbers a document, not its logits: the surprise (negative log-likelihood in nats)
    of its tokens, and how many tokens and characters these are.

    Args:
        preprocessing: the content of preprocessing.json; it gives the vocabulary.
        network: of src.text.networks.
        unknown_share: in training, so many of the tokens that occur only once are replaced by `<UNK>`, so
            that the network knows what to make of it.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", whether the schedule moves each epoch or each step.
    """

    def __init__(
        self,
        preprocessing: dict[str, Any],
        network: NetworkCallable,
        unknown_share: float = 0.5,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.epoch_outputs = EpochOutputs()
        if not 0 <= unknown_share <= 1:
            raise ConfigurationError(f"model.unknown_share must lie between 0 and 1: {unknown_share}")
        self.unknown_share = unknown_share
        self.vocabulary: list[str] = preprocessing["vocabulary"]
        counts = torch.tensor(preprocessing["counts"])
        characters = [0 if token in SPECIAL else len(token) for token in self.vocabulary]
        characters[UNK] = 1
        # not persistent: preprocessing.json lies beside the weights
        self.rare = nn.Buffer((counts == RARE) & (torch.tensor(characters) > 0), persistent=False)
        self.characters = nn.Buffer(torch.tensor(characters), persistent=False)
        built: Any = network(len(self.vocabulary))
        with torch.no_grad():  # the best answer that looks at nothing is where training starts
            built.output.bias.copy_(counts.clamp(min=1).div(counts.sum()).log())
        self.network: nn.Module = built
        self.example_input_array = torch.full((2, 8), UNK)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits, as the network."""
        logits: Tensor = self.network(tokens)
        return logits

    @abstractmethod
    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """A batch (B, T) as what the network sees and what it has to predict."""

    def surprise(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Nats (B,) of a batch (B, T), and how many tokens and characters they are for (B, 2)."""
        inputs, target = self.split(tokens)
        logits = self(inputs)  # (B, V) of a word, (B, T, V) of a document
        nats = functional.cross_entropy(
            logits.flatten(0, -2), target.flatten(), ignore_index=PAD, reduction="none"
        )
        sizes = torch.stack([(target != PAD).long(), self.characters[target]], dim=-1)
        return nats.view_as(target).sum(dim=1), sizes.sum(dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Nats a token of a batch, or of the part that this process has of it."""
        tokens = batch[0].long()
        if self.unknown_share:
            drawn = torch.rand(tokens.shape, device=tokens.device) < self.unknown_share
            tokens = tokens.masked_fill(self.rare[tokens] & drawn, UNK)
        nats, sizes = self.surprise(tokens)
        self.epoch_outputs.add("train", nats, sizes)
        return mean_over_processes(nats_per_token(nats, sizes), sizes[:, 0].sum())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the surprise of each document."""
        self.epoch_outputs.add("validation", *self.surprise(batch[0].long()))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the surprise of each document."""
        self.epoch_outputs.add("test", *self.surprise(batch[0].long()))

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
        return optimizer_and_schedule(self, self.optimizer, self.lr_scheduler, self.lr_interval)

    @abstractmethod
    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Metrics by name, of nats (B,) for tokens and characters (B, 2)."""

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Logarithms (1, V) of the shares of the tokens (B,), each of which occurs once more."""
        counts = target.bincount(minlength=len(self.vocabulary)) + 1
        return counts.div(counts.sum()).log()[None]

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Metrics of an answer that looks at no token.

        Args:
            train: tokens (B,) of training.
            test: tokens (B,) of the test.
        """
        nats = -self.trivial_outputs(train)[0, test]
        sizes = torch.stack([torch.ones_like(test), self.characters.to(test.device)[test]], dim=1)
        metrics = {"loss": nats_per_token(nats, sizes), **self.metrics_of(nats, sizes)}
        return {name: float(value) for name, value in metrics.items()}


class WordVectors(TokenModel):
    """Word vectors by the words around a word; batches are (B, W + 1) with the word in the middle."""

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The words around (B, W), and the word (B, 1)."""
        middle = tokens.shape[1] // 2
        return torch.cat([tokens[:, :middle], tokens[:, middle + 1 :]], dim=1), tokens[:, middle, None]

    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """The perplexity."""
        return {"perplexity": nats_per_token(nats, sizes).exp()}

    @property
    def vectors(self) -> Tensor:
        """(V, E), one row a word."""
        network: Any = self.network
        vectors: Tensor = network.embedding.weight.detach()
        return vectors


class LanguageModel(TokenModel):
    """A document token by token; batches are (B, T), padded at the end."""

    def __init__(
        self,
        preprocessing: dict[str, Any],
        network: NetworkCallable,
        unknown_share: float = 0.5,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(preprocessing, network, unknown_share, optimizer, lr_scheduler, lr_interval)
        rhymes = preprocessing.get("rhymes") or [None] * len(self.vocabulary)
        self.rhymes = nn.Buffer(
            torch.tensor([-1 if rhyme is None else rhyme for rhyme in rhymes]), persistent=False
        )
        writable = [len(token) == 1 and token.isalpha() for token in self.vocabulary]
        self.writable = nn.Buffer(torch.tensor(writable), persistent=False)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens but the last (B, T - 1), and the one after each (B, T - 1)."""
        return tokens[:, :-1], tokens[:, 1:]

    def metrics_of(self, nats: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Perplexity a token, and bits a character; the end of a document costs, but is no character."""
        bits = nats.sum() / math.log(2) / sizes[:, 1].sum()
        return {"perplexity": nats_per_token(nats, sizes).exp(), "bits_per_character": bits}

    @torch.inference_mode()
    def compose(self, slots: list[Slot], composition: Composition, poems: range) -> Tensor:
        """Poems of one form, all at once.

        Each choice compares a number drawn from (seed, poem, place) with sums of probabilities. Where the
        two are so close that rounding might decide, 64-bit arithmetic does: a seed means the same poems
        whatever the processor, the number of threads and the company. It is done on the CPU, whatever has
        trained: characters come one after the other.

        Args:
            slots: the T places of a poem.
            composition: what is wanted.
            poems: their numbers; each has random numbers of its own.

        Returns:
            Token numbers (B, T).

        Raises:
            ConfigurationError: the vocabulary has no rhyme with enough characters.
        """
        network: Any = copy.deepcopy(self.network).cpu().eval()
        exact: Any = copy.deepcopy(network).double()
        writable, rhymes = self.writable.cpu(), self.rhymes.cpu()
        temperature = composition.temperature or 1.0
        bias = network.output.bias.masked_fill(~writable, -math.inf) / temperature
        draws = torch.stack([_draws(composition.seed, poem, len(slots)) for poem in poems])  # (B, T, 2)
        rhyme: Tensor | None = None
        used = torch.zeros(len(poems), len(writable), dtype=torch.bool)
        written, state = torch.full((len(poems), 1), BOS), None
        with _all_cores(len(poems)):
            for place, slot in enumerate(slots):
                hidden, state = network.hidden(written[:, -1:], state)
                if slot.number >= 0:
                    chosen = torch.full((len(poems),), slot.number)
                else:
                    last = hidden[:, -1] / temperature
                    logits = functional.linear(last, network.output.weight, bias)  # (B, V)
                    if slot.number == RHYME:
                        allowed = _rhyming(rhymes, writable, rhyme, composition.lines) & ~used
                        logits.masked_fill_(~allowed, -math.inf)
                    chosen, sure = sample(logits, draws[:, place], composition)
                    if not sure.all():
                        again = exact.output(exact.hidden(written[~sure])[0][:, -1]).div_(temperature)
                        again.masked_fill_(logits[~sure].isneginf(), -math.inf)
                        chosen[~sure] = sample(again, draws[~sure, place], composition)[0]
                    if slot.number == RHYME:
                        rhyme = rhymes[chosen][:, None]
                        used.scatter_(1, chosen[:, None], True)
                written = torch.cat([written, chosen[:, None]], dim=1)
        return written[:, 1:]


@contextmanager
def _all_cores(poems: int) -> Iterator[None]:
    """All processor cores where they help; the number of threads does not change a poem."""
    threads = torch.get_num_threads()
    if poems >= WORTH_ALL_CORES:
        torch.set_num_threads(os.cpu_count() or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _draws(seed: int, poem: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, poem))
    return torch.rand(count, 2, generator=generator, dtype=torch.float64)


def _rhyming(rhymes: Tensor, writable: Tensor, rhyme: Tensor | None, lines: int) -> Tensor:
    """What may end a line: the first line's rhyme (B, V), or any with enough characters (V,)."""
    rhymed = writable & (rhymes >= 0)
    if rhyme is not None:
        return rhymed & (rhymes == rhyme)
    sizes = rhymes[rhymed].bincount(minlength=1)
    lasting = rhymed & (sizes[rhymes.clamp(min=0)] >= lines)
    if not lasting.any():
        raise ConfigurationError(
            f"compose.rhyme: no rhyme of the vocabulary has {lines} characters; it needs prepare.rhymes: true"
        )
    return lasting


def sample(logits: Tensor, draws: Tensor, composition: Composition) -> tuple[Tensor, Tensor]:
    """Choose a token of each row by top-k and then top-p (Holtzman et al. 2020).

    Args:
        logits: (B, V), divided by the temperature; minus infinity is never chosen.
        draws: (B, 2) from 0 to 1, which decide.
        composition: gives `top_k` and `top_p`; a `temperature` of 0 is a `top_k` of 1.

    Returns:
        Token numbers (B,), and whether logits that differ by rounding would give the same ones (B,).
    """
    sure = torch.ones(len(logits), dtype=torch.bool)
    top_k = 1 if composition.temperature == 0 else composition.top_k
    if top_k or composition.top_p < 1:
        lowest, sure = _lowest_kept(logits, min(top_k or logits.shape[1], logits.shape[1]), composition.top_p)
        logits = logits.masked_fill(logits < lowest, -math.inf)
    weights = (logits - logits.amax(dim=1, keepdim=True)).exp_()
    # first a block, then a token in it: sums stay short, so that few choices are close
    blocks = functional.pad(weights, (0, -weights.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    block, block_sure = _where_it_falls(blocks.sum(dim=2), draws[:, 0])
    place, place_sure = _where_it_falls(blocks[torch.arange(len(blocks)), block], draws[:, 1])
    return block * BLOCK + place, sure & block_sure & place_sure


def _lowest_kept(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """The lowest logit (B, 1) that top-k and top-p keep, and whether the next one is clearly lower (B,)."""
    values = logits.topk(min(top_k + 1, logits.shape[1])).values  # falling
    weights = (values[:, :top_k] - values[:, :1]).exp_()
    reached = weights.cumsum(dim=1)
    before, edge = reached - weights, top_p * reached[:, -1:]
    kept = (before < edge).sum(dim=1, keepdim=True)
    lowest = values.gather(1, kept - 1)
    following = values.gather(1, kept.clamp(max=values.shape[1] - 1))
    # of logits that are minus infinity both, nothing is to choose
    sure = ~(lowest - following <= MARGIN) | (kept == values.shape[1])
    if top_p < 1:
        sure &= ((before - edge).abs() > MARGIN * reached[:, -1:]).all(dim=1, keepdim=True)
    return lowest, sure[:, 0]


def _where_it_falls(weights: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each draw (B,) on a line of weights (B, N), and whether it is far from the next."""
    reached = weights.cumsum(dim=1)
    total = reached[:, -1:]
    wanted = draws[:, None].to(weights.dtype) * total
    found = torch.searchsorted(reached, wanted, right=True).clamp(max=weights.shape[1] - 1)
    above = reached.gather(1, found)
    below = above - weights.gather(1, found)
    far = torch.minimum(above - wanted, wanted - below) > MARGIN * total
    return found[:, 0], far[:, 0]


def nearest(vectors: Tensor, words: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The words with the largest cosine to each word, itself and the special tokens left out.

    Args:
        vectors: (V, E).
        words: token numbers (B,).
        count: N.

    Returns:
        Cosines (B, N), falling, and token numbers (B, N).
    """
    directions = functional.normalize(vectors, dim=1)
    cosines = directions[words] @ directions.T  # (B, V)
    cosines[:, : len(SPECIAL)] = -math.inf
    cosines.scatter_(1, words[:, None], -math.inf)
    found = cosines.topk(min(count, len(vectors) - len(SPECIAL) - 1))
    return found.values, found.indices
