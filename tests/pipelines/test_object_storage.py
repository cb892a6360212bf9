"""Raw data and a remote of DVC in object storage: moto's server of S3, on the loopback."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from pipelines.fetch import fetch
from pipelines.parameters import kinds_with
from src.core.errors import ConfigurationError, IntegrityError, ResourceError
from src.core.shards import read_shards, write_shards
from src.training.options import require_usable
from src.training.shards import Remote, RemoteArray
from src.training.stored import DurableCheckpointIO
from tests.support import contents, ended

KIND = kinds_with("prepare")[-1]
CONTENT = {"train.csv": b"a,b\n1,2\n3,4\n", "parts/one two.csv": b"a,b\n5,6\n"}
SECRET = "a-secret-that-nobody-may-write"  # noqa: S105


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the working folder of the test."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of S3."""
    pytest.importorskip("flask")
    started = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    started.start()
    yield "http://{}:{}".format(*started.get_host_and_port())
    started.stop()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket `raw` with two files below `boxes/`; the keys are in the environment."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = s3fs.S3FileSystem()
    bucket.mkdirs("raw", exist_ok=True)
    for name, content in CONTENT.items():
        bucket.pipe_file(f"raw/boxes/{name}", content)
    return bucket


def write_parameters(source: str = "s3://raw/boxes", **files: Any) -> None:
    named = files or {
        name: {"hash": f"sha256:{hashlib.sha256(content).hexdigest()}"} for name, content in CONTENT.items()
    }
    section = {"source": source, "files": named}
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"boxes": KIND}, "boxes": section}))


def test_files_of_a_bucket_are_fetched_and_no_key_is_written(store: Any, capfd: Any) -> None:
    write_parameters()
    fetch("boxes")
    found = {name: Path("data/raw/boxes", name).read_bytes() for name in CONTENT}
    assert found == CONTENT
    assert not [name for name, content in contents(Path()).items() if SECRET.encode() in content]
    assert SECRET not in "".join(capfd.readouterr())


def test_an_object_is_fetched_once(store: Any) -> None:
    write_parameters()
    fetch("boxes")
    store.rm("raw/boxes", recursive=True)
    fetch("boxes")
    assert Path("data/raw/boxes/train.csv").read_bytes() == CONTENT["train.csv"]


def test_one_object_beside_a_folder(store: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/own.csv").write_text("a\n")
    digest = hashlib.sha256(CONTENT["train.csv"]).hexdigest()
    url = "s3://raw/boxes/train.csv"
    downloaded = {"source": "download", "url": url, "hash": f"sha256:{digest}"}
    write_parameters(str(tmp_path / "own"), **{"own.csv": {}, "train.csv": downloaded})
    fetch("boxes")
    assert Path("data/raw/boxes/train.csv").read_bytes() == CONTENT["train.csv"]


def test_another_content_is_refused_and_nothing_is_kept(store: Any) -> None:
    write_parameters(**{"train.csv": {"hash": "sha256:" + "0" * 64}})
    with pytest.raises(IntegrityError, match=r"s3://raw/boxes/train\.csv"):
        fetch("boxes")
    assert not Path("data/raw/boxes").exists()


@pytest.mark.parametrize("name", ["raw", "nobody"])
def test_what_the_store_refuses_is_one_line_without_a_key(store: Any, name: str, capfd: Any) -> None:
    write_parameters(f"s3://{name}/absent")
    with pytest.raises(ResourceError, match=f"s3://{name}/absent/.*: FileNotFoundError: ") as raised:
        fetch("boxes")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [f"s3://someone:{SECRET}@raw/boxes", f"https://host.example/boxes?X-Amz-Signature={SECRET}"],
)
def test_keys_in_an_address_are_refused_and_not_repeated(source: str, capsys: Any) -> None:
    write_parameters(source)
    assert ended(fetch, "boxes") == ConfigurationError.exit_code
    said = capsys.readouterr().err
    assert "boxes.source: the address has an access key in it" in said
    assert SECRET not in said


def test_an_address_needs_names_and_known_schemes() -> None:
    write_parameters("file:///etc")
    with pytest.raises(ConfigurationError, match="expected one of http://, https://, ftp://, s3://, gs://"):
        fetch("boxes")
    Path("params.yaml").write_text(
        yaml.safe_dump({"tasks": {"boxes": KIND}, "boxes": {"source": "s3://raw/boxes", "files": {}}})
    )
    with pytest.raises(ConfigurationError, match="needs the name and the hash of each file"):
        fetch("boxes")


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # fsspec keeps the library of s3:// that a test has used
    write_parameters("gs://raw/boxes")
    with pytest.raises(ConfigurationError, match=r"gs://raw/boxes/.*: gcsfs is not installed"):
        fetch("boxes")


@pytest.mark.slow
def test_a_remote_of_dvc_is_pushed_to_and_pulled_from(
    store: Any, server: str, project: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("dvc_s3")
    Path("train.csv").write_bytes(CONTENT["train.csv"])
    for command in (
        "init --no-scm --quiet",
        "remote add --default storage s3://raw/dvc",
        f"remote modify storage endpointurl {server}",
        "add --quiet train.csv",
        "push --quiet",
    ):
        done = python("-m", "dvc", *command.split(), cwd=project)
        assert done.returncode == 0, done.stdout
    subprocess.run(["rm", "-r", ".dvc/cache", "train.csv"], check=True)
    done = python("-m", "dvc", "pull", "--quiet", cwd=project)
    assert done.returncode == 0, done.stdout
    assert Path("train.csv").read_bytes() == CONTENT["train.csv"]
    assert not [name for name, content in contents(Path()).items() if SECRET.encode() in content]


def test_checkpoints_of_a_callback_are_written_to_a_bucket(store: Any) -> None:
    place = "s3://raw/checkpoints"
    require_usable({"callbacks": [spec(dirpath=place)]})
    network = BoringModel()
    callback = ModelCheckpoint(dirpath=place, filename="{epoch}", save_top_k=-1)
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=2, limit_train_batches=2, callbacks=[callback], plugins=[DurableCheckpointIO()], **options
    )
    trainer.fit(network)
    assert sorted(store.ls("raw/checkpoints")) == [
        "raw/checkpoints/epoch=0.ckpt",
        "raw/checkpoints/epoch=1.ckpt",
    ]
    found = torch.load(io.BytesIO(store.cat_file("raw/checkpoints/epoch=1.ckpt")), weights_only=True)
    assert torch.equal(found["state_dict"]["layer.weight"], network.layer.weight)
    assert not list(Path().iterdir())  # such as a folder s3:


def test_an_array_is_read_by_shards_from_a_bucket(store: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (10, 3), dtype=np.uint8)
    np.save("train_array.npy", values)
    write_shards(Path(), {"train_array.npy": [0, 4, 8, 10]})
    store.put_file("train_array.npy", "raw/prepared/train_array.npy")
    sharded = read_shards(Path())["train_array.npy"]
    array = RemoteArray(Remote("s3://raw/prepared", Path("cache"), 48), "train_array.npy", sharded, 3)
    assert array.index_select(0, torch.tensor([9, 1, 2])).tolist() == values[[9, 1, 2]].tolist()
    assert array.fetched == 2  # the shard between is not read
    store.pipe_file("raw/prepared/train_array.npy", bytes(158))
    with pytest.raises(IntegrityError, match=r"s3://raw/prepared/train_array\.npy: shard 1, rows 4 to 7"):
        array[4:8]
    store.rm("raw/prepared", recursive=True)
    with pytest.raises(ResourceError, match=r"s3://raw/prepared/.*: there is no such file") as raised:
        array[4:8]
    assert SECRET not in str(raised.value)


def test_checkpoints_need_the_library_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigurationError, match=r"dirpath: gs://raw/here: gcsfs is not installed"):
        require_usable({"callbacks": [spec(dirpath="gs://raw/here")]})


def spec(**arguments: Any) -> dict[str, Any]:
    """A callback in a configuration."""
    return {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": arguments}
