"""Lockstep: the rooms (one a kind of data), what they share, and the command line.

Importing this package pins the x86 instruction set before torch or NumPy load: kernels for AVX-512,
AVX2 and plain SSE round differently, and the same seed would give other weights on another processor.
What torch computes with is a key of the configuration, `portable` (src/training/exactness.py); NumPy's and
OpenBLAS' kernels, with which data are prepared and results judged, are always those of AVX2. Set the
variables yourself before starting to choose another level.

It also has Python look for unreachable cycles of objects less often: torch and Lightning make a million
objects that stay, and going through them every 700 new ones is a tenth of the time that their import takes.
And it has glibc keep the memory that a training step frees for the next step: giving it back to the system
and taking it again, a page at a time, is up to a third of LeNet's training.
"""

import ctypes
import gc
import os
import platform

TORCH_INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
}
OTHER_INSTRUCTIONS = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}

if platform.machine() in {"x86_64", "AMD64"}:
    for name, value in {**TORCH_INSTRUCTIONS, **OTHER_INSTRUCTIONS}.items():
        os.environ.setdefault(name, value)

gc.set_threshold(10_000)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
if platform.libc_ver()[0] == "glibc":
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_TRIM_THRESHOLD, 2**28)
    glibc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes; setting one alone undoes the other
