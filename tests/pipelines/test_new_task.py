"""Data that the project has never seen become tasks, by the same functions as on the command line."""

import csv
import json
import logging
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from pipelines.evaluate import evaluate
from pipelines.fetch import fetch
from pipelines.new_task import LOCK_FILE, main, new_task, with_task
from pipelines.prepare import prepare
from src.cli import main as cli
from src.core.errors import ConfigurationError, DataError, LockedError, LockstepError

ROOT = Path(__file__).parents[2]
PARAMETERS = (ROOT / "params.yaml").read_bytes()
POEM = "{}山不见人，但闻人语{}。返景入深{}，复照青{}上。"

pytestmark = pytest.mark.kinds("tabular")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_of_the_process: None) -> Path:
    """An empty project with the parameters of this one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("params.yaml").write_bytes(PARAMETERS)
    return folder


def section(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))[name]


def configuration(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(f"configs/{name}.yaml").read_text(encoding="utf-8"))


def refused(error: type[Exception], told: str, *arguments: Any) -> None:
    """The task is refused, and nothing is written."""
    with pytest.raises(error, match=told):
        new_task(*arguments)
    assert Path("params.yaml").read_bytes() == PARAMETERS
    assert not list(Path().glob("configs/*"))
    assert not list(Path().glob(".*.partial"))


def use(name: str, monkeypatch: pytest.MonkeyPatch, *predict: str) -> dict[str, float]:
    """Fetch, prepare, train an epoch, evaluate and predict; the metrics."""
    fetch(name)
    prepare(name)
    fit = ("fit", "--trainer.max_epochs=1", "--trainer.accelerator=cpu")
    for verb, *options in (fit, ("predict", *predict)):
        monkeypatch.setattr(sys, "argv", ["src.cli", verb, "--config", f"configs/{name}.yaml", *options])
        cli()
    evaluate(name)
    return json.loads(Path(f"reports/{name}/metrics.json").read_text(encoding="utf-8"))


def write_table(path: Path, rows: int = 120) -> Path:
    """Passengers: a number and a name a row, an answer, and columns of every kind."""
    draws = random.Random(0)  # noqa: S311
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Nr", "Name", "Day", "Zip", "Age.years", "Deck", "Ship", "Ticket", "Saved"])
        for row in range(rows):
            deck = draws.choice("ABC")
            age: Any = draws.randint(1, 80) if row % 9 else "?"
            day, zip_code = f"2024-05-{row % 28 + 1:02}", f"{draws.randint(1, 9):03}"
            saved = "yes" if (deck == "A") != (draws.random() < 0.1) else "no"
            names = [row + 7, f"Passenger {row}", day, zip_code, age, deck, "one ship", f"T{row % 90}"]
            writer.writerow([*names, saved])
    return path


def write_pictures(folder: Path, each: int = 12) -> Path:
    """Bright and dark pictures of several sizes."""
    draws = random.Random(0)  # noqa: S311
    for name, brightness in (("a moon", 220), ("night", 30)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            size = (18 + number % 3, 20)
            picture = Image.new("RGB", size, (brightness + draws.randint(-20, 20),) * 3)
            picture.save(folder / name / f"{number}.png")
    return folder


def write_poems(path: Path) -> Path:
    draws = random.Random(0)  # noqa: S311
    lines = [POEM.format(*(draws.choice("空秋响声林苔石水月") for _ in range(4))) for _ in range(40)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_table_becomes_a_task(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(Path("my ships/list.csv"))
    monkeypatch.setattr(sys, "argv", ["new_task", "ships", "--kind=tabular", f"--from={table}"])
    main()
    told = capsys.readouterr().out
    assert "list.csv: 120 rows, 9 columns, cut by semicolons\n" in told
    assert "target: 'Saved' (a guess: the last column; another one: --target): 2 classes" in told
    assert "'my ships/list.csv'" in told.splitlines()[-1]
    assert section("ships") == {
        "source": "my ships/",
        "files": {"list.csv": {}},
        "prepare": {
            "target": "Saved",
            "task": "classification",
            "train": "list.csv",
            "id": "Nr",
            "drop": ["Ship", "Ticket", "Name"],
            "column_types": {"Day": "date", "Zip": "categorical"},
            "impute": "median",
            "missing_indicators": True,
            "transform": "auto",
            "scale": "robust",
            "min_frequency": 10,
            "missing": ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?"],
            "test_share": 0.2,
            "validation_share": 0.2,
            "seed": 42,
        },
    }
    metrics = use("ships", monkeypatch, "--data.input", str(table))
    assert {"test/accuracy", "baseline/logistic/accuracy"} <= set(metrics)
    learnt = json.loads(Path("models/ships/preprocessing.json").read_text(encoding="utf-8"))
    assert {column["name"] for column in learnt["columns"]} == {"Day", "Zip", "Age.years", "Deck"}
    with Path("predictions/ships.csv").open(encoding="utf-8") as file:
        predicted = list(csv.DictReader(file))
    assert (len(predicted), predicted[0]["Nr"]) == (120, "7")


def write_visits(path: Path) -> Path:
    """Visits of patients: dates with the day first, notes, a scale, yes and no, gaps, few sick ones."""
    draws = random.Random(0)  # noqa: S311
    words = ["no", "fever", "feels well", "after two weeks", "of rest", "and tea"]
    rows = []
    for row in range(300):
        age = draws.randint(20, 90)
        rows.append(
            {
                "patient": f"p{row // 5:02}",
                "visit": f"{draws.randint(1, 28):02}/{draws.randint(1, 12):02}/2023",
                "age": age if row % 11 else "",
                "income": round(draws.lognormvariate(0, 1.5), 2),
                "smokes": draws.choice(["Yes", "No", ""]),
                "pain": draws.choice(["low", "medium", "high"]),
                "note": " ".join(draws.choices(words, k=9)),
                "sick": "yes" if age > 80 and draws.random() < 0.9 else "no",
            }
        )
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_table_with_dates_notes_and_patients_becomes_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_visits(Path("visits.csv"))
    new_task("visits", "tabular", table)
    prepared = section("visits")["prepare"]
    assert prepared["group"] == "patient"
    assert prepared["column_types"] == {
        "visit": {"kind": "date", "day_first": True},
        "smokes": "boolean",
        "pain": {"kind": "ordered", "order": ["low", "medium", "high"]},
        "note": "text",
    }
    assert "visit: # dates; `time: visit` would test on the latest rows" in Path("params.yaml").read_text()
    metrics = use("visits", monkeypatch, "--data.input", str(table))
    assert "test/recall" in metrics
    split = pd.read_csv("data/prepared/visits/split.csv").set_index("row")["split"]
    patients = pd.read_csv(table)["patient"].set_axis(range(1, 301))
    assert (split.groupby(patients).nunique() == 1).all()
    learnt = json.loads(Path("models/visits/preprocessing.json").read_text(encoding="utf-8"))
    columns = {column["name"]: column for column in learnt["columns"]}
    assert (columns["income"]["transform"], columns["age"]["indicator"]) == ("log1p", True)
    assert [name for name in learnt["features"] if name.startswith("visit_")] == [
        "visit_month",
        "visit_day",
        "visit_weekday",
        "visit_elapsed",
    ]
    assert len(pd.read_csv("predictions/visits.csv")) == 300
    table_of_columns = Path("reports/visits/tables/columns.md").read_text(encoding="utf-8")
    assert "| visit | date | 0 | month, day, weekday, elapsed |" in table_of_columns


def test_the_rest_of_the_parameters_stays_as_it_is() -> None:
    new_task("ships", "tabular", write_table(Path("list.csv")))
    new_task("again", "tabular", Path("list.csv"), "Deck")
    before, after = PARAMETERS.splitlines(keepends=True), Path("params.yaml").read_bytes()
    left = iter(before)
    waiting = next(left)
    added = []
    for line in after.splitlines(keepends=True):
        if line == waiting:
            waiting = next(left, b"")
        else:
            added.append(line)
    assert waiting == b""
    lines = [b"  ships: tabular\n", b"  again: tabular\n"]
    lines += [b"  ships: data/prepared/ships\n", b"  again: data/prepared/again\n"]
    assert added[:4] == lines
    parsed, old = yaml.safe_load(after), yaml.safe_load(PARAMETERS)
    changed = ("tasks", "models")
    assert {name: parsed[name] for name in old if name not in changed} == {
        name: value for name, value in old.items() if name not in changed
    }
    data = {"ships": "data/prepared/ships", "again": "data/prepared/again"}
    assert parsed["models"] == {**old["models"], **data}
    assert parsed["tasks"] == {**old["tasks"], "ships": "tabular", "again": "tabular"}
    assert section("again")["prepare"]["target"] == "Deck"
    names = set(section("ships")) | set(section("ships")["prepare"])
    assert names & (set(configuration("ships")) - {"task"}) == set()


@pytest.mark.kinds("images")
def test_pictures_become_a_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(Path("sky"))
    new_task("sky", "images", folder)
    told = capsys.readouterr().out
    assert "24 images, colour, 18 to 20 pixels wide, 20 to 20 high" in told
    assert section("sky")["prepare"] == {
        "train": ".",
        "resize": 16,
        "scale": "standardize",
        "test_share": 0.2,
        "validation_share": 0.2,
        "seed": 42,
    }
    assert configuration("sky")["model"]["init_args"]["network"]["init_args"] == {"width": 32}
    metrics = use("sky", monkeypatch, "--data.input", str(folder / "night"))
    assert {"test/accuracy", "baseline/logistic/accuracy"} <= set(metrics)
    with Path("predictions/sky.csv").open(encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"a moon", "night"}


@pytest.mark.kinds("images")
def test_pictures_two_folders_down_become_a_task_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    names = write_pictures(Path("sky/jpeg/train"))
    rows = [f"{path.relative_to(names).as_posix()},{path.parent.name}" for path in names.rglob("*.png")]
    Path("sky/train.csv").write_text("\n".join(["file,label", *sorted(rows)]) + "\n", encoding="utf-8")
    with monkeypatch.context() as without:
        without.setattr("shutil.copyfile", None)  # the trial reads the files where they are
        new_task("sky", "images", Path("sky"))
    assert section("sky")["files"] == {"jpeg/train": {}, "train.csv": {}}
    assert section("sky")["prepare"]["train"] == "jpeg/train"
    fetch("sky")
    prepare("sky")


@pytest.mark.kinds("text")
def test_poems_become_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    new_task("verses", "text", write_poems(Path("verses/poems.txt")))
    prepared = section("verses")["prepare"]
    assert (prepared["tokenizer"], prepared["rhymes"]) == ("char", "pingshui")
    assert configuration("verses")["model"]["class_path"] == "src.text.model.LanguageModel"
    for name, fewer in (("GENERATED_POEMS", 4), ("SAMPLES", ())):
        monkeypatch.setattr(f"src.text.evaluate.{name}", fewer)
    metrics = use("verses", monkeypatch, "--data.compose.start", "空")
    assert metrics["generated/format"] == 1
    assert Path("predictions/verses.txt").read_text(encoding="utf-8").startswith("空")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, "taken") for name in ("studies", "tasks", "item")),
        *(
            pytest.param(name, "taken", marks=pytest.mark.tasks("house_prices", "polynomial"))
            for name in ("house_prices", "House_Prices", "activations")
        ),
        *((name, "letter") for name in ("yes", "1st", "a b", "a;rm", "$(x)", "../a", "", "a" * 61)),
    ],
)
def test_names_that_cannot_be_used_are_refused(name: str, told: str) -> None:
    refused(ConfigurationError, told, name, "tabular", write_table(Path("list.csv")))


def lie_together(folder: Path) -> Path:
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "a.png")
    return folder


def written(kind: str, content: str) -> Path:
    path = Path("a.txt" if kind == "text" else "a.csv")
    path.write_text(content, encoding="utf-8")
    return path


pictures = partial(pytest.param, "images", marks=pytest.mark.kinds("images"))
texts = partial(pytest.param, "text", marks=pytest.mark.kinds("text"))


def table_of(cells: list[str]) -> str:
    return "a,b,price\n" + "".join(f"{row % 7},{row % 5},{cell}\n" for row, cell in enumerate(cells))


@pytest.mark.parametrize(
    ("kind", "data", "error", "told"),
    [
        ("tabular", lambda: Path("nowhere.csv"), DataError, "no such file"),
        ("tabular", lambda: Path(), DataError, "found none"),
        ("tabular", "", DataError, "empty"),
        ("tabular", "a,b\n", DataError, "no rows"),
        ("tabular", "1,2,3\n4,5,6\n", DataError, "names of the columns, found numbers"),
        ("tabular", table_of(["1"] * 9 + ["1,5"]), DataError, "row 10"),
        (
            "tabular",
            table_of(['"1,234"', "950"] * 20),
            DataError,
            "column 'price': '1,234'.* choose --reading",
        ),
        ("tabular", table_of(["x"] * 20 + ["y"]), DataError, "found 1 of 'y'"),
        ("tabular", table_of([f"t{n}" for n in range(40)]), LockstepError, "classes"),
        pictures(lambda: lie_together(Path("flat")), DataError, "lie together"),
        pictures(lambda: write_pictures(Path("few"), 2), DataError, "too few"),
        pictures("a,b,c\n1,2,3\n", DataError, "a column of the classes"),
        texts(lambda: Path(), DataError, r"\.txt, \.json, \.jsonl"),
        texts("独坐幽篁里，弹琴复长啸。\n" * 2, DataError, r"1 different document, expected at least 3"),
    ],
)
def test_data_that_cannot_be_used_are_told_and_nothing_is_written(
    kind: Any, data: Any, error: type[Exception], told: str
) -> None:
    path = data() if callable(data) else written(kind, data)
    refused(error, told, "mine", kind, path)


@pytest.mark.parametrize(
    ("kind", "target", "told"),
    [("tabular", "Nowhere", "expected one of: Nr, Name"), texts("words", "has no table with columns")],
)
def test_a_target_that_is_not_there_is_told(kind: Any, target: str, told: str) -> None:
    path = write_table(Path("list.csv")) if kind == "tabular" else written(kind, "one\n")
    refused(ConfigurationError, told, "mine", kind, path, target)


def test_a_configuration_that_is_there_stays() -> None:
    Path("configs").mkdir()
    Path("configs/ships.yaml").write_text("task: other\n")
    with pytest.raises(ConfigurationError, match=r"configs/ships\.yaml exists"):
        new_task("ships", "tabular", write_table(Path("list.csv")))
    assert Path("configs/ships.yaml").read_text() == "task: other\n"


def test_parameters_that_cannot_be_written_leave_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "params.yaml":
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", full)
    refused(OSError, "No space", "ships", "tabular", write_table(Path("list.csv")))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "tasks:\n a: text\na: 1\n",
            "tasks:\n a: text\n b: text\n\nmodels:\n  b: data/prepared/b\na: 1\n\nb: 2\n",
        ),
        (
            "a: 1\ntasks: # mine\n    a: text",
            "a: 1\ntasks: # mine\n    a: text\n    b: text\n\nmodels:\n  b: data/prepared/b\n\nb: 2\n",
        ),
        (
            "studies: {}\ntasks:\n  a: text\n",
            "studies: {}\ntasks:\n  a: text\n  b: text\n\nmodels:\n  b: data/prepared/b\n\nb: 2\n",
        ),
        (
            "tasks:\n  a: text # one\n  # two\n\na: 1\n\n# compared\nstudies: {}\nmore_studies: {}\n",
            "tasks:\n  a: text # one\n  b: text\n\nmodels:\n  b: data/prepared/b\n  # two\n\na: 1\n\nb: 2\n\n"
            "# compared\nstudies: {}\nmore_studies: {}\n",
        ),
        (
            "tasks:\n  a: text\nmodels:\n  c: data/own # mine\na: 1\n",
            "tasks:\n  a: text\n  b: text\nmodels:\n  c: data/own # mine\n  b: data/prepared/b\n"
            "a: 1\n\nb: 2\n",
        ),
    ],
)
def test_a_task_has_its_place_in_the_text(before: str, after: str, newline: str) -> None:
    text = with_task(before.replace("\n", newline), "b", "text", "b: 2\n")
    assert text == after.replace("\n", newline)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_nothing_that_the_user_wrote_changes(newline: str) -> None:
    # what YAML libraries rewrite: quotes, alignment, indentation, numbers, flow style, block scalars
    before = """# mine
---
'tasks':   # kinds
      "a":   text   # one
      bcd: 'tabular'

a: { x: 1,y: 2 , z: [1,2,
    3],  n: null, t: ~}
bcd:
- {normal: {std: 1e-5}}
- 0010
b: &anchor >
  folded
  text
c: *anchor
long: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, cccccccccccccccccccc, 价格, 😀]

# compared
studies:
    s: {title: "\\u00e9"}
# the end
"""
    section = "d: # found\n  prepare: {}\n"
    text = with_task(before.replace("\n", newline), "d", "text", section)
    line, block = "      d: text\n\nmodels:\n  d: data/prepared/d\n", f"{section}\n"
    assert text.count(newline) == text.count("\n")
    assert text.replace(newline, "\n").replace(line, "", 1).replace(block, "", 1) == before
    assert yaml.safe_load(text) == yaml.safe_load(before) | {
        "tasks": {"a": "text", "bcd": "tabular", "d": "text"},
        "models": {"d": "data/prepared/d"},
        "d": {"prepare": {}},
    }


@pytest.mark.parametrize("tasks", ["tasks: {bowl: descent}", "tasks:\n  {bowl: descent}"])
def test_tasks_on_one_line_are_told(tasks: str) -> None:
    text = f"{tasks}\nbowl: {{source: sample}}\n"
    Path("params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="under `tasks:` and `models:` lines"):
        new_task("ships", "tabular", write_table(Path("list.csv")))
    assert Path("params.yaml").read_text() == text
    assert not Path("configs").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tasks: {}\na: 1\n", "tasks:\n  b: text\n\nmodels:\n  b: data/prepared/b\na: 1\n\nb: 2\n"),
        (
            "tasks: # mine\na: 1\n",
            "tasks: # mine\n  b: text\n\nmodels:\n  b: data/prepared/b\na: 1\n\nb: 2\n",
        ),
        (
            "tasks: {} # mine\nstudies: {}\n",
            "tasks: # mine\n  b: text\n\nmodels:\n  b: data/prepared/b\nb: 2\n\nstudies: {}\n",
        ),
        ("tasks: null\n", "tasks:\n  b: text\n\nmodels:\n  b: data/prepared/b\n\nb: 2\n"),
    ],
)
def test_a_task_has_its_place_where_all_were_removed(before: str, after: str) -> None:
    assert with_task(before, "b", "text", "b: 2\n") == after


@pytest.mark.parametrize("tasks", ["tasks: {}\n", "tasks:\n"])
def test_a_project_whose_tasks_were_removed_takes_a_new_one(tasks: str) -> None:
    Path("params.yaml").write_text(tasks)
    new_task("ships", "tabular", write_table(Path("list.csv")))
    assert yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["tasks"] == {"ships": "tabular"}


def test_keys_of_a_new_task_are_changed_by_an_experiment() -> None:
    from dvc.utils.hydra import apply_overrides

    new_task("mix", "tabular", write_table(Path("list.csv")))
    changes = ["mix.prepare.impute=median", "mix.prepare.seed=7", "mix.prepare.test_share=0.3"]
    apply_overrides("params.yaml", changes)
    changed = section("mix")["prepare"]
    assert (changed["impute"], changed["seed"], changed["test_share"]) == ("median", 7, 0.3)


def test_a_second_new_task_waits_and_tells_who_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.new_task.LOCK_SECONDS", 0)
    Path("runs").mkdir()
    with FileLock(LOCK_FILE), pytest.raises(LockedError, match="another new_task is at work"):
        new_task("ships", "tabular", write_table(Path("list.csv")))
    new_task("ships", "tabular", Path("list.csv"))


@pytest.mark.kinds("images")
def test_choices_about_tables_are_none_of_other_kinds() -> None:
    pictures = write_pictures(Path("sky"))
    with pytest.raises(ConfigurationError, match="--task: regression needs a table of labels beside"):
        new_task("sky", "images", pictures, task="regression")
    with pytest.raises(ConfigurationError, match="--reading: images data have no such choice"):
        new_task("sky", "images", pictures, reading={"decimal": ","})


@pytest.mark.parametrize("option", ['--reading={"decimal": ",", "thousands": "."}', "--reading.decimal=."])
def test_the_user_chooses_how_a_table_is_read(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("tabular", "x;y\n" + "".join(f"1.{row + 100};{row}\n950;{row}\n" for row in range(30)))
    monkeypatch.setattr(sys, "argv", ["new_task", "plots", "--kind=tabular", f"--from={path}", option])
    main()
    thousands = {"decimal": ",", "thousands": "."}
    assert section("plots")["prepare"]["reading"] == (thousands if "{" in option else {"decimal": "."})
    fetch("plots")
    prepare("plots")
    column = json.loads(Path("data/prepared/plots/preprocessing.json").read_text())["columns"][0]
    assert (column["typical"] > 900) == ("{" in option)  # the median of 1,100 or 1.1, ..., and 950


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        ({"decimal": "x"}, r"--reading\.decimal"),
        ({"nothing": 1}, "--reading: nothing: there is no such key"),
        ({"encoding": "nope"}, "there is no encoding 'nope'"),
    ],
)
def test_a_wrong_key_of_reading_is_refused(reading: dict[str, Any], told: str) -> None:
    refused(ConfigurationError, told, "ships", "tabular", write_table(Path("l.csv")), None, None, reading)


def test_predictions_have_the_columns_of_the_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv(write_table(Path("sea/train.csv")), sep=";")
    table.drop(columns="Saved").to_csv("sea/Test.csv", index=False)
    pd.DataFrame({"Passenger": table["Nr"], "Alive": "no"}).to_csv("sea/sample_submission.csv", index=False)
    new_task("sea", "tabular", Path("sea"))
    metrics = use("sea", monkeypatch, "--data.input", "sea/Test.csv")
    assert "test/accuracy" in metrics
    predicted = pd.read_csv("predictions/sea.csv")
    assert list(predicted.columns) == ["Passenger", "Alive"]
    assert set(predicted["Alive"]) <= {"yes", "no"}


def test_warnings_of_the_trial_name_the_file_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logging.lastResort is not None
    monkeypatch.setattr(logging.getLogger("src"), "handlers", [logging.lastResort])  # as without pytest
    table = pd.DataFrame({"x": [number / 4 for number in [*range(79), 78]], "y": ["no", "yes"] * 40})
    table.loc[79] = table.loc[78]
    table.to_csv("list.csv", index=False)
    new_task("list", "tabular", Path("list.csv"))
    told = capsys.readouterr()
    assert "1 row repeats another one: equal rows stay in one part of the split" in told.out
    assert told.err.startswith("./list.csv: 1 rows repeat another row: ")


@pytest.mark.parametrize("place", ["data/raw/wine/wine.csv", "data/raw/wine", "models/wine/wine.csv"])
def test_data_in_a_folder_that_the_pipeline_replaces_are_refused(place: str) -> None:
    table = write_table(Path(place if place.endswith(".csv") else f"{place}/wine.csv"))
    before = table.read_bytes()
    with pytest.raises(ConfigurationError, match=r"wine\.source: .* overlap, which `dvc repro` replaces"):
        new_task("wine", "tabular", Path(place))
    assert table.read_bytes() == before
    assert Path("params.yaml").read_bytes() == PARAMETERS
    assert not Path("configs").exists()
