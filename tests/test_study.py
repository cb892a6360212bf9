"""Studies in a clone where the pipeline has run: caching, interruption, failures, refusals."""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch
import yaml

from pipelines.study.cells import CELLS, Cell, metric_names
from pipelines.study.search import PROCESS, Search, corners, distribution_of, try_next
from pipelines.study.study import cells_of, read_study, report_of, study, write_sweep
from pipelines.study.study import workers as workers_module
from pipelines.study.workers import devices_of
from src.core.digests import read_preprocessing
from src.core.errors import ConfigurationError, NonFiniteError, ResourceError

ROOT = Path(__file__).parents[1]
STUDIES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NAMES = [*STUDIES["studies"], *STUDIES["more_studies"]]
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


def write_study(**changes: Any) -> None:
    """Let params.yaml have a study named `tiny`."""
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters["studies"] = {"tiny": TINY | changes}
    Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")


@pytest.fixture
def project(
    clones: tuple[Path, Path],
    settings_of_the_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of a clone without the cells, the working folder of the test."""
    ignored = shutil.ignore_patterns(".git", ".dvc", "runs")
    folder = Path(shutil.copytree(clones[0], tmp_path / "project", ignore=ignored))
    monkeypatch.chdir(folder)
    write_study()
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back
    return folder


def metrics() -> dict[str, float]:
    content: dict[str, float] = json.loads(Path("reports/studies/tiny/metrics.json").read_text())
    return content


def cells() -> list[Cell]:
    return [cell for group in cells_of("tiny", read_study("tiny")).values() for cell in group]


def test_what_is_trained_is_not_trained_again(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study("tiny", workers=2)
    said = capfd.readouterr()
    assert "4 cells, 0 of them are there" in said.out
    assert sorted(line.partition(":")[0] for line in said.err.splitlines() if "trained in" in line) == [
        "relu, seed 1",
        "relu, seed 2",
        "tanh, seed 1",
        "tanh, seed 2",
    ]
    first = metrics()
    report = {path: path.read_bytes() for path in Path("reports/studies/tiny").rglob("*.*")}

    study("tiny")
    assert "4 cells, 4 of them are there" in capfd.readouterr().out
    assert {path: path.read_bytes() for path in Path("reports/studies/tiny").rglob("*.*")} == report

    # another value trains its own cells only
    write_study(grid={"model.network.activation": ["relu", "elu"]})
    study("tiny", workers=1)
    said = capfd.readouterr()
    assert "4 cells, 2 of them are there" in said.out
    assert said.err.count("trained in") == 2
    assert {key: value for key, value in metrics().items() if key.startswith("relu/")} == {
        key: value for key, value in first.items() if key.startswith("relu/")
    }


def test_a_cell_is_the_training_of_the_command_line(
    project: Path, python: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    write_study(seeds=[7], grid={"model.network.activation": ["tanh"]})
    study("tiny")
    (cell,) = cells()
    arguments = ["--model.network.activation=tanh", "--trainer.max_epochs=2", "--seed_everything=7"]
    done = python("-m", "src.cli", "fit", "--config", "configs/polynomial.yaml", *arguments, cwd=project)
    assert done.returncode == 0, done.stdout
    kept, alone = (
        json.loads((folder / "manifest.json").read_text())
        for folder in (cell.bundle, Path("models/polynomial"))
    )
    assert kept == alone


def test_a_killed_study_goes_on(project: Path) -> None:
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
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert f"4 cells, {4 - len(left)} of them are there" in done.stdout
    assert done.stderr.count("trained in") == len(left)
    interrupted = metrics()
    shutil.rmtree(CELLS)
    study("tiny")
    assert metrics() == interrupted


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
    assert "4 cells, 4 of them are there" in capfd.readouterr().out


def test_a_cell_that_fails_is_told_and_the_others_go_on(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("reports/studies/tiny").mkdir(parents=True)
    Path("reports/studies/tiny/older").touch()
    (failing, *_, last) = cells()
    # a run folder that cannot be made
    (failing.folder / "runs").mkdir(parents=True)
    (failing.folder / "runs" / "polynomial").touch()
    with pytest.raises(ResourceError, match=r"1 of 4 cells failed, the first: relu, seed 1: .*log\.txt"):
        study("tiny")
    assert last.done
    assert Path("reports/studies/tiny/older").is_file()
    assert capfd.readouterr().err.count("trained in") == 3
    (failing.folder / "runs" / "polynomial").unlink()
    study("tiny")
    assert capfd.readouterr().err.count("trained in") == 1


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


def test_every_row_is_a_test_row_of_one_fold(project: Path) -> None:
    write_study(task="house_prices", metric="test/log_rmse", folds=3, seeds=[1], grid={})
    rows: list[int] = []
    learnt = set()
    for cell in cells():
        split = [line.split(",") for line in (cell.prepared / "split.csv").read_text().splitlines()[1:]]
        rows += [int(row) for row, part in split if part == "test"]
        assert len(split) == 1460
        learnt.add(json.dumps(read_preprocessing(cell.prepared)["target"]))
    assert sorted(rows) == list(range(1, 1461))
    assert len(learnt) == 3  # of each fold's own training rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "nothing"}, "no task 'nothing'; its tasks are: "),
        ({"metric": "test/speed"}, "no 'test/speed'; there are: best_epoch, test/loss"),
        ({"grid": {}}, r"studies\.tiny\.grid is empty"),
        ({"grid": {"model.network.activation": []}}, r"studies\.tiny\.grid\.model\.activation is empty"),
        ({"grid": {"model.network.activation": "relu"}}, r"grid\.model\.activation must be a list"),
        ({"grid": ["relu"]}, r"studies\.tiny\.grid must be a mapping"),
        ({"grid": {"model.network.activations": ["relu"]}}, "relu: .*'activations' is not accepted"),
        ({"grid": {"trainer.max_epochs": ["many"]}}, r"many: .*trainer\.max_epochs"),
        ({"grid": {"model.network.activation": ["relu", "sine"]}}, "sine: .*: 'sine' is not one of"),
        ({"seeds": []}, r"seeds is empty"),
        ({"seeds": [1, 1]}, "one stands there twice"),
        ({"seeds": ["one"]}, "seeds"),
        ({"folds": 1}, "folds must be 0 or at least 2"),
        ({"folds": 5000}, "5000 folds of 1000 rows"),
        ({"speed": 3}, "speed"),
        ({"search": "grid"}, "search"),
        ({"search": "optuna", "grid": {}}, r"studies\.tiny\.grid is empty"),
        ({"search": "optuna", "folds": 2}, "search needs a grid, and knows no variants and no folds"),
        ({"search": "optuna", "budget": 0}, "budget must be at least 1"),
        ({"grid": {"model.l1": {"low": 0.1, "high": 1.0}}}, r"grid\.model\.l1 must be a list of values"),
        (SEARCH | {"grid": {"model.l1": 0.1}}, r"a list of values or a range \{low"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.1}}}, r"grid\.model\.l1 is no range .*None is no number"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.0, "high": 1.0, "log": True}}}, "is no range .*log"),
        (SEARCH | {"grid": {"model.l1": {"low": 2.0, "high": 1.0}}}, "is no range"),
        (SEARCH | {"grid": {"model.l1": {"low": 0.0, "high": 1.0, "mean": 0}}}, "is no range .*mean"),
        (SEARCH | {"grid": {"model.l1": {"low": -1.0, "high": 1.0}}}, r"l1 -1\.0: .*l1.* v>=0"),
        (SEARCH | {"grid": {"model.network.activation": ["relu", "sine"]}}, "sine: .*is not one of"),
        (SEARCH | {"metric": "test/speed"}, "no 'test/speed'"),
        (SEARCH | {"storage": "damaged"}, r"studies\.tiny\.storage cannot be used"),
        (SEARCH | {"storage": "sqlite:///damaged"}, r"storage cannot be used.*not a database"),
        (SEARCH | {"storage": "sqlite:///locked?timeout=0"}, r"storage cannot be used.*database is locked"),
        (SEARCH | {"storage": "nothing://"}, r"studies\.tiny\.storage cannot be used"),
        ({"prepare": {"colour": "red"}}, "colour"),
    ],
)
def test_mistakes_are_told_before_anything_trains(project: Path, changes: Any, message: str) -> None:
    write_study(**changes)
    Path("damaged").write_text("no journal, and\nno database\n")
    with sqlite3.connect("locked", isolation_level="EXCLUSIVE") as lock:
        lock.execute("CREATE TABLE held (x)")
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=message):
            study("tiny", workers=1)
    lock.close()
    assert not list(Path("runs").rglob("run.json"))
    assert not Path("reports/studies/tiny").exists()


def test_an_unknown_study_and_data_that_are_not_prepared_are_told(project: Path) -> None:
    with pytest.raises(ConfigurationError, match="no study 'huge'; its studies are: tiny"):
        study("huge")
    shutil.rmtree("data/prepared/polynomial")
    with pytest.raises(ConfigurationError, match="dvc repro prepare@polynomial"):
        study("tiny")
    shutil.rmtree("data/raw/polynomial")
    write_study(folds=2)
    with pytest.raises(ConfigurationError, match="dvc repro fetch@polynomial"):
        study("tiny")


@pytest.mark.parametrize("name", NAMES)
def test_the_studies_that_come_along_are_configurations(project: Path, name: str) -> None:
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    wanted = read_study(name)
    rows = dict(zip("abcdefgh", corners(wanted.grid), strict=False)) if wanted.search else wanted.rows()
    groups = cells_of(name, wanted, rows)
    assert len(groups) == len(rows)
    first = next(iter(groups.values()))[0].settings
    for cell, *_ in groups.values():
        # of a grid those that differ from the first in one key
        if wanted.variants or sum(first[key] != value for key, value in cell.settings.items()) <= 1:
            assert wanted.metric in metric_names(cell)


def test_the_reports_of_stages_and_of_others_lie_apart(project: Path) -> None:
    # a report that is no output of a stage would change what the last stage depends on
    assert report_of("tiny") == Path("reports/studies/tiny")
    assert report_of("networks") == Path("runs/studies/networks")


def test_a_sweep_has_the_grid(project: Path) -> None:
    write_sweep("tiny", read_study("tiny"), Path("sweep.yaml"))
    sweep = yaml.safe_load(Path("sweep.yaml").read_text())
    assert sweep["parameters"] == {
        "model.network.activation": {"values": ["relu", "tanh"]},
        "trainer.max_epochs": {"value": 2},
        "seed_everything": {"values": [1, 2]},
    }
    assert sweep["command"][1:] == [
        *("python", "-m", "src.cli", "fit", "--config", "configs/polynomial.yaml"),
        "${args}",
    ]
    write_study(variants={"a": {}})
    with pytest.raises(ConfigurationError, match="a sweep of W&B knows no variants"):
        write_sweep("tiny", read_study("tiny"), Path("sweep.yaml"))


def test_workers_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module.shutil, "which", lambda name: None)
    assert devices_of(3) == [None, None, None]
    monkeypatch.setattr(workers_module.shutil, "which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(3) == [0, 1]
    assert devices_of(1) == [0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of(2) == [None, None]


def trials() -> dict[int, str]:
    """The lines of the table of trials by their numbers, the best first."""
    lines = Path("reports/studies/tiny/tables/trials.md").read_text().splitlines()[2:]
    return {int(line.split("|")[1]): line for line in lines}


def test_a_search_uses_its_budget_and_compares_the_best(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(**SEARCH)
    study("tiny", workers=1)
    said = capfd.readouterr()
    assert "3 trials, 0 of them are there" in said.out
    first = trials()
    assert sorted(first) == [0, 1, 2]
    reached = [float(line.split("|")[2]) for line in first.values()]
    assert reached == sorted(reached)
    names = {name.partition("/runs")[0] for name in metrics() if name.endswith("/runs")}
    (found,) = names - {"configs/polynomial.yaml"}
    assert next(iter(first.values())).split("|")[5].strip() in found
    assert Path("reports/studies/tiny/plots/trials.png").is_file()

    # a higher budget goes on; another storage begins anew and draws the same
    write_study(**SEARCH | {"budget": 4})
    study("tiny", workers=2)
    assert "4 trials, 3 of them are there" in capfd.readouterr().out
    assert {number: trials()[number] for number in first} == first
    write_study(**SEARCH | {"storage": "sqlite:///$SEARCHES/search.db"})
    monkeypatch.setenv("SEARCHES", str(project))
    study("tiny", workers=1)
    assert "3 trials, 0 of them are there" in capfd.readouterr().out
    assert (project / "search.db").is_file()
    assert [line.split("|")[4:] for line in trials().values()] == [
        line.split("|")[4:] for line in first.values()
    ]


@pytest.fixture
def search(project: Path) -> Search:
    """A search of two trials, one epoch each; nothing has been tried yet."""
    write_study(**SEARCH, seeds=[1], fixed={"trainer.max_epochs": 1})
    wanted = read_study("tiny")
    (base,) = cells_of("tiny", wanted, {"base": wanted.fixed})["base"]
    return Search(base, wanted.grid, "validation/rmse", "min", 2, True, "tiny.journal")


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
    def mistaken(study: optuna.Study) -> None:
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
    assert [line and line.split(": ")[2][:11] for line in said] == ["train/loss ", "its loss ha", None]
    with pytest.raises(NonFiniteError, match="tiny: no trial of the search has come to its end"):
        search.rows()
