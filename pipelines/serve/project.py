"""The end of the page: stages of the registry, and what the project takes on the disk."""

from pathlib import Path

from rich.filesize import decimal

from pipelines.clean import disk_use, groups
from pipelines.promote import COLUMNS, stages
from src.core.errors import ConfigurationError


def project_text() -> str:
    """The stages of models, and the sizes of runs and caches, in Markdown; empty outside a project."""
    if not Path("dvc.yaml").is_file():
        return ""
    try:
        rows = stages()
    except ConfigurationError:  # no git repository
        rows = []
    sizes = {name: sum(those.values()) for name, those in groups(disk_use()).items()}
    used = ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items()) or "nothing"
    text = f"On the disk beside the results: {used}. What can be removed: `python -m pipelines.clean`."
    if rows:
        lines = (COLUMNS, ["---"] * len(COLUMNS), *rows)
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{text}"
    return text
