"""Delete a kind of data from a copy of the project: its package, tests, tasks, studies and samples."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

PARAMETERS = "params.yaml"


def copy_project(root: Path, folder: Path) -> Path:
    """Copy the files of the project that git knows or would add, without results and dvc.lock."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(listed.split("\0")) - {"", "dvc.lock"}):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    return folder


def delete_kind(project: Path, kind: str) -> None:
    """Delete src/<kind>, everything about its tasks, and the tests that import it."""
    parameters = yaml.safe_load((project / PARAMETERS).read_text(encoding="utf-8"))
    gone = {task for task, of in parameters["tasks"].items() if of == kind}
    parameters = {name: section for name, section in parameters.items() if name not in gone}
    parameters["tasks"] = {task: of for task, of in parameters["tasks"].items() if task not in gone}
    for name in ("studies", "more_studies"):
        studies = parameters[name]
        parameters[name] = {title: study for title, study in studies.items() if study["task"] not in gone}
    text = yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True)
    (project / PARAMETERS).write_text(text, encoding="utf-8")

    for path in (project / "configs").glob("*.yaml"):
        if yaml.safe_load(path.read_text(encoding="utf-8"))["task"] in gone:
            path.unlink()
    for task in gone:
        for path in (*(project / "data/samples").glob(f"{task}*"), project / "reports" / task):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in ("src", "tests"):
        shutil.rmtree(project / folder / kind, ignore_errors=True)
    for path in (project / "tests").rglob("*.py"):
        if any(name.split(".")[:2] == ["src", kind] for name in _imported(path)):
            path.unlink()


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
