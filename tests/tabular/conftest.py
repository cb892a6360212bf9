from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.tabular.prepare import Preparation, prepare


@pytest.fixture
def houses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The prepared task `houses` in the current folder, and its raw rows."""
    monkeypatch.chdir(tmp_path)
    numbers = np.arange(100)
    table = pd.DataFrame(
        {
            "Id": [f"{number:03}" for number in numbers],
            "Area": numbers * 37 % 101 + 0.5,
            "Code": ["07", "7", "A"] * 33 + ["A"],
            "Kind": ["brick", "wood", None, "stone"] * 25,
            "Price": 100.0 + numbers * 53 % 97,
        }
    )
    Path("raw").mkdir()
    table.to_csv("raw/train.csv", index=False, na_rep="NA")
    types: dict[str, Any] = {"Code": "categorical"}
    settings = Preparation(target="Price", id="Id", column_types=types, target_transform="standardize")
    prepare(Path("raw"), Path("data/prepared/houses"), settings)
    return table
