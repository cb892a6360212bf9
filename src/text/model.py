"""Batches -> loss and metrics: the LightningModules of the text room, and poems.

B batch, T tokens, V vocabulary, W context words
"""

import copy
import logging
import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from src.shared.errors import ConfigurationError
from src.shared.exactness import derived_seed
from src.shared.supervised import SupervisedModel
from src.text.networks import NetworkCallable
from src.text.preprocessing import BOS, PAD, RHYME, SPECIAL, UNK, Composition, Slot

logger = logging.getLogger(__name__)

RARE = 1


class TokenModel(SupervisedModel):
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
        super().__init__(optimizer, lr_scheduler, lr_interval)
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
        logits = self(inputs)
        nats = functional.cross_entropy(
            logits.flatten(0, -2), target.flatten(), ignore_index=PAD, reduction="none"
        )
        sizes = torch.stack([(target != PAD).long(), self.characters[target]], dim=-1)
        return nats.view(len(tokens), -1).sum(dim=1), sizes.view(len(tokens), -1, 2).sum(dim=1)

    def _step(self, batch: tuple[Tensor, ...], stage: str) -> tuple[Tensor, Tensor]:
        tokens = batch[0].long()
        if stage == "train" and self.unknown_share:
            drawn = torch.rand(tokens.shape, device=tokens.device) < self.unknown_share
            tokens = tokens.masked_fill(self.rare[tokens] & drawn, UNK)
        nats, sizes = self.surprise(tokens)
        self.seen.setdefault(stage, []).append((nats.detach(), sizes))
        return nats, sizes

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Nats a token.

        Args:
            outputs: nats (B,).
            target: tokens and characters (B, 2).
        """
        return outputs.sum() / target[:, 0].sum()

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
        metrics = {"loss": self.loss_of(nats, sizes), **self.metrics_of(nats, sizes)}
        return {name: float(value) for name, value in metrics.items()}


class WordVectors(TokenModel):
    """Word vectors by the words around a word; batches are (B, W + 1) with the word in the middle."""

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The words around (B, W), and the word (B,)."""
        middle = tokens.shape[1] // 2
        return torch.cat([tokens[:, :middle], tokens[:, middle + 1 :]], dim=1), tokens[:, middle]

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The perplexity."""
        return {"perplexity": self.loss_of(outputs, target).exp()}

    @property
    def vectors(self) -> Tensor:
        """(V, E), one row a word."""
        network: Any = self.network
        vectors: Tensor = network.embedding.weight.detach()
        return vectors

    def predict_step(self, batch: tuple[Tensor, int], batch_idx: int) -> list[tuple[Tensor, Tensor]]:
        """Words (B,) and how many neighbours N are wanted to cosines (N,) and numbers (N,) of each."""
        words, count = batch
        return list(zip(*nearest(self.vectors, words.to(self.device), count), strict=True))


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

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Perplexity a token, and bits a character; the end of a document costs, but is no character."""
        bits = outputs.sum() / math.log(2) / target[:, 1].sum()
        return {"perplexity": self.loss_of(outputs, target).exp(), "bits_per_character": bits}

    def predict_step(self, batch: tuple[list[Slot], Composition, range], batch_idx: int) -> Tensor:
        """The poems of a request, as `compose`."""
        return self.compose(*batch)

    @torch.inference_mode()
    def compose(self, slots: list[Slot], composition: Composition, poems: range) -> Tensor:
        """Poems of one form, all at once.

        On the CPU, whatever has trained: characters come one after the other, and a seed means the same
        poems on every device. Each choice compares one number drawn from (seed, poem, place) with sums of
        probabilities, so what processors and batch sizes round differently decides one in a million.

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
        writable, rhymes = self.writable.cpu(), self.rhymes.cpu()
        bias = network.output.bias.masked_fill(~writable, -math.inf)
        draws = torch.stack([_draws(composition.seed, poem, len(slots)) for poem in poems])  # (B, T)
        count = len(poems)
        rhyme: Tensor | None = None
        used = torch.zeros(count, len(writable), dtype=torch.bool)
        last, state = torch.full((count, 1), BOS), None
        written = []
        for place, slot in enumerate(slots):
            hidden, state = network.hidden(last, state)
            if slot.number >= 0:
                last = torch.full((count, 1), slot.number)
            else:
                logits = functional.linear(hidden[:, -1], network.output.weight, bias)  # (B, V)
                if slot.number == RHYME:
                    allowed = _rhyming(rhymes, writable, rhyme, composition.lines) & ~used
                    logits.masked_fill_(~allowed, -math.inf)
                last = sample(logits, draws[:, place], composition)[:, None]
                if slot.number == RHYME:
                    rhyme = rhymes[last]  # (B, 1)
                    used.scatter_(1, last, True)
            written.append(last)
        return torch.cat(written, dim=1)


def _draws(seed: int, poem: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, poem))
    return torch.rand(count, generator=generator)


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


def sample(logits: Tensor, draws: Tensor, composition: Composition) -> Tensor:
    """Choose a token of each row by top-k, temperature and top-p (Holtzman et al. 2020), in this order.

    Args:
        logits: (B, V); minus infinity is never chosen.
        draws: (B,) from 0 to 1, each decides its row.
        composition: gives `top_k`, `temperature` and `top_p`.

    Returns:
        Token numbers (B,).
    """
    if composition.temperature == 0:
        return logits.argmax(dim=1)
    sizes = logits.shape[1]
    ranked = None
    if composition.top_k or composition.top_p < 1:
        logits, ranked = logits.topk(min(composition.top_k or sizes, sizes))  # falling
    probabilities = (logits / composition.temperature).softmax(dim=1)
    reached = probabilities.cumsum(dim=1)
    if composition.top_p < 1:
        reached = (probabilities * (reached - probabilities < composition.top_p)).cumsum(dim=1)
    chosen = torch.searchsorted(reached, draws[:, None] * reached[:, -1:], right=True)
    return chosen[:, 0] if ranked is None else ranked.gather(1, chosen)[:, 0]


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
