"""Fit of house_prices against a hand-written loop of the same network, batches, loss and optimizer.

    python -m benchmarks.house_prices [--source FOLDER] [--rounds 9]

Both validate every epoch and keep the best weights; the fit also computes all metrics, writes a history row
an epoch and a checkpoint every ten seconds, and is timed once more with W&B offline. All take turns in one
process, in a folder of their own.
"""

import contextlib
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from jsonargparse import auto_cli
from torch.nn import functional

from benchmarks.timing import TimedCLI, fit
from src.core.paths import PREPARED
from src.tabular.data import load_split
from src.tabular.losses import log_rmse, weight_penalty
from src.tabular.model import TabularModel

TASK = "house_prices"
CONFIG = f"configs/{TASK}.yaml"


def hand_written(model: TabularModel, epochs: int, batch_size: int) -> float:
    """Seconds of a plain loop over slices of shuffled tensors, a one-cycle schedule included."""
    network = model.network
    features, target = load_split(PREPARED / TASK, "train")
    validation_features, validation_target = load_split(PREPARED / TASK, "validation")
    prices = model.predict(validation_target)
    optimizer = model.optimizer(network.parameters())
    steps = epochs * -(-len(features) // batch_size)
    assert model.lr_scheduler is not None
    scheduler = model.lr_scheduler(optimizer, total_steps=steps)  # type: ignore[call-arg]
    best = float("inf")
    start = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(features)).split(batch_size):
            optimizer.zero_grad()
            loss = functional.smooth_l1_loss(network(features[rows]), target[rows])
            loss = loss + weight_penalty(network, model.l1, model.l2)
            loss.backward()
            optimizer.step()
            scheduler.step()
        network.eval()
        with torch.no_grad():
            outputs = network(validation_features)
            score = functional.smooth_l1_loss(outputs, validation_target).item()
            log_rmse(model.predict(outputs), prices).item()
        if score < best:
            best = score
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    return time.perf_counter() - start


def compare(source: str = "sample", rounds: int = 9) -> None:
    """Print the seconds of each way and the ratios.

    Args:
        source: of the raw data, as in params.yaml.
        rounds: how often each way is timed.
    """
    from pipelines.fetch import fetch
    from pipelines.prepare import prepare

    root = Path.cwd()
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters[TASK]["source"] = source if source in {"sample", "download"} else str(Path(source).resolve())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in ("configs", "data/samples", "src"):
            shutil.copytree(root / name, name)
        Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
        fetch(TASK)
        prepare(TASK)
        configuration = yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8"))
        epochs = configuration["trainer"]["max_epochs"]
        batch_size = configuration["data"]["init_args"]["batch_size"]
        seconds: dict[str, list[float]] = {"hand-written": [], "fit": [], "fit, W&B offline": []}
        for _ in range(rounds):
            seconds["fit"].append(fit(CONFIG))
            seconds["fit, W&B offline"].append(fit(CONFIG, wandb_mode="offline"))
            seconds["hand-written"].append(hand_written(TimedCLI.untrained, epochs, batch_size))
    print(f"{TASK}, {epochs} epochs, median of {rounds} rounds; the ratio is taken within each round")
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, seconds["hand-written"], strict=True)]
        spread = f"{min(values):.2f} to {max(values):.2f}"
        times = f"{statistics.median(values):6.2f} s ({spread})"
        print(f"{name:17} {times}  {statistics.median(ratios):.2f} times the hand-written loop")


if __name__ == "__main__":
    auto_cli(compare)
