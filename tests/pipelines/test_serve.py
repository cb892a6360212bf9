"""The page over all bundles: what it refuses, and what a person sees in a real browser."""

import asyncio
import csv
import http.client
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

from pipelines.serve.guard import MEGABYTE, Guard
from pipelines.serve.serve import bundle_folders, launch, main, page, serve
from src.bundle.predict import predict
from src.core.errors import ConfigurationError, DataError, IntegrityError, ResourceError, exit_with_message
from src.core.paths import MODELS
from tests.conftest import TASKS

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


def status_of(path: str = "/", local: bool = True, **headers: str) -> int | None:
    """The status with which the guard refuses a request; None if it lets it pass."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    problem = Guard(None, local).problem({"path": path, "headers": pairs})
    return problem and problem[0]


@pytest.mark.parametrize("host", ["localhost:7860", "LOCALHOST", "127.0.0.1:7860", "127.3.2.1", "[::1]:7860"])
def test_the_page_answers_under_names_of_this_machine(host: str) -> None:
    assert status_of(host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "192.0.2.1", "", "[", "localhost.evil.example"]
)
def test_the_page_answers_under_no_other_name_unless_it_is_public(host: str) -> None:
    assert status_of(host=host) == 421
    assert status_of(host=host, local=False) is None


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/gradio_api/queue/join", "1000000", None),
        ("/gradio_api/queue/join", "2000000", 413),
        ("/gradio_api/upload", "2000000", None),
        ("/gradio_api/upload", "40000000", 413),
        ("/gradio_api/upload", "-1", 413),
        ("/gradio_api/upload", "9" * 5000, 413),
    ],
)
def test_requests_are_bounded(path: str, length: str, status: int | None) -> None:
    assert status_of(path, host="localhost", content_length=length) == status
    assert status_of(path, host="localhost", transfer_encoding="chunked") == 411


def test_the_uploads_that_are_kept_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.png", "a/2.png"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(510 * MEGABYTE)  # without blocks on the disk
    guard = Guard(None, local=False, uploads=tmp_path)

    def refused(path: str, megabytes: int) -> bool:
        length = str(megabytes * MEGABYTE).encode()
        found = guard.problem({"path": path, "headers": [(b"content-length", length)]})
        return found == (507, "The uploads take 1024 MB; they are deleted after an hour.")

    assert not refused("/gradio_api/upload", 4)
    assert refused("/gradio_api/upload", 5)
    assert not refused("/gradio_api/queue/join", 1)
    (tmp_path / "a/2.png").unlink()
    assert not refused("/gradio_api/upload", 30)


@pytest.mark.parametrize("scheme", ["http", "websocket", "lifespan"])
def test_refused_requests_do_not_reach_the_application(scheme: str) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def app(*arguments: Any) -> None:
        sent.append({"type": "answered"})

    scope = {"type": scheme, "path": "/", "headers": [(b"host", b"evil.example")]}
    asyncio.run(Guard(app, local=True)(scope, None, send))
    first = {"http": "http.response.start", "websocket": "websocket.close", "lifespan": "answered"}
    assert sent[0]["type"] == first[scheme]


def test_tabs_are_in_the_order_of_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alone", "line", "words", "house_prices"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in bundle_folders(Path("models"))] == [
        "alone",
        "house_prices",
        "line",
        "words",
    ]
    Path("params.yaml").write_text("tasks: {}\nmodels: {words: a, line: b, house_prices: c}")
    assert [path.name for path in bundle_folders(Path("models"))] == [
        "words",
        "line",
        "house_prices",
        "alone",
    ]


def test_every_answer_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed: make serve")
    from pipelines.serve.forms import answered

    def refuse(*values: Any) -> str:
        raise DataError("no words given")

    assert answered(lambda text: text, "x") == "x"
    assert answered(lambda text: text, "x" * 2001) == "error: a text may have at most 2,000 characters"
    assert answered(refuse, "x") == "error: no words given"
    assert answered(lambda count: "x" * count, None).startswith(
        "error: the model cannot answer this (TypeError)"
    )
    assert "a request failed" in caplog.text


# --------------------------------------------------------------------------------- in a real browser


@pytest.fixture
def bundles(finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four bundles."""
    if importlib.util.find_spec("gradio") is None:  # importing it is the page's business
        pytest.skip("gradio is not installed: make serve")
    if missing := {*SHOWN} - {*TASKS}:
        pytest.skip(f"params.yaml has no task {min(missing)}")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    project = finished(*SHOWN)
    for task in SHOWN:
        shutil.copytree(project / "models" / task, tmp_path / "bundles" / task)
    return tmp_path / "bundles"


def test_a_damaged_bundle_is_left_out_and_told(bundles: Path) -> None:
    path = bundles / "digits/model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    blocks = page(bundles)
    shown = [block for block in blocks.blocks.values() if getattr(block, "label", "") == "digits: not loaded"]
    assert "digits/model.safetensors: sha256" in shown[0].value  # type: ignore[union-attr]
    for task in SHOWN:
        (bundles / task / "config.yaml").unlink()
    with pytest.raises(IntegrityError, match="no such file"):
        page(bundles)


def test_the_page_of_the_project_ends_with_the_use_of_the_disk(
    bundles: Path, finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished("digits"))
    for folder, number in ((MODELS, 1), (bundles, 0)):
        values = [str(getattr(block, "value", "")) for block in page(folder).blocks.values()]
        assert sum("On the disk beside the results: runs " in value for value in values) == number


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


def ask(port: int, session: str, number: int, values: list[Any]) -> bytes:
    """What a browser's tab sends when a button is pressed, and the answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    question = json.dumps({"data": values, "fn_index": number, "session_hash": session})
    connection.request("POST", "/gradio_api/queue/join", question, {"Content-Type": "application/json"})
    connection.getresponse().read()
    connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
    answer = connection.getresponse().read()
    connection.close()
    return answer


def test_the_state_of_a_bounded_number_of_sessions_is_kept(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.serve.serve.SESSIONS", 2)
    for task in SHOWN[:-1]:
        shutil.rmtree(bundles / task)
    blocks = page(bundles)
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    launch(blocks, LOOPBACK, port)
    try:
        (button,) = blocks.config["dependencies"]
        inputs = [blocks.blocks[number] for number in button["inputs"]]
        for session in "abcde":
            answer = ask(port, session, button["id"], [getattr(each, "value", None) for each in inputs])
            assert b"process_completed" in answer
        assert list(blocks.state_holder.session_data) == ["d", "e"]
    finally:
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
    told = visitor.answer("words", "missing$", **{"Neighbours of each": ""})
    assert told == "error: Neighbours of each: a number is missing"

    assert visitor.answer("digits", "^error") == "error: there is no picture: drop a file, or draw"
    Image.new("L", (20, 30), 128).save("grey.png")
    predict(["--bundle", str(bundles / "digits"), "--data.input", "grey.png", "--data.output", "grey.csv"])
    code = Path("grey.csv").read_text().splitlines()[1].split(",")[1]
    upload = visitor.tab.locator("input[type=file]").first
    upload.set_input_files("grey.png")
    visitor.tab.get_by_text("grey").first.wait_for()
    assert visitor.answer("digits", rf"^{code}: [01]\.\d+\n").count("\n") == 2

    connection = http.client.HTTPConnection(visitor.tab.url.split("/")[2])
    connection.request("GET", "/", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 421
    connection.close()

    assert visitor.complaints == []
    assert visitor.hosts == {LOOPBACK}
    assert reached <= {LOOPBACK, "localhost"}
