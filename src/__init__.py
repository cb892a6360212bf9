"""Lockstep: kinds of data, the packages that they share, and the command line.

Importing this package prepares the process, before torch or NumPy are loaded:

- It fixes the x86 instruction set. Kernels for AVX-512, AVX2 and SSE round differently, so the same seed
  would give other weights on another processor. For torch the key `portable` of the configuration decides
  (src/training/exactness.py); NumPy and OpenBLAS, which prepare data and compute reports, always use AVX2.
  Set the environment variables yourself to choose another level.
- It raises the threshold of Python's garbage collector. torch and Lightning create a million objects that
  stay, and collecting after every 700 new ones takes a tenth of their import time.
- It tells glibc not to return freed memory to the system (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD). Re-mapping it
  at every step costs up to a third of LeNet's training time.
- It lets threads of OpenMP sleep while they wait for each other (OMP_WAIT_POLICY). Beside other work, waiting
  in a loop takes the time of those that they wait for: a training with two threads took 45 times as long.
- It makes the import of Lightning cheaper, and gives it to modules that import `pytorch_lightning`
  (src/core/imports.py).
- It keeps onnxruntime from writing a device identifier and looking up its maker's server when it is imported.
"""

import ctypes
import gc
import os
import platform
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from src.core.imports import LightImports, OlderName

TORCH_INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",  # its AVX2 code adds in another order on AMD than on Intel
}
OTHER_INSTRUCTIONS = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}

if find_spec("lightning") is None:
    print(
        f"error: the packages of requirements.lock are not installed for {sys.executable}; run: make setup, "
        "then: . .venv/bin/activate",
        file=sys.stderr,
    )
    sys.exit(2)

try:
    Path.cwd()
except FileNotFoundError:  # MKL would end the process with a message of its own
    print("error: the working folder does not exist any longer; cd into the project", file=sys.stderr)
    sys.exit(2)

if platform.machine() in {"x86_64", "AMD64"}:
    for name, value in {**TORCH_INSTRUCTIONS, **OTHER_INSTRUCTIONS}.items():
        os.environ.setdefault(name, value)

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

gc.set_threshold(10_000)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
if platform.libc_ver()[0] == "glibc":
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_TRIM_THRESHOLD, 2**28)
    glibc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest valid value; setting only one resets the other

sys.meta_path[:0] = [LightImports(), OlderName()]


def __getattr__(name: str) -> Any:
    """`load` of src/bundle/load.py, which imports torch, when it is asked for."""
    if name == "load":
        return import_module("src.bundle.load").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
