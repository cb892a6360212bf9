"""The places that every part of the pipeline agrees on, relative to the project folder."""

from pathlib import Path

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SAMPLES = Path("data/samples")
MODELS = Path("models")
REPORTS = Path("reports")
RUNS = Path("runs")
LOCK = Path("requirements.lock")
RECORD = "run.json"  # of a training, in its folder below runs/
SOURCE = "SOURCE.json"  # where the raw files of a task come from, beside them
MANIFEST = "manifest.json"  # what a folder of prepared data or a bundle holds
