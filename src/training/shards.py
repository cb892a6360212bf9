"""Large arrays that are read by shards from another folder or an object store, through a bounded cache."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time_ns
from urllib.parse import urlsplit

import fsspec
import numpy as np
import torch
from torch import Tensor

from src.core.atomic import locked
from src.core.digests import file_digest
from src.core.errors import ConfigurationError, IntegrityError, ResourceError
from src.core.paths import STORES
from src.core.shards import Sharded

FETCHED_TOGETHER = 4  # shards that are fetched together, into memory
SUFFIX = ".shard"


@dataclass
class Remote:
    """Where the large arrays of prepared data are, if not in data/prepared/<task>.

    It changes neither the order nor the weights, and is in no record of a training.

    Args:
        address: of the folder of the arrays: a path, or as s3://BUCKET/prepared/photos.
        cache: a folder of this machine for the shards that are in use; several trainings may share it.
        cache_bytes: what it holds at most; then the shard that was not used for the longest time is dropped.

    Raises:
        ConfigurationError: the address is empty, or has an access key in it.
    """

    address: str
    cache: Path = Path("data/shards")
    cache_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if not self.address:
            raise ConfigurationError("data.remote.address is empty, expected that of a folder")
        parts = urlsplit(self.address)
        if "@" in parts.netloc or parts.query:
            raise ConfigurationError(
                "data.remote.address: the address has an access key in it; set it in the environment"
            )
        # by the digest, of all arrays of a training: the space of a dropped file is free once it is closed
        self.opened: dict[str, Tensor] = {}


class RemoteArray:
    """An array in a store; it has what `Batches` uses of a tensor.

    Each shard is compared with its sha256 when it is opened. The file system of fsspec repeats requests that
    fail, and takes keys from the environment.

    Args:
        remote: the store and the cache.
        name: of the array's file.
        sharded: its shards.
        mixed: of how many shards rows are read at a time.

    Raises:
        ConfigurationError: the store is unknown or its library not installed, or the cache is too small or a
            file.
        ResourceError: the store does not answer.
    """

    device = torch.device("cpu")

    def __init__(self, remote: Remote, name: str, sharded: Sharded, mixed: int) -> None:
        self.address = f"{remote.address.rstrip('/')}/{name}"
        self.cache = remote.cache
        self.cache_bytes = remote.cache_bytes
        self.sharded = sharded
        self.shape = tuple(sharded.shape)
        self.dtype = torch.from_numpy(np.empty(0, sharded.dtype)).dtype
        self.nbytes = len(self) * sharded.row_bytes
        self.bounds = torch.tensor(sharded.rows)
        self.opened = remote.opened
        self.fetched = 0
        largest = self.bounds.diff().sort(descending=True).values[: max(mixed, FETCHED_TOGETHER)]
        if (least := int(largest.sum()) * sharded.row_bytes) > self.cache_bytes:
            raise ConfigurationError(  # each would be fetched for nearly every batch
                f"data.remote.cache_bytes: found {self.cache_bytes}, expected at least {least}: rows of "
                f"{len(largest)} shards of {self.address} are mixed"
            )
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigurationError(
                f"data.remote.cache: expected a folder, found a file: {self.cache}"
            ) from None
        try:
            self.files, self.path = fsspec.url_to_fs(self.address)
        except ImportError as error:  # fsspec names the library that it wants
            reason = STORES.get(urlsplit(self.address).scheme, f"{remote.address}: {error}")
            raise ConfigurationError(f"data.remote.address: {reason}") from None
        except (ValueError, TypeError) as error:  # fsspec has no such scheme, or the address lacks a part
            raise ConfigurationError(f"data.remote.address: {remote.address}: {error}") from None
        except OSError as error:  # some stores, such as ftp://, are connected to at once
            raise self._no_answer(error) from None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        return self.index_select(0, torch.arange(*rows.indices(len(self))))

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Some rows, as torch's function of this name copies them.

        Args:
            dim: 0.
            rows: their numbers (B,).

        Raises:
            IntegrityError: a shard differs from the prepared data.
            ResourceError: the store does not answer, refuses the keys, or has no such array.
        """
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        shards, order = torch.bucketize(rows, self.bounds[1:], right=True).sort(stable=True)
        numbers, counts = shards.unique_consecutive(return_counts=True)
        places = dict(zip(numbers.tolist(), order.split(counts.tolist()), strict=True))
        # in the order of the rows: what the batches before have used is read before it can be dropped
        wanted = sorted(places, key=lambda number: int(places[number][0]))
        for start in range(0, len(wanted), FETCHED_TOGETHER):
            some = wanted[start : start + FETCHED_TOGETHER]
            for number, shard in zip(some, self._read(some), strict=True):
                here = places[number]
                found[here] = shard[rows[here] - self.bounds[number]]
        return found

    def _read(self, numbers: list[int]) -> list[Tensor]:
        """Some shards, no more than `FETCHED_TOGETHER`: memory maps of files in the cache."""
        opened = [self._is_open(number) for number in numbers]  # each counts as used before room is made
        if not all(opened):
            with locked(self.cache / "lock"):  # what one process fetches, the others of the machine find
                for digest in self.opened.keys() - {path.stem for path in self.cache.glob(f"*{SUFFIX}")}:
                    del self.opened[digest]
                missing = [number for number in numbers if not (self._is_open(number) or self._open(number))]
                for number, content in zip(missing, self._fetch(missing), strict=True):
                    self._keep(number, content, numbers)
        return [self.opened[self.sharded.sha256[number]] for number in numbers]

    def _file(self, number: int) -> Path:
        return self.cache / f"{self.sharded.sha256[number]}{SUFFIX}"

    def _is_open(self, number: int) -> bool:
        """Whether a shard is open and still in the cache, from which another process may have dropped it."""
        if self.sharded.sha256[number] not in self.opened:
            return False
        try:
            os.utime(self._file(number), ns=(time_ns(), time_ns()))
        except FileNotFoundError:
            return False
        return True

    def _open(self, number: int) -> bool:
        """Open a shard that is in the cache from before, unless it is damaged."""
        path = self._file(number)
        if not path.is_file() or file_digest(path) != self.sharded.sha256[number]:
            return False
        self._map(number)
        return self._is_open(number)

    def _map(self, number: int) -> None:
        first, end = self.sharded.rows[number : number + 2]
        shape = (end - first, *self.shape[1:])
        # copy on write, since torch warns of arrays that cannot be written; nothing writes to it
        array = np.memmap(self._file(number), self.sharded.dtype, "c", shape=shape)
        self.opened[self.sharded.sha256[number]] = torch.from_numpy(array)

    def _fetch(self, numbers: list[int]) -> list[bytes]:
        """The bytes of some shards."""
        rows, size = self.sharded.rows, self.sharded.row_bytes
        starts = [self.sharded.offset + rows[number] * size for number in numbers]
        ends = [self.sharded.offset + rows[number + 1] * size for number in numbers]
        try:
            contents = self.files.cat_ranges([self.path] * len(numbers), starts, ends, on_error="raise")
            for content in contents:
                if isinstance(content, Exception):
                    raise content
        except (FileNotFoundError, NotADirectoryError):
            raise ResourceError(
                f"{self.address}: there is no such file; copy the array of these prepared data there"
            ) from None
        except Exception as error:  # each store has errors of its own
            raise self._no_answer(error) from None
        self.fetched += len(numbers)
        return list(contents)

    def _no_answer(self, error: Exception) -> ResourceError:
        return ResourceError(
            f"{self.address}: {type(error).__name__}: {error}; the same command goes on with the training"
        )

    def _keep(self, number: int, content: bytes, together: list[int]) -> None:
        """Put a shard into the cache and open it; none that is read together with it is dropped for it."""
        digest = self.sharded.sha256[number]
        if (found := sha256(content).hexdigest()) != digest:
            first, end = self.sharded.rows[number : number + 2]
            raise IntegrityError(
                f"{self.address}: shard {number}, rows {first} to {end - 1}: sha256 {found}, expected "
                f"{digest}; copy the array of these prepared data there"
            )
        sizes = {path: path.stat().st_size for path in self.cache.glob(f"*{SUFFIX}")}
        # another process can have used all others since
        others = sizes.keys() - {self._file(each) for each in together}
        for path in sorted(others, key=lambda path: (path.stat().st_mtime_ns, path)):
            if sum(sizes.values()) + len(content) <= self.cache_bytes:
                break
            path.unlink()
            self.opened.pop(path.stem, None)
            del sizes[path]
        partial = self.cache / "partial"
        try:
            partial.write_bytes(content)
        except OSError as error:  # which does not name the file if the disk is full
            partial.unlink(missing_ok=True)
            raise ResourceError(f"data.remote.cache: {self.cache}: {error.strerror}") from None
        partial.replace(self._file(number))
        self._map(number)
