"""Preparing many photographs: CPU time and peak memory; and the time of augmentation in a training step.

    python -m benchmarks.pictures [--number 8000] [--side 224]

The photographs are JPEG files of 320 x 240 pixels that are made first, coarse colours under grain. The step
is that of ConvNet with 128 images of 28 x 28 pixels, the augmentation all that is drawn for each image.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

CLASSES = "abcdefgh"
PREPARE = """
import resource, time
from pathlib import Path
from src.images.prepare import Preparation, prepare
start, cpu = time.perf_counter(), time.process_time()
prepare(Path("{raw}"), Path("{prepared}"), Preparation(train=".", resize={side}))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"prepare: {{cpu:.1f}} s of CPU time, {{seconds:.1f}} s, peak {{peak:,.0f}} MiB")
"""


def make_photographs(folder: Path, number: int) -> None:
    """Write JPEG files into class folders."""
    generator = np.random.default_rng(0)
    for each in range(number):
        path = folder / CLASSES[each % len(CLASSES)] / f"{each:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        colours = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC)).astype(np.int16)
        grain = generator.integers(-12, 13, (120, 160, 1), dtype=np.int16).repeat(2, 0).repeat(2, 1)
        Image.fromarray((colours + grain).clip(0, 255).astype(np.uint8)).save(path, quality=85)


def seconds_of(function: Callable[[], object], rounds: int = 10) -> float:
    """The shortest CPU time of some calls."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times[1:])


def measure(number: int = 8000, side: int = 224) -> None:
    """Print the time and memory of preparing, and the share of augmentation in a step.

    Args:
        number: of photographs.
        side: to which they are resized.
    """
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name, "raw")
        make_photographs(raw, number)
        code = PREPARE.format(raw=raw, prepared=Path(name, "prepared"), side=side)
        subprocess.run([sys.executable, "-c", code], check=True)

    # after the process above, whose peak memory begins with that of this one
    import torch
    from torch.nn import functional

    from src.images.augmentation import Augmentation
    from src.images.networks import ConvNet

    torch.set_num_threads(1)
    images = torch.randint(0, 256, (128, 1, 28, 28), dtype=torch.uint8)
    target = torch.randint(0, 10, (128,))
    network = ConvNet((1, 28, 28), 10)
    every = Augmentation(0.5, crop=1, rotation=10, resized_crop=0.5, colour=0.3, erasing=0.5, noise=0.1)
    step = seconds_of(lambda: functional.cross_entropy(network(images / 255), target).backward())
    drawn = seconds_of(lambda: every.changed(images, 255))
    print(
        f"augmentation: {1000 * drawn:.1f} ms, {drawn / step:.1%} of a step of ConvNet ({1000 * step:.0f} ms)"
    )


if __name__ == "__main__":
    auto_cli(measure)
