import io
import sys

import pytest

from src.bundle.progress import prediction_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "shown"), [(4, "3/4"), (None, "3/?")])
def test_predictions_are_counted_on_a_terminal(
    total: int | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    with prediction_progress(total) as advance:
        advance(1)
        advance(2)
    assert shown in sys.stderr.getvalue()


def test_nothing_is_drawn_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with prediction_progress(2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")
