"""Requests of `predict`: poems and neighbours."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.bundle.bundle import weights_of, write_bundle
from src.bundle.predict import predict
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError
from src.text.model import LanguageModel
from src.text.networks import Recurrent
from src.text.predict import write_neighbours
from src.text.preprocessing import SPECIAL, Preprocessing

VOCABULARY = [*SPECIAL, *"甲乙丙，。"]
PREPROCESSING = Preprocessing(tokenizer="char", vocabulary=VOCABULARY, counts=[1] * len(VOCABULARY))
VECTORS = torch.zeros(11, 2)
VECTORS[6:] = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_of_the_process: None) -> str:
    """A bundle of an untrained language model; the working folder is empty otherwise."""
    monkeypatch.chdir(tmp_path)
    Path("prepared").mkdir()
    PREPROCESSING.save(Path("prepared"))
    write_manifest(Path("prepared"))
    sizes = {"embedding_size": 6, "hidden_size": 8}
    network = {"class_path": "src.text.networks.Recurrent", "init_args": sizes}
    config = {
        "model": {"class_path": "src.text.model.LanguageModel", "init_args": {"network": network}},
        "threads": 1,
        "trainer": {"accelerator": "cpu"},
    }
    model = LanguageModel(PREPROCESSING, lambda size: Recurrent(size, embedding_size=6, hidden_size=8))
    write_bundle(Path("models/poems"), weights_of(model), "poems", json.dumps(config), Path("prepared"), {})
    return "models/poems"


def test_poems_are_written_one_a_line_with_the_start_as_given(
    bundle: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = ["--data.compose.acrostic=甲龘", "--data.compose.count=12", "--data.output=new/poems.txt"]
    predict(["--bundle", bundle, *options])
    assert "not in the vocabulary, so the network reads <UNK>: 龘" in caplog.text
    poems = Path("new/poems.txt").read_text(encoding="utf-8").splitlines()
    assert len(poems) == 12
    assert all(re.fullmatch(r"甲\w{4}，\w{5}。龘\w{4}，\w{5}。", poem) for poem in poems)
    assert capsys.readouterr().out.splitlines() == [*poems[:10], "12 predictions: new/poems.txt"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.compose.start=春天", r"compose\.start must be one character, found 2: 春天"),
        ("--data.compose.length=6", r"Expected a typing\.Literal\[5, 7\]"),
        ("--data.compose.lenght=5", "lenght"),
    ],
)
def test_impossible_requests_are_refused(bundle: str, option: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        predict(["--bundle", bundle, option])


def test_neighbours_are_written_nearest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = SimpleNamespace(vectors=VECTORS, device=torch.device("cpu"))
    output = tmp_path / "new" / "neighbours.csv"
    assert write_neighbours(model, PREPROCESSING, ["甲", "。"], 2, output) == 2
    assert output.read_text(encoding="utf-8") == (
        "word,neighbour,cosine\n甲,乙,0.9988\n甲,。,0.7071\n。,乙,0.7415\n。,甲,0.7071\n"
    )
    assert capsys.readouterr().out == "甲: 乙 。\n。: 乙 甲\n"
