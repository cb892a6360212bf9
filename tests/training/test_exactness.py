import platform
import subprocess
import sys
from pathlib import Path

import pytest

from src.core.errors import ConfigurationError
from src.training import exactness

CPUINFO = Path("/proc/cpuinfo")
# the instructions that torch requires for AVX-512
AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}

PROGRAM = """
import src.cli, torch
from src.training.exactness import choose_instructions
choose_instructions(False)
print(torch.backends.cpu.get_cpu_capability())
"""

# a step frees more memory than glibc keeps by default
STEPS = """
import resource, src
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [bytearray(2**24) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


def flags() -> set[str]:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


@pytest.mark.skipif("avx2" not in flags(), reason="no x86 processor with AVX2, or no Linux")
def test_without_portable_all_instructions_are_used_after_all_imports() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == ("AVX512" if flags() >= AVX512 else "AVX2")


def test_a_process_computes_with_one_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "_portable", None)
    exactness.choose_instructions(True)
    exactness.choose_instructions(True)
    with pytest.raises(ConfigurationError, match="portable: False needs a new process"):
        exactness.choose_instructions(False)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="no x86 processor")
def test_numpy_and_openblas_are_pinned_for_every_process() -> None:
    code = "import os, src; print(os.environ['NPY_DISABLE_CPU_FEATURES'], os.environ['OPENBLAS_CORETYPE'])"
    environment = {"PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["X86_V4", "AVX512_ICL", "AVX512_SPR", "Haswell"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library gives memory")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    first, later = map(int, done.stdout.split())
    assert later < 100 < first
