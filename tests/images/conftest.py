from pathlib import Path

import pytest

from src.images.prepare import Preparation, prepare
from tests.support import write_pictures


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `marks` in the current folder: 60 grey images of two classes, 12 x 12."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("raw"), ["cross", "circle"], 60, 12, 12)
    prepare(Path("raw"), Path("data/prepared/marks"), Preparation(train="."))
