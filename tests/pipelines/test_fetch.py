import hashlib
import json
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from torchvision.datasets import FashionMNIST

from pipelines import fetch as verb
from pipelines.fetch import fetch
from pipelines.parameters import kind_of
from src.core.errors import ConfigurationError, DataError, IntegrityError, ResourceError

ROOT = Path(__file__).parents[2]
CONTENT = {"train.csv": b"a,b\n1,2\n3,4\n", "notes.txt": b"two rows\n"}
DESCRIPTION = """
seed: 1
factors: []
files: {train.csv: {rows: 3}}
columns:
  number: {serial: 5, label: {en: Number, zh: 号}}
  kind: {values: {only: 1.0}}
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the working folder of the test."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that holds the raw files."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


def write_parameters(source: str, files: dict[str, Any] | str) -> None:
    parameters = {"tasks": {"tiny": "tabular"}, "tiny": {"source": source, "files": files}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")


def raw(name: str) -> Path:
    return Path("data/raw/tiny") / name


def written() -> list[str]:
    """All files below data/raw, hidden ones too."""
    return sorted(str(path) for path in Path("data/raw").rglob("*") if path.is_file())


def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(raw("SOURCE.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.usefixtures("project")
def test_sample_is_written_and_described() -> None:
    Path("data/samples").mkdir(parents=True)
    Path("data/samples/tiny.yaml").write_text(DESCRIPTION, encoding="utf-8")
    write_parameters("sample", {"train.csv": {}})
    fetch("tiny")
    content = b"number,kind\n5,only\n6,only\n7,only\n"
    assert raw("train.csv").read_bytes() == content
    labels = raw("labels.json").read_bytes()
    assert json.loads(labels) == {"number": {"en": "Number", "zh": "号"}}
    assert record() == {
        "source": "sample",
        "files": {
            "labels.json": {"sha256": sha256(labels), "bytes": len(labels)},
            "train.csv": {"sha256": sha256(content), "bytes": len(content), "rows": 3},
        },
    }


@pytest.mark.usefixtures("project")
def test_sample_needs_its_description() -> None:
    write_parameters("sample", {"train.csv": {}})
    with pytest.raises(ConfigurationError, match=r"data/samples/tiny\.yaml.*name a folder"):
        fetch("tiny")
    assert written() == []


@pytest.mark.usefixtures("project")
def test_mistake_in_the_description_is_told() -> None:
    Path("data/samples").mkdir(parents=True)
    Path("data/samples/tiny.yaml").write_text(DESCRIPTION.replace("only: 1.0", "only: 0.5"))
    write_parameters("sample", {"train.csv": {}})
    with pytest.raises(ConfigurationError, match=r"tiny\.yaml: column kind"):
        fetch("tiny")
    assert written() == []


@pytest.mark.usefixtures("project")
def test_sample_that_lacks_a_wanted_file_is_told() -> None:
    Path("data/samples").mkdir(parents=True)
    Path("data/samples/tiny.yaml").write_text(DESCRIPTION, encoding="utf-8")
    write_parameters("sample", {"train.csv": {}, "test.csv": {}})
    with pytest.raises((ConfigurationError, DataError), match=r"test\.csv"):
        fetch("tiny")
    assert written() == []


@pytest.mark.usefixtures("project")
def test_folder_is_copied(source: Path) -> None:
    (source / "unwanted.csv").write_text("c\n")
    write_parameters(str(source), {"train.csv": {}, "notes.txt": {}})
    fetch("tiny")
    assert sorted(path.name for path in raw("").iterdir()) == ["SOURCE.json", "notes.txt", "train.csv"]
    for name, content in CONTENT.items():
        assert raw(name).read_bytes() == content
    train, notes = CONTENT["train.csv"], CONTENT["notes.txt"]
    assert record() == {
        "source": str(source),
        "files": {
            "train.csv": {"sha256": sha256(train), "bytes": len(train), "rows": 2},
            "notes.txt": {"sha256": sha256(notes), "bytes": len(notes)},
        },
    }


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("files", [{"train": {}, "notes.txt": {}}, {}], ids=["named", "all"])
def test_folders_of_files_are_copied_whole(source: Path, files: dict[str, Any]) -> None:
    (source / "train.csv").unlink()
    for name in ("train/cat/1.png", "train/dog/2.png"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_bytes(name.encode())
    write_parameters(str(source), files)
    fetch("tiny")
    assert raw("train/cat/1.png").read_bytes() == b"train/cat/1.png"
    assert raw("train/dog/2.png").read_bytes() == b"train/dog/2.png"
    found = record()["files"]
    assert sorted(found) == ["notes.txt", "train"]
    assert {name: found["train"][name] for name in ("bytes", "files")} == {"bytes": 30, "files": 2}
    (source / "train/dog/2.png").write_bytes(b"train/dog/3.png")
    fetch("tiny")
    assert record()["files"]["train"]["sha256"] != found["train"]["sha256"]


@pytest.mark.usefixtures("project")
def test_rows_are_counted_as_csv_counts_them(source: Path) -> None:
    (source / "train.csv").write_bytes(b'a,b\r\n1,"two\nlines"\r\n3,4')
    write_parameters(str(source), {"train.csv": {}})
    fetch("tiny")
    assert record()["files"]["train.csv"]["rows"] == 2


@pytest.mark.usefixtures("project")
def test_folder_that_lacks_a_file_is_told_and_the_older_data_stay(source: Path) -> None:
    write_parameters(str(source), {"train.csv": {}})
    fetch("tiny")
    before = {name: Path(name).read_bytes() for name in written()}
    (source / "train.csv").write_bytes(b"a,b\n9,9\n")
    write_parameters(str(source), {"train.csv": {}, "missing.csv": {}})
    with pytest.raises(DataError, match=r"source/missing\.csv: there is no such file; tiny\.files names it"):
        fetch("tiny")
    assert {name: Path(name).read_bytes() for name in written()} == before


@pytest.mark.usefixtures("project")
def test_interrupted_fetch_leaves_the_older_data(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parameters(str(source), {"train.csv": {}, "notes.txt": {}})
    fetch("tiny")
    before = {name: Path(name).read_bytes() for name in written()}
    for name in CONTENT:
        (source / name).write_bytes(b"another content\n")
    copy = verb.shutil.copyfile
    copied = []

    def interrupted(*arguments: Any) -> Any:
        if copied:
            raise KeyboardInterrupt
        copied.append(copy(*arguments))

    monkeypatch.setattr(verb.shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert len(copied) == 1
    assert {name: Path(name).read_bytes() for name in written()} == before


@pytest.mark.usefixtures("project")
def test_many_files_stand_in_a_registry_that_only_downloads_read(source: Path) -> None:
    Path("tiny.registry").write_text(
        "# name, digest, address\n\na.json sha256:00 http://127.0.0.1:9/a.json\n"
    )
    write_parameters(str(source), "tiny.registry")
    fetch("tiny")
    assert sorted(record()["files"]) == sorted(CONTENT)
    assert verb._registry("tiny", Path("tiny.registry")) == {
        "a.json": verb.RawFile("http://127.0.0.1:9/a.json", "sha256:00")
    }


@pytest.mark.usefixtures("project")
def test_registries_that_cannot_be_used_are_told() -> None:
    write_parameters("download", "tiny.registry")
    with pytest.raises(ConfigurationError, match=r"tiny\.files: there is no registry tiny\.registry"):
        fetch("tiny")
    Path("tiny.registry").write_text("a.json http://127.0.0.1:9/a.json\n")
    with pytest.raises(ConfigurationError, match=r"expected `name hash url`, found 'a\.json http"):
        fetch("tiny")
    assert written() == []


def test_the_registry_of_poems_names_58_files_with_digests() -> None:
    files = verb._registry("poems", ROOT / "data/samples/poems.registry")
    assert sorted(files) == sorted(f"poet.tang.{number}.json" for number in range(0, 58_000, 1000))
    for name, file in files.items():
        assert re.fullmatch(f"https://.+/{name}", str(file.url))
        assert re.fullmatch("sha256:[0-9a-f]{64}", str(file.hash))


@pytest.mark.usefixtures("project")
def test_a_description_is_a_source() -> None:
    Path("other.yaml").write_text(DESCRIPTION, encoding="utf-8")
    write_parameters("other.yaml", {})
    fetch("tiny")
    assert raw("train.csv").read_text() == "number,kind\n5,only\n6,only\n7,only\n"
    assert json.loads(raw("labels.json").read_text()) == {"number": {"en": "Number", "zh": "号"}}
    assert json.loads(raw("SOURCE.json").read_text())["source"] == "other.yaml"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "part"), [("params.yaml", "lacks columns, files, seed"), ("no.yaml", "no sample")]
)
def test_a_source_that_is_no_description_is_told(name: str, part: str) -> None:
    write_parameters(name, {})
    with pytest.raises(ConfigurationError, match=part):
        fetch("tiny")


@pytest.mark.parametrize("name", ["nowhere", "README.md"])
@pytest.mark.usefixtures("project")
def test_source_that_is_no_folder_is_told(name: str) -> None:
    Path("README.md").touch()
    write_parameters(name, {"train.csv": {}})
    with pytest.raises(DataError, match=rf"tiny\.source: {name} is no folder; use sample, download or"):
        fetch("tiny")
    assert written() == []


@pytest.mark.usefixtures("project")
def test_unknown_task_is_told() -> None:
    write_parameters("sample", {"train.csv": {}})
    with pytest.raises(ConfigurationError, match=r"params\.yaml has no .*'tinny'"):
        fetch("tinny")


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"files": {"train.csv": {}}}, "source"),
        ({"source": "sample"}, "files"),
        ({"source": "sample", "files": {"train.csv": {"adress": "x"}}}, "adress"),
        ({"source": "sample", "files": {"train.csv": {"url": [1]}}}, "url"),
        (None, ""),
    ],
)
@pytest.mark.usefixtures("project")
def test_mistakes_in_the_section_are_told(section: Any, named: str) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"tiny": "tabular"}, "tiny": section}))
    with pytest.raises(ConfigurationError, match=rf"(?s)params\.yaml.*tiny.*{named}"):
        fetch("tiny")
    assert written() == []


@pytest.mark.parametrize(
    "name", ["x; touch canary", "$(touch canary)", "a b", "a\nb", "-a", "", 'a"b', "../a"]
)
@pytest.mark.parametrize("section", ["tasks", "studies"])
@pytest.mark.usefixtures("project")
def test_names_that_a_shell_could_misread_are_refused(section: str, name: str) -> None:
    parameters = {"tasks": {"tiny": "tabular"}, "tiny": {"source": "sample", "files": {}}}
    parameters[section] = {name: "tabular"}
    Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        fetch("tiny")
    assert str(caught.value).startswith(f"params.yaml, section {section}: {name!r} cannot be a name; ")


@pytest.mark.parametrize("room", ["shared", "os; touch canary", "Tabular", None, 3])
@pytest.mark.usefixtures("project")
def test_kinds_of_data_that_there_are_not_are_told(room: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"tiny": room}, "tiny": {}}))
    with pytest.raises(ConfigurationError, match=r"tasks\.tiny: there is no kind of data .*descent, images"):
        kind_of("tiny")


@pytest.mark.parametrize("text", [None, "tasks: {tiny: [", "tiny: {}", "tasks: [tiny]", "", "text"], ids=repr)
@pytest.mark.usefixtures("project")
def test_unusable_params_yaml_is_told(text: str | None) -> None:
    if text is not None:
        Path("params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"^params\.yaml "):
        fetch("tiny")


@pytest.mark.usefixtures("project")
def test_exit_code_and_message_of_the_command(project: Path, python: Callable[..., Any]) -> None:
    write_parameters("nowhere", {"train.csv": {}})
    search = os.pathsep.join([str(Path(verb.__file__).parents[1]), os.environ["PYTHONPATH"]])
    for task, code in [("tiny", 3), ("tinny", 2)]:
        done = python("-m", "pipelines.fetch", task, cwd=project, PYTHONPATH=search)
        assert done.returncode == code
        assert done.stdout.startswith("error: ")
        assert done.stdout.count("\n") == 1


class Server:
    """A server of this machine that counts what is asked of it."""

    def __init__(self, folder: Path) -> None:
        server = self
        self.asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                server.asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits before it tries again
    server = Server(source)
    yield server
    server.close()


def files_at(server: Server, kind: str = "sha256", **changed: str) -> dict[str, Any]:
    return {
        name: {"url": f"{server.address}/{name}", "hash": f"{kind}:{hashlib.new(kind, content).hexdigest()}"}
        | changed
        for name, content in CONTENT.items()
    }


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
@pytest.mark.usefixtures("project")
def test_download_with_the_right_digest(server: Server, kind: str) -> None:
    write_parameters("download", files_at(server, kind))
    fetch("tiny")
    for name, content in CONTENT.items():
        assert raw(name).read_bytes() == content
    assert record()["source"] == "download"
    assert record()["files"]["train.csv"]["sha256"] == sha256(CONTENT["train.csv"])


@pytest.mark.usefixtures("project")
def test_what_was_downloaded_once_is_not_asked_for_again(server: Server) -> None:
    write_parameters("download", files_at(server))
    fetch("tiny")
    asked = len(server.asked)
    raw("train.csv").unlink()
    fetch("tiny")
    assert raw("train.csv").read_bytes() == CONTENT["train.csv"]
    assert len(server.asked) == asked == len(CONTENT)


@pytest.mark.usefixtures("project")
def test_damaged_download_is_fetched_again(server: Server) -> None:
    write_parameters("download", files_at(server))
    fetch("tiny")
    Path("data/downloads/tiny/train.csv").write_bytes(b"a,b\n1,")
    fetch("tiny")
    assert raw("train.csv").read_bytes() == CONTENT["train.csv"]


@pytest.mark.usefixtures("project")
def test_wrong_digest_is_told_and_nothing_is_kept(server: Server) -> None:
    wanted = "0" * 64
    write_parameters("download", files_at(server, hash=f"sha256:{wanted}"))
    with pytest.raises(IntegrityError) as caught:
        fetch("tiny")
    assert caught.value.exit_code == 4
    assert f"{server.address}/train.csv" in str(caught.value) or f"{server.address}/notes.txt" in str(
        caught.value
    )
    assert wanted in str(caught.value)
    assert any(sha256(content) in str(caught.value) for content in CONTENT.values())
    assert written() == []
    assert not list(Path("data").rglob("*.csv"))


@pytest.mark.usefixtures("project")
def test_no_server_is_told_with_the_offline_way(server: Server) -> None:
    server.server.server_close()
    write_parameters("download", files_at(server))
    with pytest.raises(
        ResourceError, match=r"http://127\.0\.0\.1.*set `source` to sample, or to a folder"
    ) as caught:
        fetch("tiny")
    assert caught.value.exit_code == 6
    assert written() == []


@pytest.mark.usefixtures("project")
def test_file_that_the_server_lacks_is_told(server: Server, source: Path) -> None:
    (source / "train.csv").unlink()
    write_parameters("download", files_at(server))
    with pytest.raises(ResourceError, match=r"/train\.csv: 404.*set `source`"):
        fetch("tiny")
    assert written() == []


class BreakingOff(BaseHTTPRequestHandler):
    """Closes the connection after half of what was asked for, as often as `times` says; knows ranges."""

    content = bytes(range(256)) * 128
    times = 0
    ranges: ClassVar[list[str]] = []

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.ranges.append(wanted)
        rest = self.content[int(wanted.removeprefix("bytes=").removesuffix("-")) :]
        self.send_response(206 if rest else 416)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        breaks_off = len(self.ranges) <= self.times
        self.wfile.write(rest[: len(rest) // 2] if breaks_off else rest)


class Silent(BreakingOff):
    """Says nothing as long as the client waits."""

    def do_GET(self) -> None:
        self.ranges.append(self.headers["Range"])
        self.connection.recv(1)


@pytest.fixture
def breaking_off(
    project: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[type[BreakingOff]]:
    """A server that breaks off, and params.yaml with a file there."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    handler = getattr(request, "param", BreakingOff)
    monkeypatch.setattr(handler, "ranges", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/file.bin"
    write_parameters("download", {"file.bin": {"url": url, "hash": f"sha256:{sha256(handler.content)}"}})
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_that_broke_off_goes_on(
    breaking_off: type[BreakingOff], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaking_off, "times", 2)
    fetch("tiny")
    assert raw("file.bin").read_bytes() == breaking_off.content
    assert breaking_off.ranges == ["bytes=0-", "bytes=16384-", "bytes=24576-"]
    assert [path.name for path in Path("data/downloads/tiny").iterdir()] == ["file.bin"]


def test_a_server_that_always_breaks_off_is_told_and_the_next_fetch_goes_on(
    breaking_off: type[BreakingOff], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaking_off, "times", 3)
    with pytest.raises(ResourceError, match=r"/file\.bin: .*set `source` to sample, or to a folder"):
        fetch("tiny")
    assert len(breaking_off.ranges) == 3
    assert written() == []
    fetch("tiny")
    assert raw("file.bin").read_bytes() == breaking_off.content
    assert breaking_off.ranges[3:] == ["bytes=28672-"]


@pytest.mark.parametrize("breaking_off", [Silent], indirect=True)
def test_a_server_that_does_not_answer_is_told(
    breaking_off: type[BreakingOff], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "TIMEOUT", 0.1)
    with pytest.raises(ResourceError, match=r"(?i)timed out.*set `source` to sample, or to a folder"):
        fetch("tiny")
    assert breaking_off.ranges == ["bytes=0-"] * 3
    assert written() == []


def test_what_is_left_of_a_download_does_not_spoil_another(breaking_off: type[BreakingOff]) -> None:
    url = yaml.safe_load(Path("params.yaml").read_text())["tiny"]["files"]["file.bin"]["url"]
    part = Path("data/downloads/tiny", f"{sha256(url.encode())[:16]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"another file" * 10_000)  # longer than the file
    fetch("tiny")
    assert raw("file.bin").read_bytes() == breaking_off.content
    assert breaking_off.ranges == ["bytes=120000-", "bytes=0-"]


@pytest.mark.parametrize("name", ["../evil.csv", "/evil.csv", "a/../../evil.csv"])
def test_names_of_files_stay_in_the_folder(source: Path, project: Path, name: str) -> None:
    (source.parent / "evil.csv").write_text("a\n1\n")
    write_parameters(str(source), {name: {}})
    with pytest.raises(
        ConfigurationError, match=r"tiny\.files: '\S*evil\.csv' leads out of the task's folder"
    ):
        fetch("tiny")
    assert not list(project.rglob("*.csv"))


def test_archives_and_odd_paths_are_files_like_any_other(source: Path, project: Path) -> None:
    odd = source.rename(source.with_name("两 words; touch canary\n$(touch canary)"))
    with tarfile.open(odd / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../../canary"))
    write_parameters(str(odd), {})
    fetch("tiny")
    assert sorted(record()["files"]) == ["evil.tar.gz", "notes.txt", "train.csv"]
    assert raw("evil.tar.gz").read_bytes() == (odd / "evil.tar.gz").read_bytes()
    assert not list(project.parent.rglob("canary"))


@pytest.mark.parametrize("missing", ["url", "hash"])
@pytest.mark.usefixtures("project")
def test_download_needs_url_and_hash(server: Server, missing: str) -> None:
    files = files_at(server)
    del files["notes.txt"][missing]
    write_parameters("download", files)
    with pytest.raises(ConfigurationError, match=r"tiny\.files\.notes\.txt needs a url and a hash"):
        fetch("tiny")
    assert server.asked == []


def test_clothes_come_from_where_torchvision_has_them() -> None:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    expected = {
        name: {"url": FashionMNIST.mirrors[0] + name, "hash": f"md5:{digest}"}
        for name, digest in FashionMNIST.resources
    }
    assert parameters["fashion_mnist"]["files"] == expected
    names = [row["en"] for row in parameters["fashion_mnist"]["prepare"]["classes"]]
    assert names == FashionMNIST.classes
