"""Batches of an array that is larger than a cache: rows at random, and by shards from here or a server.

    python -m benchmarks.shards [--megabytes 3072] [--cache 1280]

The array has pictures of 224 x 224 (150,528 bytes) or documents of 50 to 400 tokens, random bytes. Each way
reads one epoch in a process of its own, after the system was asked to drop the file from memory. The server
is one of HTTP with ranges on the loopback; the memory is what the process allocates (RssAnon). The folder of
temporary files needs the size of the array, and of the cache.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jsonargparse import auto_cli

from src.core.shards import cut_between, cut_evenly, write_shards

Kind = Literal["pictures", "texts"]
NAME = "train_array.npy"
EPOCH = """
import json, os, sys, time
from pathlib import Path
import numpy as np, torch
from benchmarks.timing import memory_of
from src.core.shards import read_shards
from src.text.data import DocumentBatches
from src.training.loading import SHARDS_AT_ONCE, Batches, Blocks
from src.training.shards import Remote, RemoteArray
kind, shuffled, address, cache, cache_bytes = json.loads(sys.argv[1])
torch.set_num_threads(1)
sharded = read_shards(Path("."))["train_array.npy"]
array = torch.from_numpy(np.load("train_array.npy", mmap_mode="c"))
if address:
    array = RemoteArray(Remote(address, Path(cache), cache_bytes), "train_array.npy", sharded, SHARDS_AT_ONCE)
sizes, tensors = np.diff(sharded.rows), (array,)
if kind == "texts":
    offsets = np.load("offsets.npy")
    sizes = np.diff(np.searchsorted(offsets, sharded.rows))
    tensors = array, torch.from_numpy(offsets)
blocks = Blocks(sizes.tolist(), SHARDS_AT_ONCE) if shuffled == "shards" else None
batches = (Batches if kind == "pictures" else DocumentBatches)(tensors, 64, 0, blocks=blocks)
start, cpu, most = time.perf_counter(), time.process_time(), 0
for number, batch in enumerate(batches):
    if number == 0:
        first = time.perf_counter() - start
    if number % 20 == 0:
        most = max(most, memory_of(os.getpid()).get("RssAnon", 0))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
fetched = getattr(array, "fetched", 0) / len(sharded.sha256)
print(f"{batches.rows / seconds:8,.0f} a s  {cpu:5.1f} s CPU  first batch {first:5.2f} s  "
      f"{most / 1024:4.0f} MiB  fetched {fetched:.2f} times")
"""


class Ranges(BaseHTTPRequestHandler):
    """Sends ranges of the array in the working folder."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send what the header Range asks for."""
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{Path(NAME).stat().st_size}")
        self.end_headers()
        with Path(NAME).open("rb") as file:
            file.seek(first)
            self.wfile.write(file.read(last + 1 - first))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def write_array(kind: Kind, megabytes: int) -> None:
    """Write an array and its shards into the working folder."""
    generator = np.random.default_rng(0)
    if kind == "pictures":
        rows = (megabytes << 20) // 150_528
        array: Any = np.lib.format.open_memmap(NAME, "w+", np.uint8, (rows, 3, 224, 224))
        for start in range(0, rows, 100):
            part = array[start : start + 100]
            part[:] = generator.integers(0, 256, part.shape, np.uint8)
        cuts = cut_evenly(rows, 150_528)
    else:
        lengths = generator.integers(50, 401, (megabytes << 20) // 900)
        offsets = np.concatenate([[0], lengths.cumsum()])
        np.save("offsets.npy", offsets)
        array = np.lib.format.open_memmap(NAME, "w+", np.int32, (int(offsets[-1]),))
        for start in range(0, len(array), 1 << 20):
            part = array[start : start + (1 << 20)]
            part[:] = generator.integers(0, 5000, len(part))
        cuts = cut_between(offsets, 4)
    array.flush()
    write_shards(Path(), {NAME: cuts})


def epoch(label: str, kind: Kind, *arguments: object) -> None:
    """Read an epoch in a process of its own, which prints its line."""
    with Path(NAME).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    print(f"{kind:8} {label:42}", end="", flush=True)
    subprocess.run([sys.executable, "-c", EPOCH, json.dumps([kind, *arguments])], check=True)


def run(megabytes: int = 3072, cache: int = 1280) -> None:
    """Print rows a second, CPU time, memory, and how many times a shard is fetched, of each way.

    Args:
        megabytes: of the array, in MiB.
        cache: of shards, in MiB.
    """
    os.environ["PYTHONPATH"] = str(Path.cwd())
    for kind in get_args(Kind):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            write_array(kind, megabytes)
            server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            epoch("memory map, all rows at random", kind, "rows", None, None, 0)
            epoch("memory map, by shards", kind, "shards", None, None, 0)
            epoch(f"server, a cache of {cache} MiB", kind, "shards", address, "cache", cache << 20)
            server.shutdown()


if __name__ == "__main__":
    auto_cli(run)
