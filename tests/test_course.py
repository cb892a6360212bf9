"""The pages of this project name files, functions, tasks and results that exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXTS = {
    page.name: page.read_text(encoding="utf-8") for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
}
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDIES = {**(PARAMETERS.get("studies") or {}), **(PARAMETERS.get("more_studies") or {})}
KINDS = ("tabular", "images", "text", "descent")

REFERENCE = re.compile(r"^\| `([^`]+)` \| `([\w./]+)`(?:, `([\w.]+)`)? \|", re.MULTILINE)
PATH = re.compile(r"`((?:src|pipelines|tests|benchmarks|docs)/[\w/.]*\w(?:\.\w+|/))`")

# a project that has deleted a kind of data may keep pages that describe it
complete = pytest.mark.skipif(
    not all((ROOT / "src" / kind).is_dir() for kind in KINDS), reason="a built-in kind of data was deleted"
)


def source_of(path: Path, name: str) -> str:
    """The source of a function or class, of a method `Class.method`, or of a whole file if there is no name.

    Raises:
        KeyError: the module does not define it.
    """
    text = path.read_text(encoding="utf-8")
    if not name:
        return text
    node: Any = ast.parse(text)
    for part in name.split("."):
        nodes = (child for child in ast.walk(node) if isinstance(child, ast.FunctionDef | ast.ClassDef))
        node = {child.name: child for child in nodes if child is not node}[part]
    first = min(line.lineno for line in (node, *node.decorator_list))
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


@complete
def test_each_operation_of_the_course_is_in_the_function_that_is_named() -> None:
    references = REFERENCE.findall(TEXTS["course.md"])
    assert len(references) > 80
    wrong = [
        f"{operation} in {path}, {name}"
        for operation, path, name in references
        if not (ROOT / path).is_file() or operation not in source_of(ROOT / path, name)
    ]
    assert not wrong


@complete
@pytest.mark.parametrize("page", TEXTS)
def test_files_of_a_page_exist(page: str) -> None:
    missing = [path for path in PATH.findall(TEXTS[page]) if not (ROOT / path).exists()]
    assert not missing


@complete
@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "course.md", "comparison.md"])
def test_commands_name_tasks_studies_and_configurations_that_exist(page: str) -> None:
    text = TEXTS[page].replace("wine", "house_prices").replace("pictures", "digits").replace("mine", "line")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    named = {"study": "studies", "train": "models", "evaluate": "models"}
    targets = re.findall(rf"\b({'|'.join(stages)})@(\w+)", text)
    assert targets
    for stage, name in targets:
        assert name in PARAMETERS[named.get(stage, "tasks")], name
    for name in re.findall(r"-m pipelines\.study (\w+)", text):
        assert name in STUDIES, name
    for name in re.findall(r"-m pipelines\.compare (\w+)", text):
        assert name in {*STUDIES, *PARAMETERS["tasks"], *PARAMETERS["models"]}, name
    for path in re.findall(r"configs/\w+\.yaml", text):
        assert (ROOT / path).is_file(), path


def test_readmes_show_the_same_results_as_the_list_of_all_tasks() -> None:
    def results(page: str) -> list[list[str]]:
        rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \| (.+?) \| (.+?) \|$", TEXTS[page], re.MULTILINE)
        return [[row[0], *re.findall(r"[\d.]+", " ".join(row[1:3])), row[3]] for row in rows]

    listed = results("data.md")
    assert len(results("README.md")) == 6
    assert all(row in listed for row in results("README.md"))
    assert results("README.zh-CN.md") == results("README.md")
    assert len(TEXTS["README.md"].splitlines()) <= 150
