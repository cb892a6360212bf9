"""torch.compile of training, and the precisions that a device computes in."""

import os
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from torch import nn

from src.core.errors import ConfigurationError
from src.core.paths import RUNS

Compile = bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
CHOSEN_BY_TIME = "it chooses kernels by their time, which differs from run to run, and so do their roundings"
REFUSED = {
    "reduce-overhead": "the next step overwrites its outputs, which the metrics of an epoch keep",
    "max-autotune": CHOSEN_BY_TIME,
    "max-autotune-no-cudagraphs": CHOSEN_BY_TIME,
}
MOST_SHAPES = 64  # for each of which a network is compiled


def compiler_of(device: torch.device) -> str:
    """The compiler of kernels for a device, and its version.

    Raises:
        ConfigurationError: there is none.
    """
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ConfigurationError(
                "compile: found no Triton for this GPU; install triton, or leave compile out"
            )
        return f"triton {version('triton')}"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        command = get_cpp_compiler()
        said = subprocess.run(  # noqa: S603 - the compiler that torch will run
            [command, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (InvalidCxxCompiler, OSError, subprocess.CalledProcessError):
        raise ConfigurationError(
            "compile: found no C++ compiler; install g++ (apt-get install g++), or leave compile out"
        ) from None
    return said.partition("\n")[0]


def require_compilable(chosen: Compile, trainer: Trainer, portable: bool) -> str:
    """Refuse what cannot be compiled exactly, before the training.

    Args:
        chosen: the key `compile`.
        trainer: that will train.
        portable: the key `portable`.

    Returns:
        The compiler and its version.

    Raises:
        ConfigurationError: a mode, portable kernels on a CPU, several processes, or no compiler.
    """
    # a training writes below the folder of the project; another start finds the kernels there
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((RUNS / "compiled").absolute()))
    if isinstance(chosen, str) and chosen in REFUSED:
        raise ConfigurationError(f"compile: {chosen} cannot be used: {REFUSED[chosen]}; use true")
    if portable and trainer.strategy.root_device.type == "cpu":
        raise ConfigurationError(
            "compile: kernels are made for this processor by its compiler, which portable: true leaves out; "
            "set portable: false"
        )
    if trainer.world_size > 1:
        raise ConfigurationError(
            f"compile: found {trainer.world_size} processes, expected one; set trainer.devices: 1"
        )
    return compiler_of(trainer.strategy.root_device)


def compile_training(module: LightningModule) -> None:
    """Compile the networks of a module in place, for its training.

    Each part that has parameters is compiled where it is called while it trains. In evaluation it is called
    as it is, like the model of the bundle, so that its metrics are those of the bundle. The names of the
    parameters stay.

    A part is compiled once for each shape of its inputs, which alone decides the kernels; kernels for
    changing shapes would depend on the order of the shapes, which a resumed training does not repeat.

    Args:
        module: that is about to be trained.
    """
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = MOST_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 4 * MOST_SHAPES
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._inductor.config.deterministic = True
    # noise is drawn as without compiling; kernels that draw it themselves ended trainings by heap corruption
    torch._inductor.config.fallback_random = True
    for part in _parts(module):
        _compile(part)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a module calls itself."""
    for part in module.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _parts(part)
        elif any(True for _ in part.parameters()):
            yield part


def _compile(part: nn.Module) -> None:
    """Compile the calls of a part in training; torch calls `_compiled_call_impl` where it is set."""
    from torch._dynamo.exc import FailOnRecompileLimitHit

    compiled = torch.compile(part._call_impl, dynamic=False)

    def call(*arguments: Any, **named: Any) -> Any:
        if not part.training:
            return part._call_impl(*arguments, **named)
        try:
            return compiled(*arguments, **named)
        except FailOnRecompileLimitHit:
            raise ConfigurationError(
                f"compile: the batches have more than {MOST_SHAPES} shapes, for each of which the network "
                "would be compiled; leave compile out"
            ) from None

    part._compiled_call_impl = call


def require_precision(trainer: Trainer) -> None:
    """Refuse bfloat16 where it is emulated, before the training.

    Args:
        trainer: that will train.

    Raises:
        ConfigurationError: the device does not compute in it.
    """
    precision, device = str(trainer.precision), trainer.strategy.root_device
    if not precision.startswith("bf16"):
        return
    if device.type == "cpu" and not computes_in_bfloat16():
        raise ConfigurationError(
            f"trainer.precision: {precision} would be many times slower than 32-true: "
            + (
                "portable: true leaves the instructions for it out; set portable: false"
                if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2"
                else "this processor has no instructions for it (avx512_bf16, amx_bf16); use 32-true"
            )
        )
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ConfigurationError(f"trainer.precision: {name} does not compute in {precision}; use 16-mixed")


def computes_in_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16, and this process uses them."""
    native = any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
    return native and os.environ.get("ONEDNN_MAX_CPU_ISA") != "AVX2"
