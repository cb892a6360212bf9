"""A small campaign of benchmarks.kills: random kills of a pipeline change no result."""

import re
from concurrent.futures import Future

import pytest


@pytest.mark.usefixtures("clones")
def test_kills_at_random_change_no_result(campaign: Future[str]) -> None:
    said = campaign.result()
    counts = dict(re.findall(r"^([a-z -]+): (\d+)$", said, re.MULTILINE))
    assert int(counts["kills"]) >= 3, said
    for name in ("differing results", "half-written outputs", "failures"):
        assert counts[name] == "0", said
