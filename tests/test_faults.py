"""Faults during a run: signals, disks, memory, caches, clocks, names; docs/exactness.md lists all faults."""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from dvc.cli import main as dvc
from lightning import Trainer
from torch import Tensor

from pipelines.evaluate import evaluate
from pipelines.fetch import fetch
from pipelines.prepare import prepare
from src.core.errors import NonFiniteError
from src.tabular.model import TabularModel
from src.training.non_finite_loss import NonFiniteLossGuard
from tests.support import cli, contents, ended

resource = pytest.importorskip("resource", reason="limits of a process are those of Unix")

pytestmark = pytest.mark.tasks("house_prices")

TASK = "house_prices"
CONFIG = Path("configs", f"{TASK}.yaml")
RAW = Path("data/raw", TASK)
PREPARED = Path("data/prepared", TASK)
BUNDLE = Path("models", TASK)
REPORT = Path("reports", TASK)
DVC_SETTINGS = """
[core]
    analytics = false
    check_update = false
    no_scm = true
    site_cache_dir = .dvc/tmp/site
"""


def fit(*options: str) -> Any:
    """Train; the exit code."""
    return cli("fit", "--config", str(CONFIG), *options)


def tensors() -> str:
    """The digest of the weights in the bundle."""
    return str(json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))["tensors"])


def outputs() -> dict[str, bytes]:
    return contents(RAW, PREPARED, BUNDLE, REPORT)


@pytest.fixture(autouse=True)
def project(
    workspace: Callable[..., Path],
    settings_of_the_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project in which one task has run, the working folder of the test; DVC works there without git."""
    workspace(tmp_path, TASK)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(DVC_SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def limit(kind: int, most: int) -> Iterator[None]:
    """Limit a resource of this process and of those that it starts."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def at_step(number: int, action: Callable[[Tensor], Tensor | None], patch: pytest.MonkeyPatch) -> list[int]:
    """Call `action` on the loss of a step, counted from 1; the list of the steps so far."""
    step = TabularModel.training_step
    done: list[int] = []

    def acting(self: TabularModel, *arguments: Any, **named: Any) -> Any:
        loss = step(self, *arguments, **named)
        done.append(len(done) + 1)
        changed = action(loss) if len(done) == number else None
        return loss if changed is None else changed

    patch.setattr(TabularModel, "training_step", acting)
    return done


def steps_of_an_epoch() -> int:
    rows = (PREPARED / "split.csv").read_text().count(",train\n")
    batch_size = yaml.safe_load(CONFIG.read_text())["data"]["init_args"]["batch_size"]
    return math.ceil(rows / batch_size)


# -------------------------------------------------------------------------------------------- signals


def interrupt(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interruption_within_the_shutdown_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, tear_down, shutdowns = tensors(), Trainer._teardown, []

    def interrupted_again(trainer: Trainer) -> None:
        shutdowns.append(1)
        interrupt()
        tear_down(trainer)

    with monkeypatch.context() as patch:
        at_step(steps_of_an_epoch() + 2, interrupt, patch)
        patch.setattr(Trainer, "_teardown", interrupted_again)
        assert fit("--checkpoint_seconds=0") == 130
    assert shutdowns == [1]
    assert capsys.readouterr().err.endswith("interrupted\n")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert fit("--checkpoint_seconds=0") == 0
    assert tensors() == expected


@pytest.mark.slow
def test_a_study_interrupted_twice_leaves_no_worker() -> None:
    study = {
        "task": TASK,
        "metric": "test/rmse",
        "fixed": {"trainer.max_epochs": 1_000_000},
        "grid": {"model.network.dropout": [0.1, 0.2]},
        "seeds": [1],
    }
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump(parameters | {"studies": {"endless": study}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.study", "endless", "--workers=2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    under_way = Path("runs/cells")
    while len([path for path in under_way.rglob("history.csv") if path.stat().st_size]) < 2:
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(timeout=0.1) is None
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    # to the study alone; a terminal sends it to the workers too, which leave it to the study
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert not Path("reports/studies/endless").exists()


# kills the process at each place where a stage opens a file to write, makes, renames or removes one
KILLS = """
import os, shutil, signal, sys
from pathlib import Path
from pipelines.fetch import fetch
from pipelines.prepare import prepare
from src.core.digests import folder_digest

def state(folder):
    return folder_digest(folder) if folder.is_dir() else None

for stage, folder, record in (
    (fetch, Path("data/raw/line"), "SOURCE.json"), (prepare, Path("data/prepared/line"), "manifest.json")
):
    stage("line")
    new = state(folder)
    with (folder / record).open("a") as file:
        file.write("\\n")
    old = state(folder)
    shutil.copytree(folder, "older")
    for number in range(1, 1000):
        shutil.rmtree(folder)
        shutil.copytree("older", folder)
        child = os.fork()
        if not child:
            left = [number]
            def hook(event, arguments):
                writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if writing or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            stage("line")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = state(folder)
        if found is None:
            (beside,) = folder.parent.glob(".*.older")
            found = state(beside)
        assert found in (old, new), (stage, number)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        stage("line")
        assert state(folder) == new, (stage, number)
        assert not list(folder.parent.glob(".*")), (stage, number)
    print("killed at", number - 1, "places", file=sys.stderr)
    shutil.rmtree("older")
"""


@pytest.mark.slow
@pytest.mark.tasks("line")
def test_a_kill_at_any_place_leaves_nothing_half_written(project: Path, python: Callable[..., Any]) -> None:
    done = python("-c", KILLS, cwd=project)
    assert done.returncode == 0, done.stdout
    places = [int(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("killed")]
    assert len(places) == 2
    assert min(places) >= 10


# -------------------------------------------------------------------------------------- disk and folders


@pytest.mark.parametrize("stage", [fetch, prepare, evaluate])
def test_a_full_disk_is_reported_and_the_older_output_stays(
    stage: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs()
    with limit(resource.RLIMIT_FSIZE, 1000):
        assert ended(stage, TASK) == 6
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.match(
        r"error: (\[Errno 27\] File too large|the disk is full, or files may not be that large)", told
    )
    assert outputs() == before
    assert not list(Path("data").rglob(".*"))


@pytest.mark.parametrize("seconds", [0, 1000], ids=["resumed", "from the start"])
def test_a_full_disk_during_training_is_reported_and_training_resumes(
    seconds: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, options = tensors(), [f"--checkpoint_seconds={seconds}"]
    with monkeypatch.context() as patch:
        # with or without a checkpoint, which the last epoch but one always saves
        at_step(steps_of_an_epoch() + 1 if seconds == 0 else 1, interrupt, patch)
        assert fit(*options) == 130
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = contents(Path("models"))
    checkpoints = {path: path.read_bytes() for path in Path("runs").rglob("*.ckpt")}
    assert bool(checkpoints) == (seconds == 0)
    with limit(resource.RLIMIT_FSIZE, 20_000):
        assert fit(*options) == 6
    assert "File too large" in capsys.readouterr().err.splitlines()[-1]
    assert contents(Path("models")) == before
    assert {path: path.read_bytes() for path in checkpoints} == checkpoints
    shutil.rmtree(BUNDLE)
    assert fit(*options) == 0
    assert ("going on after epoch 1\n" in capsys.readouterr().out) == (seconds == 0)
    assert tensors() == expected


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_a_device_without_space_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        at_step(1, interrupt, patch)
        assert fit() == 130
    (history,) = Path("runs").rglob("history.csv")
    history.unlink()
    history.symlink_to("/dev/full")
    before = contents(Path("models"))
    assert fit() == 6
    assert capsys.readouterr().err.splitlines()[-1] == "error: [Errno 28] No space left on device"
    assert contents(Path("models")) == before


@pytest.mark.tasks("words")
def test_prepare_needs_no_folder_of_temporary_files(
    project: Path, finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = finished("words")
    shutil.copytree(clone / "data/raw/words", "data/raw/words")
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")  # jieba would keep megabytes there
    with limit(resource.RLIMIT_FSIZE, 300_000):
        prepare("words")
    here = contents(Path("data/prepared/words"))
    with contextlib.chdir(clone):
        assert contents(Path("data/prepared/words")) == here


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        (lambda: ended(fetch, TASK), "data/raw"),
        (lambda: ended(prepare, TASK), "data/prepared"),
        (fit, "models"),
        (lambda: ended(evaluate, TASK), "reports"),
    ],
    ids=["fetch", "prepare", "fit", "evaluate"],
)
@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_folder_that_cannot_be_written_is_reported(
    command: Callable[[], Any],
    folder: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind == "read-only" and not Path("/sys/kernel").is_dir():
        pytest.skip("there is no folder that refuses even root")
    done = at_step(0, lambda loss: None, monkeypatch)
    older = Path(folder).rename("older")
    if kind == "file":
        Path(folder).touch()
    else:
        Path(folder).symlink_to("/sys/kernel")
    assert command() == 6
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: [Errno ")
    assert done == []
    assert contents(older)


# ------------------------------------------------------------------------------------------------- DVC


def damage(path: Path) -> None:
    """Flip a bit and keep the mode of the file."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    path.chmod(mode)


def pipeline(**stages: dict[str, Any]) -> None:
    """Write a dvc.yaml of these stages."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")


PREPARE = {"cmd": f"python -m pipelines.prepare {TASK}", "deps": [str(RAW)], "outs": [str(PREPARED)]}
COPY = {"cmd": f"cp {CONFIG} copied", "params": [f"{TASK}.prepare"], "outs": ["copied"]}


def test_a_damaged_object_of_the_cache_is_reported_when_it_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline(prepare=PREPARE)
    assert dvc(["repro", "--quiet"]) == 0
    name = "train_numbers.npy"
    content = (PREPARED / name).read_bytes()
    (cached,) = [
        path for path in Path(".dvc/cache").rglob("*") if path.is_file() and path.read_bytes() == content
    ]
    damage(cached)
    shutil.rmtree(PREPARED)
    assert dvc(["checkout", "--quiet"]) == 0  # DVC serves it silently
    before = contents(BUNDLE, REPORT)
    for function in (fit, lambda: cli("test", "--config", str(CONFIG)), lambda: ended(evaluate, TASK)):
        assert function() == 4
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: {PREPARED}/{name}: sha256 ")
    assert contents(BUNDLE, REPORT) == before
    assert "dvc repro -f prepare@house_prices" in line
    assert "chmod -R u+w .dvc/cache" in line
    for path in Path(".dvc/cache").rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    assert dvc(["repro", "--quiet", "--force"]) == 0
    shutil.rmtree(PREPARED)
    assert dvc(["checkout", "--quiet"]) == 0
    assert (PREPARED / name).read_bytes() == content


def test_a_second_dvc_repro_reports_the_running_one() -> None:
    pipeline(wait={"cmd": f"{sys.executable} wait.py", "outs": ["waited"]})
    for name in ("started", "go"):
        os.mkfifo(name)
    Path("wait.py").write_text(
        "open('started', 'w').close()\nopen('go').close()\nopen('waited', 'w').write('yes')\n"
    )
    command = [sys.executable, "-m", "dvc", "repro"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path("started").read_bytes()  # waits for the stage
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    Path("go").write_bytes(b"")
    assert first.wait(timeout=60) == 0
    assert second.returncode != 0
    assert f"(PID {first.pid})" in second.stderr
    assert "waited' is busy" in second.stderr
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    assert Path("waited").read_text() == "yes"


@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock", "params.yaml"])
def test_a_truncated_file_is_reported_or_made_anew(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline(copy=COPY)
    assert dvc(["repro", "--quiet"]) == 0
    expected, path = CONFIG.read_bytes(), Path(name)
    whole = path.read_bytes() if path.is_file() else b'{"copied": {}}'
    codes = []
    for percent in (0, 10, 50, 90):
        path.write_bytes(whole[: len(whole) * percent // 100])
        caplog.clear()
        codes.append(dvc(["repro"]))
        assert codes[-1] == 0 or name in capfd.readouterr().err + caplog.text
        # DVC removes outputs that are out of date before it runs a stage
        assert not Path("copied").exists() or Path("copied").read_bytes() == expected
    assert set(codes) - {0}
    path.write_bytes(whole if path.name != "rwlock" else b"{}")
    assert dvc(["repro", "--quiet"]) == 0
    assert Path("copied").read_bytes() == expected


def test_a_full_disk_of_the_cache_is_reported_and_the_next_repro_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline(copy=COPY)
    assert dvc(["repro", "--quiet"]) == 0
    lock, cached = Path("dvc.lock").read_bytes(), contents(Path(".dvc/cache"))
    # another output, by a stage that has the space which DVC lacks
    program = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (-1, -1)); open('new', 'w').write('x' * 10**6)"
    )
    pipeline(copy=COPY, new={"cmd": f'{sys.executable} -c "{program}"', "outs": ["new"]})
    with limit(resource.RLIMIT_FSIZE, 100_000):
        assert dvc(["repro"]) != 0
    assert "File too large" in caplog.text
    assert Path("dvc.lock").read_bytes() == lock
    assert contents(Path(".dvc/cache")).items() >= cached.items()
    assert Path("copied").read_bytes() == CONFIG.read_bytes()
    assert dvc(["repro", "--quiet"]) == 0
    Path("new").unlink()
    assert dvc(["checkout", "--quiet"]) == 0
    assert Path("new").read_text() == "x" * 10**6


# --------------------------------------------------------------------------------------- loss and memory


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(
    value: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, before, number = tensors(), contents(Path("models")), steps_of_an_epoch()
    with monkeypatch.context() as patch:
        done = at_step(number + 3, lambda loss: loss * value, patch)
        assert fit("--checkpoint_seconds=0") == 5
    assert len(done) == number + 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: train/loss became {value} in epoch 2, step 3; ")
    assert "learning rate" in line
    assert contents(Path("models")) == before
    assert list(Path("runs").rglob("last.ckpt"))
    assert fit("--checkpoint_seconds=0") == 0
    assert "going on after epoch 1\n" in capsys.readouterr().out
    assert tensors() == expected


class Strategy:
    """Two processes, of which the other one has a loss that is not finite at its second step."""

    def reduce(self, losses: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        others = torch.ones_like(losses)
        others[1] = math.nan
        return losses + others


@pytest.mark.parametrize("together", [3, 10], ids=["within the epoch", "at its end"])
def test_several_processes_check_the_losses_of_some_steps_together(together: int) -> None:
    class Loop:
        batch_idx = 0
        epoch_progress = type("", (), {"current": type("", (), {"processed": 4})})

    class TwoProcesses:
        world_size = 2
        fit_loop = Loop()
        strategy = Strategy()

    trainer: Any = TwoProcesses()
    module: Any = None
    watch = NonFiniteLossGuard(together)
    with pytest.raises(NonFiniteError, match="became nan in epoch 5, step 2;"):  # noqa: PT012
        for trainer.fit_loop.batch_idx in range(4):
            watch.on_before_backward(trainer, module, torch.tensor(1.0))
        trainer.fit_loop.epoch_progress.current.processed = 5  # as Lightning counts before its end
        watch.on_train_epoch_end(trainer, module)
    assert trainer.fit_loop.batch_idx == min(together, 4) - 1
    assert watch.noted == []


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the system does not report used memory")
def test_exhausted_memory_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(Path("models"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with limit(resource.RLIMIT_AS, used + 500_000_000):
        assert fit("--model.network.hidden_sizes=[20000, 20000]") == 6
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: out of memory: ")
    assert contents(Path("models")) == before


# ----------------------------------------------------------------------------------------- other bundles


@pytest.mark.tasks("polynomial")
@pytest.mark.parametrize("command", ["predict", "test", "validate"])
def test_a_bundle_of_another_task_is_refused(
    command: str, project: Path, finished: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(BUNDLE)
    shutil.copytree(finished("polynomial") / "models/polynomial", BUNDLE)
    options = ["--data.input", f"{RAW}/test.csv"] if command == "predict" else []
    assert cli(command, "--config", str(CONFIG), *options) == 2
    assert f"task: {TASK} (bundle: polynomial)" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("predictions").exists()


def test_a_bundle_is_not_evaluated_on_rows_it_may_have_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters[TASK]["prepare"]["seed"] = 7
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    prepare(TASK)
    before = contents(REPORT)
    for function in (lambda: cli("test", "--config", str(CONFIG)), lambda: ended(evaluate, TASK)):
        assert function() == 2
        assert f"{BUNDLE} was trained with other data than {PREPARED}" in capsys.readouterr().err
    assert contents(REPORT) == before


def test_hyper_parameters_in_a_checkpoint_are_ignored(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tensors()
    with monkeypatch.context() as patch:
        at_step(steps_of_an_epoch() + 2, interrupt, patch)
        assert fit("--checkpoint_seconds=0") == 130
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (path,) = Path("runs").rglob("last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    hostile = {"_instantiator": "intruder.run", "_class_path": "intruder.Intruder", "hidden_sizes": [1]}
    torch.save(checkpoint | {"hyper_parameters": hostile, "hparams_name": "kwargs"}, path)
    (project / "intruder.py").write_text("from pathlib import Path\nPath('intruded').touch()\n")
    monkeypatch.syspath_prepend(project)
    assert fit("--checkpoint_seconds=0") == 0
    assert tensors() == expected
    assert not Path("intruded").exists()


# ------------------------------------------------------------------------------------------ clock and names


def test_future_times_of_files_and_a_clock_that_goes_back_change_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = outputs()
    future = 4_102_444_800  # the year 2100
    for path in (path for path in Path().rglob("*") if not path.is_symlink()):
        os.utime(path, (future, future))
    clock = iter(range(1_000_000_000, 0, -1))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    for folder in (RAW, PREPARED, BUNDLE, REPORT):
        shutil.rmtree(folder)
    fetch(TASK)
    prepare(TASK)
    assert fit() == 0
    evaluate(TASK)
    assert outputs() == expected
    if not torch.cuda.is_available():
        assert f"{TASK} on cpu" in capsys.readouterr().out  # where `auto` finds no accelerator


def test_odd_paths_are_paths(project: Path) -> None:
    place = project / "two words; touch canary\n$(touch canary) 春"
    place.mkdir()
    shutil.copyfile(RAW / "test.csv", place / "rows.csv")
    options = ["--data.input", f"{place}/rows.csv", "--data.output", f"{place}/answers.csv"]
    assert cli("predict", "--config", str(CONFIG), *options) == 0
    assert (place / "answers.csv").is_file()
    assert not list(project.rglob("canary"))


@pytest.mark.parametrize("name", ["x; touch canary", "x && touch canary", "a b", "x | tee canary"])
def test_a_name_with_a_command_in_it_is_refused_and_no_shell_runs_it(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(
        yaml.safe_dump({"tasks": {name: "tabular"}, name: parameters[TASK], "models": {}, "studies": {}})
    )
    assert dvc(["repro", f"fetch@{name}"]) != 0
    errors = capfd.readouterr().err
    assert f"error: params.yaml, section tasks: {name!r} cannot be a name" in errors
    assert not list(project.rglob("canary"))
