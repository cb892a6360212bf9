"""torch.compile for training, and precisions that are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from lightning import LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor, nn

from src.core.errors import ConfigurationError
from src.training import compilation
from src.training.compilation import compile_training, compiler_of, require_compilable, require_precision

Run = Callable[..., subprocess.CompletedProcess[str]]
CPU = torch.device("cpu")


class Small(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
        self.loss = nn.MSELoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.heads["a"](self.network(x))


def trainer(precision: str = "32-true", device: torch.device = CPU, processes: int = 1) -> Any:
    strategy = mock.Mock(root_device=device)
    return mock.Mock(spec=Trainer, precision=precision, strategy=strategy, world_size=processes)


def test_the_parts_with_parameters_are_compiled_for_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []

    def compiled(call: Any, **options: Any) -> Any:
        assert options == {"dynamic": False}
        return lambda *arguments: (calls.append(call.__self__), call(*arguments))[1]

    module = Small()
    names, x = list(module.state_dict()), torch.ones(4, 3)
    expected = module(x)
    monkeypatch.setattr(torch, "compile", compiled)
    compile_training(module)
    assert module(x).equal(expected)
    assert calls == [module.network, module.heads["a"]]
    module.eval()
    assert module(x).equal(expected)
    assert len(calls) == 2
    assert list(module.state_dict()) == names


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_inexact_modes_are_refused(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"compile: {mode} cannot be used: "):
        require_compilable(mode, trainer(), False)


def test_portable_kernels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="set portable: false"):
        require_compilable(True, trainer(), True)


def test_several_processes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="compile: found 2 processes, expected one"):
        require_compilable(True, trainer(processes=2), False)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", mock.Mock(side_effect=FileNotFoundError))
    with pytest.raises(ConfigurationError, match=r"^compile: found no C\+\+ compiler; install g\+\+"):
        compiler_of(CPU)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_is_refused_where_it_is_emulated(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    with pytest.raises(ConfigurationError, match="this processor has no instructions for it"):
        require_precision(trainer(precision))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    require_precision(trainer(precision))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(ConfigurationError, match="set portable: false"):
        require_precision(trainer(precision))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "16-true"])
def test_other_precisions_are_not_refused(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "computes_in_bfloat16", lambda: False)
    require_precision(trainer(precision))


KILLED = """
import os, sys
from unittest import mock
from src.cli import main
from src.tabular.model import TabularModel
step, steps = TabularModel.training_step, iter(range(int(sys.argv[1])))
def killed(self, *arguments):
    if next(steps, None) is None:
        os._exit(9)
    return step(self, *arguments)
with mock.patch.object(TabularModel, "training_step", killed):
    main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.tasks("line")
def test_a_compiled_training_repeats_and_goes_on_exactly(
    workspace: Callable[..., Path], tmp_path: Path, python: Run
) -> None:
    folder = workspace(tmp_path / "project", "line")
    options = [
        "fit",
        "--config=configs/line.yaml",
        "--compile=true",
        "--portable=false",
        "--checkpoint_seconds=0",
    ]
    options += ["--model.network.hidden_sizes=[8]", "--model.network.dropout=0.5", "--trainer.max_epochs=4"]
    found = []
    for kills in ((), (), (13,)):
        for path in (folder / "runs").glob("line/*/run.json"):
            path.unlink()
        for steps in kills:
            done = python("-c", KILLED, str(steps), *options, "--checkpoint_steps=1", cwd=folder)
            assert done.returncode == 9, done.stdout
        steps_of_kills = ["--checkpoint_steps=1"] if kills else []
        done = python("-m", "src.cli", *options, *steps_of_kills, cwd=folder)
        assert done.returncode == 0, done.stdout
        assert ("going on in epoch 2, after batch 5" in done.stdout) == bool(kills)
        found.append(load_file(folder / "models/line/model.safetensors"))
        (record,) = (folder / "runs").glob("line/*/run.json")
        content = json.loads(record.read_text(encoding="utf-8"))
        assert content["configuration"]["compile"] is True
        assert content["provenance"]["compiler"]
    for other in found[1:]:
        assert all(other[name].equal(tensor) for name, tensor in found[0].items())
    done = python("-m", "src.cli", "test", *options[1:], "--checkpoint_steps=1", cwd=folder, CXX="none")
    assert done.returncode == 0, done.stdout
