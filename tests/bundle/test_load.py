"""`from src import load`: predictions of what is in memory are those of the command `predict`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from src import load
from src.core.errors import ConfigurationError, DataError, IntegrityError
from tests.support import cli

TASKS = ("house_prices", "spiral", "autoregression", "digits", "poems", "words", "bowl")
OUTPUT = ("--data.output", "written", "--overwrite", "true")
pytestmark = [pytest.mark.usefixtures("settings_of_the_process"), pytest.mark.tasks(*TASKS)]


@pytest.fixture(scope="module")
def elsewhere(finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles and raw files of the tasks, and nothing else of the project."""
    folder, clone = tmp_path_factory.mktemp("notebooks"), finished(*TASKS)
    for task in TASKS:
        shutil.copytree(clone / "models" / task, folder / task)
    (folder / "raw").symlink_to(clone / "data/raw")
    return folder


@pytest.fixture(autouse=True)
def working_folder(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(bundle: Path, *options: str) -> str:
    """What the command `predict` writes."""
    assert cli("predict", "--bundle", str(bundle), *options, *OUTPUT) == 0
    return Path("written").read_text(encoding="utf-8")


def as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(
    ("task", "file"),
    [("house_prices", "test.csv"), ("spiral", "train.csv"), ("autoregression", "train.csv")],
)
def test_a_table_in_memory_has_the_predictions_of_its_file(task: str, file: str, elsewhere: Path) -> None:
    path = elsewhere / "raw" / task / file
    expected = written(elsewhere / task, "--data.input", str(path))
    model = load(elsewhere / task)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)  # pandas would read `None` as missing
    assert as_csv(model.predict(table)) == expected
    assert as_csv(model.predict(table.set_index(table.index + 7))) == expected
    assert as_csv(model.predict(path)) == expected


def test_numbers_of_a_table_are_the_same_as_texts_and_as_numbers(elsewhere: Path) -> None:
    path = elsewhere / "raw/house_prices/test.csv"
    model = load(elsewhere / "house_prices")
    texts = pd.read_csv(path, dtype=str, keep_default_na=False, nrows=50)
    numbers = pd.read_csv(path, keep_default_na=False, na_values=["NA"], nrows=50)
    numbers["MSSubClass"] = numbers["MSSubClass"].astype(float)  # a category that is written as a number
    numbers["MSZoning"] = numbers["MSZoning"].astype("category")
    expected = model.predict(texts)
    assert model.predict(numbers)["SalePrice"].equals(expected["SalePrice"])
    without_id = model.predict(numbers.drop(columns="Id"))
    assert list(without_id["Id"]) == [str(number) for number in range(1, 51)]
    assert without_id["SalePrice"].equals(expected["SalePrice"])


def test_a_wrong_table_is_told_with_row_and_column(elsewhere: Path) -> None:
    model = load(elsewhere / "spiral")
    assert repr(model) == f"Predictor(TabularModel of {elsewhere / 'spiral'})"
    table = pd.read_csv(elsewhere / "raw/spiral/train.csv", nrows=3)
    with pytest.raises(DataError, match="the rows: the needed column 'x1' is missing"):
        model.predict(table.drop(columns="x1"))
    with pytest.raises(DataError, match="the rows: row 2, column 'x1': 'far' is not a number"):
        model.predict(table.assign(x1=[0.1, "far", 0.2]))
    with pytest.raises(DataError, match="there are no rows"):
        model.predict(table.head(0))


def test_pictures_in_memory_and_in_files_have_the_predictions_of_their_folder(
    elsewhere: Path, tmp_path: Path
) -> None:
    pictures = [Image.radial_gradient("L").resize((28 + side, 28)) for side in range(3)]
    pictures.append(Image.new("RGBA", (28, 28), (255, 0, 0, 90)))
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{number}.png" for number in range(4)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = written(elsewhere / "digits", "--data.input", "pictures").splitlines()
    model = load(elsewhere / "digits")
    assert as_csv(model.predict(paths)).splitlines() == expected
    in_memory = model.predict(pictures)
    assert list(in_memory["ImageId"]) == ["1", "2", "3", "4"]
    assert list(in_memory["Label"]) == [line.split(",")[1] for line in expected[1:]]
    with pytest.raises(DataError, match=r"nothing\.png: there is no such file"):
        model.predict(["nothing.png"])
    with pytest.raises(DataError, match="expected a list of inputs or a DataFrame, found 'pictures'"):
        model.predict("pictures")


def test_poems_and_words_are_those_of_the_command(elsewhere: Path) -> None:
    model = load(elsewhere / "poems")
    expected = written(elsewhere / "poems", "--data.compose.start", "春", "--data.compose.seed", "3")
    assert model.predict(["春"], seed=3).to_dict("records") == [{"start": "春", "poem": expected.strip()}]
    acrostic = model.predict(["明月"], count=2)["poem"]
    assert [poem[0] for poem in acrostic] == ["明", "明"]
    with pytest.raises(ConfigurationError, match="lins: there is no such key"):
        model.predict(["春"], lins=2)
    with pytest.raises(ConfigurationError, match="lines: found many, expected int"):
        model.predict(["春"], lines="many")
    words = written(elsewhere / "words", "--data.words", "[学习, 模型]", "--data.neighbours", "3")
    found = load(elsewhere / "words").predict(["学习", "模型"], neighbours=3)
    assert found.to_csv(index=False, float_format="%.4f", lineterminator="\n") == words


def test_points_get_the_heights_of_the_command(elsewhere: Path) -> None:
    path = elsewhere / "raw/bowl/start.csv"
    expected = written(elsewhere / "bowl", "--data.input", str(path))
    model = load(elsewhere / "bowl")
    found = model.predict(pd.read_csv(path))
    assert found.to_csv(index=False, float_format="%.10g", lineterminator="\n") == expected
    with pytest.raises(DataError, match="row 2, column 'x2': expected a finite number"):
        model.predict(pd.DataFrame({"x1": [1, 2], "x2": [3, "far"]}))


def test_a_name_is_a_model_of_the_working_folder(
    finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished("spiral"))
    assert load("spiral").bundle.folder == Path("models/spiral")
    with pytest.raises(ConfigurationError, match=r"models/nothing/manifest\.json is not here"):
        load("nothing")


def test_a_damaged_bundle_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    shutil.copytree(elsewhere / "spiral", tmp_path / "damaged")
    (tmp_path / "damaged/model.safetensors").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load(tmp_path / "damaged")


def test_importing_src_loads_neither_torch_nor_pandas(python: Callable[..., Any], tmp_path: Path) -> None:
    program = "import src, sys; print(sorted({'torch', 'lightning', 'pandas', 'numpy'} & set(sys.modules)))"
    done = python("-c", f"{program}; from src import loda", cwd=Path(__file__).parents[2])
    assert done.stdout.startswith("[]\n")
    assert "cannot import name 'loda' from 'src'" in done.stdout
