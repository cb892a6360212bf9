"""The command `predict`: bundles copied to another place, without data/, params.yaml and configs/."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from src.bundle.bundle import FORMAT
from tests.support import cli

# a task of each kind of model, and the arguments of its predictions
REQUESTS: dict[str, list[str]] = {
    "house_prices": ["--data.input", "data/raw/house_prices/test.csv"],
    "spiral": ["--data.input", "data/raw/spiral/train.csv"],
    "autoregression": ["--data.input", "data/raw/autoregression/train.csv"],
    "fashion_mnist": ["--data.input", "data/raw/fashion_mnist/t10k-images-idx3-ubyte.gz"],
    "digits": ["--data.input", "digits.csv"],
    "poems": ["--data.compose.start", "春", "--data.compose.count", "3"],
    "words": ["--data.words", "[学习, 模型]", "--data.neighbours", "3"],
    "reviews": ["--data.input", "data/raw/reviews/reviews.csv"],
    "bowl": ["--data.input", "data/raw/bowl/start.csv"],
}
pytestmark = [pytest.mark.usefixtures("settings_of_the_process"), pytest.mark.tasks(*REQUESTS)]


@pytest.fixture
def elsewhere(finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bundles under other names and with raw files, and nothing else of the project."""
    folder, clone = tmp_path / "another place", finished(*REQUESTS)
    for task in REQUESTS:
        shutil.copytree(clone / "models" / task, folder / f"the {task} model")
    (folder / "data").mkdir()
    (folder / "data/raw").symlink_to(clone / "data/raw")
    rows = list(csv.reader((folder / "data/raw/digits/train.csv").open(encoding="utf-8", newline="")))
    label = rows[0].index("label")
    with (folder / "digits.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(row[:label] + row[label + 1 :] for row in rows[:20])
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("elsewhere")
def test_a_bundle_alone_predicts_what_it_predicts_in_its_project(
    finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Path.cwd()
    for task, request in REQUESTS.items():
        assert cli("predict", "--bundle", f"the {task} model", *request, "--data.output", f"{task}.out") == 0
        (here / "again").mkdir(exist_ok=True)
        request = [str(here / word) if (here / word).is_file() else word for word in request]
        output = ["--data.output", str(here / "again" / task)]
        monkeypatch.chdir(finished())
        assert cli("predict", "--config", f"configs/{task}.yaml", *request, *output) == 0
        monkeypatch.chdir(here)
        content = Path(f"{task}.out").read_bytes()
        assert content == Path("again", task).read_bytes()
        assert content.count(b"\n") >= 2
    output = capsys.readouterr()
    assert "19 predictions: digits.out\n" in output.out
    assert "error" not in output.err
    assert "predict" not in output.err  # a progress bar is for terminals


SPIRAL, PICTURES = "the spiral model", "the digits model"
POINTS = ["--data.input", "data/raw/spiral/train.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "predict needs a trained model: add --bundle"),
        (["--bundle", "nothing", *POINTS], 2, "nothing/manifest.json is not here"),
        (["--config", "configs/spiral.yaml", *POINTS], 2, "configs/spiral.yaml: there is no such file"),
        (["--config", "empty.yaml", *POINTS], 2, "empty.yaml is no configuration of a task"),
        (["--config", "deep.yaml", *POINTS], 2, "deep.yaml is no configuration of a task"),
        (["--bundle", SPIRAL, "--config", "x.yaml", *POINTS], 2, "not allowed with argument --bundle"),
        (["--bundle", SPIRAL], 2, "arguments are required: --data.input"),
        (["--bundle", SPIRAL, *POINTS, "--trainer.max_epochs", "3"], 2, "--trainer.max_epochs"),
        (["--bundle", SPIRAL, *POINTS, "--model.network.dropout", "0"], 2, "--model.network.dropout"),
        (["--bundle", SPIRAL, *POINTS, "--data.batch_size", "3"], 2, "--data.batch_size"),
        (["--bundle", "the poems model", "--data.compose.length", "6"], 2, "--data.compose.length"),
        (["--bundle", "the words model", "--data.words", "[龘]"], 2, "not in the vocabulary: 龘"),
        (["--bundle", SPIRAL, "--data.input", "none.csv"], 3, "none.csv: there is no such file"),
        (["--bundle", SPIRAL, "--data.input", f"{SPIRAL}/model.safetensors"], 3, "expected one of .csv"),
        (["--bundle", SPIRAL, "--data.input", "weights.csv"], 3, "weights.csv: not UTF-8 at byte"),
        (["--bundle", PICTURES, "--data.input", "weights.png"], 3, "weights.png: not a readable image"),
        (["--bundle", PICTURES, "--data.input", "data/raw/words/words.txt"], 3, "expected a picture"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_mistakes_are_reported_in_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("weights.csv", "weights.png"):
        Path(name).write_bytes(b"\xff" + Path(SPIRAL, "model.safetensors").read_bytes())
    Path("empty.yaml").touch()
    Path("deep.yaml").write_text("[" * 5000)
    before = sorted(Path().rglob("*"))
    assert cli("predict", *arguments) == code
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "preprocessing.json"])
@pytest.mark.usefixtures("elsewhere")
def test_a_changed_byte_of_a_bundle_is_reported(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(SPIRAL, name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cli("predict", "--bundle", SPIRAL, *POINTS) == 4
    assert f"error: {SPIRAL}/{name}: sha256 " in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_a_bundle_of_another_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(SPIRAL, "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": 7}))
    assert cli("predict", "--bundle", SPIRAL, *POINTS) == 2
    message = capsys.readouterr().err
    assert f"{SPIRAL} is a bundle of format 7, this version of Lockstep reads format {FORMAT}" in message


@pytest.mark.parametrize("options", [["--bundle", "the poems model"], []])
@pytest.mark.usefixtures("elsewhere")
def test_help_names_the_keys_of_the_model(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("predict", *options, "--help") == 0
    assert ("--data.compose.rhyme" in capsys.readouterr().out) == bool(options)


@pytest.mark.parametrize("task", ["spiral", "digits", "poems", "words", "bowl"])
@pytest.mark.usefixtures("elsewhere")
def test_predict_replaces_its_own_files_only(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "--bundle", f"the {task} model", *REQUESTS[task]]
    assert cli(*command) == 0
    assert cli(*command) == 0
    (written,) = Path("predictions").iterdir()
    assert written.stem == task
    Path("mine.txt").write_text("mine")
    assert cli(*command, "--data.output", "mine.txt") == 2
    assert "mine.txt exists; name another output, or add --overwrite true" in capsys.readouterr().err
    assert Path("mine.txt").read_text() == "mine"
    assert cli(*command, "--data.output", "mine.txt", "--overwrite", "true") == 0
    assert Path("mine.txt").read_bytes() == written.read_bytes()


@pytest.mark.usefixtures("elsewhere")
def test_predict_never_writes_over_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("digits.csv").read_bytes()
    command = ["predict", "--bundle", "the digits model", "--data.input", "digits.csv", "--overwrite", "true"]
    for option in ("--data.output", "--data.feature_maps"):
        assert cli(*command, option, "./digits.csv") == 2
        assert "digits.csv is the input, too" in capsys.readouterr().err
    assert Path("digits.csv").read_bytes() == before
