"""Arrays in shards: their order, and reading them from another folder through a bounded cache."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from src.core.errors import ConfigurationError, IntegrityError, ResourceError
from src.core.shards import cut_between, cut_evenly, read_shards, write_shards
from src.training.loading import Batches, Blocks
from src.training.shards import Remote, RemoteArray

ROWS = 40  # of 8 bytes, in shards of 3
SHARD = 3 * 8
VALUES = np.arange(2 * ROWS, dtype=np.int32).reshape(ROWS, 2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an array and its shards, beside an empty working folder."""
    monkeypatch.setattr("src.core.shards.SHARD_BYTES", SHARD)
    folder = tmp_path / "store"
    folder.mkdir()
    np.save(folder / "train_array.npy", VALUES)
    write_shards(folder, {"train_array.npy": cut_evenly(ROWS, 8)})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def array(store: Path, address: str | None = None, shards: int = 4) -> RemoteArray:
    remote = Remote(address or store.as_uri(), Path("cache"), shards * SHARD)
    return RemoteArray(remote, "train_array.npy", read_shards(store)["train_array.npy"], 4)


def cached() -> list[str]:
    return sorted(path.stem for path in Path("cache").glob("*.shard"))


def test_an_array_is_cut_into_shards_of_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.core.shards.SHARD_BYTES", 40)
    assert cut_evenly(12, 8) == [0, 5, 10, 12]
    assert cut_evenly(2, 100) == [0, 1, 2]
    # documents of 4, 8, 30, 2 and 6 numbers of 4 bytes
    assert cut_between(np.array([0, 4, 12, 42, 44, 50]), 4) == [0, 12, 42, 50]


def test_the_order_is_one_of_blocks_and_within_some_of_them() -> None:
    blocks = Blocks([2, 3, 1, 2], at_once=2)
    assert [rows.tolist() for rows in blocks.windows(None)] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    drawn = [rows.tolist() for rows in blocks.windows(torch.Generator().manual_seed(1))]
    assert drawn == [[6, 7, 2, 3, 4], [1, 5, 0]]


def test_the_order_depends_on_the_epoch_and_not_on_the_processes() -> None:
    def drawn(epoch: int, start: int = 0, processes: int = 1) -> list[list[list[int]]]:
        found = []
        for process in range(processes):
            blocks = Blocks([3] * 13 + [1], at_once=4)
            batches = Batches((torch.arange(ROWS),), 6, 7, process, processes, blocks)
            batches.set_epoch(epoch)
            batches.start = start
            found.append([rows.tolist() for (rows,) in batches])
        return found

    (alone,) = drawn(0)
    assert sorted(row for batch in alone for row in batch) == list(range(ROWS))
    assert drawn(1) != [alone]
    assert drawn(0, start=3) == [alone[3:]]
    halves = drawn(0, processes=2)
    assert [a + b for a, b in zip(*halves, strict=True)] == alone


@pytest.mark.parametrize("where", ["path", "file://", "memory://"])
def test_rows_are_those_of_the_array(where: str, store: Path) -> None:
    address = str(store) if where == "path" else store.as_uri()
    if where == "memory://":
        import fsspec

        fsspec.filesystem("memory").pipe("/store/train_array.npy", (store / "train_array.npy").read_bytes())
        address = "memory://store"
    found = array(store, address)
    assert (len(found), found.shape, found.dtype, found.nbytes) == (40, (40, 2), torch.int32, 320)
    rows = torch.tensor([39, 0, 17, 18, 0, 5])
    assert found.index_select(0, rows).tolist() == VALUES[rows].tolist()
    assert found[4:33].tolist() == VALUES[4:33].tolist()
    assert found[38:99].tolist() == VALUES[38:].tolist()
    assert found.index_select(0, rows[:0]).shape == (0, 2)


def test_an_epoch_fetches_each_shard_once_if_the_cache_holds_a_window(store: Path) -> None:
    remote = array(store, shards=5)
    batches = Batches((remote,), 5, 1, blocks=Blocks([3] * 13 + [1], at_once=5))
    rows = sorted(row for (batch,) in batches for row in batch.tolist())
    assert rows == VALUES.tolist()
    assert remote.fetched == 14


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_the_longest_time(store: Path) -> None:
    remote = array(store, shards=4)
    digests = remote.sharded.sha256
    sizes = []
    for number in (0, 1, 2, 3, 0, 4):
        assert remote[3 * number : 3 * number + 1].tolist() == [VALUES[3 * number].tolist()]
        sizes.append(sum(path.stat().st_size for path in Path("cache").iterdir()))
    assert cached() == sorted(digests[number] for number in (0, 2, 3, 4))
    assert max(sizes) == 4 * SHARD
    assert remote.fetched == 5
    remote[:]
    assert sum(path.stat().st_size for path in Path("cache").iterdir()) <= 4 * SHARD
    assert len(remote.opened) <= 4


def test_another_process_finds_what_was_fetched_and_may_drop_it(store: Path) -> None:
    first, second = array(store), array(store)
    assert torch.equal(first[:6], second[:6])
    assert (first.fetched, second.fetched) == (2, 0)
    second[6:18]  # four more
    assert first[:3].tolist() == VALUES[:3].tolist()
    assert first.fetched == 3
    assert list(first.opened) == first.sharded.sha256[:1]  # the space of the others is free


def test_shards_that_are_read_together_stay_although_another_process_used_the_others_since(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = array(store)
    remote[:12]
    keep = remote._keep

    def kept(number: int, content: bytes, together: list[int]) -> None:
        keep(number, content, together)
        os.utime(remote._file(number), ns=(0, 0))  # the others of the cache are newer

    monkeypatch.setattr(remote, "_keep", kept)
    assert remote[12:24].tolist() == VALUES[12:24].tolist()
    assert cached() == sorted(remote.sharded.sha256[4:8])


def test_arrays_of_a_training_share_the_cache(store: Path) -> None:
    remote, sharded = Remote(str(store), Path("cache"), 4 * SHARD), read_shards(store)["train_array.npy"]
    first, second = (RemoteArray(remote, "train_array.npy", sharded, 4) for _ in range(2))
    first[:12], second[12:24]
    assert sorted(remote.opened) == cached() == sorted(sharded.sha256[4:8])


def test_a_shard_with_another_digest_is_refused(store: Path) -> None:
    others = VALUES.copy()
    others[7] += 1
    np.save(store / "train_array.npy", others)
    remote = array(store)
    assert remote[:6].tolist() == VALUES[:6].tolist()
    with pytest.raises(IntegrityError, match=r"train_array\.npy: shard 2, rows 6 to 8: sha256 .* expected"):
        remote[:9]
    assert len(cached()) == 2


def test_a_damaged_file_of_the_cache_is_fetched_again(store: Path) -> None:
    array(store)[:6]
    first, second = (Path("cache", f"{digest}.shard") for digest in array(store).sharded.sha256[:2])
    first.write_bytes(bytes(SHARD))
    second.write_bytes(second.read_bytes()[:5])
    remote = array(store)
    assert remote[:6].tolist() == VALUES[:6].tolist()
    assert remote.fetched == 2


def test_an_array_that_is_shorter_or_missing_is_one_line(store: Path) -> None:
    remote = array(store)
    path = store / "train_array.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="shard 13, rows 39 to 39"):
        remote[39:]
    path.unlink()
    for missing in (remote, array(store, str(path.parent / "another"))):
        with pytest.raises(ResourceError, match=r"train_array\.npy: there is no such file; copy the array"):
            missing[:3]


@pytest.mark.parametrize("text", ['{"train_array.npy": 1}', '{"train_array.npy": {"dtype": "<i4"}}'])
def test_a_damaged_list_of_shards_is_one_line(text: str, store: Path) -> None:
    (store / "shards.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"shards\.json is damaged: .*; run: dvc repro -f prepare@store"):
        read_shards(store)


def test_a_cache_that_is_too_small_is_refused(store: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"data\.remote\.cache_bytes: found 72, expected at least 96"
    ):
        array(store, shards=3)


def test_an_empty_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data\.remote\.address is empty"):
        Remote("")


def test_keys_in_an_address_are_refused_and_not_repeated() -> None:
    for address in ("s3://someone:secret@bucket/a", "https://host.example/a?X-Amz-Signature=secret"):
        with pytest.raises(ConfigurationError, match="has an access key in it") as raised:
            Remote(address)
        assert "secret" not in str(raised.value)


def test_without_the_library_the_message_says_how_to_get_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigurationError, match=r"data\.remote\.address: gcsfs is not installed"):
        array(store, "gs://bucket/a")
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(ConfigurationError, match=r'data\.remote\.address: sftp://host/a: .*"paramiko"'):
        array(store, "sftp://host/a")


def test_a_store_that_refuses_the_connection_is_one_line(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr("ftplib.FTP.connect", refuse)
    with pytest.raises(
        ResourceError, match=r"ftp://host/a/train_array\.npy: ConnectionRefusedError: .* goes on"
    ):
        array(store, "ftp://host/a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_cache_on_a_full_disk_is_named(store: Path) -> None:
    remote = array(store)
    remote[:3]
    Path("cache/partial").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"data\.remote\.cache: cache: No space left on device"):
        remote[3:6]
    assert cached() == remote.sharded.sha256[:1]
    assert remote[3:6].tolist() == VALUES[3:6].tolist()


def test_an_address_of_an_unknown_store_and_a_cache_that_is_a_file_are_refused(store: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.remote\.address: s4://bucket/a: Protocol not known"):
        array(store, "s4://bucket/a")
    with pytest.raises(ConfigurationError, match=r"data\.remote\.address: github:///a: .*'org'"):
        array(store, "github:///a")
    Path("file").touch()
    sharded = read_shards(store)["train_array.npy"]
    for cache in (Path("file"), Path("file/below")):
        with pytest.raises(ConfigurationError, match=r"data\.remote\.cache: expected a folder, found a file"):
            RemoteArray(Remote(str(store), cache), "train_array.npy", sharded, 4)
