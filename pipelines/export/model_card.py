"""The documents of an export: inputs.json, vocabulary.json, example.py and README.md, the model card.

The card has the sections of Hugging Face (Mitchell et al. 2019, Model cards for model reporting). Its content
is that of the bundle, and the scores and the source of its data if they are here.
"""

import math
from pathlib import Path
from typing import Any

import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipelines.parameters import SOURCES
from pipelines.report.scores import baselines_of
from src.bundle.bundle import Bundle
from src.bundle.exportable import Exportable
from src.core.digests import file_digest
from src.core.documents import read_json, write_json
from src.core.paths import HISTORY, MANIFEST, PREPARED, RAW, REPORTS, SOURCE
from src.core.scores import chosen_by
from src.reporting.history import best_row, read_history

TEMPLATES = Path(__file__).parent
ROUNDING = 1e-4  # metrics.json keeps six digits


def write_documents(exportable: Exportable, bundle: Bundle, folder: Path) -> None:
    """Write the documents of an export.

    Args:
        exportable: the exported model.
        bundle: of the trained model.
        folder: of the export, with the programs in it.
    """
    programs = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    write_json(folder / "inputs.json", exportable.description, sort_keys=False)
    if exportable.vocabulary is not None:
        write_json(folder / "vocabulary.json", exportable.vocabulary)
    templates = Environment(
        loader=FileSystemLoader([TEMPLATES, *SOURCES.glob("*/export_templates")]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    known: dict[str, Any] = {"name": bundle.name, "inputs": exportable.description, "exportable": exportable}
    example = templates.get_template(f"{exportable.kind}.py.jinja").render(known)
    (folder / "example.py").write_text(example, encoding="utf-8")
    configuration, manifest = bundle.configuration, bundle.manifest
    rows = read_history(bundle.folder / HISTORY)
    monitor, mode = chosen_by(configuration, rows[0])
    best = rows[-1] if monitor is None else best_row(rows, monitor, mode)
    known |= {
        "example": example,
        "configuration": configuration,
        "model": yaml.safe_dump(configuration["model"], allow_unicode=True).rstrip(),
        "manifest": manifest,
        "best": best,
        "monitor": monitor,
        "mode": mode,
        "scores": _scores(bundle.name, best),
        "source": _source(bundle.task, manifest),
        "programs": programs,
        "torch": torch.__version__,
        "summary": (bundle.folder / "summary.txt").read_text(encoding="utf-8").rstrip(),
    }
    card = templates.get_template(f"{exportable.kind}.md.jinja").render(known)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _scores(model: str, best: dict[str, float]) -> dict[str, dict[str, float]]:
    """Metrics by name: the value of the model and of each baseline; empty if they are of another training."""
    path = REPORTS / model / "metrics.json"
    if not path.is_file():
        return {}
    metrics: dict[str, float] = read_json(path, f"evaluate@{model}")
    shared = [name for name in best if name.startswith("validation/") and name in metrics]
    if not all(math.isclose(best[name], metrics[name], rel_tol=ROUNDING) for name in shared):
        return {}
    scores: dict[str, dict[str, float]] = {}
    for name in metrics:
        if name.startswith("test/"):
            metric = name.removeprefix("test/")
            scores[metric] = {"model": metrics[name]}
            scores[metric] |= baselines_of(metrics, metric)
    return scores


def _source(task: str, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Source and files of the raw data, if the prepared data here are those of the training."""
    path, prepared = RAW / task / SOURCE, PREPARED / task / MANIFEST
    if not (path.is_file() and prepared.is_file()) or file_digest(prepared) != manifest["prepared"]:
        return None
    source = read_json(path, f"fetch@{task}")
    # without the path on this machine
    return {"name": Path(source["source"]).name, "files": source["files"]}
