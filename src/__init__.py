"""Lockstep: the rooms (one a kind of data), what they share, and the command line.

Importing this package pins the x86 instruction set before torch or NumPy load: kernels for AVX-512,
AVX2 and plain SSE round differently, and the same seed would give other weights on another processor.
Set the variables yourself before starting to choose another level.

It also has Python look for unreachable cycles of objects less often: torch and Lightning make a million
objects that stay, and going through them every 700 new ones is a tenth of the time that their import takes.
"""

import gc
import os
import platform

if platform.machine() in {"x86_64", "AMD64"}:
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("MKL_CBWR", "AVX2")

gc.set_threshold(10_000)
