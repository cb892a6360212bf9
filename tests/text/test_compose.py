"""Writing poems."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.bundle.bundle import Bundle, weights_of, write_bundle
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError
from src.text.compose import FREE, RHYME, Composition, Slot, compose, compose_poems, sample, slots_of
from src.text.model import LanguageModel
from src.text.networks import Recurrent
from src.text.preprocessing import SPECIAL, UNK, Preprocessing, TextEncoder

CHARACTERS = "春花秋月何时了往事知多少小楼昨夜又东风"
VOCABULARY = [*SPECIAL, "，", "。", *CHARACTERS]
# three rhymes of six or seven characters each
RHYMES = [None] * 8 + [number % 3 for number in range(len(CHARACTERS))]
PREPROCESSING = Preprocessing(
    tokenizer="char",
    vocabulary=VOCABULARY,
    counts=[0, 2, 0, 0, 0, 0, 9, 9, *range(len(CHARACTERS), 0, -1)],
    rhymes=RHYMES,
)
ENCODER = TextEncoder(PREPROCESSING)
EXPECTED = [
    "时秋事事花，花秋了秋了。秋了春春秋，月小秋了秋。",
    "知多时知事花少，秋事花春春知多。往何花知多往知，往知事花秋事多。",
]


class Waves(nn.Module):
    """A network with the same weights on every machine."""

    def __init__(self, vocabulary: int, size: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.output = nn.Linear(size, vocabulary)
        with torch.no_grad():
            numbers = torch.arange(vocabulary * size, dtype=torch.float64).view(vocabulary, size)
            self.embedding.weight.copy_(numbers.mul(1.3).sin())
            self.output.weight.copy_(numbers.mul(0.7).cos() * 2)

    def hidden(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        before = torch.zeros(len(tokens), 4) if state is None else state
        states = []
        for token in tokens.unbind(dim=1):
            before = torch.tanh(before.roll(1, dims=1) + self.embedding(token))
            states.append(before)
        return torch.stack(states, dim=1), before

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.hidden(tokens)[0])


def small(vocabulary: int) -> Recurrent:
    return Recurrent(vocabulary, embedding_size=16, hidden_size=32)


def model_of(network: Any = Waves) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(PREPROCESSING, network).eval()


def poems_of(model: LanguageModel, count: int = 1, first: int = 0, **wanted: Any) -> list[str]:
    composition = Composition(**wanted)
    slots = slots_of(composition, ENCODER)
    rows = compose(model, PREPROCESSING, slots, composition, range(first, first + count))
    assert rows.shape == (count, len(slots))
    return [ENCODER.decode(row) for row in rows.tolist()]


def form_of(slots: list[Slot]) -> str:
    letters = {FREE: "甲", RHYME: "乙"}
    return "".join(slot.text or letters[slot.number] for slot in slots)


@pytest.mark.parametrize(
    ("wanted", "form"),
    [
        ({"lines": 1}, "甲甲甲甲甲，甲甲甲甲甲。"),
        ({"lines": 4, "length": 7}, "甲甲甲甲甲甲甲，甲甲甲甲甲甲甲。" * 4),
        ({"lines": 1, "length": 7, "rhyme": True}, "甲甲甲甲甲甲甲，甲甲甲甲甲甲乙。"),
        ({"start": "春"}, "春甲甲甲甲，甲甲甲甲甲。甲甲甲甲甲，甲甲甲甲甲。"),
        ({"acrostic": "江山"}, "江甲甲甲甲，甲甲甲甲甲。山甲甲甲甲，甲甲甲甲甲。"),
        ({"acrostic": "江山如", "acrostic_of": "verse"}, "江甲甲甲甲，山甲甲甲甲。如甲甲甲甲，甲甲甲甲甲。"),
    ],
)
def test_the_form_is_fixed_by_the_request(wanted: dict[str, Any], form: str) -> None:
    assert form_of(slots_of(Composition(**wanted), ENCODER)) == form


def test_unknown_characters_are_read_as_unknown_and_shown_as_given() -> None:
    wanted = Composition(start="龘")
    assert slots_of(wanted, ENCODER)[0] == Slot(UNK, "龘")
    (poem,) = compose_poems(model_of(), PREPROCESSING, wanted)
    assert re.fullmatch(r"龘\w{4}，\w{5}。\w{5}，\w{5}。", poem)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"start": "春天"}, r"compose\.start must be one character, found 2: 春天"),
        ({"start": ""}, r"compose\.start must be one character"),
        ({"start": "春", "acrostic": "夏"}, r"start or acrostic, not both"),
        ({"acrostic": "春夏秋冬"}, r"acrostic has 4 characters, the poem 2 lines"),
        ({"acrostic": "春夏秋冬又", "acrostic_of": "verse"}, r"acrostic has 5 characters, the poem 4 verses"),
        ({"acrostic": ""}, r"acrostic has 0 characters"),
        ({"temperature": -0.1}, r"compose\.temperature must be at least 0: -0\.1"),
        ({"temperature": float("nan")}, r"compose\.temperature must be at least 0: nan"),
        ({"top_p": 0.0}, r"compose\.top_p must be above 0 and at most 1: 0\.0"),
        ({"top_p": 1.1}, r"compose\.top_p"),
        ({"top_k": -1}, r"compose\.top_k must be at least 0"),
        ({"lines": 0}, r"compose\.lines must be at least 1"),
        ({"count": 0}, r"compose\.count must be at least 1"),
    ],
)
def test_impossible_requests_are_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Composition(**wanted)


def test_the_draw_chooses_the_token() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    draws = {0.0: 0, 0.19: 0, 0.21: 1, 0.69: 1, 0.71: 2, 0.999: 2}
    wanted = Composition(temperature=1)
    found = {draw: int(sample(logits, torch.tensor([[0.5, draw]]), wanted)[0]) for draw in draws}
    assert found == draws


@pytest.mark.parametrize(
    ("wanted", "shares"),
    [
        ({"temperature": 1.0}, [0.2, 0.5, 0.3, 0]),
        ({"temperature": 0.5}, [0.04 / 0.38, 0.25 / 0.38, 0.09 / 0.38, 0]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"temperature": 1.0, "top_k": 2}, [0, 5 / 8, 3 / 8, 0]),
        ({"temperature": 1.0, "top_k": 9}, [0.2, 0.5, 0.3, 0]),
        # the second is needed to reach 0.6, the third is not
        ({"temperature": 1.0, "top_p": 0.6}, [0, 5 / 8, 3 / 8, 0]),
        ({"temperature": 1.0, "top_p": 0.4}, [0, 1, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.6, "top_k": 1}, [0, 1, 0, 0]),
    ],
)
def test_temperature_top_k_and_top_p(wanted: dict[str, Any], shares: list[float]) -> None:
    draws = torch.stack([torch.rand(10_000), (torch.arange(10_000) + 0.5) / 10_000], dim=1)
    logits = torch.tensor([0.2, 0.5, 0.3, 0.0]).log().repeat(len(draws), 1)
    logits /= wanted["temperature"] or 1
    chosen = sample(logits, draws, Composition(**wanted))[0].bincount(minlength=4)
    assert (chosen / len(draws)).tolist() == pytest.approx(shares, abs=2e-4)


def test_a_large_vocabulary_is_chosen_from_by_its_shares() -> None:
    shares = torch.arange(1, 301).float().flip(0)
    grid = (torch.arange(300) + 0.5) / 300
    draws = torch.cartesian_prod(grid, grid)
    chosen = sample(shares.log().repeat(len(draws), 1), draws, Composition())[0]
    found = chosen.bincount(minlength=300) / len(draws)
    # the grid is as fine as 1 / 300
    assert (found - shares / shares.sum()).cumsum(dim=0).abs().max() < 2 / 300


@pytest.mark.parametrize(
    ("draw", "wanted", "sure"),
    [
        (0.1, {}, True),
        (0.200005, {}, False),
        (0.199995, {}, False),
        (0.999995, {}, False),
        (0.1, {"temperature": 0.0}, True),
        (0.1, {"top_k": 2}, True),
        # the two likeliest after the first are alike
        (0.1, {"top_k": 3}, False),
        (0.1, {"top_p": 0.5}, False),
        (0.1, {"top_p": 0.6}, True),
    ],
)
def test_choices_close_to_rounding_are_reported(draw: float, wanted: dict[str, Any], sure: bool) -> None:
    logits = torch.tensor([[0.2, 0.5, 0.15, 0.15]]).log()
    settings = Composition(**{"temperature": 1.0} | wanted)
    # sorted or not, 0.1 and 0.2 fall at other places
    assert bool(sample(logits, torch.tensor([[0.5, draw]]), settings)[1]) is sure


def test_close_choices_are_repeated_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(small)
    expected = poems_of(model, count=20, lines=4, top_k=9)
    # now every choice is close
    monkeypatch.setattr("src.text.compose.MARGIN", 1.0)
    again = poems_of(model, count=20, lines=4, top_k=9)
    assert again == expected


@pytest.mark.parametrize("length", [5, 7])
@pytest.mark.parametrize("network", [Waves, small])
def test_any_network_keeps_the_form(network: Any, length: int) -> None:
    poems = poems_of(model_of(network), count=20, length=length, lines=3, temperature=3.0)
    verse = f"[{CHARACTERS}]{{{length}}}"
    assert all(re.fullmatch(f"({verse}，{verse}。){{3}}", poem) for poem in poems)


def test_only_characters_are_chosen() -> None:
    model = model_of()
    with torch.no_grad():
        bias: Any = model.network.output.bias  # type: ignore[union-attr]
        bias[:8] = 50.0  # special tokens and punctuation are all that it wants
    assert re.fullmatch(f"[{CHARACTERS}，。]+", poems_of(model, lines=4)[0])


def test_a_poem_does_not_depend_on_its_batch() -> None:
    model = model_of(small)
    poems = poems_of(model, count=30, lines=4)
    assert len(set(poems)) == 30
    assert poems_of(model, count=3, first=10, lines=4) == poems[10:13]


def test_batches_give_the_same_poems(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wanted = model_of(), Composition(count=10, lines=1)
    expected = list(compose_poems(model, PREPROCESSING, wanted))
    assert expected == poems_of(model, count=10, lines=1)
    monkeypatch.setattr("src.text.compose.POEMS_AT_ONCE", 4)
    assert list(compose_poems(model, PREPROCESSING, wanted)) == expected


def test_a_seed_means_the_same_poems_on_every_machine() -> None:
    poems = [poems_of(model_of(), seed=seed, length=length)[0] for seed, length in ((1, 5), (2, 7))]
    assert poems == EXPECTED


def test_acrostics_begin_as_given() -> None:
    poem = poems_of(model_of(), acrostic="春花秋月", acrostic_of="verse")[0]
    assert [verse[0] for verse in re.split("[，。]", poem)[:-1]] == list("春花秋月")


def test_all_lines_rhyme_in_different_characters() -> None:
    rhyme_of = dict(zip(VOCABULARY, RHYMES, strict=True))
    poems = poems_of(model_of(), count=50, lines=6, rhyme=True)
    for poem in poems:
        ends = [line[-1] for line in poem.split("。")[:-1]]
        assert len({rhyme_of[end] for end in ends}) == 1
        assert len(set(ends)) == 6
    assert len({rhyme_of[poem.split("。")[0][-1]] for poem in poems}) == 3


def test_a_rhyme_with_too_few_characters_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no rhyme of the vocabulary has 8 characters"):
        poems_of(model_of(), lines=8, rhyme=True)


def test_composing_leaves_the_model_as_it_is() -> None:
    model = model_of(small).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    poems_of(model, count=2)
    assert model.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_bundle_writes_the_same_poems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prepared").mkdir()
    PREPROCESSING.save(Path("prepared"))
    write_manifest(Path("prepared"))
    sizes: dict[str, Any] = {"embedding_size": 6, "hidden_size": 8}
    network = {"class_path": "src.text.networks.Recurrent", "init_args": sizes}
    config = {"model": {"class_path": "src.text.model.LanguageModel", "init_args": {"network": network}}}
    model = model_of(lambda size: Recurrent(size, **sizes))
    write_bundle(Path("models/poems"), weights_of(model), "poems", json.dumps(config), Path("prepared"), {})
    loaded = Bundle.open(Path("models/poems")).model_of(LanguageModel)
    assert poems_of(loaded, count=5) == poems_of(model, count=5)
