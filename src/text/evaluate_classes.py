"""Evaluate a classifier of texts beside TF-IDF with logistic regression: metrics, plots and tables.

N documents, K classes
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits
from torch import Tensor

from src.bundle.bundle import Bundle
from src.core.documents import parsed_json
from src.reporting.figures import plot_confusion_matrix
from src.reporting.noise import gains_of_classes, noise_of, write_losses
from src.reporting.reliability import plot_reliability
from src.reporting.rows import evenly
from src.reporting.tables import markdown_table, scores_of_classes
from src.text.classifier import TextClassifier
from src.text.data import PreparedDocuments, load_split
from src.text.preprocessing import SPECIAL, Labels, Preprocessing
from src.training.metrics import CALIBRATION_BINS, calibration_error

BASELINE_DOCUMENTS = 50_000  # from which it is learnt, and by which its strength is chosen
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of the logistic regression, chosen by the validation documents
WEIGHED_AT_ONCE = 2_000  # documents whose TF-IDF weights are in memory
MOST_WRONG = 12
LONGEST_SHOWN = 80  # characters of a text
WORDS_OF_A_CLASS = 10

Metrics = dict[str, float]
Codes = NDArray[np.int64]


def evaluate_classes(
    model: TextClassifier, bundle: Bundle, prepared: Path, plots: Path, tables: Path
) -> Metrics:
    """Evaluate a classifier on the validation and test documents.

    Args:
        model: in evaluation mode.
        bundle: of the model.
        prepared: data/prepared/<task>.
        plots: a folder, to which the confusion matrix and the reliability are written.
        tables: a folder, to which the losses, the classes, the most wrong texts and the words of the baseline
            are written.
    """
    preprocessing: Preprocessing = bundle.preprocessing
    labels = preprocessing.labels
    assert labels is not None
    target = {name: _codes(prepared, name) for name in ("train", "validation", "test")}
    outputs = {
        name: model.logits_of(*map(torch.from_numpy, load_split(prepared, name)))
        for name in ("validation", "test")
    }
    baseline, words = _logistic_regression(prepared, preprocessing, target, labels)
    evaluated = {
        "validation": (outputs["validation"], target["validation"]),
        "test": (outputs["test"], target["test"]),
        "baseline/tf_idf": (baseline, target["test"]),
    }
    trivial = model.trivial_outputs(torch.from_numpy(target["train"])).expand(len(target["test"]), -1)
    evaluated["baseline/trivial"] = (trivial, target["test"])
    metrics = {
        f"{prefix}/{name}": float(value)
        for prefix, (logits, codes) in evaluated.items()
        for name, value in model.metrics_of(logits, torch.from_numpy(codes)).items()
    }
    # a baseline has no temperature
    metrics |= {
        f"{prefix}/ece": calibration_error(
            logits.softmax(dim=1) if prefix.startswith("baseline/") else model.predict(logits),
            torch.from_numpy(codes),
        )
        for prefix, (logits, codes) in evaluated.items()
    }
    answers, ignorant = (logits.argmax(dim=1).numpy() for logits in (outputs["test"], trivial))
    metrics |= noise_of(gains_of_classes(answers, ignorant, target["test"]))
    write_losses(answers != target["test"], tables)
    plot_confusion_matrix(
        target["test"], answers, labels.classes, labels.name, plots / "confusion_matrix.png"
    )
    scores = scores_of_classes(target["test"], answers, len(labels.classes))
    classes = [[name, *row] for name, row in zip(labels.classes, scores, strict=True)]
    probabilities = model.predict(outputs["test"])
    right = torch.from_numpy(target["test"])
    plot_reliability(probabilities, right, CALIBRATION_BINS, plots / "reliability.png", "texts")
    for name, content in {
        "classes": markdown_table([labels.name, "texts", "precision", "recall", "F1"], classes),
        "most_wrong": _most_wrong_table(prepared, target["test"], probabilities.numpy(), labels),
        "class_words": words,
    }.items():
        (tables / f"{name}.md").write_text(content, encoding="utf-8")
    return metrics


def _codes(prepared: Path, split: str) -> Codes:
    codes: Codes = np.load(prepared / f"{split}_labels.npy")
    return codes


def _logistic_regression(
    prepared: Path, preprocessing: Preprocessing, target: dict[str, Codes], labels: Labels
) -> tuple[Tensor, str]:
    """Logistic regression on TF-IDF weights of tokens and pairs of tokens, learnt from training documents.

    Returns:
        Log-probabilities (N, K) of the test documents; and a table with the tokens and pairs that speak most
        for each class.
    """
    counter = TfidfVectorizer(analyzer=_tokens_and_pairs, sublinear_tf=True)
    vocabulary = preprocessing.vocabulary
    documents = {name: PreparedDocuments(prepared, name) for name in target}
    # in even distances, since the documents of a class may be neighbours
    some = {name: evenly(len(documents[name]), BASELINE_DOCUMENTS) for name in ("train", "validation")}
    codes = {name: target[name][rows] for name, rows in some.items()}
    for name, rows in some.items():
        if len(rows) < len(documents[name]):
            print(f"TF-IDF: {len(rows)} of {len(documents[name])} {name} documents, in even distances")
    weights: dict[str, csr_matrix] = {
        "train": counter.fit_transform(_words(documents["train"], some["train"], vocabulary)),
        "validation": counter.transform(_words(documents["validation"], some["validation"], vocabulary)),
    }
    answers = torch.zeros(len(target["test"]), len(labels.classes))
    # one thread: the sums do not depend on the number of cores
    with threadpool_limits(limits=1):
        fitted = [
            LogisticRegression(C=C, max_iter=1000).fit(weights["train"], codes["train"]) for C in STRENGTHS
        ]
        known = np.isin(codes["validation"], codes["train"])
        losses = [
            log_loss(
                codes["validation"][known],
                one.predict_proba(weights["validation"][known]),
                labels=one.classes_,
            )
            for one in fitted
        ]
        best = fitted[int(np.argmin(losses))]
        for rows in torch.arange(len(answers)).split(WEIGHED_AT_ONCE):
            found = counter.transform(_words(documents["test"], rows.numpy(), vocabulary))
            answers[rows[:, None], torch.from_numpy(best.classes_)] = torch.from_numpy(
                best.predict_proba(found)
            ).float()
    return answers.clamp_(min=1e-12).log_(), _words_table(best, counter, labels)


def _words(
    documents: PreparedDocuments, rows: NDArray[np.int64], vocabulary: list[str]
) -> Iterator[list[str]]:
    """The tokens of some documents, without special ones."""
    for row in rows.tolist():
        yield [vocabulary[number] for number in documents[row] if number >= len(SPECIAL)]


def _tokens_and_pairs(document: list[str]) -> list[str]:
    return document + [f"{a} {b}" for a, b in pairwise(document)]


def _words_table(fitted: LogisticRegression, counter: TfidfVectorizer, labels: Labels) -> str:
    names = counter.get_feature_names_out()
    weights = fitted.coef_
    if len(fitted.classes_) == 2:  # a row for the second class only
        weights = np.vstack([-weights[0], weights[0]])
    rows = []
    for code, row in zip(fitted.classes_, weights, strict=True):
        # rounded, since the last digits depend on the processor; ties in the order of the names
        order = np.lexsort([names, -row.round(4)])[:WORDS_OF_A_CLASS]
        rows.append([labels.classes[code], "  ".join(names[order])])
    return markdown_table([labels.name, "words and pairs of words, TF-IDF with logistic regression"], rows)


def _most_wrong_table(
    prepared: Path, target: Codes, probabilities: NDArray[np.floating], labels: Labels
) -> str:
    """The texts whose right class got the lowest probability, of those that are answered wrongly."""
    own = probabilities[np.arange(len(target)), target].astype(np.float64).round(4)
    answers = probabilities.argmax(axis=1)
    order = np.argsort(own, kind="stable")
    shown_rows = order[answers[order] != target[order]][:MOST_WRONG].tolist()
    texts = _texts(prepared / "test_texts.json", set(shown_rows))
    rows = []
    for number in shown_rows:
        text = " ".join(texts[number].split())
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
        classes = (labels.classes[target[number]], labels.classes[answers[number]])
        rows.append([shown, *classes, f"{own[number]:.4f}"])
    return markdown_table(["text", labels.name, "answer", "probability of the right class"], rows)


def _texts(path: Path, rows: set[int]) -> dict[int, str]:
    """Some texts of a JSON array, which `write_json` has written with one entry a line."""
    with path.open(encoding="utf-8") as file:
        entries = enumerate(islice(file, 1, None))  # behind the bracket
        return {row: parsed_json(line.strip().removesuffix(",")) for row, line in entries if row in rows}
