"""The classifier of texts: networks, training, evaluation, predictions and export."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from pipelines.evaluate import evaluate
from pipelines.export.export import export
from src import load
from src.bundle.bundle import Bundle
from src.core.documents import write_json
from src.core.errors import ConfigurationError
from src.text.classifier import TextClassifier
from src.text.data import PreparedDocuments, load_split
from src.text.encoders import BagOfEmbeddings, Bidirectional, Convolutional, Pool, TransformerEncoder
from src.text.evaluate_classes import STRENGTHS, _logistic_regression, _texts, _tokens_and_pairs
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import PAD, SPECIAL, UNK, Labels, Preprocessing
from src.training.calibration import fit_temperature
from src.training.metrics import calibration_error
from tests.support import cli

ENCODERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mean": (BagOfEmbeddings, {}),
    "pairs": (BagOfEmbeddings, {"pair_buckets": 50}),
    "hidden layer, maximum": (BagOfEmbeddings, {"hidden_size": 8, "pooling": "max"}),
    "attention": (BagOfEmbeddings, {"pooling": "attention"}),
    "convolutions": (Convolutional, {"channels": 4, "widths": [1, 3]}),
    "gru": (Bidirectional, {"hidden_size": 4}),
    "lstm, attention": (Bidirectional, {"cell": "lstm", "hidden_size": 4, "pooling": "attention"}),
    "transformer": (TransformerEncoder, {"heads": 2}),
}


@pytest.mark.parametrize(("network", "options"), ENCODERS.values(), ids=ENCODERS)
def test_padding_changes_no_logit(network: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    built = network(20, 3, embedding_size=8, **options).eval()
    tokens = torch.randint(UNK, 20, (4, 6))
    with torch.inference_mode():
        short = built(tokens)
        long = built(torch.nn.functional.pad(tokens, (0, 5), value=PAD))
    assert short.shape == (4, 3)
    torch.testing.assert_close(long, short)


def test_pooling() -> None:
    vectors = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [9.0, 9.0]]])
    present = torch.tensor([[[True], [True], [False]]])
    assert Pool(2, "mean")(vectors, present).tolist() == [[2, -3]]
    assert Pool(2, "max")(vectors, present).tolist() == [[3, -2]]
    pool = Pool(2, "attention")
    assert pool.score is not None
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[torch.log(torch.tensor(3.0)) / 2, 0]]))
    # weights 1/4 and 3/4
    torch.testing.assert_close(pool(vectors, present), torch.tensor([[2.5, -3.5]]))


def test_both_directions_read_the_document_only() -> None:
    torch.manual_seed(0)
    network = Bidirectional(20, 2, embedding_size=8, hidden_size=4).eval()
    layer = torch.nn.GRU(8, 4, batch_first=True, bidirectional=True)
    own = network.directions
    weights = dict(own.forwards.state_dict())
    weights |= {f"{name}_reverse": value for name, value in own.backwards.state_dict().items()}
    layer.load_state_dict(weights)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        expected = network.output(layer(network.embedding(tokens))[0].amax(dim=1))
        torch.testing.assert_close(network(tokens), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown_share": 2}, "unknown_share"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"token_dropout": -1}, "token_dropout"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], message: str) -> None:
    labels = Labels("label", ["a", "b"], "text", 10)
    preprocessing = Preprocessing("char", vocabulary=["<PAD>"] * 8, counts=[1] * 8, labels=labels)
    with pytest.raises(ConfigurationError, match=message):
        TextClassifier(preprocessing, BagOfEmbeddings, **options)


# ----------------------------------------------------------------------- from the table to predictions

GOOD = ["好", "棒", "美", "喜", "快", "香", "甜", "新", "净", "暖"]
BAD = ["差", "坏", "丑", "慢", "脏", "苦", "旧", "冷", "贵", "假"]
THINGS = ["房", "书", "菜", "衣", "车", "店", "花", "茶", "鞋", "灯"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_of_the_process: None) -> Path:
    """A folder with prepared texts of two classes that single characters tell apart."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{thing}很{word},{name}"
        for name, words in (("好评", GOOD), ("差评", BAD))
        for word in words
        for thing in THINGS
    ]
    raw = Path("data/raw/mine")
    raw.mkdir(parents=True)
    (raw / "mine.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = Preparation(text="text", label="label", test_share=0.3)
    prepare(raw, Path("data/prepared/mine"), settings)
    return tmp_path


def configure(network: str = "BagOfEmbeddings", **options: Any) -> None:
    content = {
        "task": "mine",
        "monitor": "validation/loss",
        "trainer": {"accelerator": "cpu", "max_epochs": 5},
        "data": {"class_path": "src.text.data.LabelledData", "init_args": {"batch_size": 8}},
        "model": {
            "class_path": "src.text.classifier.TextClassifier",
            "init_args": {
                "network": {"class_path": f"src.text.encoders.{network}", "init_args": options},
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}},
            },
        },
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_training_evaluation_and_predictions(project: Path) -> None:
    configure()
    assert cli("fit", "--config=mine.yaml") == 0
    evaluate("mine")
    metrics = json.loads(Path("reports/mine/metrics.json").read_text(encoding="utf-8"))
    assert metrics["test/accuracy"] > 0.95
    assert metrics["baseline/tf_idf/accuracy"] > 0.95
    assert metrics["baseline/trivial/accuracy"] == pytest.approx(0.5, abs=0.1)
    tables = Path("reports/mine/tables")
    words = (tables / "class_words.md").read_text(encoding="utf-8").splitlines()
    assert words[2].startswith("| 好评 |")
    assert set(words[2].split("|")[2].split()[:4]) <= {*GOOD, "很"}
    assert (tables / "most_wrong.md").is_file()
    assert Path("reports/mine/plots/reliability.png").is_file()
    assert len(np.load(tables / "test_losses.npy")) == 60

    Path("new.txt").write_text("鞋很香\n\n茶很苦\n", encoding="utf-8")
    assert cli("predict", "--config=mine.yaml", "--data.input=new.txt") == 0
    found = pd.read_csv("predictions/mine.csv")
    assert found["row"].tolist() == [1, 3]
    assert found["label"].tolist() == ["好评", "差评"]
    same = load("models/mine").predict(["鞋很香", "茶很苦"])
    assert same["label"].tolist() == ["好评", "差评"]
    np.testing.assert_allclose(same["probability"], found["probability"], atol=1e-6)
    assert cli("predict", "--config=mine.yaml", "--data.input=new.txt", "--data.all_probabilities=true") == 0
    every = pd.read_csv("predictions/mine.csv")
    assert list(every) == ["row", "label", "probability", "probability_好评", "probability_差评"]
    assert every["probability_差评"].tolist()[1] == found["probability"][1]
    same = load("models/mine").predict(["鞋很香", "茶很苦"], all_probabilities=True)
    np.testing.assert_allclose(same["probability_好评"], every["probability_好评"], atol=1e-6)


def test_the_temperature_fits_the_validation_texts_and_is_used_everywhere(project: Path) -> None:
    train = ["fit", "--config=mine.yaml", "--trainer.max_epochs=2"]
    configure()
    assert cli(*train, "--model.calibrate=true") == 0
    model = Bundle.open(Path("models/mine")).model
    tokens, offsets = map(torch.from_numpy, load_split(Path("data/prepared/mine"), "validation"))
    target = torch.from_numpy(np.load("data/prepared/mine/validation_labels.npy"))
    with torch.inference_mode():
        one_by_one = torch.cat(
            [model(tokens[None, begin:end].long()) for begin, end in pairwise(offsets.tolist())]
        )
    logits = model.logits_of(tokens, offsets)
    torch.testing.assert_close(logits, one_by_one)
    temperature = model.temperature.item()
    assert temperature == pytest.approx(fit_temperature(logits, target), rel=1e-3)
    assert temperature < 0.9  # after two epochs, the answers are right and not yet confident
    torch.testing.assert_close(model.predict(logits), (logits / temperature).softmax(dim=1))

    evaluate("mine")
    metrics = json.loads(Path("reports/mine/metrics.json").read_text(encoding="utf-8"))
    assert metrics["validation/ece"] < calibration_error(logits.softmax(dim=1), target)
    export("mine", samples=50)  # compares its probabilities with those of the bundle
    found = load("models/mine").predict(["鞋很香"], all_probabilities=True)
    assert cli(*train) == 0
    before = load("models/mine").predict(["鞋很香"], all_probabilities=True)
    odds = [np.log(one["probability_好评"] / one["probability_差评"])[0] for one in (before, found)]
    assert odds[0] == pytest.approx(odds[1] * temperature, rel=1e-4)
    plain = Bundle.open(Path("models/mine")).model
    assert "temperature" not in plain.state_dict()
    torch.testing.assert_close(plain.logits_of(tokens, offsets), logits, rtol=0, atol=0)


def test_tf_idf_reads_a_sample_of_many_documents_one_at_a_time(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Path("data/prepared/mine")
    learnt = Preprocessing.load(prepared)
    assert learnt.labels is not None
    target = {name: np.load(prepared / f"{name}_labels.npy") for name in ("train", "validation", "test")}
    monkeypatch.setattr("src.text.evaluate_classes.WEIGHED_AT_ONCE", 7)
    capsys.readouterr()
    answers, _ = _logistic_regression(prepared, learnt, target, learnt.labels)
    assert capsys.readouterr().out == ""

    # as with all documents in memory
    def weights(name: str) -> list[list[str]]:
        return [
            [learnt.vocabulary[number] for number in document if number >= len(SPECIAL)]
            for document in PreparedDocuments(prepared, name)
        ]

    counter = TfidfVectorizer(analyzer=_tokens_and_pairs, sublinear_tf=True)
    train, validation, test = (
        counter.fit_transform(weights("train")),
        *map(counter.transform, map(weights, ("validation", "test"))),
    )
    with threadpool_limits(limits=1):
        fitted = [LogisticRegression(C=C, max_iter=1000).fit(train, target["train"]) for C in STRENGTHS]
        losses = [log_loss(target["validation"], one.predict_proba(validation)) for one in fitted]
        best = fitted[int(np.argmin(losses))]
        expected = torch.from_numpy(best.predict_proba(test)).float()
    assert torch.equal(answers, expected.clamp(min=1e-12).log())

    read: dict[str, list[int]] = {}
    get = PreparedDocuments.__getitem__

    def watched(self: PreparedDocuments, row: int) -> list[int]:
        read.setdefault({126: "train", 14: "validation", 60: "test"}[len(self)], []).append(row)
        return get(self, row)

    monkeypatch.setattr(PreparedDocuments, "__getitem__", watched)
    monkeypatch.setattr("src.text.evaluate_classes.BASELINE_DOCUMENTS", 5)
    _logistic_regression(prepared, learnt, target, learnt.labels)
    assert read == {"train": [0, 31, 62, 93, 125], "validation": [0, 3, 6, 9, 13], "test": list(range(60))}
    out = capsys.readouterr().out
    assert "TF-IDF: 5 of 126 train documents, in even distances" in out
    assert "TF-IDF: 5 of 14 validation documents, in even distances" in out


def test_some_test_texts_are_read_for_the_report(tmp_path: Path) -> None:
    texts = ["好,", '"好"', "一\n二\u2028三\r", "", "],"]
    write_json(tmp_path / "texts.json", texts)
    assert _texts(tmp_path / "texts.json", {*range(5)}) == dict(enumerate(texts))
    assert _texts(tmp_path / "texts.json", {4, 1}) == {1: texts[1], 4: texts[4]}
    assert _texts(tmp_path / "texts.json", set()) == {}


def test_a_text_of_unknown_words_is_told(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure()
    assert cli("fit", "--config=mine.yaml", "--trainer.max_epochs=1") == 0
    Path("new.csv").write_text("text\nabc\n鞋很香\n", encoding="utf-8")
    assert cli("predict", "--config=mine.yaml", "--data.input=new.csv") == 0
    assert "1 of 2 texts have no word that the training texts have" in caplog.text
    Path("other.csv").write_text("content\nabc\n", encoding="utf-8")
    assert cli("predict", "--config=mine.yaml", "--data.input=other.csv") == 2


@pytest.mark.parametrize(
    ("network", "options"),
    [("Convolutional", {}), ("Bidirectional", {"hidden_size": 8}), ("TransformerEncoder", {})],
)
def test_other_networks_train_and_export(network: str, options: dict[str, Any], project: Path) -> None:
    configure(network, **options)
    assert cli("fit", "--config=mine.yaml", "--trainer.max_epochs=1") == 0
    export("mine")
    inputs = json.loads(Path("exports/mine/inputs.json").read_text(encoding="utf-8"))
    assert inputs["classes"] == ["好评", "差评"]
