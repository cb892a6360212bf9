"""Write poems with a language model.

B poems, T tokens, V vocabulary
"""

import copy
import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.text.model import LanguageModel
from src.text.preprocessing import BOS, INVISIBLE, Preprocessing, TextEncoder
from src.text.tones import WITHOUT_FIRST_RHYME, fits, pattern
from src.training.seeding import derived_seed

POEMS_AT_ONCE = 256
# a multiple of the shift of a boundary between two choices by 32-bit rounding, measured as at most 2.4e-6
MARGIN = 1e-5
BLOCK = 64
POEMS_FOR_ALL_CORES = 16


@dataclass(frozen=True)
class Composition:
    """A request for poems: the keys below `--data.compose`. A line is a couplet of two verses.

    Args:
        start: the first character; null lets the model choose.
        acrostic: the first characters, one a line or one a verse (藏头诗).
        acrostic_of: "line" or "verse", what each character of the acrostic begins.
        lines: of a poem; 2 are a quatrain, 4 an octave.
        length: of a verse in characters, 5 (五言) or 7 (七言).
        rhyme: all lines end in the same rhyme, with different characters.
        tones: level and oblique tones follow a pattern of regulated verse (近体诗) and rhymes are level;
            each poem draws one of the two patterns whose first verse does not rhyme.
        count: the number of poems.
        temperature: below 1, likely characters become more likely; 0 always takes the most likely one.
        top_k: sample from the k most likely characters; 0 samples from all.
        top_p: sample from the most likely characters whose probabilities sum to p.
        seed: of the sampling; poem i of a seed does not depend on the number of poems.
    """

    start: str | None = None
    acrostic: str | None = None
    acrostic_of: Literal["line", "verse"] = "line"
    lines: int = 2
    length: Literal[5, 7] = 5
    rhyme: bool = False
    tones: bool = False
    count: int = 1
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.default is not None and getattr(self, each.name) is None:
                raise ConfigurationError(f"compose.{each.name}: found null, expected a value")
        for name, least in (("lines", 1), ("count", 1), ("temperature", 0), ("top_k", 0), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"compose.{name} must be at least {least}: {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"compose.top_p must be above 0 and at most 1: {self.top_p}")
        for name in ("start", "acrostic"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, INVISIBLE.sub("", text).strip())
        if self.start is not None and len(self.start) != 1:
            raise ConfigurationError(
                f"compose.start must be one character, found {len(self.start)}: {self.start}; "
                "compose.acrostic takes several"
            )
        if self.start and self.acrostic:
            raise ConfigurationError("compose: start or acrostic, not both")
        places = self.lines * (2 if self.acrostic_of == "verse" else 1)
        if self.acrostic is not None and not 0 < len(self.acrostic) <= places:
            raise ConfigurationError(
                f"compose.acrostic has {len(self.acrostic)} characters, the poem {places} "
                f"{self.acrostic_of}s; see compose.lines and compose.acrostic_of"
            )


def as_prepared(composition: Composition, preprocessing: Preprocessing) -> Composition:
    """Return a request with `start` and `acrostic` converted and cleaned as the training data were.

    Raises:
        ConfigurationError: cleaning has left nothing, or too much, of one of them.
    """
    encoder = TextEncoder(preprocessing)

    def cleaned(name: str, text: str | None) -> str | None:
        found = encoder.clean(text) if text else text
        if text and not found:
            raise ConfigurationError(f"compose.{name}: cleaning (prepare.replace) leaves nothing of: {text}")
        return found

    start, acrostic = cleaned("start", composition.start), cleaned("acrostic", composition.acrostic)
    return replace(composition, start=start, acrostic=acrostic)


class Slot(NamedTuple):
    """A place in a poem.

    Args:
        number: of its token, or FREE or RHYME if the model chooses it.
        text: what is written there; empty if the model chooses it.
    """

    number: int
    text: str = ""


FREE, RHYME = -1, -2
PLACES = "中平仄"  # of a pattern: free, level, oblique


def slots_of(composition: Composition, encoder: TextEncoder) -> list[Slot]:
    """Return the places of a poem; they fix its length and punctuation, which no model can change."""
    if composition.acrostic_of == "line" or composition.acrostic is None:
        heads = {2 * line: head for line, head in enumerate(composition.acrostic or composition.start or "")}
    else:
        heads = dict(enumerate(composition.acrostic))
    slots: list[Slot] = []
    for verse in range(2 * composition.lines):
        places = [Slot(FREE)] * composition.length
        if composition.rhyme and verse % 2:
            places[-1] = Slot(RHYME)
        if verse in heads:
            places[0] = Slot(encoder.encode([heads[verse]])[0], heads[verse])
        mark = "。" if verse % 2 else "，"
        slots += [*places, Slot(encoder.encode([mark])[0], mark)]
    return slots


def compose_poems(
    model: LanguageModel, preprocessing: Preprocessing, composition: Composition
) -> Iterator[str]:
    """Write the poems of a request; given characters outside the vocabulary appear as they were given.

    Raises:
        ConfigurationError: as `compose`.
    """
    encoder = TextEncoder(preprocessing)
    slots = slots_of(composition, encoder)
    numbers = range(composition.count)
    for first in numbers[::POEMS_AT_ONCE]:
        poems = numbers[first : first + POEMS_AT_ONCE]
        for row in compose(model, preprocessing, slots, composition, poems).tolist():
            pairs = zip(row, slots, strict=True)
            yield "".join(slot.text or encoder.decode([number]) for number, slot in pairs)


@torch.inference_mode()
def compose(
    model: LanguageModel,
    preprocessing: Preprocessing,
    slots: list[Slot],
    composition: Composition,
    poems: range,
) -> Tensor:
    """Write poems of one form in a batch.

    A character is chosen by comparing a random number, drawn from (seed, poem, place), with cumulative
    probabilities. Where the two are so close that rounding might decide, the comparison is repeated in 64
    bits. A seed therefore gives the same poems on every processor, with any number of threads and in any
    batch. The poems are computed on the CPU, as one character follows the other.

    Args:
        model: trained.
        preprocessing: of the model.
        slots: the T places of a poem.
        composition: the request.
        poems: their numbers; each poem has its own random numbers.

    Returns:
        Token numbers (B, T).

    Raises:
        ConfigurationError: the vocabulary has no rhyme with enough characters.
    """
    network: Any = copy.deepcopy(model.network).cpu().eval()
    exact: Any = copy.deepcopy(network).double()
    writable = torch.tensor([len(token) == 1 and token.isalpha() for token in preprocessing.vocabulary])
    known_rhymes = preprocessing.rhymes or [None] * len(writable)
    rhymes = torch.tensor([-1 if rhyme is None else rhyme for rhyme in known_rhymes])
    temperature = composition.temperature or 1.0
    bias = network.output.bias.masked_fill(~writable, -math.inf) / temperature
    draws = torch.stack([_draws(composition.seed, poem, len(slots)) for poem in poems])  # (B, T, 2)
    tones = Tones(preprocessing, slots, composition, poems) if composition.tones else None
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
                if tones is not None:
                    logits.masked_fill_(~tones.allowed(place), -math.inf)
                if slot.number == RHYME:
                    ends = writable if tones is None else writable & tones.level
                    allowed = _rhyming(rhymes, ends, rhyme, composition.lines) & ~used
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


class Tones:
    """The tokens that the patterns of regulated verse allow at each place of some poems.

    Args:
        preprocessing: of the model.
        slots: the T places of a poem.
        composition: the request.
        poems: their numbers; each draws a pattern of its own, among those that given characters fit.

    Raises:
        ConfigurationError: the tones were not prepared, or the given characters fit no pattern.
    """

    def __init__(
        self, preprocessing: Preprocessing, slots: list[Slot], composition: Composition, poems: range
    ) -> None:
        if preprocessing.tones is None:
            raise ConfigurationError("compose.tones: the model knows no tones; it needs prepare.tones: true")
        known = preprocessing.tones
        fitting = torch.tensor([[fits(tone, wanted) for tone in known] for wanted in PLACES])  # (3, V)
        self.level = fitting[PLACES.index("平")]  # (V,)
        given = [slot.number for slot in slots]
        patterns = []
        for opening in range(WITHOUT_FIRST_RHYME):
            wanted = _with_marks(pattern(opening, composition.lines, composition.length), composition.length)
            numbers = [PLACES.index(place) for place in wanted]
            pairs = zip(numbers, given, strict=True)
            if all(number < 0 or fitting[place, number] for place, number in pairs):
                patterns.append(numbers)
        if not patterns:
            raise ConfigurationError(
                "compose.tones: the given characters fit no pattern of regulated verse; give others, or "
                "compose.tones: false"
            )
        drawn = [derived_seed(composition.seed, poem, 1) % len(patterns) for poem in poems]
        self.wanted = torch.tensor([patterns[number] for number in drawn])  # (B, T)
        self.fitting = fitting

    def allowed(self, place: int) -> Tensor:
        """Which tokens may stand at a place, (B, V)."""
        return self.fitting[self.wanted[:, place]]


def _with_marks(places: str, length: int) -> str:
    """The tones of a poem with a free place for the mark after each verse."""
    return "".join(places[start : start + length] + "中" for start in range(0, len(places), length))


@contextmanager
def _all_cores(poems: int) -> Iterator[None]:
    """Use all processor cores if there are enough poems; the poems do not depend on it."""
    threads = torch.get_num_threads()
    if poems >= POEMS_FOR_ALL_CORES:
        torch.set_num_threads(os.cpu_count() or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _draws(seed: int, poem: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, poem))
    return torch.rand(count, 2, generator=generator, dtype=torch.float64)


def most_rhyming(preprocessing: Preprocessing, tones: bool) -> int:
    """How many characters the largest rhyme has; with tones, of those that may end in a level tone."""
    found = Counter(
        rhyme
        for number, rhyme in enumerate(preprocessing.rhymes or [])
        if rhyme is not None and (not tones or fits((preprocessing.tones or [])[number], "平"))
    )
    return max(found.values(), default=0)


def _rhyming(rhymes: Tensor, writable: Tensor, rhyme: Tensor | None, lines: int) -> Tensor:
    """Return which tokens may end a line.

    Args:
        rhymes: (V,), -1 for tokens without a rhyme.
        writable: (V,), which tokens are characters.
        rhyme: of the first line (B, 1); None in the first line itself.
        lines: of a poem, which all need a character of their own.

    Returns:
        (B, V), or (V,) in the first line.

    Raises:
        ConfigurationError: no rhyme has enough characters.
    """
    rhymed = writable & (rhymes >= 0)
    if rhyme is not None:
        return rhymed & (rhymes == rhyme)
    sizes = rhymes[rhymed].bincount(minlength=int(rhymes.max()) + 2)  # one at least, if there is no rhyme
    lasting = rhymed & (sizes[rhymes.clamp(min=0)] >= lines)
    if not lasting.any():
        raise ConfigurationError(
            f"compose.rhyme: no rhyme of the vocabulary has {lines} characters; it needs prepare.rhymes: true"
        )
    return lasting


def sample(logits: Tensor, draws: Tensor, composition: Composition) -> tuple[Tensor, Tensor]:
    """Choose a token of each row by top-k and then top-p sampling (Holtzman et al. 2020).

    Args:
        logits: (B, V), divided by the temperature; minus infinity is never chosen.
        draws: (B, 2), random numbers from 0 to 1.
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
    # first a block, then a token in it: the sums stay short, so that few choices are close
    blocks = functional.pad(weights, (0, -weights.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    block, block_sure = _interval_of(blocks.sum(dim=2), draws[:, 0])
    place, place_sure = _interval_of(blocks[torch.arange(len(blocks)), block], draws[:, 1])
    return block * BLOCK + place, sure & block_sure & place_sure


def _lowest_kept(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the lowest logit kept by top-k and top-p (B, 1), and whether the next is clearly lower (B,)."""
    values = logits.topk(min(top_k + 1, logits.shape[1])).values  # descending
    weights = (values[:, :top_k] - values[:, :1]).exp_()
    reached = weights.cumsum(dim=1)
    before, edge = reached - weights, top_p * reached[:, -1:]
    kept = (before < edge).sum(dim=1, keepdim=True)
    lowest = values.gather(1, kept - 1)
    following = values.gather(1, kept.clamp(max=values.shape[1] - 1))
    # negated, as the difference is NaN where both are minus infinity: there is nothing to choose
    sure = ~(lowest - following <= MARGIN) | (kept == values.shape[1])
    if top_p < 1:
        sure &= ((before - edge).abs() > MARGIN * reached[:, -1:]).all(dim=1, keepdim=True)
    return lowest, sure[:, 0]


def _interval_of(weights: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Find the interval of each draw (B,) on the line of cumulative weights.

    Args:
        weights: the lengths of the intervals (B, N).
        draws: places on the line (B,), as shares of its length.

    Returns:
        The numbers of the intervals (B,), and whether the draws are far from their ends (B,).
    """
    reached = weights.cumsum(dim=1)
    total = reached[:, -1:]
    wanted = draws[:, None].to(weights.dtype) * total
    found = torch.searchsorted(reached, wanted, right=True).clamp(max=weights.shape[1] - 1)
    above = reached.gather(1, found)
    below = above - weights.gather(1, found)
    far = torch.minimum(above - wanted, wanted - below) > MARGIN * total
    return found[:, 0], far[:, 0]
