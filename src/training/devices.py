"""One line on what this machine computes with: python -m src.training.devices."""

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


if __name__ == "__main__":
    print(device_line())
