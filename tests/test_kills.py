"""Random kills of a pipeline change no result: a small campaign of benchmarks.kills."""

import re
from concurrent.futures import Future

import pytest


@pytest.mark.usefixtures("clones")
def test_kills_at_random_change_no_result(campaign: Future[str]) -> None:
    output = campaign.result()
    counts = dict(re.findall(r"^([a-z -]+): (\d+)$", output, re.MULTILINE))
    assert int(counts["kills"]) >= 2, output
    for name in ("differing results", "half-written outputs", "failures"):
        assert counts[name] == "0", output
