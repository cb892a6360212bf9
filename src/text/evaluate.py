"""Evaluate a language model, word vectors or a classifier beside baselines: metrics, plots and tables."""

import json
import math
import re
import warnings
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from src.bundle.bundle import Bundle
from src.reporting.figures import save_figure
from src.reporting.metrics import begin_report, write_metrics
from src.reporting.noise import noise_of, write_losses
from src.reporting.rows import evenly
from src.reporting.tables import markdown_table, print_metrics
from src.text.baselines import CountedVectors, bits, ngram_models
from src.text.classifier import TextClassifier
from src.text.compose import Composition, compose_poems, most_rhyming
from src.text.data import DocumentBatches, PreparedDocuments, blocks_of_contexts, joined, load_split
from src.text.evaluate_classes import evaluate_classes
from src.text.model import LanguageModel, TokenModel, WordVectors
from src.text.neighbours import nearest
from src.text.preprocessing import SPECIAL, UNK, Preprocessing, TextEncoder
from src.text.tones import is_regulated

ACCEPTS = (TokenModel, TextClassifier)  # other modules are evaluated by their own steps
BASELINE_DOCUMENTS = 5000
BASELINE_TOKENS = 1_000_000  # of these documents; n-gram models take some 500 bytes for each
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
    train = PreparedDocuments(prepared, "train")
    metrics |= _baselines(model, train, PreparedDocuments(prepared, "test"), nats)

    rhymes = _of_tokens(encoder.vocabulary, preprocessing.rhymes)
    tones = _of_tokens(encoder.vocabulary, preprocessing.tones)
    poems = _generated(model, preprocessing)
    constrained: list[str] = []
    if preprocessing.tones is not None:
        can_rhyme = most_rhyming(preprocessing, tones=True) >= LINES
        constrained = _generated(model, preprocessing, tones=True, rhyme=can_rhyme)
    known, found = _read_corpus(map(encoder.decode, train), poems + constrained, rhymes, tones)
    metrics["generated/format"] = sum(map(is_regular, poems)) / len(poems)
    for length in (1, 2):
        metrics[f"generated/distinct_{length}"] = distinct(poems, length)
    metrics["generated/copied_4grams"] = copied(poems, known)
    metrics["generated/rhyme"] = rhyme_rate(poems, rhymes)
    metrics["corpus/rhyme"] = found["rhyme"]
    if preprocessing.tones is not None:
        metrics["generated/regulated"] = regulated_rate(poems, tones)
        metrics["corpus/regulated"] = found["regulated"]
        metrics["constrained/regulated"] = regulated_rate(constrained, tones)
        metrics["constrained/rhyme"] = rhyme_rate(constrained, rhymes)
        metrics["constrained/copied_4grams"] = copied(constrained, known)
    (tables / "samples.md").write_text(_samples(model, preprocessing), encoding="utf-8")
    _plot_perplexities(metrics, plots / "perplexity.png")
    return metrics


def _scores(
    model: TokenModel, batches: Iterable[tuple[torch.Tensor, ...]], split: str
) -> tuple[NDArray[Any], Metrics]:
    """The nats of each document or window, and the metrics."""
    # many small tensors would keep the memory of the batches between them from being used again
    found, counts = array("f"), array("q")
    with torch.inference_mode():
        for batch in batches:
            of_batch, sizes_of_batch = model.negative_log_likelihood(batch[0].long())
            found.frombytes(of_batch.numpy().tobytes())
            counts.frombytes(sizes_of_batch.numpy().tobytes())
    nats = torch.frombuffer(found, dtype=torch.float32)
    sizes = torch.frombuffer(counts, dtype=torch.int64).view(-1, 2)
    metrics = model.metrics_of(nats, sizes)
    return nats.double().numpy(), {f"{split}/{name}": float(value) for name, value in metrics.items()}


def by_length(values: ArrayLike, lengths: ArrayLike) -> NDArray[Any]:
    """Values of documents (N,) of these lengths in the order of `DocumentBatches` without a seed."""
    return np.asarray(values)[np.argsort(lengths, kind="stable")]


def _baselines(
    model: LanguageModel, train: PreparedDocuments, test: PreparedDocuments, nats: NDArray[Any]
) -> Metrics:
    """The metrics of n-gram models, and whether the model is better than the trivial one.

    Args:
        model: its vocabulary, and how often it reads `<UNK>`.
        train: some of them are learnt.
        test: judged one at a time.
        nats: of the test documents (N,) by the model, in the order of their length.
    """
    learnt = [[model.vocabulary[number] for number in numbers] for numbers in baseline_documents(train)]
    models = ngram_models(_with_unknown(learnt, model), model.vocabulary)
    each = {name: array("d") for name in models}
    tokens = characters = 0
    for numbers in test:
        document = [model.vocabulary[number] for number in numbers]
        sizes = _sizes(document)
        tokens, characters = tokens + sizes[0], characters + sizes[1]
        for name, baseline in models.items():
            each[name].append(bits(baseline, [document]))
    metrics: Metrics = {}
    for name, found in each.items():
        total = sum(found)
        name = TRIVIAL.get(name, name)
        if name == "trivial":
            metrics |= noise_of(by_length(found, np.diff(test.offsets)) * math.log(2) - nats)
        metrics[f"baseline/{name}/perplexity"] = 2 ** (total / tokens)
        metrics[f"baseline/{name}/bits_per_character"] = total / characters
    return metrics


def baseline_documents(train: PreparedDocuments) -> list[list[int]]:
    """The training documents from which n-gram models are learnt: the first BASELINE_DOCUMENTS.

    Where these have more than BASELINE_TOKENS, it is as many documents in even distances, of each the first
    tokens.
    """
    number = min(len(train), BASELINE_DOCUMENTS)
    if train.offsets[number] <= BASELINE_TOKENS:
        if number < len(train):
            print(f"the n-gram models are learnt from the first {number} of {len(train)} training documents")
        return [train[row] for row in range(number)]
    longest = BASELINE_TOKENS // number
    print(
        f"the n-gram models are learnt from the first {longest} tokens of {number} of {len(train)} training "
        "documents, in even distances"
    )
    return [train[row][:longest] for row in evenly(len(train), number).tolist()]


def _read_corpus(
    corpus: Iterable[str], poems: list[str], rhymes: dict[str, int], tones: dict[str, int]
) -> tuple[set[str], Metrics]:
    """Read the training documents once, one at a time.

    Args:
        corpus: the documents.
        poems: that were generated.
        rhymes: of characters.
        tones: of characters.

    Returns:
        The n-grams of generated poems that occur in the corpus; of its regular poems the share of lines that
        rhyme, and of those with 4 or 8 verses, since longer ones are in the old style, the share of regulated
        ones.
    """
    wanted, known = set(_ngrams(poems, COPY_LENGTH)), set[str]()
    same = lines = regulated = short = 0
    for document in corpus:
        known.update(wanted.intersection(_ngrams([document], COPY_LENGTH)))
        if is_regular(document):
            verses = verses_of(document)
            pairs = rhyming(verses, rhymes)
            same, lines = same + sum(pairs), lines + len(pairs)
            if tones and len(verses) in (4, 8):
                regulated, short = regulated + is_regulated(verses, tones), short + 1
    return known, {"rhyme": same / max(lines, 1), "regulated": regulated / max(short, 1)}


def _of_tokens(vocabulary: list[str], values: list[int | None] | None) -> dict[str, int]:
    """The rhymes or tones of tokens that have one; none if they were not prepared."""
    pairs = zip(vocabulary, values or [], strict=False)
    return {token: value for token, value in pairs if value is not None}


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


def copied(poems: list[str], known: set[str]) -> float:
    """Return the share of n-grams that occur in the corpus, of which `known` has all of these poems."""
    found = _ngrams(poems, COPY_LENGTH)
    return sum(ngram in known for ngram in found) / max(len(found), 1)


def rhyming(verses: list[str], rhymes: dict[str, int]) -> list[bool]:
    """For each line of a poem but the first, whether it rhymes with the line before it."""
    return [rhymes.get(a[-1], -1) == rhymes.get(b[-1], -2) for a, b in pairwise(verses[1::2])]


def rhyme_rate(poems: list[str], rhymes: dict[str, int]) -> float:
    """Return the share of lines that rhyme with the line before them in the same poem."""
    found = [same for poem in poems for same in rhyming(verses_of(poem), rhymes)]
    return sum(found) / max(len(found), 1)


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
    metrics: Metrics = {}
    for split in ("validation", "test"):
        blocks = ((torch.from_numpy(block),) for block in _windows(prepared, split, width))
        nats, found = _scores(model, blocks, split)
        metrics |= found
    train = blocks_of_contexts(*load_split(prepared, "train"), width)
    counted = CountedVectors(train, len(vocabulary), model.vectors.shape[1])
    targets: list[NDArray[Any]] = []
    right: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("test", "baseline/counting", "baseline/trivial")
    }
    for block in _windows(prepared, "test", width):
        targets.append(block[:, width].copy())
        with torch.inference_mode():
            answers = model(model.split(torch.from_numpy(block).long())[0]).numpy().argmax(axis=1)
        right["test"].append(answers == targets[-1])
        right["baseline/counting"].append(counted.scores(block).argmax(axis=1) == targets[-1])
        right["baseline/trivial"].append(counted.prior.argmax() == targets[-1])
    target = np.concatenate(targets)
    for name, words in right.items():
        metrics[f"{name}/accuracy"] = float(np.concatenate(words).mean())
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


def _windows(prepared: Path, split: str, width: int) -> Iterator[NDArray[Any]]:
    """The words of a split in their contexts, as `contexts`, ROWS_AT_ONCE at a time."""
    return joined(blocks_of_contexts(*load_split(prepared, split), width), ROWS_AT_ONCE)


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
