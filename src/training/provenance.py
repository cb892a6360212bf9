"""The provenance of a result: code, data, versions, machine. It is not part of files with a digest."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from src import TORCH_INSTRUCTIONS
from src.core.digests import file_digest
from src.core.git import git
from src.core.paths import LOCK

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "pandas", "scikit-learn")
PIPELINE_LOCK = Path("dvc.lock")
CPU_INFO = Path("/proc/cpuinfo")


def provenance(prepared: str | None, device: torch.device, compiler: str | None = None) -> dict[str, Any]:
    """Everything that a result of this process depends on.

    Args:
        prepared: the sha256 over the prepared data; None without such.
        device: of the computation.
        compiler: of the network; None where it is not compiled.
    """
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "dvc.lock": file_digest(PIPELINE_LOCK) if PIPELINE_LOCK.is_file() else None,
        "requirements.lock": file_digest(LOCK) if LOCK.is_file() else None,
        "prepared_sha256": prepared,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **({"compiler": compiler} if compiler else {}),
    }


def environment(
    device: torch.device, processes: int, portable: bool, compiler: str | None = None
) -> dict[str, str]:
    """What the bits of a training depend on beside its configuration, data, code and locked packages.

    Args:
        device: that trains.
        processes: how many train together.
        portable: whether the weights are the same on processors of all makers.
        compiler: of the network; None where it is not compiled.
    """
    processor = platform.machine()
    if (compiler or not portable) and CPU_INFO.is_file():
        # a compiler makes kernels for the model
        field = "model name" if compiler else "vendor_id"
        makers = re.findall(rf"{field}\s*: (.*)", CPU_INFO.read_text(encoding="utf-8", errors="replace"))
        processor = " ".join([processor, *makers[:1]])
    return {
        **{name: version(name) for name in ("torch", "lightning", "numpy")},
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **{name: os.environ.get(name, "not set") for name in TORCH_INSTRUCTIONS},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": str(processes),
        **({"compiler": compiler} if compiler else {}),
    }


def _git(*arguments: str) -> str | None:
    """The output of a git command; None where there is no git or no repository."""
    try:
        return git(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return None
