"""Studies: their sections, trainings, interruptions, failures and searches."""

import contextlib
import io
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import psutil
import pytest
import torch
import yaml
from jsonargparse._common import parsing_settings

from pipelines.code import code as write_code
from pipelines.fetch import fetch
from pipelines.prepare import prepare
from pipelines.study import workers as workers_module
from pipelines.study.cells import Cell, metric_names, train
from pipelines.study.run import report_of, study, write_sweep
from pipelines.study.search import PROCESS, Search, corners, distribution_of, try_next
from pipelines.study.study import Study, cells_of, read_study
from pipelines.study.workers import Workers, devices_of
from src.cli import main
from src.core.errors import ConfigurationError, NonFiniteError, ResourceError

ROOT = Path(__file__).parents[2]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDIES = {**PARAMETERS["studies"], **PARAMETERS["more_studies"]}
TINY = {
    "task": "polynomial",
    "metric": "test/rmse",
    "seeds": [1, 2],
    "fixed": {"trainer.max_epochs": 2},
    "grid": {"model.network.activation": ["relu", "tanh"]},
}
SEARCH: dict[str, Any] = {
    "search": "optuna",
    "budget": 3,
    "grid": {
        "model.network.activation": ["relu", "tanh"],
        "model.lr_scheduler.init_args.max_lr": {"low": 0.001, "high": 0.1, "log": True},
    },
}

pytestmark = pytest.mark.tasks("polynomial", "house_prices")


def write_study(**changes: Any) -> None:
    """Write params.yaml with a study named `tiny`."""
    parameters = PARAMETERS | {"studies": {"tiny": TINY | changes}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fetch and prepare a task, once; return the folder of the project, whose only study is `tiny`."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("src", "pipelines", "data/samples"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name in ("params.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)

    def prepare_task(task: str) -> Path:
        if not (folder / "data/prepared" / task).is_dir():
            with contextlib.chdir(folder):
                fetch(task)
                prepare(task)
        return folder

    return prepare_task


@pytest.fixture
def variables(settings_of_the_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what a cell sets in this process."""
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def project(
    prepared: Callable[[str], Path], variables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project with the prepared data of `polynomial` and a tiny study, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(prepared("polynomial"), folder, symlinks=True)
    monkeypatch.chdir(folder)
    write_study()
    return folder


@pytest.fixture(scope="module")
def trained(
    prepared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A project in which the tiny study has run, and what it said: its output and its errors."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(prepared("polynomial"), folder, symlinks=True)
    output, errors = io.StringIO(), io.StringIO()
    redirected = contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)
    with contextlib.chdir(folder), redirected[0], redirected[1]:
        write_study()
        study("tiny", workers=2)
    return folder, output.getvalue(), errors.getvalue()


@pytest.fixture
def trained_project(
    trained: tuple[Path, str, str], variables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of it is the working folder."""
    monkeypatch.chdir(shutil.copytree(trained[0], tmp_path / "trained", symlinks=True))


def metrics(project: Path = Path()) -> dict[str, float]:
    return json.loads((project / "reports/studies/tiny/metrics.json").read_text())


class InProcess(Executor):
    """Runs everything in this process, at once."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            with mock.patch.dict(parsing_settings):
                future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


# for tests that are not about the worker processes, which take seconds to start
in_process = mock.patch.object(Workers, "_new_pool", new=mock.Mock(return_value=InProcess()))


def cells() -> list[Cell]:
    return [cell for group in cells_of("tiny", read_study("tiny")).values() for cell in group]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "nothing"}, "no task 'nothing'; its tasks are: "),
        ({"grid": {}}, r"studies\.tiny\.grid is empty"),
        ({"grid": {"model.network.activation": []}}, r"tiny\.grid\.model\.network\.activation is empty"),
        ({"grid": {"model.network.activation": "relu"}}, r"grid\.model\.network\.activation must be a list"),
        ({"grid": ["relu"]}, r"studies\.tiny\.grid must be a mapping"),
        ({"seeds": []}, r"seeds is empty"),
        ({"seeds": [1, 1]}, "seeds contains a value twice"),
        ({"seeds": ["one"]}, "seeds"),
        ({"folds": 1}, "folds must be 0 or at least 2"),
        ({"speed": 3}, "speed"),
        ({"search": "grid"}, "search"),
        ({"search": "optuna", "grid": {}}, r"studies\.tiny\.grid is empty"),
        ({"search": "optuna", "folds": 2}, "search needs a grid, and does not allow variants or folds"),
        ({"search": "optuna", "budget": 0}, "budget must be at least 1"),
        ({"grid": {"model.l1": {"low": 0.1, "high": 1.0}}}, r"grid\.model\.l1 must be a list of values"),
        (SEARCH | {"grid": {"model.l1": 0.1}}, r"a list of values or a range \{low"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.1}}}, r"model\.l1 is not a range .*None is not a number"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.0, "high": 1.0, "log": True}}}, "is not a range .*log"),
        (SEARCH | {"grid": {"model.l1": {"low": 2.0, "high": 1.0}}}, "is not a range"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.0, "high": 1.0, "mean": 0}}}, "is not a range .*mean"),
        (
            SEARCH | {"storage": "postgresql://me:secret@host/searches"},
            r"storage: the address has a password",
        ),
    ],
)
def test_a_section_that_compares_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(**changes)
    with pytest.raises(ConfigurationError, match=message):
        read_study("tiny")


@in_process
def test_an_unknown_study_and_missing_data_are_reported(project: Path) -> None:
    with pytest.raises(ConfigurationError, match="no study 'huge'; its studies are: tiny"):
        study("huge")
    shutil.rmtree("data/prepared/polynomial")
    with pytest.raises(ConfigurationError, match="dvc repro prepare@polynomial"):
        study("tiny")
    shutil.rmtree("data/raw/polynomial")
    write_study(folds=2)
    with pytest.raises(ConfigurationError, match="dvc repro fetch@polynomial"):
        study("tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.activations": "relu"}, r"model\.activations: .* has no such argument"),
        ({"trainer.max_epochs": "many"}, r"trainer\.max_epochs"),
        ({"model.network.activation": "sine"}, "activation: 'sine' is not one of"),
        ({"model.l1": -1.0}, r"l1: found -1\.0, expected >=0"),
    ],
)
def test_settings_that_are_not_a_configuration_are_refused(project: Path, changes: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        metric_names(replace(cells()[0], settings=changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"folds": 5000}, "5000 folds of 1000 rows"), ({"prepare": {"colour": "red"}}, "colour")],
)
def test_preparations_that_are_impossible_are_refused(project: Path, changes: Any, message: str) -> None:
    write_study(**changes)
    with pytest.raises(ConfigurationError, match=message):
        cells()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "test/speed"}, "no 'test/speed'; there are: best_epoch, test/loss"),
        (
            {"grid": {"model.network.activation": ["relu", "sine"]}},
            "sine: .*activation: 'sine' is not one of",
        ),
        (SEARCH | {"metric": "test/speed"}, "no 'test/speed'"),
        (
            SEARCH | {"grid": {"model.l1": {"low": -1.0, "high": 1.0}}},
            r"l1 -1\.0: .*l1: found -1\.0, expected >=0",
        ),
    ],
)
@in_process
def test_mistakes_are_reported_before_anything_trains(project: Path, changes: Any, message: str) -> None:
    write_study(**changes)
    with pytest.raises(ConfigurationError, match=message):
        study("tiny", workers=1)
    assert not list(Path("runs").rglob("run.json"))
    assert not Path("reports/studies/tiny").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("trained_project")
def test_what_is_trained_is_not_trained_again(
    trained: tuple[Path, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    _, output, errors = trained
    assert "4 cells, 0 of them are done" in output
    lines = [line.partition(":")[0] for line in errors.splitlines() if "trained in" in line]
    assert sorted(lines) == ["relu, seed 1", "relu, seed 2", "tanh, seed 1", "tanh, seed 2"]
    first = metrics()
    report = {path: path.read_bytes() for path in Path("reports/studies/tiny").rglob("*.*")}

    study("tiny")
    assert "4 cells, 4 of them are done" in capfd.readouterr().out
    assert {path: path.read_bytes() for path in Path("reports/studies/tiny").rglob("*.*")} == report

    # another value trains its own cells only
    write_study(grid={"model.network.activation": ["relu", "elu"]})
    study("tiny", workers=1)
    said = capfd.readouterr()
    assert "4 cells, 2 of them are done" in said.out
    assert said.err.count("trained in") == 2
    assert {key: value for key, value in metrics().items() if key.startswith("relu/")} == {
        key: value for key, value in first.items() if key.startswith("relu/")
    }


@pytest.mark.slow
@pytest.mark.usefixtures("trained_project")
def test_a_cell_is_the_training_of_the_command_line() -> None:
    (cell,) = [cell for cell in cells() if cell.title == "tanh, seed 2"]
    arguments = ["--model.network.activation=tanh", "--trainer.max_epochs=2", "--seed_everything=2"]
    main(["fit", "--config", "configs/polynomial.yaml", *arguments])
    kept, alone = (
        (folder / "manifest.json").read_text() for folder in (cell.bundle, Path("models/polynomial"))
    )
    assert kept == alone


def write_wide(name: str = "wide") -> None:
    """A second model of the task."""
    text = Path("configs/polynomial.yaml").read_text(encoding="utf-8")
    text = text.replace("task: polynomial", f"task: polynomial\nname: {name}")
    Path("configs/wide.yaml").write_text(
        text.replace("hidden_sizes: [64, 64]", "hidden_sizes: [9]"), encoding="utf-8"
    )


def test_the_name_of_a_metric_tells_which_values_are_better() -> None:
    assert Study("tiny", "test_acc").direction == "max"
    assert Study("tiny", "test/rmse").direction == "min"
    assert Study("tiny", "test_acc", mode="min").direction == "min"


def test_a_study_may_begin_with_another_model_of_the_task(project: Path) -> None:
    write_wide()
    write_study(model="wide", seeds=[1], grid={"model.network.activation": ["tanh"]})
    (cell,) = cells()
    assert metric_names(cell) == [
        *("best_epoch", "test/loss", "test/mae", "test/r2", "test/rmse", "train/loss"),
        *("validation/loss", "validation/mae", "validation/r2", "validation/rmse"),
    ]
    train(cell)
    assert cell.bundle == cell.folder / "models/wide"
    record = cell.record()
    assert record is not None
    assert record["configuration"]["model"]["init_args"]["network"]["init_args"]["hidden_sizes"] == [9]
    assert record["configuration"]["model"]["init_args"]["network"]["init_args"]["activation"] == "tanh"
    write_sweep("tiny", read_study("tiny"), Path("sweep.yaml"))
    assert "configs/wide.yaml" in Path("sweep.yaml").read_text()


def test_the_configuration_that_a_study_begins_with_is_part_of_its_stage(project: Path) -> None:
    def digest() -> str:
        write_code()
        return str(json.loads(Path("data/code.json").read_text())["study"]["tiny"])

    write_wide()
    plain = digest()
    write_study(model="wide")
    first = digest()
    assert first != plain
    assert digest() == first
    path = Path("configs/wide.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("[9]", "[8]"), encoding="utf-8")
    assert digest() != first
    write_study()
    assert digest() == plain


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("absent", "wide", r"studies\.tiny\.model: found absent, but there is no configs/absent\.yaml"),
        (
            "spiral",
            "wide",
            r"configs/spiral\.yaml is the model spiral of the task spiral; expected",
        ),
        ("wide", "large", r"configs/wide\.yaml is the model large of the task polynomial; expected"),
        ("../wide", "wide", r"studies\.tiny\.model: '\.\./wide' cannot be a name"),
    ],
)
def test_a_model_of_another_task_is_refused(project: Path, model: str, name: str, message: str) -> None:
    write_wide(name)
    write_study(model=model)
    with pytest.raises(ConfigurationError, match=message):
        read_study("tiny")


@pytest.mark.slow
def test_a_killed_study_goes_on(
    project: Path, trained: tuple[Path, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "pipelines.study", "tiny", "--workers=1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "trained in" in line:
            break
    process.kill()
    process.wait()
    process.stderr.close()
    left = [cell for cell in cells() if not cell.done]
    assert 0 < len(left) < 4
    study("tiny")
    said = capfd.readouterr()
    assert f"4 cells, {4 - len(left)} of them are done" in said.out
    assert said.err.count("trained in") == len(left)
    assert metrics() == metrics(trained[0])


@pytest.mark.slow
@in_process
def test_a_cell_that_diverges_is_a_result(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
    write_study(
        fixed={"trainer.max_epochs": 2, "model.lr_scheduler": None, "model.optimizer": sgd},
        grid={"model.optimizer.lr": [0.001, 1e6]},
        seeds=[1, 2],
    )
    study("tiny")
    assert "lr 1000000.0, seed 1: train/loss became" in capfd.readouterr().err
    found = metrics()
    assert (found["lr 0.001/runs"], found["lr 1000000.0/runs"], found["lr 1000000.0/diverged"]) == (2, 0, 2)
    assert "2 diverged" in Path("reports/studies/tiny/tables/cells.md").read_text()
    study("tiny")
    assert "4 cells, 4 of them are done" in capfd.readouterr().out


@pytest.mark.slow
@in_process
def test_a_cell_that_fails_is_told_and_the_others_go_on(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("reports/studies/tiny").mkdir(parents=True)
    Path("reports/studies/tiny/metrics.json").touch()
    write_study(seeds=[1])
    failing, last = cells()
    # a run folder that cannot be made
    (failing.folder / "runs").mkdir(parents=True)
    (failing.folder / "runs" / "polynomial").touch()
    with pytest.raises(ResourceError, match=r"1 of 2 cells failed, the first: relu, seed 1: .*log\.txt"):
        study("tiny", workers=1)
    assert last.done
    assert Path("reports/studies/tiny/metrics.json").is_file()
    assert capfd.readouterr().err.count("trained in") == 1
    (failing.folder / "runs" / "polynomial").unlink()
    study("tiny", workers=1)
    assert capfd.readouterr().err.count("trained in") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_dies_takes_no_other_cell_with_it(tmp_path: Path, number: int) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\n"
        "from pipelines.study.workers import Workers\n"
        "def work(item):\n"
        "    if item == 2:\n"
        "        os._exit(9)\n"
        "    return item * 10\n"
        "if __name__ == '__main__':\n"
        f"    with Workers({number}) as pool:\n"
        "        pool.context.set_forkserver_preload([])\n"  # quick: the work needs no Lightning
        "        for item, found, error in pool.each(work, [1, 2, 3, 4]):\n"
        "            print(item, found, type(error).__name__)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "dying.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert sorted(done.stdout.splitlines()) == [
        "1 10 NoneType",
        "2 None ResourceError",
        "3 30 NoneType",
        "4 40 NoneType",
    ], done.stderr


def test_every_row_is_a_test_row_of_one_fold(
    project: Path, prepared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(prepared("house_prices"), project / "other", symlinks=True)
    monkeypatch.chdir(folder)
    write_study(task="house_prices", metric="test/log_rmse", folds=3, seeds=[1], grid={})
    rows: list[int] = []
    learnt = set()
    for cell in cells():
        split = [line.split(",") for line in (cell.prepared / "split.csv").read_text().splitlines()[1:]]
        rows += [int(row) for row, part in split if part == "test"]
        assert len(split) == 1460
        learnt.add(json.dumps(json.loads((cell.prepared / "preprocessing.json").read_text())["target"]))
    assert sorted(rows) == list(range(1, 1461))
    assert len(learnt) == 3  # of each fold's own training rows


@pytest.mark.slow
@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_of_the_project_are_configurations(
    prepared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(prepared(STUDIES[name]["task"]))
    wanted = read_study(name)
    # of a grid a few cells that have each of its values
    few = corners(wanted.grid) if wanted.grid else [{}]
    rows = wanted.rows() if not wanted.search else dict(zip("abcdefgh", few, strict=False))
    groups = cells_of(name, wanted, rows)
    assert len(groups) == len(rows)
    checked = [
        cell for cell, *_ in groups.values() if any(cell.settings.items() >= row.items() for row in few)
    ]
    assert len(checked) >= len(few)
    for cell in checked:
        assert wanted.metric in metric_names(cell)


def test_reports_of_stages_and_of_other_studies_are_in_different_folders(project: Path) -> None:
    # the last stage depends on reports/, which only the outputs of stages may change
    assert report_of("tiny") == Path("reports/studies/tiny")
    assert report_of("another") == Path("runs/studies/another")


def test_a_sweep_has_the_grid(project: Path) -> None:
    write_sweep("tiny", read_study("tiny"), Path("sweep.yaml"))
    sweep = yaml.safe_load(Path("sweep.yaml").read_text())
    assert sweep["parameters"] == {
        "model.network.activation": {"values": ["relu", "tanh"]},
        "trainer.max_epochs": {"value": 2},
        "seed_everything": {"values": [1, 2]},
    }
    assert sweep["project"] == "lockstep"
    assert sweep["command"][1:] == [
        *("python", "-m", "src.cli", "fit", "--config", "configs/polynomial.yaml"),
        "${args}",
    ]
    write_study(variants={"a": {}})
    with pytest.raises(ConfigurationError, match="a sweep of W&B cannot have variants"):
        write_sweep("tiny", read_study("tiny"), Path("sweep.yaml"))


def test_workers_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module.shutil, "which", lambda name: None)
    assert devices_of(3) == [None, None, None]
    monkeypatch.setattr(workers_module.shutil, "which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(3) == ["0", "1"]
    assert devices_of(1) == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert devices_of(3) == ["2", "5"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of(2) == [None, None]


def trials() -> dict[int, str]:
    """The lines of the table of trials by their numbers, the best first."""
    lines = Path("reports/studies/tiny/tables/trials.md").read_text().splitlines()[2:]
    return {int(line.split("|")[1]): line for line in lines}


@pytest.mark.slow
def test_a_search_uses_its_budget_and_compares_the_best(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(**SEARCH, seeds=[1])
    with in_process:
        study("tiny")
    said = capfd.readouterr()
    assert "3 trials, 0 of them are done" in said.out
    first = trials()
    assert sorted(first) == [0, 1, 2]
    reached = [float(line.split("|")[2]) for line in first.values()]
    assert reached == sorted(reached)
    names = {name.partition("/runs")[0] for name in metrics() if name.endswith("/runs")}
    (found,) = names - {"configs/polynomial.yaml"}
    assert next(iter(first.values())).split("|")[5].strip() in found
    assert Path("reports/studies/tiny/plots/trials.png").is_file()

    # a higher budget goes on; another storage begins anew and draws the same
    write_study(**SEARCH | {"budget": 4}, seeds=[1])
    study("tiny", workers=2)
    assert "4 trials, 3 of them are done" in capfd.readouterr().out
    assert {number: trials()[number] for number in first} == first
    write_study(**SEARCH | {"storage": "sqlite:///$SEARCHES/search.db"}, seeds=[1])
    monkeypatch.setenv("SEARCHES", str(project))
    with in_process:
        study("tiny")
    assert "3 trials, 0 of them are done" in capfd.readouterr().out
    assert (project / "search.db").is_file()
    drawn = [[line.split("|")[4:] for line in table.values()] for table in (first, trials())]
    assert drawn[0] == drawn[1]


@pytest.fixture
def search(project: Path) -> Search:
    """A search of two trials, one epoch each; nothing has been tried yet."""
    write_study(**SEARCH, seeds=[1], fixed={"trainer.max_epochs": 1})
    wanted = read_study("tiny")
    (base,) = cells_of("tiny", wanted, {"base": wanted.fixed})["base"]
    return Search(base, wanted.grid, "validation/rmse", "min", 2, True, "tiny.journal")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("damaged", "storage cannot be used"),
        ("sqlite:///damaged", "storage cannot be used.*not a database"),
        ("sqlite:///locked?timeout=0", "storage cannot be used.*database is locked"),
        ("nothing://", "storage cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used_is_reported(search: Search, storage: str, message: str) -> None:
    Path("damaged").write_text("no journal, and\nno database\n")
    with sqlite3.connect("locked", isolation_level="EXCLUSIVE") as lock:
        lock.execute("CREATE TABLE held (x)")
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=message):
            replace(search, storage=storage).open()
    lock.close()


def test_a_trial_whose_process_died_is_tried_once_more(search: Search) -> None:
    gone = [platform.node(), os.getpid(), 0.0]  # a process that had our number before us
    study = search.open()
    first = study.ask()
    drawn = first.suggest_float("model.lr_scheduler.init_args.max_lr", 0.001, 0.1, log=True)
    assert search.left() == 1  # it may be that of another machine
    first.set_user_attr(PROCESS, gone)
    assert search.left() == 2
    again = study.ask()
    assert again.suggest_float("model.lr_scheduler.init_args.max_lr", 0.001, 0.1, log=True) == drawn
    again.set_user_attr(PROCESS, [platform.node(), os.getpid(), psutil.Process().create_time()])
    assert search.left() == 1
    again.set_user_attr(PROCESS, gone)
    assert search.left() == 1
    assert [trial.state.name for trial in search.open().trials] == ["FAIL", "FAIL"]


def test_a_mistake_of_the_program_is_not_taken_for_one_of_the_storage(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(study: optuna.Study, call: str) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr("pipelines.study.search._give_back", mistaken)
    with pytest.raises(TypeError, match="a mistake"):
        search.open()


def test_a_trial_far_behind_is_pruned(search: Search) -> None:
    search = replace(search, budget=10)
    study = search.open()
    space = {key: distribution_of(values) for key, values in search.space.items()}
    settings = {"model.network.activation": '"tanh"', "model.lr_scheduler.init_args.max_lr": 0.05}
    for _ in range(5):
        study.add_trial(
            optuna.create_trial(
                params=settings, distributions=space, value=0.001, intermediate_values={1: 0.001}
            )
        )
    said = try_next(search)
    assert said is not None
    assert said.endswith(": pruned")
    pruned = search.open().trials[-1]
    assert (pruned.state.name, list(pruned.intermediate_values)) == ("PRUNED", [1])
    assert search.rows()["found: tanh, max_lr 0.05"]["model.network.activation"] == "tanh"
    # the cell goes on where it is wanted in full
    unpruned = replace(search, pruning=False)
    said = try_next(unpruned)
    assert said is not None
    assert "validation/rmse" in said


def test_trials_that_diverge_count_and_are_no_finding(search: Search) -> None:
    space = {"model.optimizer.lr": [1e9], "model.optimizer.class_path": ["torch.optim.SGD"]}
    base = replace(search.base, settings={"trainer.max_epochs": 2, "model.lr_scheduler": None})
    search = replace(search, base=base, space=space)
    said = [try_next(search) for _ in range(3)]
    assert [line and line.split(": ")[2][:11] for line in said] == ["train/loss ", "its loss be", None]
    with pytest.raises(NonFiniteError, match="tiny: no trial of the search has ended"):
        search.rows()


@pytest.mark.parametrize(
    ("key", "value", "state"),
    [
        ("model.lr_scheduler.init_args.max_lr", 0.5, "complete"),
        ("model.network.activation", '"step"', "complete"),
        ("trainer.max_epochs", 3, "complete"),
        ("model.lr_scheduler.init_args.max_lr", 0.5, "waiting"),
    ],
)
def test_a_trial_outside_the_grid_is_refused(search: Search, key: str, value: Any, state: str) -> None:
    study = search.open()
    space: dict[str, Any] = {name: distribution_of(values) for name, values in search.space.items()}
    settings = {
        name: values.choices[0] if hasattr(values, "choices") else values.low
        for name, values in space.items()
    }
    foreign = space | {key: distribution_of([json.loads(value)] if isinstance(value, str) else [value])}
    if isinstance(value, float):
        foreign[key] = optuna.distributions.FloatDistribution(0, 1)
    wrong = settings | {key: str(value) if key == "trainer.max_epochs" else value}
    if state == "waiting":
        study.enqueue_trial({key: value})
    else:
        study.add_trial(optuna.trial.create_trial(params=wrong, distributions=foreign, value=0.01))
    with pytest.raises(ConfigurationError, match=rf"storage: trial 0 \({state}\) has {key} = "):
        search.rows()


def test_a_sweep_and_a_report_replace_no_file_of_the_user(project: Path) -> None:
    Path("sweep.yaml").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"sweep\.yaml exists; name another output"):
        study("tiny", sweep=Path("sweep.yaml"))
    study("tiny", sweep=Path("sweep.yaml"), overwrite=True)
    assert Path("sweep.yaml").read_text().startswith("project: lockstep")
    notes = report_of("tiny") / "notes.md"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(ConfigurationError, match=r"notes\.md was not written by this project"):
        study("tiny")
    assert notes.read_text() == "mine"
