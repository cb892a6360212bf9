import json
import logging
import math
from pathlib import Path

import pytest

from src.reporting.metrics import write_metrics


def test_metrics_are_written_with_six_digits_in_the_order_of_their_names(tmp_path: Path) -> None:
    written = write_metrics({"test/rmse": 0.123456789, "test/loss": 3}, tmp_path)
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert text == '{\n "test/loss": 3.0,\n "test/rmse": 0.123457\n}\n'
    assert written == json.loads(text)


def test_metrics_that_are_not_finite_are_left_out_of_the_file_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = write_metrics({"test/r2": math.nan, "test/loss": math.inf, "test/mae": 1.0}, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == {"test/mae": 1.0}
    assert found["test/loss"] == math.inf
    assert math.isnan(found["test/r2"])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "not finite, so left out of metrics.json: test/loss inf, test/r2 nan"
