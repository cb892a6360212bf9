"""Training, going on and predicting through the command line, in a clone where the pipeline has run."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.cli import main
from src.core.errors import exit_with_message

CONFIG = Path("configs/poems.yaml")
BUNDLE = Path("models/poems")
STEPS = 8


@pytest.fixture
def project(
    clones: tuple[Path, Path],
    settings_of_the_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The working folder is a clone that trains three short epochs of poems."""
    folder = tmp_path / "project"
    shutil.copytree(clones[0], folder, ignore=shutil.ignore_patterns(".git", ".dvc"))
    monkeypatch.chdir(folder)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["checkpoint_seconds"] = 0
    config["portable"] = True  # one process trains all
    config["trainer"] = {"max_epochs": 3, "limit_train_batches": STEPS, "gradient_clip_val": 1}
    CONFIG.write_text(yaml.safe_dump(config), encoding="utf-8")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["src.cli", *arguments])
    main()


def fit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train; the manifest of the bundle."""
    run(monkeypatch, "fit", "--config", str(CONFIG))
    return json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "network",
    [
        {"class_path": "src.text.networks.Transformer", "init_args": {"embedding_size": 16}},
        {"class_path": "src.text.networks.Recurrent", "init_args": {"cell": "lstm", "layers": 2}},
    ],
    ids=["transformer", "lstm"],
)
def test_other_networks_train_and_write(
    network: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["model"]["init_args"]["network"] = network
    config["trainer"]["max_epochs"] = 1
    CONFIG.write_text(yaml.safe_dump(config), encoding="utf-8")
    fit(monkeypatch)
    run(monkeypatch, "predict", "--config", str(CONFIG), "--data.compose.start=春")
    assert re.search(r"^春\w{4}，\w{5}。\w{5}，\w{5}。$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("project")
def test_windows_train_as_the_course_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "fit", "--config", str(CONFIG), "--data.window=24", "--trainer.max_epochs=1")
    assert "test/perplexity" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_poems_are_written_to_a_file_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--data.compose.acrostic=春夏秋冬",
        "--data.compose.acrostic_of=verse",
        "--data.compose.count=3",
    ]
    run(monkeypatch, "predict", "--config", str(CONFIG), *options, "--data.output=new.txt")
    poems = Path("new.txt").read_text(encoding="utf-8").splitlines()
    assert len(poems) == 3
    assert all(re.fullmatch(r"春\w{4}，夏\w{4}。秋\w{4}，冬\w{4}。", poem) for poem in poems)
    assert capsys.readouterr().out.splitlines() == [*poems, "3 predictions: new.txt"]


@pytest.mark.usefixtures("project")
def test_neighbours_are_written_to_a_file_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.words=[学习, 模型]", "--data.neighbours=3"]
    run(monkeypatch, "predict", "--config", "configs/words.yaml", *options)
    with Path("neighbours.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["word"] for row in rows] == ["学习"] * 3 + ["模型"] * 3
    cosines = [float(row["cosine"]) for row in rows[:3]]
    assert cosines == sorted(cosines, reverse=True)
    near = " ".join(row["neighbour"] for row in rows[:3])
    assert capsys.readouterr().out.splitlines()[0] == f"学习: {near}"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.compose.start=春天", "error: compose.start must be one character, found 2: 春天"),
        ("--data.compose.temperature=-1", "error: compose.temperature must be at least 0: -1.0"),
        ("--data.compose.top_p=0", "error: compose.top_p must be above 0 and at most 1: 0.0"),
        ("--data.compose.acrostic=春夏秋", "error: compose.acrostic has 3 characters, the poem 2 lines"),
        ("--data.compose.length=6", "Expected a typing.Literal[5, 7]"),
        ("--data.compose.lenght=5", "lenght"),
    ],
)
def test_what_cannot_be_written_ends_with_2(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["src.cli", "predict", "--config", str(CONFIG), option])
    with pytest.raises(SystemExit) as ended:
        exit_with_message(main)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
