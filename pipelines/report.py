"""One Markdown table of all tasks' metrics: report.md, the last stage of the pipeline."""

import json
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from src.shared.errors import ConfigurationError, exit_with_message
from src.shared.folders import RAW, REPORTS
from src.shared.parameters import read_parameters

REPORT = Path("report.md")


def report() -> None:
    """Write report.md from the metrics of every task in params.yaml and the tables of every study."""
    lines = [
        "# Results",
        "",
        "| task | data | metric | model | best baseline |",
        "|---|---|---|---|---|",
    ]
    for task in read_parameters()["tasks"]:
        path = REPORTS / task / "metrics.json"
        metrics = _read(path, f"evaluate@{task}")
        source = _read(RAW / task / "SOURCE.json", f"fetch@{task}")["source"]
        lines += _rows(task, source, metrics)
    for study in read_parameters().get("studies") or {}:
        path = REPORTS / "studies" / study / "tables" / "cells.md"
        if not path.is_file():
            raise ConfigurationError(f"{path} is not here; run: dvc repro study@{study}")
        lines += ["", f"#{path.read_text(encoding='utf-8').rstrip()}"]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"the table of all tasks: {REPORT}")


def _read(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(f"{path} is not here; run: dvc repro {stage}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _rows(task: str, source: str, metrics: dict[str, float]) -> list[str]:
    """A row for each test metric, with the baseline that comes closest to the model's answer's aim."""
    rows = []
    for name in sorted(name for name in metrics if name.startswith("test/")):
        metric = name.removeprefix("test/")
        baselines = {
            key.split("/")[1]: value
            for key, value in metrics.items()
            if key.startswith("baseline/") and key.endswith(f"/{metric}")
        }
        best = ""
        if baselines:
            choose = max if metric in {"r2", "accuracy", "precision", "recall", "f1"} else min
            winner = choose(baselines, key=lambda key: baselines[key])
            best = f"{baselines[winner]:.5g} ({winner})"
        rows.append(f"| {task} | {source} | {metric} | {metrics[name]:.5g} | {best} |")
    return rows


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(report, as_positional=True))
