"""Fits of image models against a hand-written loop and against the common way, side by side.

    python -m benchmarks.images [--source FOLDER] [--rounds 3]

The common way is a torchvision dataset with transforms of each image in a DataLoader under Lightning. LeNet
as configured, and a dense 784-64-128-64-10 net with batches of 128. All train on the same images with the
same optimizer and validate every epoch; they take turns in one process, in a folder of their own.
"""

import contextlib
import copy
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from jsonargparse import auto_cli
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import v2

from benchmarks.timing import TimedCLI, fit
from src.core.paths import PREPARED, RAW
from src.images.data import EVALUATION_IMAGES, load_split
from src.images.model import ImageModel

TASK = "fashion_mnist"
CONFIG = f"configs/{TASK}.yaml"
DENSE = {
    "class_path": "src.images.networks.MLP",
    "init_args": {"hidden_sizes": [64, 128, 64], "activation": "relu"},
}


def hand_written(model: ImageModel, epochs: int, batch_size: int) -> float:
    """Seconds of a plain loop over slices of shuffled tensors that are scaled beforehand."""
    network = model.network
    images, target = load_split(PREPARED / TASK, "train")
    validation_images, validation_target = load_split(PREPARED / TASK, "validation")
    images, validation_images = model.scaled(images), model.scaled(validation_images)
    optimizer = model.optimizer(network.parameters())
    steps = epochs * -(-len(images) // batch_size)
    scheduler = model.lr_scheduler(optimizer, total_steps=steps)  # type: ignore[misc, call-arg]
    start = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(images)).split(batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[rows]), target[rows]).backward()
            optimizer.step()
            scheduler.step()
        network.eval()
        with torch.no_grad():
            outputs = torch.cat([network(part) for part in validation_images.split(EVALUATION_IMAGES)])
            functional.cross_entropy(outputs, validation_target).item()
            (outputs.argmax(dim=1) == validation_target).float().mean().item()
    return time.perf_counter() - start


class CommonWay(lightning.LightningModule):
    """What a tutorial writes: log in each step, no thought of speed."""

    def __init__(self, model: ImageModel, steps: int) -> None:
        super().__init__()
        self.network = model.network
        self.optimizer_of, self.scheduler_of, self.steps = model.optimizer, model.lr_scheduler, steps

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss."""
        images, target = batch
        loss = functional.cross_entropy(self.network(images), target)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and accuracy."""
        images, target = batch
        outputs = self.network(images)
        self.log("val_loss", functional.cross_entropy(outputs, target))
        self.log("val_accuracy", (outputs.argmax(dim=1) == target).float().mean())

    def configure_optimizers(self) -> Any:
        """The same as the other ways have."""
        optimizer = self.optimizer_of(self.parameters())
        scheduler = self.scheduler_of(optimizer, total_steps=self.steps)  # type: ignore[misc, call-arg]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def common_way(model: ImageModel, epochs: int, batch_size: int) -> float:
    """Seconds of trainer.fit with a DataLoader over torchvision's dataset."""
    center, scale = float(model.center.flatten()[0]) / 255, float(model.scale.flatten()[0]) / 255
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([center], [scale])]
    )
    dataset = datasets.FashionMNIST(".", train=True, transform=transform)
    count = len(load_split(PREPARED / TASK, "train")[1])
    train, validation = Subset(dataset, range(count)), Subset(dataset, range(count, len(dataset)))
    trainer = lightning.Trainer(
        max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0
    )
    loaders = (
        DataLoader(train, batch_size, shuffle=True),
        DataLoader(validation, EVALUATION_IMAGES),
    )
    start = time.perf_counter()
    trainer.fit(CommonWay(model, epochs * len(loaders[0])), *loaders)
    return time.perf_counter() - start


def compare(source: str = "sample", rounds: int = 3, epochs: int = 1) -> None:
    """Print the seconds of each way, the ratios and the peak memory of preparing and training.

    Args:
        source: of the raw images, as in params.yaml.
        rounds: how often each way is timed.
        epochs: of each training.
    """
    os.environ["WANDB_MODE"] = "disabled"
    root = Path.cwd()
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters[TASK]["source"] = source if source in {"sample", "download"} else str(Path(source).resolve())
    environment = os.environ | {"PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in ("configs", "data/samples", "src"):
            shutil.copytree(root / name, name)
        Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
        for command in (["pipelines.fetch", TASK], ["pipelines.prepare", TASK]):
            subprocess.run([sys.executable, "-m", *command], check=True, env=environment)
        one_epoch = ["fit", "--config", CONFIG, "--trainer.max_epochs=1"]
        quiet = subprocess.DEVNULL
        subprocess.run(
            [sys.executable, "-m", "src.cli", *one_epoch], check=True, env=environment, stdout=quiet
        )
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"peak memory of preparing and training: {peak:,.0f} MiB")
        for path in (RAW / TASK).glob("*.gz"):  # where torchvision's dataset looks for them
            unpacked = Path("FashionMNIST/raw", path.stem)
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            unpacked.write_bytes(gzip.decompress(path.read_bytes()))
        batch_size = 128
        for name, options in (
            ("LeNet", ()),
            ("dense 784-64-128-64-10", (f"--model.network={json.dumps(DENSE)}",)),
        ):
            seconds: dict[str, list[float]] = {"hand-written": [], "fit": [], "common way": []}
            given = (*options, f"--trainer.max_epochs={epochs}", f"--data.batch_size={batch_size}")
            for _ in range(rounds):
                seconds["fit"].append(fit(CONFIG, *given))
                for way, train in (("hand-written", hand_written), ("common way", common_way)):
                    model = copy.deepcopy(TimedCLI.untrained)
                    seconds[way].append(train(model, epochs, batch_size))
            _print(name, epochs, seconds)


def _print(name: str, epochs: int, seconds: dict[str, list[float]]) -> None:
    print(f"{name}, {epochs} epochs; ratios are medians of those within each round")
    for way, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["fit"], strict=True)]
        spread = f"{min(values):.2f} to {max(values):.2f}"
        times = f"{statistics.median(values):6.2f} s ({spread})"
        print(f"{way:13} {times}  {statistics.median(ratios):.2f} times the fit")
    loop = [own / value for value, own in zip(seconds["hand-written"], seconds["fit"], strict=True)]
    print(f"the fit takes {statistics.median(loop):.2f} times the hand-written loop")


if __name__ == "__main__":
    auto_cli(compare)
