"""Time and peak memory of predicting a large table against pandas.read_csv and a bare forward pass.

    python -m benchmarks.predict [--rows 1000000] [--source FOLDER]

The table is the rows without a price over and over, with Ids of their own; each way runs in its own process,
and imports count. The bundle is models/house_prices: dvc repro train@house_prices.
"""

import tempfile
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.timing import measured, write_sample

BARE = """
import pandas, torch
from src.bundle.bundle import Bundle
rows = len(pandas.read_csv("rows.csv"))
model = Bundle.open(Path("bundle")).model
torch.set_num_threads({threads})
features = torch.zeros({at_once}, {features})
with torch.inference_mode():
    for done in range(0, rows, len(features)):
        model(features[: rows - done])
"""
PREDICT = """
import sys
from src.cli import main
sys.argv = "src.cli predict --bundle bundle --data.input rows.csv".split()
main()
"""


def compare(rows: int = 1_000_000, source: Path = Path("data/raw/house_prices")) -> None:
    """Print time and peak memory of both, and the ratios.

    Args:
        rows: of the generated CSV.
        source: the folder with the house prices' test.csv.
    """
    from src.bundle.bundle import Bundle
    from src.core.paths import MODELS
    from src.tabular.predict import ROWS_AT_ONCE

    bundle = Bundle.open(MODELS / "house_prices")
    bare = "from pathlib import Path\n" + BARE.format(
        threads=bundle.configuration["threads"],
        at_once=ROWS_AT_ONCE,
        features=len(bundle.preprocessing.features),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle").symlink_to(bundle.folder.absolute())
        size = write_sample(folder / "rows.csv", rows, source / "test.csv")
        print(f"{rows:,} rows, {size / 1e6:.0f} MB")
        by_hand = measured(bare, folder)
        predicted = measured(PREDICT, folder)
    for label, one in {"read_csv and forward pass": by_hand, "predict": predicted}.items():
        print(f"{label:26} {one.cpu:6.1f} s CPU  {one.seconds:6.1f} s  peak {one.peak:6.0f} MiB")
    print(
        f"predict needs {predicted.seconds / by_hand.seconds:.2f} times the time, "
        f"{predicted.cpu / by_hand.cpu:.2f} times the processor time"
    )


if __name__ == "__main__":
    auto_cli(compare)
