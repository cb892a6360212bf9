"""A project with prepared data, and a Ray cluster of two nodes, which are processes of this machine."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from pipelines.fetch import fetch
from pipelines.prepare import prepare

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the prepared data of `polynomial`."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "data").mkdir()
    for name in ("src", "pipelines", "data/samples"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name in ("params.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    with chdir(folder):
        fetch("polynomial")
        prepare("polynomial")
    return folder


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """A head and a second node with a core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_NUM_REDIS_GET_RETRIES", "20")
        patch.setenv("RAY_worker_niceness", "0")  # others on this machine would take their time
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()
