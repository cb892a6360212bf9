"""The documentation names links, modules and commands that exist, and the site builds."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
KINDS = ("descent", "images", "tabular", "text")
BENCHMARKS = (ROOT / "benchmarks").is_dir() and all((ROOT / "src" / kind).is_dir() for kind in KINDS)
ELSEWHERE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_modules_of_a_page_exist(page: Path) -> None:
    text = TEXTS[page.name]
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith(("http://", "https://")) or (page.parent / target).exists(), target
    for name in re.findall(r"python -m ((?:src|pipelines|benchmarks)[\w.]*\w)", text):
        if name.startswith("benchmarks.") and not BENCHMARKS:
            continue  # in a project that was made from this one, or after the removal of a kind of data
        module = Path(ROOT, *name.split("."))
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), name
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", text):
        assert f"\n{target}:" in makefile, target


def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    if find_spec("jieba"):  # the search segments Chinese text with it
        monkeypatch.setattr("jieba.dt.tmp_dir", str(tmp_path))
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
