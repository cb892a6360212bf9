"""Options of the Trainer and resumption by the command line, on a task of one line and one of a point."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.evaluate import evaluate
from src.cli import main
from src.core.atomic import warn_of_no_lock
from src.core.errors import exit_with_message
from src.descent.model import Descent
from src.tabular.model import TabularModel
from src.training import compilation
from src.training.options import trial_by
from tests.support import PowerFailureError, cli, power_failure

pytestmark = [pytest.mark.tasks("line", "bowl"), pytest.mark.usefixtures("settings_of_the_process")]

CALLBACKS = "lightning.pytorch.callbacks"
ONE_CALLBACK = "--trainer.callbacks"


@pytest.fixture(scope="module")
def made(workspace: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = workspace(tmp_path_factory.mktemp("options") / "project", "line", "bowl")
    shutil.rmtree(folder / "models" / "bowl")
    return folder


@pytest.fixture(autouse=True)
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which `line` has run, the working folder; runs and the model of `bowl` are removed."""
    monkeypatch.chdir(made)
    for name in ("runs", "models/bowl"):
        shutil.rmtree(name, ignore_errors=True)
    return made


def fit(task: str, *options: str, epochs: int | None = 2) -> Any:
    """The exit code of a short fit by the command line."""
    limit = [] if epochs is None else [f"--trainer.max_epochs={epochs}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["src.cli"])
        try:
            exit_with_message(lambda: main(["fit", f"--config=configs/{task}.yaml", *limit, *options]))
        except SystemExit as stopped:
            return stopped.code
    return 0


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def point() -> list[float]:
    """The point of the bundle of `bowl`."""
    found: list[float] = load_file("models/bowl/model.safetensors")["x"].tolist()
    return found


# --------------------------------------------------------------------------------------------- trials


@pytest.mark.parametrize(
    "option",
    [
        "fast_dev_run=true",
        "limit_train_batches=2",
        "limit_train_batches=0.5",
        "limit_val_batches=0",
        "limit_test_batches=0",
        "overfit_batches=1",
    ],
)
def test_a_trial_leaves_the_trained_bundle_as_it_was(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents("models/line")
    assert fit("line", f"--trainer.{option}") == 0
    name = option.partition("=")[0]
    said = f"a trial, because of trainer.{name}: models/line/ is left as it was\n"
    assert capsys.readouterr().out.endswith(said)
    assert contents("models/line") == before
    assert not list(Path("runs").rglob("run.json"))


def test_one_batch_is_a_trial_and_all_are_none() -> None:
    assert trial_by({"limit_val_batches": 1, "limit_test_batches": 1.0}) == ["limit_val_batches"]


def test_all_batches_are_no_trial() -> None:
    assert fit("bowl", "--trainer.limit_train_batches=1.0", "--trainer.fast_dev_run=false") == 0
    assert Path("models/bowl/manifest.json").is_file()


@pytest.mark.parametrize(("cores", "warnings"), [("1", 1), ("2", 0)])
def test_more_threads_than_processors_are_told(
    cores: str, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", cores)
    assert fit("line", "--threads=2") == 0
    assert caplog.text.count("threads: 2, but this process may use 1 of the processors") == warnings


# ----------------------------------------------------------------------------------------- resumption


def break_off(model: type[Any], steps: int, task: str, *options: str) -> None:
    """Train until a simulated power failure after some steps."""
    with power_failure(model, steps), pytest.raises(PowerFailureError):
        fit(task, *options, epochs=None)


def interrupted_and_whole(model: type[Any], steps: int, task: str, *options: str) -> list[dict[str, bytes]]:
    """The files of the bundles of a training that is interrupted twice, and of a whole one."""
    options = (*options, "--checkpoint_seconds=0")
    bundles = []
    for interruptions in ((steps, 3), ()):
        shutil.rmtree("runs", ignore_errors=True)
        for number in interruptions:
            break_off(model, number, task, *options)
        assert fit(task, *options, epochs=None) == 0
        bundles.append(contents(f"models/{task}"))
    return bundles


# an epoch of the line has 8 steps, one of the bowl has one
@pytest.mark.parametrize(
    ("limits", "epochs"),
    [
        (("--trainer.max_steps=27", "--trainer.max_epochs=-1"), 4),
        (("--trainer.max_steps=24", "--trainer.max_epochs=8"), 3),
        (("--trainer.max_steps=13", "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=null"), 4),
        (("--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=2"), 4),
    ],
)
def test_trainings_of_a_number_of_steps_go_on_exactly(
    limits: tuple[str, ...], epochs: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project", symlinks=True))
    interrupted, whole = interrupted_and_whole(TabularModel, 11, "line", *limits)
    assert interrupted == whole
    history = whole["models/line/history.csv"].decode().splitlines()
    assert len(history) == 1 + epochs
    evaluate("line")  # draws the history


@pytest.mark.parametrize(
    "options",
    [
        ("--model.network.dropout=0.3",),
        ("--log_gradient_norms=true", "--trainer.val_check_interval=0.5"),
        (
            "--trainer.accumulate_grad_batches=3",
            "--model.lr_scheduler=StepLR",
            "--model.lr_scheduler.step_size=1",
        ),
        (f"{ONE_CALLBACK}={CALLBACKS}.EMAWeightAveraging", f"{ONE_CALLBACK}.decay=0.5"),
    ],
)
def test_a_training_goes_on_within_an_epoch(
    options: tuple[str, ...],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project", symlinks=True))
    options = (*options, "--checkpoint_steps=1", "--trainer.max_epochs=3")
    interrupted, whole = interrupted_and_whole(TabularModel, 14, "line", *options)
    assert interrupted == whole
    assert "going on in epoch 2, after batch 6\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ("--model.optimizer=NAdam", "--model.optimizer.lr=0.1"),
        (f"{ONE_CALLBACK}={CALLBACKS}.EMAWeightAveraging", f"{ONE_CALLBACK}.decay=0.5"),
    ],
)
def test_states_of_optimizers_and_averages_go_on_with_their_own_types(options: tuple[str, ...]) -> None:
    interrupted, whole = interrupted_and_whole(Descent, 6, "bowl", "--trainer.max_epochs=12", *options)
    assert interrupted == whole


@pytest.mark.parametrize("precision", ["64-true", "16-true", "bf16-true", "bf16-mixed"])
def test_every_precision_goes_on_exactly(
    precision: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project", symlinks=True))
    # emulated by the portable instructions, which are those of this process
    monkeypatch.setattr(compilation, "computes_in_bfloat16", lambda: True)
    options = (f"--trainer.precision={precision}", "--trainer.max_epochs=4")
    interrupted, whole = interrupted_and_whole(TabularModel, 11, "line", *options)
    assert interrupted == whole
    types = {
        "64-true": torch.float64,
        "16-true": torch.float16,
        "bf16-true": torch.bfloat16,
        "bf16-mixed": torch.float32,
    }
    assert {tensor.dtype for tensor in load_file("models/line/model.safetensors").values()} == {
        types[precision]
    }


def test_a_run_of_another_environment_is_started_afresh_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--trainer.max_epochs=6", "--checkpoint_seconds=0")
    break_off(Descent, 3, "bowl", *options)
    monkeypatch.setenv("MKL_CBWR", "AVX512")
    assert fit("bowl", *options, epochs=None) == 0
    (warning,) = [record.getMessage() for record in caplog.records if "afresh" in record.getMessage()]
    assert warning.endswith("was begun with MKL_CBWR COMPATIBLE, now AVX512: starting afresh")
    assert "going on" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- averages


def test_the_mean_of_the_weights_is_the_bundle() -> None:
    # from (-7, 2), x1 shrinks by 1 - 0.1 lr and x2 by 1 - 2 lr in a step: (-6.93, 1.6), (-6.8607, 1.28)
    plain = ("--model.optimizer.lr=0.1", "--model.optimizer.momentum=0")
    assert fit("bowl", *plain) == 0
    assert point() == pytest.approx([-6.8607, 1.28])
    assert fit("bowl", *plain, f"{ONE_CALLBACK}=WeightAveraging") == 0
    assert point() == pytest.approx([(-6.93 - 6.8607) / 2, (1.6 + 1.28) / 2])
    rows = Path("models/bowl/history.csv").read_text(encoding="utf-8").splitlines()
    last = dict(zip(rows[0].split(","), map(float, rows[2].split(",")), strict=True))
    assert [last["validation/x1"], last["validation/x2"]] == pytest.approx(point())  # what was validated


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.barebones=true"], "trainer.barebones: it cannot be used"),
        (["--trainer.enable_checkpointing=false"], "trainer.enable_checkpointing: false cannot be used"),
        (["--trainer.accumulate_grad_batches=0"], "accumulate_grad_batches: found 0, expected at least 1"),
        (["--trainer.strategy=ddp_spawn"], "trainer.strategy: processes are started by ddp"),
        (["--trainer.max_epochs=0"], "no epoch was trained; raise trainer.max_epochs"),
        (["--trainer.max_time=00:00:00:00"], "no epoch was trained"),
        (["--trainer.max_steps=0"], "no epoch was trained"),
        (["--trainer.default_root_dir=../elsewhere"], "../elsewhere leads out of the project's folder"),
        (
            ["--trainer.profiler=SimpleProfiler", "--trainer.profiler.dirpath=/elsewhere"],
            "trainer.profiler.dirpath: /elsewhere leads out of the project's folder",
        ),
        (
            ["--trainer.default_root_dir=file:///elsewhere"],
            "file:///elsewhere leads out of the project's folder",
        ),
        (
            ["--trainer.default_root_dir=s3://me:key@bucket/runs"],
            "the address has an access key in it; set it",
        ),
        ([f"{ONE_CALLBACK}=LearningRateFinder"], "either `model` or `model.hparams` should have"),
        ([f"{ONE_CALLBACK}=SpikeDetection"], "SpikeDetection cannot be used"),
        ([f"{ONE_CALLBACK}=BackboneFinetuning"], "has no attribute 'backbone'"),
        (
            [f"{ONE_CALLBACK}=EarlyStopping", f"{ONE_CALLBACK}.monitor=val_loss"],
            "any of the following: `validation/loss`",
        ),
        (["--model.optimizer=Muon"], "Muon only supports 2D parameters"),
        (["--model.optimizer=SparseAdam"], "SparseAdam does not support dense gradients"),
        (["--model.optimizer.lr=-1"], "Invalid learning rate: -1.0"),
        (
            ["--model.lr_scheduler=OneCycleLR", "--model.lr_scheduler.max_lr=1", "--trainer.max_epochs=-1"],
            "Expected positive integer total_steps",
        ),
        (
            [
                "--model.optimizer=torch.optim.Adam",
                "--model.optimizer.fused=true",
                "--trainer.precision=bf16-mixed",
                "--trainer.gradient_clip_val=1",
            ],
            "does not allow for gradient clipping",
        ),
        (["--model=lightning.pytorch.demos.transformer.LightningTransformer"], "may not be named"),
        (["--task=../line"], "task: '../line' cannot be a name"),
        (["--task=/tmp"], "task: '/tmp' cannot be a name"),
        (["--data.order_seed=1"], "--data.order_seed: it follows from the keys task and seed_everything"),
        (["--seed_everything=null"], "seed_everything: "),
        (["--seed_everything=-1"], "seed_everything: found -1, expected >=0 and <4294967296"),
        (["--seed_everything=4294967296"], "seed_everything: found 4294967296"),
        (["--threads=0"], "threads: found 0, expected >0"),
        (
            ["--trainer.max_epoch=3"],
            "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs",
        ),
        (["--model.activaton=tanh"], "model.activaton: src.tabular.model.TabularModel has no such argument"),
        (["--model.network.hidden_size=[3]"], "did you mean model.network.hidden_sizes?"),
        (["--model.optimizer=Adamm"], "model.optimizer: there is no class Adamm; did you mean Adam?"),
        (
            ["--model.optimizer=Adam"],
            "several classes have this name; give one of torch.optim.Adam, src.descent",
        ),
        (["--model.optimizer.lr=fast"], "model.optimizer.lr: found fast, expected float"),
        (["--model.loss=msee"], "model.loss: found msee, expected 'mse', "),
        (["--model.lr_scheduler=StepLR"], "model.lr_scheduler: missing: model.lr_scheduler.step_size"),
        (["--data.batch_size=x"], "data.batch_size: found x, expected int or 'full'"),
        (["--config=nothing.yaml"], "config: File does not exist"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_a_configuration_can_cause_is_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as on a processor with bfloat16, where Lightning's own refusals are reached
    monkeypatch.setattr(compilation, "computes_in_bfloat16", lambda: True)
    before = contents("models/line")
    assert fit("line", *options) == 2
    line = error_of(capsys)
    assert line.startswith("error: ")
    assert message in line
    assert len(line) < 500
    assert contents("models/line") == before


def test_an_error_of_the_projects_own_code_stays_a_traceback() -> None:
    def step(self: Descent, *arguments: Any) -> Any:
        raise ValueError("a bug")

    with mock.patch.object(Descent, "training_step", step), pytest.raises(ValueError, match="a bug"):
        fit("bowl")


@pytest.mark.parametrize(
    "name", ["LearningRateMonitor", "RichProgressBar", "DeviceStatsMonitor", "ModelCheckpoint", "Timer"]
)
def test_one_callback_needs_no_list(name: str) -> None:
    arguments = [f"{ONE_CALLBACK}.duration=00:00:10:00"] if name == "Timer" else []
    assert fit("bowl", f"{ONE_CALLBACK}={name}", *arguments) == 0
    assert bool(list(Path("runs/bowl").glob("*/checkpoints/*.ckpt"))) == (name == "ModelCheckpoint")


def test_a_logger_of_the_user_and_a_profiler_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    assert fit("bowl", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs") == 0
    (written,) = Path("logs").rglob("metrics.csv")
    assert "validation/loss" in written.read_text(encoding="utf-8").splitlines()[0]
    assert fit("bowl", "--trainer.profiler=simple") == 0
    assert "FIT Profiler Report" in caplog.text


def test_a_stage_of_another_name_does_not_replace_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents("models/line")
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:train@line_wide")
    assert fit("line") == 2
    assert "error: name: found line, but the stage train@line_wide has to write" in error_of(capsys)
    assert contents("models/line") == before
    monkeypatch.setenv("DVC_STAGE", "train@bowl")
    assert fit("bowl") == 0


# --------------------------------------------------------------------------------- files and locales


def test_a_configuration_is_utf8_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("configs/bowl.yaml").read_text(encoding="utf-8")
    Path("configs/gbk.yaml").write_text(f"# 从一点出发\n{text}", encoding="utf-8")
    code = (
        "import sys; sys.argv = ['src.cli']; from src.cli import main; "
        "main(['fit', '--config=configs/gbk.yaml', '--trainer.max_epochs=1'])"
    )
    # Python reads files in ASCII in this locale, if it is not told to use UTF-8
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr
    Path("configs/gbk.yaml").write_bytes(f"# 从一点出发\n{text}".encode("gbk"))


def test_a_configuration_in_another_encoding_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs/latin.yaml").write_bytes("# café\ntask: bowl\n".encode("latin-1"))
    assert fit("latin") == 2
    assert error_of(capsys).endswith("latin.yaml: byte 6 is not UTF-8; save the file as UTF-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else 'lol'] * 10)}]" for n in range(9)),
            "more than 100,000 values, with its aliases (*name) written out",
        ),
        ("a: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_a_configuration_that_would_fill_the_memory_is_refused(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("configs/large.yaml").write_text(text, encoding="utf-8")
    assert fit("large") == 2
    assert error_of(capsys).endswith(f"large.yaml: {message}")
    assert cli("predict", "--config=configs/large.yaml", "--data.input=x.csv") == 2
    assert error_of(capsys).endswith(message)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")
    warn_of_no_lock.cache_clear()
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(number, os.strerror(number))))
    assert fit("bowl") == 0
    (warning,) = [record.getMessage() for record in caplog.records if "no locks" in record.getMessage()]
    assert os.strerror(number) in warning


def test_weights_can_be_read_by_whom_the_umask_allows() -> None:
    assert fit("bowl") == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("models/bowl").iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_the_record_of_a_checkpoint_names_what_its_bits_depend_on() -> None:
    options = ("--trainer.max_epochs=6", "--checkpoint_seconds=0")
    break_off(Descent, 3, "bowl", *options)
    (path,) = Path("runs").rglob("last.ckpt")
    states = torch.load(path, weights_only=True)["callbacks"].values()
    (environment,) = [state["environment"] for state in states if "environment" in state]
    assert environment["torch"] == torch.__version__.partition("+")[0]
    assert environment["device"] == "cpu"
    assert environment["processes"] == "1"
    assert {"lightning", "numpy", "processor", "instructions", "ATEN_CPU_CAPABILITY"} <= set(environment)
    assert json.loads(json.dumps(environment)) == environment


def test_every_message_of_the_parser_has_the_keys_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(Path("configs/line.yaml").read_text(encoding="utf-8"))
    content["montor"] = "x"
    Path("configs/mistyped.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert fit("mistyped") == 2
    assert "error: montor: there is no such key; did you mean monitor?" in error_of(capsys)


def test_outside_the_environment_one_line_says_how_to_enter_it() -> None:
    done = subprocess.run([sys.executable, "-S", "-m", "src.cli", "fit"], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "the packages of requirements.lock are not installed" in line
    assert line.endswith("run: make setup, then: . .venv/bin/activate")
