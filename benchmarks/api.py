"""Requests per second and latency of `pipelines.serve --api` on loopback, with one worker and with two.

    python -m benchmarks.api [--bundle models/house_prices] [--requests 500] [--clients 4]

Each client keeps its connection and sends one typical row after another. Clients and workers share the
machine's processors.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jsonargparse import auto_cli

HOST = "127.0.0.1"
LONGEST_START = 120  # seconds


def compare(bundle: Path = Path("models/house_prices"), requests: int = 500, clients: int = 4) -> None:
    """Print the numbers for one worker and for two.

    Args:
        bundle: of a table.
        requests: of each client.
        clients: that ask at the same time.
    """
    for workers in (1, 2):
        port = _free_port()
        command = [sys.executable, "-m", "pipelines.serve", "--api", "--bundles", str(bundle)]
        command += ["--port", str(port), "--workers", str(workers)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                body = _first_row(port, bundle.name)
                path = f"/predict/{bundle.name}"
                for count in (20, requests):  # the first of them warm the server up
                    start = time.perf_counter()
                    with ThreadPoolExecutor(clients) as pool:
                        asked = [pool.submit(_ask, port, path, body, count) for _ in range(clients)]
                    parts = [each.result() for each in asked]
                    seconds = time.perf_counter() - start
            finally:
                server.terminate()
        times = sorted(each for part in parts for each in part)
        median, p99 = statistics.median(times), times[int(0.99 * len(times))]
        print(
            f"{workers} workers, {clients} clients, {len(times):,} requests: "
            f"{len(times) / seconds:.0f} requests/s, median {1000 * median:.1f} ms, "
            f"p99 {1000 * p99:.1f} ms; {os.cpu_count()} processors"
        )


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _first_row(port: int, model: str) -> bytes:
    """Wait for the server; a request with the row that the service gives as its example."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            connection.request("GET", "/openapi.json")
            post = json.loads(connection.getresponse().read())["paths"][f"/predict/{model}"]["post"]
        except ConnectionError:
            time.sleep(0.1)
            continue
        finally:
            connection.close()
        schema = post["requestBody"]["content"]["application/json"]["schema"]
        (key,) = schema["required"]
        row = schema["properties"][key]["items"]["example"]
        return json.dumps({key: [row]}).encode()
    raise SystemExit(f"the service did not start within {LONGEST_START} s")


def _ask(port: int, path: str, body: bytes, count: int) -> list[float]:
    """The seconds of requests on one connection."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    found = []
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", path, body)
        answer = connection.getresponse()
        content = answer.read()
        found.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {content.decode()}")
    connection.close()
    return found


if __name__ == "__main__":
    auto_cli(compare)
