"""Random kills of a pipeline change no result: a small campaign of benchmarks.kills."""

import re
from pathlib import Path

from tests.conftest import TASKS, Run


def test_kills_at_random_change_no_result(clones: tuple[Path, Path], python: Run) -> None:
    options = ("--kills=2", "--seed=3", f"--tasks=[{[*TASKS][-1]}]", "--seconds=5")
    output = python("-m", "benchmarks.kills", *options, cwd=clones[1]).stdout
    counts = dict(re.findall(r"^([a-z -]+): (\d+)$", output, re.MULTILINE))
    assert int(counts["kills"]) >= 2, output
    for name in ("differing results", "half-written outputs", "failures"):
        assert counts[name] == "0", output
