"""Delete a kind of data from a copy of the project: its package, tests, tasks, studies and samples."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def copy_project(root: Path, folder: Path) -> Path:
    """Copy the files of the project that git knows or would add, without dvc.lock."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(listed.split("\0")) - {"", "dvc.lock"}):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    return folder


def delete_kind(project: Path, kind: str) -> None:
    """Delete src/<kind>, everything about its tasks, and the tests that import it."""
    parameters = _read(project / "params.yaml")
    tasks = {task for task, its_kind in parameters["tasks"].items() if its_kind == kind}
    kept = {name: section for name, section in parameters.items() if name not in tasks}
    kept["tasks"] = {task: kind for task, kind in parameters["tasks"].items() if task not in tasks}
    configs = {path.stem: path for path in (project / "configs").glob("*.yaml")}
    models = {name for name, path in configs.items() if _read(path)["task"] in tasks}
    kept["models"] = {name: data for name, data in parameters["models"].items() if name not in models}
    for name in ("studies", "more_studies"):
        kept[name] = {title: study for title, study in kept[name].items() if study["task"] not in tasks}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    (project / "params.yaml").write_text(text, encoding="utf-8")
    for model in models:
        configs[model].unlink()
        shutil.rmtree(project / "reports" / model, ignore_errors=True)
    for task in tasks:
        shutil.rmtree(project / "data/samples" / task, ignore_errors=True)
        (project / f"data/samples/{task}.yaml").unlink(missing_ok=True)
    for folder in ("src", "tests"):
        shutil.rmtree(project / folder / kind)
    for path in (project / "tests").rglob("*.py"):
        if any(name.split(".")[:2] == ["src", kind] for name in _imports(path)):
            path.unlink()


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
