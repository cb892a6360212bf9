"""What the documentation says is there: files and lines, commands, links; and the site builds.

`python tests/test_docs.py` puts the references to lines right after the code has moved.
"""

import re
from pathlib import Path

import jieba
import pytest
import yaml

ROOT = Path(__file__).parents[1]
COURSE = ROOT / "docs/course.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDIES = {**PARAMETERS["studies"], **PARAMETERS["more_studies"]}
REFERENCE = re.compile(r"^\| `(?P<operation>[^`]+)` \| `(?P<path>[\w./]+):(?P<line>\d+)` \|", re.MULTILINE)

ELSEWHERE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")


def mended(text: str) -> str:
    """The text with each reference at the nearest line that holds its operation."""

    def mend(reference: re.Match[str]) -> str:
        operation, path, line = reference.group("operation", "path", "line")
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        found = [number for number, code in enumerate(lines, start=1) if operation in code]
        assert found, f"{path} no longer holds `{operation}`"
        nearest = min(found, key=lambda number: abs(number - int(line)))
        return f"| `{operation}` | `{path}:{nearest}` |"

    return REFERENCE.sub(mend, text)


def test_each_operation_of_the_course_stands_in_the_line_that_is_named() -> None:
    text = COURSE.read_text(encoding="utf-8")
    assert len(REFERENCE.findall(text)) > 80
    assert text == mended(text), "lines have moved; run: python tests/test_docs.py"


def test_a_moved_line_is_found_and_a_missing_operation_is_told() -> None:
    line = "| `class Batches` | `src/training/loading.py:{}` | |"
    right = (ROOT / "src/training/loading.py").read_text(encoding="utf-8").splitlines().index(
        "class Batches:"
    ) + 1
    assert mended(line.format(1)) == line.format(right)
    with pytest.raises(AssertionError, match="no longer holds `class Nothing`"):
        mended(line.format(1).replace("Batches", "Nothing"))


@pytest.mark.parametrize("page", ["course", "comparison"])
def test_commands_name_tasks_studies_and_configurations_that_there_are(page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    targets = re.findall(r"(\w+)@(\w+)", text)
    assert targets
    for stage, name in targets:
        assert name in (PARAMETERS["studies"] if stage == "study" else PARAMETERS["tasks"]), name
        assert stage in stages, stage
    for name in re.findall(r"-m pipelines\.study (\w+)", text):
        assert name in STUDIES, name
    for name in re.findall(r"-m pipelines\.compare (\w+)", text):
        assert name in STUDIES or name in PARAMETERS["tasks"], name
    for path in re.findall(r"configs/\w+\.yaml", text):
        assert (ROOT / path).is_file(), path


def test_the_course_names_every_task_and_study() -> None:
    text = COURSE.read_text(encoding="utf-8")
    missing = [name for name in (*PARAMETERS["tasks"], *STUDIES) if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_modules_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith(("http://", "https://")) or (page.parent / target).exists(), target
    for module in re.findall(r"python -m ((?:src|pipelines|benchmarks)[\w.]*\w)", text):
        assert Path(ROOT, *module.split(".")).with_suffix(".py").is_file(), module
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", text):
        assert f"\n{target}:" in makefile, target


def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.setattr(jieba.dt, "tmp_dir", str(tmp_path))  # the search cuts Chinese text
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    pages = sorted(tmp_path.glob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not ELSEWHERE.findall(html), page.name


if __name__ == "__main__":
    COURSE.write_text(mended(COURSE.read_text(encoding="utf-8")), encoding="utf-8")
