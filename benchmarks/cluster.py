"""A study on a Ray cluster of two nodes of this machine: python -m benchmarks.cluster [--kills 20].

It prints the seconds until the first cell and a cell's seconds beyond its training, on the cluster and with
local workers. Then it kills random nodes at random moments, and counts cells that are lost or whose weights
differ from those of the local study. It needs the extra `cluster`.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli

from benchmarks.study import LINKED
from pipelines.study.cells import Cell, train
from pipelines.study.cluster import Cluster
from pipelines.study.study import cells_of, read_study
from pipelines.study.workers import Workers
from src.core.documents import read_json
from src.core.paths import MANIFEST

NAME = "cluster_cells"
CELLS = 24
NODES = 2
WARM = 4  # cells after which every worker has imported Lightning
DIGESTS = dict[str, str | None]


@contextmanager
def project(epochs: int) -> Iterator[None]:
    """Make a copy of the project with a study of small cells the working folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in LINKED:
            (folder / name).symlink_to(Path(name).absolute())
        parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        study = {
            "task": "polynomial",
            "metric": "test/rmse",
            "seeds": [*range(CELLS)],
            "fixed": {"trainer.max_epochs": epochs, "checkpoint_seconds": 0},
            "grid": {"model.network.activation": ["relu"]},
        }
        (folder / "params.yaml").unlink()
        text = yaml.safe_dump(parameters | {"studies": {NAME: study}}, sort_keys=False)
        (folder / "params.yaml").write_text(text, encoding="utf-8")
        os.environ |= {"WANDB_MODE": "disabled", "PYTHONPATH": place}
        with chdir(folder):
            yield


@contextmanager
def nodes_of_this_machine() -> Iterator[Any]:
    """A head without CPUs, which is not killed, and NODES nodes with one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as LocalCluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = LocalCluster(initialize_head=True, head_node_args=head)
    for _ in range(NODES):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def cells() -> list[Cell]:
    """The cells of the study."""
    return [cell for group in cells_of(NAME, read_study(NAME)).values() for cell in group]


def digests() -> DIGESTS:
    """The digest of the weights of each cell; None for one that is lost."""
    return {
        cell.folder.name: read_json(cell.bundle / MANIFEST, NAME)["tensors"] if cell.record() else None
        for cell in cells()
    }


def measured(pool: Workers | Cluster, said: str, began: float) -> None:
    """Train every cell and print the seconds until the first, and those of a cell beyond its training."""
    ends, training = [], []
    for cell, seconds, error in pool.each(train, cells()):
        if error is not None:
            raise error
        assert cell.done
        ends.append(time.perf_counter())
        training.append(seconds)
    beyond = ((ends[-1] - ends[WARM - 1]) * NODES - sum(training[WARM:])) / (CELLS - WARM)
    print(
        f"{said}: {ends[0] - began - training[0]:.1f} s until the first cell; a cell takes "
        f"{beyond:.2f} s beyond its training of {sum(training) / CELLS:.2f} s",
        flush=True,
    )


def killed_round(cluster: Any, draws: random.Random, pause: float) -> int:
    """Run the study while nodes are killed at random moments; the number of kills."""
    command = [sys.executable, "-m", "pipelines.study", NAME, f"--cluster={cluster.address}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kills = 0
    while process.poll() is None:
        time.sleep(draws.uniform(0, pause))
        if process.poll() is None and any(Path("runs/cells").glob("*/runs")):
            node = draws.choice(sorted(cluster.worker_nodes, key=lambda each: each.unique_id))
            cluster.remove_node(node, allow_graceful=False)
            kills += 1
            cluster.add_node(num_cpus=1)
    if process.returncode:
        raise SystemExit(f"the study ended with {process.returncode} after {kills} kills")
    return kills


def main(epochs: int = 40, kills: int = 20, pause: float = 10.0, seed: int = 1) -> None:
    """Measure a study on a cluster.

    Args:
        epochs: of a cell.
        kills: at least so many nodes are killed; 0 for none.
        pause: the longest time between two kills, in seconds.
        seed: of the kills.
    """
    with project(epochs), nodes_of_this_machine() as cluster:
        began = time.perf_counter()
        with Workers(NODES) as workers:
            measured(workers, f"{NODES} local workers", began)
        expected = digests()
        shutil.rmtree("runs")
        began = time.perf_counter()
        with Cluster(cluster.address) as nodes:
            measured(nodes, f"{NODES} nodes", began)
        print(f"weights that differ: {sum(expected[name] != found for name, found in digests().items())}")
        draws, done, rounds, lost, differing = random.Random(seed), 0, 0, 0, 0  # noqa: S311
        while done < kills:
            shutil.rmtree("runs")
            done += killed_round(cluster, draws, pause)
            rounds += 1
            found = digests()
            lost += sum(each is None for each in found.values())
            differing += sum(each not in (None, expected[name]) for name, each in found.items())
            print(
                f"{rounds} studies of {CELLS} cells, {done} kills: {lost} lost, {differing} differ",
                flush=True,
            )


if __name__ == "__main__":
    auto_cli(main)
