"""What this machine computes with: python -m src.training.devices."""

import os
import platform
import shutil

import torch


def device_line() -> str:
    """torch's version, its CUDA build, and the devices found or why there are none."""
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        found = "devices: " + ", ".join(names)
    elif torch.backends.mps.is_available():
        found = "devices: Apple GPU (mps)"
    elif torch.version.cuda:
        found = "devices: CPU only, no NVIDIA GPU or driver was found"
    else:
        found = "devices: CPU only, this build of torch has no GPU support"
    return f"torch {torch.__version__} ({build}), {found}"


def machine_line() -> str:
    """Python's version, the system, the number of cores, and the free space of the disk."""
    free = shutil.disk_usage(".").free / 1e9
    system = f"{platform.system()} {platform.machine()}"
    return f"Python {platform.python_version()}, {system}, {os.cpu_count()} cores, {free:,.0f} GB free"


if __name__ == "__main__":
    print(device_line())
    print(machine_line())
