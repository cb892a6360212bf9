"""The page of a clone in which the pipeline has run, in headless Chromium."""

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from pipelines.report.captions import pictures_of
from pipelines.report.report import REPORT, report

MEGABYTE = 10**6
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

# Every piece of text with its contrast ratio (WCAG 2.2, 1.4.3), where it is lower than it should be.
LOW_CONTRAST = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = colour => {
    const [r, g, b] = channels(colour).map(value => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour).length === 3) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  document.querySelectorAll("details").forEach(details => details.open = true);
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const lights = [luminance(style.color), luminance(paper(element))].sort((a, b) => b - a);
    const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
    found.set(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`, [ratio, large ? 3 : 4.5]);
  }
  return [found.size, [...found].filter(([, [ratio, least]]) => ratio < least).map(([text]) => text)];
}"""


@pytest.fixture(scope="module")
def html(first_clone: Path) -> Path:
    """The page that the pipeline has written."""
    return first_clone / REPORT


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or another one that is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Browser, html: Path) -> Iterator[Callable[..., Page]]:
    """Open the page in a tab, which is closed after the test."""
    tabs: list[Page] = []

    def open_page(**options: Any) -> Page:
        tabs.append(browser.new_page(**({"viewport": DESKTOP} | options)))
        tabs[-1].goto(html.as_uri())
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.close()


def test_the_page_is_small_and_quickly_written(
    first_clone: Path, html: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert html.stat().st_size < 6 * MEGABYTE
    before = html.read_bytes()
    monkeypatch.chdir(first_clone)
    start = time.process_time()
    report()
    assert time.process_time() - start < 15
    assert html.read_bytes() == before


def test_nothing_is_asked_for_and_nothing_is_wrong(browser: Browser, html: Path) -> None:
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(html.as_uri())
    assert said == []
    assert [address for address in asked if not address.startswith("data:")] == [html.as_uri()]
    page.close()


def test_every_task_study_and_picture_is_there(opened: Callable[..., Page], first_clone: Path) -> None:
    parameters = yaml.safe_load((first_clone / "params.yaml").read_text(encoding="utf-8"))
    tasks, studies = parameters["tasks"], parameters["studies"]
    models = {name: tasks[Path(data).name] for name, data in parameters["models"].items()}
    kinds = {**models, **{name: tasks[study["task"]] for name, study in studies.items()}}
    sections = [*(f"model-{model}" for model in models), *(f"study-{study}" for study in studies)]
    page = opened()
    found = page.locator("article").evaluate_all("all => all.map(one => one.ariaLabelledByElements[0].id)")
    assert found == sections
    for section in sections:
        kind, _, name = section.partition("-")
        folder = first_clone / "reports" / ("studies" if kind == "study" else "") / name / "plots"
        pictures = [path for path in folder.iterdir() if path.suffix in (".png", ".svg")]
        assert {path.stem for path in pictures} <= set(pictures_of(kinds[name]))
        images = page.locator(f"article[aria-labelledby='{section}'] img")
        assert images.count() == len(pictures) > 0
        loaded = images.evaluate_all(
            "all => all.map(one => [one.complete, one.naturalWidth > 1, one.alt.length > 40])"
        )
        assert loaded == [[True, True, True]] * len(pictures)
    assert page.locator("#overview").is_visible()
    assert page.locator(".overview tbody tr").count() == len(parameters["models"])
    assert page.locator(".poem .vertical").count() == 12
    assert page.locator(".poem .vertical").first.evaluate("one => one.clientHeight > one.clientWidth")


def test_the_structure_can_be_heard(opened: Callable[..., Page]) -> None:
    page = opened()
    assert page.locator("html").get_attribute("lang") == "en"
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1, landmark  # type: ignore[arg-type]
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(names) == len(set(names))
    targets = page.locator("a").evaluate_all("all => all.map(one => one.hash.slice(1))")
    assert set(map(str, targets)) <= set(names)
    assert page.locator("table:not(:has(caption)), th:not([scope])").count() == 0


def test_the_keyboard_goes_through_the_page_in_its_order(opened: Callable[..., Page]) -> None:
    page = opened()
    order = page.evaluate(
        "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')]"
        ".filter(one => one.checkVisibility()).map(one => one.outerHTML)"
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.locator(".skip").evaluate("one => one.getBoundingClientRect().left") >= 0
    for expected in order[1:40]:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.outerHTML") == expected
        assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    page.keyboard.press("Home")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out_at_the_side(opened: Callable[..., Page], width: int) -> None:
    page = opened(viewport={"width": width, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # what is wider than its place scrolls inside of it
    boxes = page.locator(".poem, figure, .scroll, pre, p, dl").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert min(left for left, _ in boxes) >= 0
    assert max(right for _, right in boxes) <= width
    poems = page.locator(".poem").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
    assert max(poems) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(opened: Callable[..., Page], scheme: Any) -> None:
    page = opened(color_scheme=scheme)
    pieces, low = page.evaluate(LOW_CONTRAST)
    assert pieces > 500
    assert low == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert dark == (scheme == "dark")


def test_print_is_black_on_white_without_the_contents(opened: Callable[..., Page]) -> None:
    page = opened(color_scheme="dark", viewport={"width": 700, "height": 1000})
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") == 700
