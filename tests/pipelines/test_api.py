"""The service with JSON: the answers are those of `predict`, and every refusal is one line of JSON."""

import base64
import http.client
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from pipelines.serve.serve import serve
from src.core.errors import ConfigurationError, IntegrityError, ResourceError
from tests.support import cli

TASKS = ("house_prices", "digits", "poems", "words", "reviews", "spiral", "bowl")
pytestmark = [
    pytest.mark.usefixtures("settings_of_the_process"),
    pytest.mark.tasks(*TASKS),
    pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="not installed: make serve"),
]


@pytest.fixture(scope="module")
def bundles(finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for task in TASKS:
        shutil.copytree(finished(*TASKS) / "models" / task, folder / task)
    return folder


@pytest.fixture(scope="module")
def client(bundles: Path) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from pipelines.serve.api import application

    with TestClient(
        application(bundles), base_url="http://localhost", raise_server_exceptions=False
    ) as found:
        yield found


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def predicted(bundle: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that the command `predict` writes."""
    assert cli("predict", "--bundle", str(bundle), *options, "--data.output", "out.csv") == 0
    return pd.read_csv("out.csv", dtype={"Id": str, "ImageId": str, "Label": str, "arm": str}).to_dict(
        "records"
    )


def test_rows_and_files_of_a_table_have_the_answers_of_predict(
    client: Any, bundles: Path, finished: Callable[..., Path]
) -> None:
    path = finished() / "data/raw/house_prices/test.csv"
    expected = predicted(bundles / "house_prices", "--data.input", str(path))
    with path.open("rb") as file:
        sent = client.post("/predict/house_prices/upload", files={"file": ("test.csv", file)})
    assert sent.json()["predictions"] == expected
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    few = client.post("/predict/house_prices", json={"rows": rows[:100]}).json()["predictions"]
    assert [row["Id"] for row in few] == [row["Id"] for row in expected[:100]]
    # another number of rows rounds differently
    assert [row["SalePrice"] for row in few] == pytest.approx([row["SalePrice"] for row in expected[:100]])


def test_numbers_are_the_same_as_numbers_and_as_texts_and_null_is_missing(client: Any) -> None:
    rows = [{"x1": 1, "x2": 0.5}, {"x1": "1", "x2": "0.5", "more": "x"}]
    first, second = client.post("/predict/spiral", json={"rows": rows}).json()["predictions"]
    assert first["probability"] == second["probability"]
    assert list(first) == ["row", "arm", "probability"]
    missing = client.post("/predict/spiral", json={"rows": [{"x1": None, "x2": 0.5}]})
    assert missing.status_code == 200


def test_pictures_as_files_and_as_base64(client: Any, bundles: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.radial_gradient("L").resize((28, 28)).save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    ((expected),) = predicted(bundles / "digits", "--data.input", "a.png")
    files = [("file", ("../a.png", content.getvalue())), ("file", ("", content.getvalue()))]
    sent = client.post("/predict/digits/upload", files=files[:1]).json()
    assert sent == {"predictions": [expected]}
    text = base64.b64encode(content.getvalue()).decode()
    coded = client.post("/predict/digits", json={"pictures": [text, text]}).json()["predictions"]
    assert coded == [expected | {"ImageId": "1"}, expected | {"ImageId": "2"}]


def test_poems_words_and_points(client: Any, bundles: Path, finished: Callable[..., Path]) -> None:
    assert cli("predict", "--bundle", str(bundles / "poems"), "--data.compose.start", "春") == 0
    (poem,) = client.post("/predict/poems", json={"starts": ["春"]}).json()["predictions"]
    assert poem == {"start": "春", "poem": Path("predictions/poems.txt").read_text(encoding="utf-8").strip()}
    found = client.post("/predict/words", json={"words": ["学习"], "neighbours": 3}).json()["predictions"]
    assert [list(row) for row in found] == [["word", "neighbour", "cosine"]] * 3
    (answer,) = client.post("/predict/reviews", json={"texts": ["很好吃"]}).json()["predictions"]
    assert list(answer) == ["row", "label", "probability"]
    point = client.post("/predict/bowl", json={"points": [{"x1": 0, "x2": 0}]}).json()["predictions"]
    assert list(point[0]) == ["x1", "x2", "height"]


PICTURE = base64.b64encode(b"no picture").decode()


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("spiral", {"rows": []}, 422, "rows: 0, expected 1 to 10,000"),
        ("spiral", {"rows": [{"x1": 1}] * 10_001}, 422, "rows: 10001, expected 1 to 10,000"),
        ("spiral", {"rows": [{"x1": 1}]}, 422, "the rows: the needed column 'x2' is missing"),
        ("spiral", {"rows": [{"x1": "far", "x2": 1}]}, 422, "row 1, column 'x1': 'far' is not a number"),
        ("spiral", {"rows": [{"x1": [1], "x2": 1}]}, 422, "expected objects whose values are numbers"),
        ("spiral", {"rows": "/etc/passwd"}, 422, 'expected an object such as {"rows": [...]}'),
        ("spiral", [1], 422, 'expected an object such as {"rows": [...]}'),
        ("spiral", {"rows": [{}], "lines": 2}, 422, "lines: there is no such key; there is: rows"),
        ("digits", {"pictures": [PICTURE]}, 422, "0/1: not a readable image"),
        ("digits", {"pictures": ["/etc/passwd!"]}, 422, "a picture is not base64"),
        ("digits", {"pictures": [1]}, 422, "pictures: expected texts"),
        ("digits", {"pictures": [""] * 101}, 422, "pictures: 101, expected 1 to 100"),
        ("poems", {"starts": ["春"], "lins": 2}, 422, "lins: there is no such key"),
        ("poems", {"starts": ["春"], "count": 100, "lines": 21}, 422, "2,000 results"),
        ("poems", {"starts": ["春"], "count": 1_000_000, "top_k": 0}, 422, "2,000 results"),
        ("poems", {"starts": ["春"], "count": "1000000"}, 422, "2,000 results"),
        ("poems", {"starts": ["春"], "count": "0xF4240"}, 422, "2,000 results"),
        ("poems", {"starts": ["春"], "count": 1e6}, 422, "compose.count: found 1000000.0, expected int"),
        ("poems", {"starts": ["春"], "acrostic": "x" * 2001}, 422, "2,000 characters"),
        ("poems", {"starts": ["x" * 2001]}, 422, "2,000 characters"),
        ("spiral", {"rows": [{f"{row}": 1} for row in range(2001)]}, 422, "more than 4,000,000 cells"),
        ("poems", {"starts": ["春"], "lines": "two"}, 422, "compose.lines: found two, expected int"),
        ("poems", {"starts": ["春"], "lines": None}, 422, "compose.lines: found null, expected a value"),
        ("poems", {"starts": ["春"], "inputs": 1}, 422, "inputs: there is no such key"),
        ("words", {"words": ["学习"], "self": 1}, 422, "self: there is no such key; there is: words"),
        (
            "words",
            {"words": ["学习"], "neighbours": "many"},
            422,
            "neighbours: found 'many', expected a whole",
        ),
        ("words", {"words": ["学习"], "near": 1}, 422, "near: there is no such key; there is: words"),
        ("words", {"words": ["龘"]}, 422, "not in the vocabulary: 龘"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(
    path: str, body: Any, status: int, message: str, client: Any
) -> None:
    sent = client.post(f"/predict/{path}", json=body)
    assert sent.status_code == status
    assert list(sent.json()) == ["error"]
    assert message in sent.json()["error"]
    assert "\n" not in sent.json()["error"]
    assert "lockstep-" not in sent.json()["error"]  # the folder of the files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.xlsx", b"x", "expected one file: .csv or .tsv"),
        ("rows.csv.gz", b"x", "expected one file: .csv or .tsv"),
        ("rows.csv", b"a\n" * 100_001, "rows.csv: more than 100,000 lines"),
        ("rows.csv", b"x1,x2\n", "rows.csv: there are no rows below the header"),
    ],
)
def test_files_are_bounded(name: str, content: bytes, message: str, client: Any) -> None:
    sent = client.post("/predict/spiral/upload", files={"file": (name, content)})
    assert sent.status_code == 422
    assert sent.json()["error"].endswith(message)


def test_pictures_of_too_many_pixels_are_not_decoded(client: Any) -> None:
    content = io.BytesIO()
    Image.new("1", (4097, 4096)).save(content, "PNG")  # 2 KB
    sent = client.post("/predict/digits/upload", files={"file": ("large.png", content.getvalue())})
    assert (sent.status_code, sent.json()["error"]) == (422, "large.png: more than 16,777,216 pixels")
    coded = {"pictures": [base64.b64encode(content.getvalue()).decode()]}
    assert client.post("/predict/digits", json=coded).json()["error"] == "1: more than 16,777,216 pixels"


def test_requests_are_bounded_and_for_this_machine(client: Any) -> None:
    assert client.post("/predict/spiral", content="{").json()["error"].startswith("the request is not JSON")
    assert client.post("/predict/spiral", content=b"\xff").status_code == 422
    large = client.post("/predict/spiral", content=b" " * 2_000_000)
    assert (large.status_code, large.json()) == (413, {"error": "At most 1 MB."})
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/predict/spiral").status_code == 405
    assert client.post("/predict/poems/upload", files={"file": b"x"}).status_code == 404


def test_an_unknown_error_is_one_line_too(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.bundle.load.predictor_of", lambda bundle: len([]) + None)
    sent = client.post("/predict/words", json={"words": ["学习"]})
    assert sent.status_code == 500
    assert sent.json() == {"error": "the model cannot answer this (TypeError)"}
    assert "a request failed" in caplog.text


def test_the_service_describes_itself_without_other_machines(client: Any) -> None:
    health = client.get("/health").json()
    assert sorted(health.pop("models")) == sorted(TASKS)
    assert health == {"status": "ok", "not_loaded": {}}
    described = client.get("/openapi.json").json()
    body = described["paths"]["/predict/house_prices"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["rows"]
    example = body["schema"]["properties"]["rows"]["items"]["example"]
    assert client.post("/predict/house_prices", json={"rows": [example]}).status_code == 200
    page = client.get("/").text
    assert "/predict/digits/upload -F file=@FILE" in page
    assert "http" not in page.replace("<!doctype html>", "")
    assert client.get("/docs").status_code == 404


def test_one_bundle_and_bundles_that_cannot_be_loaded(bundles: Path, tmp_path: Path) -> None:
    from pipelines.serve.api import application

    shutil.copytree(bundles / "spiral", tmp_path / "models/spiral")
    shutil.copytree(bundles / "bowl", tmp_path / "models/bowl")
    (tmp_path / "models/bowl/model.safetensors").write_bytes(b"x")
    paths = application(tmp_path / "models").openapi()["paths"]
    assert [path for path in paths if path.startswith("/predict")] == [
        "/predict/spiral",
        "/predict/spiral/upload",
    ]
    assert "/predict/spiral" in application(tmp_path / "models/spiral").openapi()["paths"]
    with pytest.raises(IntegrityError):
        application(tmp_path / "models/bowl")


def test_arguments_that_cannot_be_used_are_refused(bundles: Path) -> None:
    with pytest.raises(ConfigurationError, match="--workers: found 2; expected 1, or with --api 1 or more"):
        serve(bundles, workers=2)
    with pytest.raises(ConfigurationError, match="--port: found 70000, expected 0 to 65535"):
        serve(bundles, port=70_000)
    with pytest.raises(ConfigurationError, match="other machines can reach"):
        serve(bundles, api=True, address="192.0.2.1")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ResourceError, match="another --port"),
    ):
        serve(bundles, api=True, port=taken.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_serves_until_it_is_interrupted(workers: int, bundles: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.serve", "--api", "--bundles", str(bundles / "spiral")]
    command += ["--port", str(port), "--workers", str(workers)]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ["PYTHONPATH"]])}
    with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            answer = asked(port)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert list(answer["predictions"][0]) == ["row", "arm", "probability"]


def asked(port: int) -> Any:
    """The answer of a server that is starting."""
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/predict/spiral", json.dumps({"rows": [{"x1": 1, "x2": 2}]}))
            return json.loads(connection.getresponse().read())
        except ConnectionError:
            if time.monotonic() > end:
                raise
        finally:
            connection.close()


@pytest.mark.parametrize("name", ["图" * 200 + ".png", "a/../../b.csv", ".."])
def test_names_of_uploads_are_cut_to_what_a_file_can_have(name: str, tmp_path: Path) -> None:
    from pipelines.serve.api import _written

    (path,) = _written([(name, b"1")], tmp_path)
    assert path.parent == tmp_path / "0"
    assert path.read_bytes() == b"1"
    assert path.suffix == Path(name).suffix
