"""The page over all bundles: what it refuses, and what a person sees in a real browser."""

import csv
import importlib.util
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from pipelines.serve.serve import launch, main, page, serve
from src.bundle.predict import predict
from src.core.errors import ConfigurationError, IntegrityError, ResourceError, exit_with_message

LOOPBACK = "127.0.0.1"
SHOWN = ("house_prices", "digits", "poems", "words")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The variables that serving sets, put back."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_other_machines_need_to_be_asked_for(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", "--address", address])
    with pytest.raises(SystemExit) as stopped:
        exit_with_message(main)
    assert stopped.value.code == 2
    assert f"error: other machines can reach {address}; add --public" in capsys.readouterr().err


ALLOWED = [["--address", "localhost"], ["--address", "::1"], ["--address", "192.0.2.1", "--public"]]


@pytest.mark.parametrize("arguments", ALLOWED)
def test_loopback_and_what_is_asked_for_are_no_matter(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", *arguments, "--bundles", str(tmp_path)])
    with pytest.raises(ConfigurationError, match="contains no bundle"):
        main()


def test_a_missing_gradio_is_told_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/manifest.json").touch()
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigurationError, match="make serve"):
        page(tmp_path)


# --------------------------------------------------------------------------------- in a real browser


@pytest.fixture
def bundles(finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four bundles."""
    if importlib.util.find_spec("gradio") is None:  # importing it is the page's business
        pytest.skip("gradio is not installed: make serve")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    project = finished(*SHOWN)
    for task in SHOWN:
        shutil.copytree(project / "models" / task, tmp_path / "bundles" / task)
    return tmp_path / "bundles"


def test_a_damaged_bundle_is_told(bundles: Path) -> None:
    path = bundles / "digits/model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=r"digits/model\.safetensors: sha256"):
        page(bundles)


def test_a_port_that_is_taken_is_told(bundles: Path) -> None:
    for task in SHOWN[1:]:
        shutil.rmtree(bundles / task)
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"{LOOPBACK}:{port}: .*choose another --port"):
            serve(bundles, port)


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The hosts that this process looks up or connects to."""
    hosts: set[str] = set()
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            hosts.add(str(address[0]))
        return connect(self, address)

    def looking_up(host: Any, *arguments: Any, **named: Any) -> Any:
        hosts.add(str(host))
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    return hosts


@pytest.fixture
def address(bundles: Path, reached: set[str]) -> Iterator[str]:
    """Where the page of the bundles is."""
    blocks = page(bundles)
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    launch(blocks, LOOPBACK, port)
    yield f"http://{LOOPBACK}:{port}/"
    blocks.close()


class Visitor:
    """Chromium on the page; what it complains about, and the hosts that it asks."""

    def __init__(self, browser: Any, address: str) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.tab = browser.new_page(viewport={"width": 1400, "height": 900})
        self.tab.set_default_timeout(15_000)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.tab.on("request", lambda request: self.hosts.add(request.url.split("/")[2].split(":")[0]))
        self.tab.goto(address)

    def field(self, label: str) -> Any:
        return self.tab.get_by_label(label).locator("visible=true")

    def answer(self, task: str, pattern: str, **fields: Any) -> str:
        """Fill fields in, ask, and wait for an answer of a pattern."""
        from playwright.sync_api import expect

        self.tab.get_by_role("tab", name=task).click()
        for label, value in fields.items():
            self.field(label).first.fill(value)
        self.tab.get_by_role("button", name="Predict").locator("visible=true").click()
        expect(self.field("Answer")).to_have_value(re.compile(pattern))
        return self.field("Answer").input_value()


@pytest.fixture
def visitor(address: str) -> Iterator[Visitor]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium)
        yield Visitor(browser, address)
        browser.close()


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gradio's own use of pandas
def test_the_page_answers_as_predict_does_and_asks_no_other_machine(
    visitor: Visitor, reached: set[str], bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learnt = json.loads((bundles / "house_prices/preprocessing.json").read_text(encoding="utf-8"))
    row = {column["name"]: column["typical"] for column in learnt["columns"]}
    row = {name: "NA" if value is None else value for name, value in row.items()}
    with Path("house.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Id", *row], ["1", *(row | {"LotArea": 12345.5}).values()]])
    predict(["--bundle", str(bundles / "house_prices"), "--data.input", "house.csv"])
    (_, price), *_ = csv.reader(Path("predictions/house_prices.csv").read_text().splitlines()[1:])
    label = learnt["labels"]["LotArea"]["en"]
    typical = visitor.answer("house_prices", r"^SalePrice: \d")
    assert visitor.answer("house_prices", f"^SalePrice: {re.escape(price)}$", **{label: "12345.5"}) != typical

    predict(["--bundle", str(bundles / "poems"), "--data.compose.start", "春", "--data.compose.count", "2"])
    poems = Path("predictions/poems.txt").read_text(encoding="utf-8").strip()
    assert visitor.answer("poems", "^春", **{"First character": "春", "Poems": "2"}) == poems
    told = visitor.answer("poems", "^error", **{"First character": "春天"})
    assert told.startswith("error: compose.start must be one character, found 2: 春天")

    assert visitor.answer("words", r"^学习: \S+ -?0\.\d{4} ", **{"Words, with spaces between them": "学习"})
    told = visitor.answer("words", "^error", **{"Words, with spaces between them": "龘"})
    assert told.endswith("not in the vocabulary: 龘")

    assert visitor.answer("digits", "^error") == "error: there is no picture: drop a file, or draw"
    Image.new("L", (20, 30), 128).save("grey.png")
    predict(["--bundle", str(bundles / "digits"), "--data.input", "grey.png", "--data.output", "grey.csv"])
    code = Path("grey.csv").read_text().splitlines()[1].split(",")[1]
    upload = visitor.tab.locator("input[type=file]").first
    upload.set_input_files("grey.png")
    visitor.tab.get_by_text("grey").first.wait_for()
    assert visitor.answer("digits", rf"^{code}: [01]\.\d+\n").count("\n") == 2

    assert visitor.complaints == []
    assert visitor.hosts == {LOOPBACK}
    assert reached <= {LOOPBACK, "localhost"}
