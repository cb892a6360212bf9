"""Studies in a clone where the pipeline has run: caching, interruption, failures, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipelines import cells as cells_module
from pipelines.cells import CELLS, Cell, _devices, metric_names
from pipelines.study import cells_of, read_study, report_of, study, write_sweep
from src.shared.errors import ConfigurationError, DataError, LockstepError
from src.shared.folders import read_preprocessing

ROOT = Path(__file__).parents[1]
STUDIES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NAMES = [*STUDIES["studies"], *STUDIES["more_studies"]]
TINY = {
    "task": "polynomial",
    "metric": "test/rmse",
    "seeds": [1, 2],
    "fixed": {"trainer.max_epochs": 2},
    "grid": {"model.activation": ["relu", "tanh"]},
}


def write_study(**changes: Any) -> None:
    """Let params.yaml have a study named `tiny`."""
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters["studies"] = {"tiny": TINY | changes}
    Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")


@pytest.fixture
def project(clones: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of a clone without the cells, the working folder of the test."""
    ignored = shutil.ignore_patterns(".git", ".dvc", "runs")
    folder = Path(shutil.copytree(clones[0], tmp_path / "project", ignore=ignored))
    monkeypatch.chdir(folder)
    write_study()
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back
    threads, interrupt = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    yield folder
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, interrupt)
    torch.use_deterministic_algorithms(False)


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
    write_study(grid={"model.activation": ["relu", "elu"]})
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
    write_study(seeds=[7], grid={"model.activation": ["tanh"]})
    study("tiny")
    (cell,) = cells()
    arguments = ["--model.activation=tanh", "--trainer.max_epochs=2", "--seed_everything=7"]
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
    with pytest.raises(LockstepError, match=r"1 of 4 cells failed, the first: relu, seed 1: .*log\.txt"):
        study("tiny")
    assert last.done
    assert Path("reports/studies/tiny/older").is_file()
    assert capfd.readouterr().err.count("trained in") == 3
    (failing.folder / "runs" / "polynomial").unlink()
    study("tiny")
    assert capfd.readouterr().err.count("trained in") == 1


def test_a_worker_that_dies_takes_no_other_cell_with_it(project: Path) -> None:
    Path("dying.py").write_text(
        "import os\n"
        "from pipelines.cells import UNDER_WAY, Workers\n"
        "from pipelines.study import cells_of, read_study\n"
        "def work(cell):\n"
        "    cell.folder.mkdir(parents=True, exist_ok=True)\n"
        "    (cell.folder / UNDER_WAY).touch()\n"
        "    if cell.title == 'relu, seed 2':\n"
        "        os._exit(9)\n"
        "    (cell.folder / UNDER_WAY).unlink()\n"
        "    return cell.seed\n"
        "if __name__ == '__main__':\n"
        "    cells = [c for group in cells_of('tiny', read_study('tiny')).values() for c in group]\n"
        "    with Workers(1) as pool:\n"
        "        for cell, found, error in pool.each(work, cells):\n"
        "            print(cell.title, found, type(error).__name__)\n"
    )
    command = [sys.executable, "dying.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ["PYTHONPATH"]])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert sorted(done.stdout.splitlines()) == [
        "relu, seed 1 1 NoneType",
        "relu, seed 2 None BrokenProcessPool",
        "tanh, seed 1 1 NoneType",
        "tanh, seed 2 2 NoneType",
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
        ({"grid": {"model.activation": []}}, r"studies\.tiny\.grid\.model\.activation is empty"),
        ({"grid": {"model.activation": "relu"}}, r"grid\.model\.activation must be a list"),
        ({"grid": ["relu"]}, r"studies\.tiny\.grid must be a mapping"),
        ({"grid": {"model.activations": ["relu"]}}, "relu: .*'activations' is not accepted"),
        ({"grid": {"trainer.max_epochs": ["many"]}}, r"many: .*trainer\.max_epochs"),
        ({"grid": {"model.activation": ["relu", "sine"]}}, "sine: .*activation: 'sine' is not one of"),
        ({"seeds": []}, r"seeds is empty"),
        ({"seeds": [1, 1]}, "one stands there twice"),
        ({"seeds": ["one"]}, "seeds"),
        ({"folds": 1}, "folds must be 0 or at least 2"),
        ({"folds": 5000}, "5000 folds of 1000 rows"),
        ({"speed": 3}, "speed"),
        ({"prepare": {"colour": "red"}}, "colour"),
    ],
)
def test_mistakes_are_told_before_anything_trains(project: Path, changes: Any, message: str) -> None:
    write_study(**changes)
    with pytest.raises(ConfigurationError, match=message):
        study("tiny", workers=1)
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
    with pytest.raises((DataError, FileNotFoundError)):
        study("tiny")


@pytest.mark.parametrize("name", NAMES)
def test_the_studies_that_come_along_are_configurations(project: Path, name: str) -> None:
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    wanted = read_study(name)
    groups = cells_of(name, wanted)
    assert len(groups) == len(wanted.rows())
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
        "model.activation": {"values": ["relu", "tanh"]},
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
    monkeypatch.setattr(cells_module.shutil, "which", lambda name: None)
    assert _devices(3) == [None, None, None]
    monkeypatch.setattr(cells_module.shutil, "which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _devices(3) == [0, 1]
    assert _devices(1) == [0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert _devices(2) == [None, None]
