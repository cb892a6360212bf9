"""Evaluate a language model, word vectors or a classifier beside baselines: metrics, plots and tables."""

import json
import math
import re
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from src.bundle.bundle import Bundle
from src.reporting.figures import save_figure
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.noise import noise_of, write_losses
from src.reporting.tables import markdown_table, print_metrics
from src.text.baselines import CountedVectors, bits, ngram_models
from src.text.classifier import TextClassifier
from src.text.compose import Composition, compose_poems, most_rhyming
from src.text.data import DocumentBatches, contexts, load_split
from src.text.evaluate_classes import evaluate_classes
from src.text.model import LanguageModel, TokenModel, WordVectors
from src.text.neighbours import nearest
from src.text.preprocessing import SPECIAL, UNK, Preprocessing, TextEncoder
from src.text.tones import is_regulated

ACCEPTS = (TokenModel, TextClassifier)  # other modules are evaluated by their own steps
BASELINE_DOCUMENTS = 5000
GENERATED_POEMS = 200
LINES = 4  # of each of them
COPY_LENGTH = 4
SHOWN_WORDS = 24
DRAWN_WORDS = 80
NEIGHBOURS = 6
ROWS_AT_ONCE = 1024  # windows, each with scores of all words
SHOWN = ("generated", "constrained", "corpus", "neighbours")  # the first words of other metrics
# the baseline that ignores the input has the same name for all kinds of data
TRIVIAL = {"unigram": "trivial"}
SAMPLES = (
    Composition(seed=1),
    Composition(seed=2, rhyme=True),
    Composition(seed=3, length=7, rhyme=True),
    Composition(seed=4, start="春", rhyme=True),
    Composition(seed=5, start="月", length=7, rhyme=True),
    Composition(seed=6, start="山", lines=4, rhyme=True),
    Composition(seed=7, acrostic="春夏秋冬", acrostic_of="verse", rhyme=True),
    Composition(seed=8, acrostic="江山如画", acrostic_of="verse", length=7, rhyme=True),
    Composition(seed=9, lines=4, length=7, rhyme=True),
    Composition(seed=10, temperature=0.5, top_k=20, rhyme=True),
    Composition(seed=11, lines=4, rhyme=True, tones=True),
    Composition(seed=12, length=7, rhyme=True, tones=True),
)

Metrics = dict[str, float]


def evaluate(bundle: Bundle, prepared: Path, folder: Path) -> None:
    """Evaluate a trained model on the test documents of the prepared data.

    Args:
        bundle: of the trained model.
        prepared: data/prepared/<task>.
        folder: an empty folder for metrics.json, plots/ and tables/.
    """
    model = bundle.model
    plots, tables = begin_report(bundle.folder, folder)
    if isinstance(model, TextClassifier):
        metrics = evaluate_classes(model, bundle, prepared, plots, tables)
    elif isinstance(model, LanguageModel):
        metrics = _evaluate_poems(model, bundle.preprocessing, prepared, plots, tables)
    else:
        assert isinstance(model, WordVectors)
        metrics = _evaluate_words(model, bundle, prepared, plots, tables)
    corpus = json.loads((prepared / "corpus.json").read_text(encoding="utf-8"))
    metrics["corpus/unknown_share"] = corpus["unknown_share"]["test"]
    write_metrics(metrics, folder)
    print_metrics("Test documents", metrics)
    others = [name for name in sorted(metrics) if name.split("/")[0] in SHOWN]
    print(", ".join(f"{name} {metrics[name]:.4g}" for name in others))


def _evaluate_poems(
    model: LanguageModel, preprocessing: Preprocessing, prepared: Path, plots: Path, tables: Path
) -> Metrics:
    encoder = TextEncoder(preprocessing)
    metrics: Metrics = {}
    nats: NDArray[Any] = np.zeros(0)
    for split in ("validation", "test"):
        tokens, offsets = map(torch.from_numpy, load_split(prepared, split))
        batches = ((batch[0],) for batch in DocumentBatches((tokens, offsets), 64))
        nats, found = _scores(model, batches, split)
        metrics |= found
    write_losses(nats, tables)
    documents = {split: _documents(prepared, split, encoder.vocabulary) for split in ("train", "test")}
    train = _with_unknown(documents["train"][:BASELINE_DOCUMENTS], model)
    tokens_of_test, characters_of_test = map(sum, zip(*map(_sizes, documents["test"]), strict=True))
    for name, baseline in ngram_models(train, encoder.vocabulary).items():
        each = [bits(baseline, [document]) for document in documents["test"]]
        total = sum(each)
        name = TRIVIAL.get(name, name)
        if name == "trivial":
            metrics |= noise_of(by_length(each, documents["test"]) * math.log(2) - nats)
        metrics[f"baseline/{name}/perplexity"] = 2 ** (total / tokens_of_test)
        metrics[f"baseline/{name}/bits_per_character"] = total / characters_of_test

    pairs = zip(preprocessing.vocabulary, preprocessing.rhymes or [], strict=False)
    rhymes = {token: rhyme for token, rhyme in pairs if rhyme is not None}
    corpus = [encoder.decode(encoder.encode(document)) for document in documents["train"]]
    poems = _generated(model, preprocessing)
    metrics["generated/format"] = sum(map(is_regular, poems)) / len(poems)
    for length in (1, 2):
        metrics[f"generated/distinct_{length}"] = distinct(poems, length)
    metrics["generated/copied_4grams"] = copied(poems, corpus, COPY_LENGTH)
    metrics["generated/rhyme"] = rhyme_rate(poems, rhymes)
    regular = [poem for poem in corpus if is_regular(poem)]
    metrics["corpus/rhyme"] = rhyme_rate(regular, rhymes)
    # longer ones are in the old style
    regular = [poem for poem in regular if len(verses_of(poem)) in (4, 8)]
    if preprocessing.tones is not None:
        pairs = zip(preprocessing.vocabulary, preprocessing.tones, strict=True)
        tones = {token: tone for token, tone in pairs if tone is not None}
        metrics["generated/regulated"] = regulated_rate(poems, tones)
        metrics["corpus/regulated"] = regulated_rate(regular, tones)
        can_rhyme = most_rhyming(preprocessing, tones=True) >= LINES
        constrained = _generated(model, preprocessing, tones=True, rhyme=can_rhyme)
        metrics["constrained/regulated"] = regulated_rate(constrained, tones)
        metrics["constrained/rhyme"] = rhyme_rate(constrained, rhymes)
        metrics["constrained/copied_4grams"] = copied(constrained, corpus, COPY_LENGTH)
    (tables / "samples.md").write_text(_samples(model, preprocessing), encoding="utf-8")
    _plot_perplexities(metrics, plots / "perplexity.png")
    return metrics


def _scores(
    model: TokenModel, batches: Iterable[tuple[torch.Tensor, ...]], split: str
) -> tuple[NDArray[Any], Metrics]:
    """The nats of each document or window, and the metrics."""
    with torch.inference_mode():
        pairs = [model.negative_log_likelihood(batch[0].long()) for batch in batches]
    nats, sizes = map(torch.cat, zip(*pairs, strict=True))
    metrics = model.metrics_of(nats, sizes)
    return nats.double().numpy(), {f"{split}/{name}": float(value) for name, value in metrics.items()}


def by_length(values: list[float], documents: list[list[str]]) -> NDArray[Any]:
    """Values of documents (N,) in the order of `DocumentBatches` without a seed."""
    return np.array(values)[np.argsort(list(map(len, documents)), kind="stable")]


def _documents(prepared: Path, split: str, vocabulary: list[str]) -> list[list[str]]:
    tokens, offsets = load_split(prepared, split)
    return [[vocabulary[number] for number in tokens[a:b]] for a, b in pairwise(offsets.tolist())]


def _with_unknown(documents: list[list[str]], model: LanguageModel) -> list[list[str]]:
    """Replace rare tokens by `<UNK>` with the same probability as in the training of the network."""
    draws = np.random.default_rng(0)
    rare = {token for token, is_rare in zip(model.vocabulary, model.rare.tolist(), strict=True) if is_rare}
    return [
        [
            SPECIAL[UNK] if token in rare and draws.random() < model.unknown_share else token
            for token in document
        ]
        for document in documents
    ]


def _sizes(document: list[str]) -> tuple[int, int]:
    """Count the predicted tokens and characters as `TokenModel.negative_log_likelihood` does."""
    characters = sum(token not in SPECIAL for token in document) + document.count(SPECIAL[UNK])
    return len(document) - 1, characters


def verses_of(poem: str) -> list[str]:
    """Split a poem into verses without punctuation."""
    return [verse for verse in re.split("[，。？！]", poem) if verse]


def is_regular(poem: str) -> bool:
    """Check that all verses have 5 or all have 7 characters, and each line is a couplet: 甲，乙。"""
    return any(re.fullmatch(rf"(\w{{{size}}}，\w{{{size}}}[。？！])+", poem) for size in (5, 7))


def _ngrams(poems: Iterable[str], length: int) -> list[str]:
    """Return all n-grams of characters within verses."""
    verses = [verse for poem in poems for verse in verses_of(poem)]
    return [verse[i : i + length] for verse in verses for i in range(len(verse) - length + 1)]


def distinct(poems: list[str], length: int) -> float:
    """Return the share of distinct n-grams among all (Li et al. 2016, section 5.2)."""
    found = _ngrams(poems, length)
    return len(set(found)) / max(len(found), 1)


def copied(poems: list[str], corpus: list[str], length: int) -> float:
    """Return the share of n-grams that occur in the corpus."""
    found, known = _ngrams(poems, length), set(_ngrams(corpus, length))
    return sum(ngram in known for ngram in found) / max(len(found), 1)


def rhyme_rate(poems: list[str], rhymes: dict[str, int]) -> float:
    """Return the share of lines that rhyme with the line before them in the same poem."""
    pairs = [pair for poem in poems for pair in pairwise(verses_of(poem)[1::2])]
    same = sum(rhymes.get(a[-1], -1) == rhymes.get(b[-1], -2) for a, b in pairs)
    return same / max(len(pairs), 1)


def regulated_rate(poems: list[str], tones: dict[str, int]) -> float:
    """Return the share of poems whose tones follow a pattern of regulated verse."""
    found = sum(is_regulated(verses_of(poem), tones) for poem in poems)
    return found / max(len(poems), 1)


def _generated(model: LanguageModel, preprocessing: Preprocessing, **options: Any) -> list[str]:
    """Write poems of eight verses, half of them of 5 and half of 7 characters."""
    poems: list[str] = []
    for length in (5, 7):
        wanted = Composition(length=length, lines=LINES, count=GENERATED_POEMS // 2, **options)
        poems += compose_poems(model, preprocessing, wanted)
    return poems


def _samples(model: LanguageModel, preprocessing: Preprocessing) -> str:
    lines = ["# Poems with fixed seeds", ""]
    default = Composition()
    for wanted in SAMPLES:
        changed = {name: value for name, value in vars(wanted).items() if value != getattr(default, name)}
        if wanted.tones and preprocessing.tones is None:
            continue
        if wanted.rhyme and most_rhyming(preprocessing, wanted.tones) < wanted.lines:
            del changed["rhyme"]
            wanted = Composition(**changed)
        (poem,) = compose_poems(model, preprocessing, wanted)
        options = " ".join(f"--data.compose.{name} {str(value).lower()}" for name, value in changed.items())
        lines += [f"`{options}`", ""]
        lines += [f"> {line}  " for line in re.findall(".*?。", poem)]
        lines.append("")
    return "\n".join(lines)


def _plot_perplexities(metrics: Metrics, path: Path) -> None:
    values = {
        name.split("/")[1]: value
        for name, value in metrics.items()
        if name.startswith("baseline/") and name.endswith("/perplexity")
    }
    values["model"] = metrics["test/perplexity"]
    figure = Figure(figsize=(6.4, 3), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name.replace("_", " ") for name in values], list(values.values()))
    axes.bar_label(bars, fmt="{:.0f}", padding=3)
    axes.margins(x=0.1)
    axes.set(xlabel="perplexity of a test token", title="Held-out documents, lower is better")
    save_figure(figure, path)


def _evaluate_words(model: WordVectors, bundle: Bundle, prepared: Path, plots: Path, tables: Path) -> Metrics:
    vocabulary = model.vocabulary
    width = bundle.configuration["data"]["init_args"]["width"]
    windows = {name: contexts(*load_split(prepared, name), width) for name in ("train", "validation", "test")}
    metrics: Metrics = {}
    for split in ("validation", "test"):
        blocks = ((block,) for block in torch.from_numpy(windows[split]).split(ROWS_AT_ONCE))
        nats, found = _scores(model, blocks, split)
        metrics |= found
    counted = CountedVectors(windows["train"], len(vocabulary), model.vectors.shape[1])
    target = windows["test"][:, width]
    answers: dict[str, list[NDArray[Any]]] = {"test": [], "baseline/counting": []}
    for block in torch.from_numpy(windows["test"]).split(ROWS_AT_ONCE):
        with torch.inference_mode():
            answers["test"].append(model(model.split(block.long())[0]).numpy().argmax(axis=1))
        answers["baseline/counting"].append(counted.scores(block.numpy()).argmax(axis=1))
    answers["baseline/trivial"] = [np.full(len(target), counted.prior.argmax())]
    for name, words in answers.items():
        metrics[f"{name}/accuracy"] = float((np.concatenate(words) == target).mean())
    metrics["baseline/trivial/perplexity"] = math.exp(-float(counted.prior[target].mean()))
    metrics |= noise_of(-counted.prior[target] - nats)
    write_losses(nats, tables)

    frequent = torch.arange(len(SPECIAL), min(len(SPECIAL) + SHOWN_WORDS, len(vocabulary)))
    near = {
        "around (CBOW)": nearest(model.vectors, frequent, NEIGHBOURS)[1].tolist(),
        "counted (PPMI, SVD)": nearest(torch.from_numpy(counted.vectors), frequent, NEIGHBOURS)[1].tolist(),
    }
    first, second = near.values()
    shared = sum(len(set(a) & set(b)) for a, b in zip(first, second, strict=True))
    metrics["neighbours/shared"] = shared / sum(map(len, first))
    rows = [
        [vocabulary[word], *(" ".join(vocabulary[number] for number in words) for words in both)]
        for word, *both in zip(frequent.tolist(), first, second, strict=True)
    ]
    (tables / "neighbours.md").write_text(markdown_table(["word", *near], rows), encoding="utf-8")
    drawn = slice(len(SPECIAL), len(SPECIAL) + DRAWN_WORDS)
    _plot_words(model.vectors[drawn].numpy(), vocabulary[drawn], plots / "words.svg")
    return metrics


def _plot_words(vectors: NDArray[Any], words: list[str], path: Path) -> None:
    """Plot the directions of word vectors by their first two principal components.

    The words of the SVG file are text, as matplotlib's font has no Chinese characters.
    """
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    # rounded, as the last bits depend on the processor
    places = PCA(2, svd_solver="full").fit_transform(directions).round(3)
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots()
    axes.scatter(places[:, 0], places[:, 1], s=4, color="0.7")
    for word, (x, y) in zip(words, places, strict=True):
        axes.annotate(word, (x, y), fontsize=9, ha="center", va="center")
    axes.set(title="Word vectors in two dimensions (PCA of their directions)", xticks=[], yticks=[])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        save_figure(figure, path)
