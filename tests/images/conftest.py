from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.images.prepare import Preparation, prepare


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `marks` in the current folder: 60 grey images of two classes, 12 x 12."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (60, 12, 12), dtype=np.uint8)
    for number, value in enumerate(values):
        path = Path("raw", ("cross", "circle")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(value).save(path)
    prepare(Path("raw"), Path("data/prepared/marks"), Preparation(train="."))
