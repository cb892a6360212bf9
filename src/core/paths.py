"""Paths of the project, relative to its root folder."""

from pathlib import Path

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SAMPLES = Path("data/samples")
MODELS = Path("models")
REPORTS = Path("reports")
RUNS = Path("runs")
PREDICTIONS = Path("predictions")  # of `predict` without --data.output
PARAMETERS = Path("params.yaml")
LOCK = Path("requirements.lock")
RECORD = "run.json"  # the record of a training, in its folder below runs/
REPORT_FILES = ("metrics.json", "plots", "tables")  # of a task or study
SOURCE = "SOURCE.json"  # the origin of the raw files of a task, in their folder
MANIFEST = "manifest.json"  # the files of a folder of prepared data or of a bundle
