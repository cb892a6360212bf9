"""The folders of a study's trainings and preparations: named by everything that their content depends on."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipelines.parameters import kinds_with
from pipelines.study import cells
from pipelines.study.cells import Cell, prepare_anew, value_name
from src.core import code
from src.core.digests import file_digest

ROOT = Path(__file__).parents[2]
KIND = kinds_with("prepare")[-1]
SPLITS = "src/preparation/splits.py"
SHUFFLED = ("shuffle=True", "shuffle=False")  # of cut_fold
MORE = (None, "MORE = 1\n")
NEEDS_FOLDS = pytest.mark.skipif(KIND == "descent", reason="no kind of data is cut into folds")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the code, a task with raw data, and a preparation that only makes its folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "requirements.lock", "requirements.lock")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"boxes": KIND}, "boxes": {"prepare": {}}}))
    for folder in ("data/raw/boxes", "data/prepared/boxes", "configs"):
        Path(folder).mkdir(parents=True)
    Path("data/raw/boxes/boxes.csv").write_text("a,b\n1,2\n")
    files = {"boxes.csv": {"sha256": file_digest(Path("data/raw/boxes/boxes.csv"))}}
    Path("data/raw/boxes/SOURCE.json").write_text(json.dumps({"files": files}))
    Path("data/prepared/boxes/manifest.json").write_text("{}")
    Path("configs/boxes.yaml").write_text(f"task: boxes\nmodel: {{class_path: src.{KIND}.model.Model}}\n")
    stand_in = SimpleNamespace(
        Preparation=dict, prepare=lambda raw, prepared, settings: prepared.mkdir(parents=True)
    )
    monkeypatch.setattr(cells, "import_module", lambda name: stand_in)
    monkeypatch.setattr(cells, "checked", lambda kind, values, place: values)
    yield tmp_path
    code.code_digest.cache_clear()


@pytest.fixture
def edit() -> Callable[..., None]:
    """Replace text in a file, or append to it, as a new process sees it."""

    def change(name: str, old: str | None, new: str) -> None:
        text = Path(name).read_text(encoding="utf-8")
        assert old is None or old in text
        Path(name).write_text(text + new if old is None else text.replace(old, new, 1), encoding="utf-8")
        code.code_digest.cache_clear()
        code._text_digest.cache_clear()
        code._parsed.cache_clear()

    return change


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param(SPLITS, *SHUFFLED, marks=NEEDS_FOLDS),
        ("requirements.lock", "numpy==", "numpy==9"),
        ("data/raw/boxes/SOURCE.json", "}}", "} }"),
    ],
    ids=["how folds are cut", "locked packages", "raw data"],
)
def test_folds_are_prepared_anew_after_a_change(
    edit: Callable[..., None], name: str, old: str, new: str
) -> None:
    first = prepare_anew("boxes", {"folds": 5, "fold": 1})
    assert prepare_anew("boxes", {"folds": 5, "fold": 1}) == first
    assert prepare_anew("boxes", {"folds": 5, "fold": 2}) != first
    edit(name, old, new)
    assert prepare_anew("boxes", {"folds": 5, "fold": 1}) != first


def test_folds_are_used_again_after_a_change_of_words_or_of_other_code(edit: Callable[..., None]) -> None:
    first = prepare_anew("boxes", {"folds": 5, "fold": 1})
    edit(SPLITS, '"""', '"""Other words. ')
    edit("src/training/loading.py", *MORE)
    assert prepare_anew("boxes", {"folds": 5, "fold": 1}) == first


def cell(**changes: Any) -> Cell:
    values: dict[str, Any] = {
        "study": "sizes",
        "name": "size 3",
        "task": "boxes",
        "settings": {"model.size": 3},
        "seed": 1,
        "fold": 0,
        "prepared": Path("data/prepared/boxes"),
    }
    return Cell(**values | changes)


def test_a_cell_is_named_by_its_configuration_data_and_code(edit: Callable[..., None]) -> None:
    first = cell().folder
    assert cell(study="other", name="other", fold=2).folder == first
    assert cell(seed=2).folder != first
    assert cell(settings={"model.size": 4}).folder != first
    edit("src/training/checkpoint.py", '"""', '"""Other words. ')
    edit(f"src/{KIND}/prepare.py", *MORE)  # the digest of the prepared data counts
    assert cell().folder == first
    for name, old, new in (
        ("src/training/checkpoint.py", *MORE),
        (f"src/{KIND}/model.py", *MORE),
        ("configs/boxes.yaml", "task", "seed: 3\ntask"),
        ("data/prepared/boxes/manifest.json", "{", "{ "),
    ):
        before = cell().folder
        edit(name, old, new)
        assert cell().folder != before, name


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("model.network.activation", "relu", "relu"),
        ("model.optimizer.lr", 0.1, "lr 0.1"),
        ("model.network.norm", None, "norm None"),
        ("model.network.hidden_sizes", [16, 16], "2 x 16"),
        ("model.network.hidden_sizes", [16, 8], "[16, 8]"),
        ("model.network.initialisation", {"normal": {"std": 1}}, "normal 1"),
        ("model.optimizer", {"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}, "SGD(lr=1)"),
    ],
)
def test_values_have_short_names(key: str, value: Any, name: str) -> None:
    assert value_name(key, value) == name


def test_a_cell_has_the_parameters_of_its_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")
    written = yaml.safe_dump(
        {
            "tasks": {"boxes": KIND},
            "wandb": {"project": "mine"},
            "trusted": ["torchvision"],
            "boxes": {"prepare": {"seed": 1, "fold": 0}},
        }
    )
    Path("params.yaml").write_text(written)
    with cells._working_folder(cell(changes={"folds": 5, "fold": 2}), "w"):
        found = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        assert found["boxes"]["prepare"] == {"seed": 1, "fold": 2, "folds": 5}
        assert found["wandb"] == {"project": "mine"}
        assert found["trusted"] == ["torchvision"]
    assert Path("params.yaml").read_text() == written


def test_a_model_of_data_of_its_own_needs_no_section(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")
    Path("params.yaml").write_text("tasks: {}\nmodels: {boxes: src/boxes}\n")
    with cells._working_folder(cell(prepared=Path("data/prepared/absent")), "w"):
        found = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    assert found == {"tasks": {}, "models": {"boxes": "src/boxes"}}
