"""A pretrained language model from a folder, which the test makes; it needs the extra `transformers`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.export.export import export
from src import load
from src.core.errors import ConfigurationError, DataError
from src.text.classifier import TextClassifier
from src.text.data import LabelledData
from src.text.prepare import Preparation, prepare
from src.text.preprocessing import BOS, EOS, SPECIAL, UNK, Preprocessing, TextEncoder
from tests.support import cli, require_same_weights

transformers = pytest.importorskip("transformers")

from src.text.language_models import PretrainedTransformer, read_language_model  # noqa: E402

PREPARED = Path("data/prepared/mine")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好坏书菜很的,", "good", "bad", "##ly", "book", "the"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT as it would be published for its pretraining, with random weights."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    configuration = transformers.BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=32, **sizes, id2label={0: "x"}
    )
    transformers.BertForPreTraining(configuration).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Path, settings_of_the_process: None
) -> Preprocessing:
    """The prepared task `mine` in the current folder: Chinese and English praise and blame."""
    monkeypatch.chdir(tmp_path)
    rows = [f"the {kind} book{'s' * number},{kind}" for kind in ("good", "bad") for number in range(20)]
    chinese = {"好": "good", "坏": "bad"}
    rows += [f"{'很' * number}{kind}的书,{name}" for kind, name in chinese.items() for number in range(9)]
    raw = Path("raw")
    raw.mkdir()
    (raw / "mine.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    shutil.copytree(published, raw / "bert")
    settings = {"text": "text", "label": "label", "tokenizer": "subwords", "language_model": "bert"}
    prepare(raw, PREPARED, Preparation(**settings))
    shutil.rmtree(raw)  # nothing needs it
    return Preprocessing.load(PREPARED)


def configure(**model: Any) -> None:
    content = {
        "task": "mine",
        "monitor": "validation/loss",
        "trainer": {"accelerator": "cpu", "max_epochs": 3},
        "data": {"class_path": "src.text.data.LabelledData", "init_args": {"batch_size": 16}},
        "model": {
            "class_path": "src.text.classifier.TextClassifier",
            "init_args": {
                "network": "src.text.language_models.PretrainedTransformer",
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}},
                **model,
            },
        },
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content))


def test_the_tokens_are_those_of_the_language_model(texts: Preprocessing, published: Path) -> None:
    encoder = TextEncoder(texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(published)
    text = "The goodly book, 很好的abc"
    numbers = encoder.document(encoder.tokens(encoder.clean(text)))
    assert numbers[0] == BOS
    assert numbers[-1] == EOS
    expected = tokenizer(text).input_ids
    unknown = tokenizer.unk_token_id
    assert numbers[1:-1] == [UNK if each == unknown else each + len(SPECIAL) for each in expected[1:-1]]
    network = PretrainedTransformer(len(texts.vocabulary), 2)
    network.build(texts.language_model)
    assert network.numbers[torch.tensor(numbers)].tolist() == expected
    assert texts.labels is not None
    assert texts.labels.longest == 30  # 32 with both ends


@pytest.mark.usefixtures("texts")
def test_the_network_is_that_of_transformers(published: Path) -> None:
    learnt = Preprocessing.load(PREPARED)
    model = TextClassifier(learnt, PretrainedTransformer).eval()
    assert isinstance(model.network, PretrainedTransformer)
    model.network.load(PREPARED)
    whole = transformers.AutoModel.from_pretrained(published).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(published)
    encoder = TextEncoder(learnt)
    rows = [torch.tensor(encoder.document(encoder.tokens(text))) for text in ("the good book", "很坏")]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with torch.inference_mode():
        hidden = whole(**tokenizer(["the good book", "很坏"], padding=True, return_tensors="pt"))
        torch.testing.assert_close(model(tokens), model.network.output(hidden.last_hidden_state[:, 0]))


@pytest.mark.usefixtures("texts")
def test_training_predictions_and_export(published: Path) -> None:
    groups = [{"pattern": r"network\.output", "lr": 0.03}]
    configure(freeze="body", unfreeze_at=1, parameter_groups=groups)
    assert cli("fit", "--config=mine.yaml", "--trainer.max_epochs=8") == 0
    Path("new.txt").write_text("the good book\n很坏的书\n", encoding="utf-8")
    assert cli("predict", "--config=mine.yaml", "--data.input=new.txt") == 0
    found = load("models/mine").predict(["the good book", "很坏的书"])
    assert found["label"].tolist() == ["good", "bad"]
    assert str(published) not in Path("models/mine/preprocessing.json").read_text(encoding="utf-8")
    export("mine")
    assert json.loads(Path("exports/mine/inputs.json").read_text(encoding="utf-8"))["classes"] == [
        "bad",
        "good",
    ]


@pytest.mark.usefixtures("texts")
def test_a_frozen_body_is_that_of_the_file() -> None:
    configure(freeze="body")
    assert cli("fit", "--config=mine.yaml", "--trainer.max_epochs=1") == 0
    weights = load_file("models/mine/model.safetensors")
    body = load_file(PREPARED / "weights.safetensors")
    assert {name for name in weights if not name.startswith("network.output")} == {
        f"network.body.{name}" for name in body
    }
    assert all(torch.equal(weights[f"network.body.{name}"], value) for name, value in body.items())


# 3 steps an epoch: before, at and after the unfreezing of epoch 1
@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_killed_training_ends_with_the_same_weights(steps: int) -> None:
    configure(freeze="body", unfreeze_at=1)
    require_same_weights(TextClassifier, steps)


@pytest.mark.usefixtures("texts")
def test_the_tokens_serve_other_networks(texts: Preprocessing) -> None:
    network = {"class_path": "src.text.encoders.BagOfEmbeddings", "init_args": {"embedding_size": 8}}
    configure(network=network)
    assert cli("fit", "--config=mine.yaml", "--trainer.max_epochs=1") == 0
    assert LabelledData(PREPARED).preprocessing == texts


def test_folders_that_cannot_be_used(tmp_path: Path, published: Path) -> None:
    with pytest.raises(DataError, match=r"there is no config\.json; prepare\.language_model names a folder"):
        read_language_model(tmp_path)
    damaged = shutil.copytree(published, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match="damaged: transformers cannot read it"):
        read_language_model(damaged)
    remote = shutil.copytree(published, tmp_path / "remote")
    settings = json.loads((remote / "config.json").read_text())
    settings |= {"auto_map": {"AutoModel": "code.Model"}, "model_type": "mine"}
    (remote / "config.json").write_text(json.dumps(settings))
    (remote / "code.py").write_text("raise SystemExit('code of the folder was run')")
    with pytest.raises(DataError, match="remote: transformers cannot read it"):
        read_language_model(remote)
    with pytest.raises(ConfigurationError, match="needs its own tokens and no vectors"):
        Preparation(label="label", language_model="bert")
    with pytest.raises(ConfigurationError, match=r"needs texts that prepare\.language_model encodes"):
        PretrainedTransformer(9, 2).build(None)
