"""Losses, metrics, poems and neighbours."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.bundle.bundle import load_model, write_bundle
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError
from src.text.model import LanguageModel, WordVectors, nearest, sample
from src.text.networks import ContinuousBagOfWords, Recurrent
from src.text.preprocessing import BOS, EOS, PAD, SPECIAL, UNK, Composition, TextEncoder, slots_of

CHARACTERS = "春花秋月何时了往事知多少小楼昨夜又东风"
VOCABULARY = [*SPECIAL, "，", "。", *CHARACTERS]
# 春 花 秋 rhyme with nothing here; 月 何 with one another, and so on: three rhymes of six characters each
RHYMES = [None] * 8 + [number % 3 for number in range(len(CHARACTERS))]
LEARNT: dict[str, Any] = {
    "vocabulary": VOCABULARY,
    "counts": [0, 2, 0, 0, 0, 0, 9, 9, *range(len(CHARACTERS), 0, -1)],
    "rhymes": RHYMES,
    "tokenizer": "char",
    "convert": None,
    "replace": [],
    "stopwords": [],
}
ENCODER = TextEncoder(LEARNT)
EXPECTED = [
    "时秋事事花，花秋了秋了。秋了春春秋，月小秋了秋。",
    "知多时知事花少，秋事花春春知多。往何花知多往知，往知事花秋事多。",
]


class Fixed(nn.Module):
    """Logits that do not depend on the tokens."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.output = nn.Linear(1, vocabulary)
        nn.init.zeros_(self.output.weight)

    def hidden(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        return torch.zeros(*tokens.shape, 1), None

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.output(self.hidden(tokens)[0])
        return logits


class Waves(nn.Module):
    """A network without random weights: every machine has the same one."""

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
        logits: Tensor = self.output(self.hidden(tokens)[0])
        return logits


def model_of(network: Any = Fixed, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(LEARNT, network, **settings).eval()


def poems_of(model: LanguageModel, count: int = 1, first: int = 0, **wanted: Any) -> list[str]:
    composition = Composition(**wanted)
    slots = slots_of(composition, ENCODER)
    rows = model.compose(slots, composition, range(first, first + count))
    assert rows.shape == (count, len(slots))
    return [ENCODER.decode(row) for row in rows.tolist()]


def test_surprise_leaves_padding_out_and_counts_characters() -> None:
    model = model_of()
    with torch.no_grad():
        model.network.output.bias.zero_()  # type: ignore[union-attr, operator]
    tokens = torch.tensor([[BOS, 8, 9, UNK, EOS], [BOS, 8, EOS, PAD, PAD]])
    with torch.no_grad():
        nats, sizes = model.surprise(tokens)
    one = math.log(len(VOCABULARY))
    assert nats.tolist() == pytest.approx([4 * one, 2 * one])
    # the unknown token is a character, the end is none
    assert sizes.tolist() == [[4, 3], [2, 1]]
    metrics = model.metrics_of(nats, sizes)
    assert float(metrics["perplexity"]) == pytest.approx(len(VOCABULARY))
    assert float(metrics["bits_per_character"]) == pytest.approx(6 * one / math.log(2) / 4)
    assert float(model.loss_of(nats, sizes)) == pytest.approx(one)


def test_training_starts_from_the_shares_of_the_tokens() -> None:
    shares = model_of()(torch.tensor([[BOS]]))[0, 0].softmax(dim=0)
    counts = torch.tensor(LEARNT["counts"]).clamp(min=1)
    assert torch.allclose(shares, counts / counts.sum(), atol=1e-6)


def test_rare_characters_become_unknown_in_training_alone() -> None:
    model = model_of(unknown_share=1.0)
    rare, frequent = len(VOCABULARY) - 1, 8
    assert LEARNT["counts"][rare] == 1
    batch = (torch.tensor([[BOS, rare, frequent, EOS]]),)
    expected = model.surprise(torch.tensor([[BOS, UNK, frequent, EOS]]))[0]
    assert torch.equal(model._step(batch, "train")[0], expected)
    assert torch.equal(model._step(batch, "validation")[0], model.surprise(batch[0])[0])
    assert torch.equal(model_of(unknown_share=0.0)._step(batch, "train")[0], model.surprise(batch[0])[0])


def test_half_of_the_rare_characters_become_unknown() -> None:
    seen: list[Tensor] = []

    class Watching(LanguageModel):
        def surprise(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(tokens)
            return super().surprise(tokens)

    torch.manual_seed(0)
    model = Watching(LEARNT, Fixed, unknown_share=0.5)  # type: ignore[arg-type]
    model._step((torch.full((100, 10), len(VOCABULARY) - 1),), "train")
    assert 0.4 < float((seen[0] == UNK).float().mean()) < 0.6


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown_share must lie between 0 and 1: {share}"):
        model_of(unknown_share=share)


def test_the_trivial_answer_is_the_share_of_each_token_with_one_added() -> None:
    train, test = torch.tensor([8, 8, 9, EOS]), torch.tensor([8, EOS])
    metrics = model_of().trivial_metrics(train, test)
    total = len(VOCABULARY) + 4
    nats = -math.log(3 / total) - math.log(2 / total)
    assert metrics["loss"] == pytest.approx(nats / 2)
    assert metrics["bits_per_character"] == pytest.approx(nats / math.log(2))


def test_the_middle_word_is_predicted_from_those_around_it() -> None:
    model = WordVectors(LEARNT, lambda size: ContinuousBagOfWords(size, 4))
    inputs, target = model.split(torch.tensor([[6, 7, 8, 9, 10], [PAD, PAD, 11, 12, PAD]]))
    assert inputs.tolist() == [[6, 7, 9, 10], [PAD, PAD, 12, PAD]]
    assert target.tolist() == [[8], [11]]


def test_neighbours_are_by_cosine_without_the_word_and_the_special_tokens() -> None:
    vectors = torch.zeros(10, 2)
    vectors[:6] = torch.tensor([1.0, 0.0])
    vectors[6:] = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 0.1], [-1.0, 0.0]])
    cosines, numbers = nearest(vectors, torch.tensor([6]), 9)
    assert numbers.tolist() == [[7, 8, 9]]
    assert cosines[0].tolist() == pytest.approx([math.sqrt(0.5), 0, -1], abs=1e-6)


def test_a_choice_is_where_the_draw_falls() -> None:
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
def test_a_choice_that_rounding_could_turn_is_told(draw: float, wanted: dict[str, Any], sure: bool) -> None:
    logits = torch.tensor([[0.2, 0.5, 0.15, 0.15]]).log()
    settings = Composition(**{"temperature": 1.0} | wanted)
    # sorted or not, 0.1 and 0.2 fall at other places
    assert bool(sample(logits, torch.tensor([[0.5, draw]]), settings)[1]) is sure


def test_close_choices_are_made_with_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(Recurrent)
    expected = poems_of(model, count=20, lines=4, top_k=9)
    # now every choice is close, and all are made again
    monkeypatch.setattr("src.text.model.MARGIN", 1.0)
    again = poems_of(model, count=20, lines=4, top_k=9)
    assert again == expected


@pytest.mark.parametrize("length", [5, 7])
@pytest.mark.parametrize("network", [Fixed, Waves, Recurrent])
def test_form_is_kept_whatever_the_network(network: Any, length: int) -> None:
    poems = poems_of(model_of(network), count=20, length=length, lines=3, temperature=3.0)
    verse = f"[{CHARACTERS}]{{{length}}}"
    assert all(re.fullmatch(f"({verse}，{verse}。){{3}}", poem) for poem in poems)


def test_unknown_and_other_tokens_that_are_no_characters_are_never_chosen() -> None:
    model = model_of()
    with torch.no_grad():
        bias: Any = model.network.output.bias  # type: ignore[union-attr]
        bias[:8] = 50.0  # special tokens and punctuation are all that it wants
    assert re.fullmatch(f"[{CHARACTERS}，。]+", poems_of(model, lines=4)[0])


def test_a_poem_does_not_depend_on_its_company() -> None:
    model = model_of(Recurrent)
    poems = poems_of(model, count=30, lines=4)
    assert len(set(poems)) == 30
    assert poems_of(model, count=3, first=10, lines=4) == poems[10:13]


def test_a_seed_means_the_same_poems_on_every_machine() -> None:
    poems = [poems_of(model_of(Waves), seed=seed, length=length)[0] for seed, length in ((1, 5), (2, 7))]
    assert poems == EXPECTED


def test_acrostics_begin_as_given() -> None:
    poem = poems_of(model_of(Waves), acrostic="春花秋月", acrostic_of="verse")[0]
    assert [verse[0] for verse in re.split("[，。]", poem)[:-1]] == list("春花秋月")


def test_all_lines_rhyme_in_different_characters() -> None:
    rhyme_of = dict(zip(VOCABULARY, RHYMES, strict=True))
    poems = poems_of(model_of(Waves), count=50, lines=6, rhyme=True)
    for poem in poems:
        ends = [line[-1] for line in poem.split("。")[:-1]]
        assert len({rhyme_of[end] for end in ends}) == 1
        assert len(set(ends)) == 6
    assert len({rhyme_of[poem.split("。")[0][-1]] for poem in poems}) == 3


def test_a_rhyme_that_cannot_last_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no rhyme of the vocabulary has 8 characters"):
        poems_of(model_of(), lines=8, rhyme=True)


def test_composing_leaves_the_model_as_it_is() -> None:
    model = model_of(Recurrent).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    poems_of(model, count=2)
    assert model.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_bundle_writes_the_same_poems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prepared").mkdir()
    Path("prepared/preprocessing.json").write_text(json.dumps(LEARNT), encoding="utf-8")
    write_manifest(Path("prepared"))
    sizes = {"embedding_size": 6, "hidden_size": 8}
    network = {"class_path": "src.text.networks.Recurrent", "init_args": sizes}
    config = {"model": {"class_path": "src.text.model.LanguageModel", "init_args": {"network": network}}}
    model = model_of(lambda size: Recurrent(size, **sizes))
    write_bundle(Path("models/poems"), model, "poems", json.dumps(config), Path("prepared"), {})
    loaded = load_model(Path("models/poems"), LanguageModel)
    assert poems_of(loaded, count=5) == poems_of(model, count=5)
