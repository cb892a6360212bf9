"""Two processes that hold the weights in parts: the bundle is whole, and a training goes on exactly."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.support import cli

pytestmark = pytest.mark.usefixtures("settings_of_the_process")

TRAINED, SIGTERM, SIGKILL = "trained", "15", "9"
STRATEGY = ("--trainer.strategy=src.training.sharding.FullySharded", "--trainer.strategy.smallest=100")
HOUSES = ("--config=configs/house_prices.yaml", "--model.network.norm=none", "--model.network.dropout=0")
CLIPPED = (*HOUSES, "--trainer.gradient_clip_val=0.1", "--log_gradient_norms=true")
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


def mine(model: str = "Blocks", *options: str) -> tuple[str, ...]:
    """Arguments of a training of a module of sharded.py."""
    return ("--config=mine.yaml", f"--model=tests.training.sharded.{model}", *options)


# by folder: how it ends, and the arguments; "cut" ones are started twice
TRAININGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "blocks": ("ended", (*mine(), *STRATEGY)),
    "blocks cut": ("ended", (*mine(), *STRATEGY)),
    "blocks killed": ("ended", (*mine(), *STRATEGY)),
    "blocks ddp": ("ended", (*mine(), "--trainer.strategy=ddp")),
    "own parts": ("ended", (*mine("OwnParts"), "--trainer.strategy=fsdp2")),
    "sgd": ("ended", (*mine("Blocks", "--model.optimizer=SGD"), "--trainer.strategy=fsdp2")),
    "bfloat16": ("ended", (*mine(), *STRATEGY, "--trainer.precision=bf16-mixed")),
    "bfloat16 cut": ("ended", (*mine(), *STRATEGY, "--trainer.precision=bf16-mixed")),
    "bfloat16 ddp": ("ended", (*mine(), "--trainer.strategy=ddp", "--trainer.precision=bf16-mixed")),
    "true bfloat16": ("ended", (*mine(), *STRATEGY, "--trainer.precision=bf16-true")),
    "true bfloat16 cut": ("ended", (*mine(), *STRATEGY, "--trainer.precision=bf16-true")),
    "houses": ("ended", (*CLIPPED, "--trainer.strategy=fsdp2")),
    "houses ddp": ("ended", (*CLIPPED, "--trainer.strategy=ddp")),
    "houses from one": ("ended", (*CLIPPED, "--trainer.strategy=fsdp2")),
    "houses to one cut": ("exit 143", (*CLIPPED, "--trainer.strategy=fsdp2")),
    "unguarded": ("configure_model also makes the layers", (*mine("Unguarded"), "--trainer.strategy=fsdp2")),
    "penalised": ("outside of its call", (*mine("Penalised"), "--trainer.strategy=fsdp2")),
    "lbfgs": ("LBFGS cannot", (*mine("Blocks", "--model.optimizer=LBFGS"), "--trainer.strategy=fsdp2")),
}


def arguments(options: tuple[str, ...], devices: int) -> list[str]:
    short = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=3", "--checkpoint_seconds=0")
    watch = "--trainer.callbacks=tests.training.sharded.Watch"
    return ["fit", *options, *short, watch, "--trainer.accelerator=cpu", f"--trainer.devices={devices}"]


@pytest.fixture(scope="module")
def trained(
    finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, python: Callable[..., Any]
) -> Path:
    """A folder with a project for each training."""
    clone = finished("house_prices")
    top = tmp_path_factory.mktemp("sharded")
    path = os.pathsep.join([str(clone), os.environ["PYTHONPATH"]])

    def start(name: str, processes: int, chosen: list[str], code: int = 0) -> list[list[str]]:
        commands = [[str(top / folder), arguments(TRAININGS[folder][1], processes)] for folder in chosen]
        (top / f"{name}.json").write_text(json.dumps(commands))
        program = str(clone / "tests/training/sharded.py")
        torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        done = python(*torchrun, program, f"{name}.json", cwd=top, PYTHONPATH=path)
        (top / f"{name}.txt").write_text(done.stdout)
        assert (done.returncode != 0) == (code != 0), done.stdout
        files = [top / f"ends.{name}.{rank}.json" for rank in range(processes)]
        return [json.loads(file.read_text()) for file in files] if not code else []

    for folder in TRAININGS:
        make_project(clone, top / folder)
    for folder in ("blocks cut", "bfloat16 cut", "true bfloat16 cut", "houses to one cut", "houses from one"):
        (top / folder / "cut").write_text(SIGTERM)
    (top / "blocks killed" / "cut").write_text(SIGKILL)
    start("killed", 2, ["blocks killed"], code=1)
    assert start("from one", 1, ["houses from one"]) == [["exit 143"]]
    cut = [folder for folder in TRAININGS if folder.endswith(" cut") and folder != "houses to one cut"]
    assert start("cut", 2, cut) == [["exit 143"] * len(cut)] * 2
    for ends in start("by two", 2, [*TRAININGS]):
        for end, (folder, (expected, _)) in zip(ends, TRAININGS.items(), strict=True):
            assert expected in end, (folder, end)
    # printed by the first process, of the trainings that were cut or killed in their second epoch
    assert (top / "by two.txt").read_text().count("going on after epoch 1\n") == 5
    assert start("to one", 1, ["houses to one cut"]) == [["ended"]]
    return top


def make_project(clone: Path, folder: Path) -> None:
    for part in ("src", "configs", "requirements.lock", "data/prepared/house_prices"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).symlink_to(clone / part)
    (folder / "params.yaml").write_text("tasks: {mine: mine}\ntrusted: [tests]\nmine: {source: none}\n")
    data = {"class_path": "tests.training.sharded.Data"}
    (folder / "mine.yaml").write_text(yaml.safe_dump({"task": "mine", "data": data, "portable": True}))


def weights(folder: Path) -> dict[str, NDArray[Any]]:
    """Those of the one bundle in a project."""
    (path,) = folder.glob("models/*/model.safetensors")
    return load_file(path)


def outcome(folder: Path) -> tuple[str, str]:
    """The digest of the tensors, and the history."""
    (path,) = folder.glob("models/*/manifest.json")
    tensors: str = json.loads(path.read_text(encoding="utf-8"))["tensors"]
    return tensors, (path.parent / "history.csv").read_text(encoding="utf-8")


def require_close(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(second[name], first[name], **TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("blocks cut", "blocks"),
        ("blocks killed", "blocks"),
        ("bfloat16 cut", "bfloat16"),
        ("true bfloat16 cut", "true bfloat16"),
    ],
)
def test_as_many_processes_go_on_to_the_same_weights(cut: str, whole: str, trained: Path) -> None:
    assert outcome(trained / cut) == outcome(trained / whole)


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
@pytest.mark.parametrize("folder", ["houses from one", "houses to one cut"])
def test_another_number_of_processes_goes_on_to_nearly_the_same_weights(folder: str, trained: Path) -> None:
    require_close(trained / "houses", trained / folder)
    texts = {"houses from one": "1, now 2", "houses to one cut": "2, now 1"}
    output = (trained / ("by two.txt" if "from" in folder else "to one.txt")).read_text()
    assert f"was begun with processes {texts[folder]}: sums will round otherwise" in output


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ("blocks", "blocks ddp"),
        ("own parts", "blocks ddp"),
        ("bfloat16", "bfloat16 ddp"),
        ("houses", "houses ddp"),
    ],
)
def test_weights_in_parts_become_those_of_whole_ones(parts: str, whole: str, trained: Path) -> None:
    require_close(trained / whole, trained / parts)


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
def test_one_process_agrees(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(trained / "houses", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.cli.trial_by", lambda trainer: [])
    assert cli(*arguments((*CLIPPED, "--trainer.strategy=auto"), 1)) == 0
    require_close(tmp_path, trained / "houses")
    (here,), (there,) = ([*folder.glob("runs/*/*/run.json")] for folder in (tmp_path, trained / "houses"))
    one, two = (json.loads(path.read_text(encoding="utf-8"))["metrics"] for path in (here, there))
    assert any(name.startswith("gradient_norm/") for name in two)
    assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
def test_the_bundle_is_whole_and_one_process_judges_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained / "own parts"
    monkeypatch.chdir(folder)
    (run,) = folder.glob("runs/*/*/run.json")
    found = json.loads(run.read_text(encoding="utf-8"))["metrics"]
    one = ("--trainer.devices=1", "--trainer.strategy=auto", "--trainer.callbacks=null")
    assert cli("test", "--config=models/mine/config.yaml", *one) == 0
    assert f"{found['test_loss']:.4f}" in capsys.readouterr().out
    assert cli("predict", "--config=models/mine/config.yaml") == 0
    assert len(Path("predictions/mine.csv").read_text(encoding="utf-8").splitlines()) == 1 + 48


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
def test_each_process_holds_half_of_weights_and_moments_and_all_of_the_same_buffers(trained: Path) -> None:
    first, second = (json.loads((trained / "blocks" / f"held.{rank}.json").read_text()) for rank in (0, 1))
    assert first["held"] + second["held"] == first["all"]
    assert first["buffers"] == second["buffers"]
    # rows are shared: of 17 the first process has 9
    assert first["held"] < 0.57 * first["all"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--trainer.callbacks=lightning.pytorch.callbacks.EMAWeightAveraging",),
            "EMAWeightAveraging cannot",
        ),
        (
            ("--trainer.callbacks=lightning.pytorch.callbacks.BackboneFinetuning",),
            "BackboneFinetuning cannot",
        ),
        (("--trainer.sync_batchnorm=true",), "trainer.sync_batchnorm: it cannot"),
        (("--checkpoint_steps=1",), "checkpoint_steps: it cannot"),
        (("--compile=true",), "compile: it cannot"),
        (("--trainer.precision=64-true",), "trainer.precision: 64-true cannot"),
    ],
)
def test_what_needs_whole_weights_is_refused(
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_project(Path(__file__).parents[2], tmp_path)
    (tmp_path / "data/prepared/house_prices").unlink()
    command = ("fit", *mine(), "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=fsdp2")
    assert cli(*command, *options) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert message in line
    assert "fsdp2" in line
