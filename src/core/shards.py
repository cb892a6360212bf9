"""The shards of large arrays: ranges of rows of one .npy file, each with its digest in shards.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.core.documents import read_json, write_json
from src.core.errors import IntegrityError

SHARDS = "shards.json"
SHARD_BYTES = 16 << 20


@dataclass(frozen=True)
class Sharded:
    """An array that is read by shards.

    Args:
        dtype: NumPy's code, such as |u1.
        shape: of the whole array.
        offset: of its first byte in the file.
        rows: the first row of each shard, and the number of all rows.
        sha256: of the bytes of each shard.
    """

    dtype: str
    shape: list[int]
    offset: int
    rows: list[int]
    sha256: list[str]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize


def cut_evenly(rows: int, row_bytes: int) -> list[int]:
    """Where to cut an array into shards of `SHARD_BYTES` or less, of one row at least, as `Sharded.rows`."""
    return [*range(0, rows, max(1, SHARD_BYTES // row_bytes)), rows]


def cut_between(offsets: NDArray[np.int64], row_bytes: int) -> list[int]:
    """Where to cut an array of documents so that none is in two shards; a shard can be a document larger.

    Args:
        offsets: where each document begins, and the last one ends (N + 1,).
        row_bytes: of a row of the array.
    """
    wanted = np.arange(0, offsets[-1], max(1, SHARD_BYTES // row_bytes))
    return np.unique([*offsets[np.searchsorted(offsets, wanted)], offsets[-1]]).tolist()


def write_shards(folder: Path, cuts: Mapping[str, list[int]]) -> None:
    """Write the shards of some arrays of a folder to its shards.json; without arrays no file is written.

    Args:
        folder: of prepared data.
        cuts: the rows at which an array is cut, by the name of its file.
    """
    found = {}
    for name, rows in cuts.items():
        array = np.load(folder / name, mmap_mode="r")
        digests = [sha256(array[first:end]).hexdigest() for first, end in pairwise(rows)]
        found[name] = asdict(Sharded(array.dtype.str, list(array.shape), array.offset, rows, digests))
    if found:
        write_json(folder / SHARDS, found)


def read_shards(prepared: Path) -> dict[str, Sharded]:
    """The arrays of prepared data that are read by shards, by the name of the file; small data have none.

    Raises:
        IntegrityError: shards.json is damaged.
    """
    path, stage = prepared / SHARDS, f"prepare@{prepared.name}"
    if not path.is_file():
        return {}
    try:
        return {name: Sharded(**values) for name, values in read_json(path, stage).items()}
    except TypeError as error:
        raise IntegrityError(f"{path} is damaged: {error}; run: dvc repro -f {stage}") from None
