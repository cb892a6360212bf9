import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from dvc.cli import main as dvc
from torchvision.datasets import FashionMNIST

from pipelines import fetch as stage
from pipelines.fetch import fetch
from pipelines.parameters import kind_of
from src.core.csv_cells import LONGEST_CELL
from src.core.errors import ConfigurationError, DataError, IntegrityError, ResourceError, reported_error

ROOT = Path(__file__).parents[2]
LINE = b"a 1\n"
CONTENT = {"train.csv": b"a,b\n1,2\n3,4\n", "notes.txt": b"two rows\n"}
OFFLINE = "set `source` to sample, or to a folder"
LABELS = '{"a": {"en": "Number", "zh": "号"}}'
RECORDS = {  # the sha256 of SOURCE.json, which holds those of all other files
    "house_prices": "771b59d684a9d5cdf1f6fbcfdc03576b2ec9ce94eae65f45554c094871b51676",
    "fashion_mnist": "e52cdb8143685687b8dc577497b31681e71a6ed518096b4fd8fde4434d2a3640",
    "digits": "3d0f377c693bb5455369d799b4926ddbf38cd745ccc32c6eb21bac872aacf46f",
    "poems": "81539cf64cb24700cc1fb1db4848ec53a7e71369fc52119332e23e0d8d9f8fe4",
    "words": "0e04981112c9d45acd649ea391b58e90ea25bc5b3f3d2e28e348658bdda4efa0",
    "reviews": "e6fa55fca4c795de1f1aca9c4fd985a034346d07b5bb6bdc5d22bfbac832bc66",
    "line": "af76931217842bcfecba2316c5dc676b3def18ea5eda88016660fc7f421e4517",
    "polynomial": "b57d269020b260be8dbeb64eccad02d91ddd27d6a3c5c326d7078ec584e85690",
    "spiral": "e4b9a1deb3b81037d1897ed40c34d181a26079b5428bf14273939719ffc11f5f",
    "perceptron": "bbc4ddb74554bce15b33b4329889f66dfdc1fca83b7a6886489956bcfe916c6f",
    "autoregression": "f3052e19d729f92bd2830507ab78863be8544e0f1a102b30ec40d0edc9d72ddc",
    "bowl": "221c8f719092770d07d988f9cea7878b24fbab6bc23db6dcca459a7936eb70e4",
}

pytestmark = pytest.mark.kinds("tabular")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
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
    return json.loads(raw("SOURCE.json").read_text(encoding="utf-8"))


def contents() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in written()}


def refused(error: type[Exception], match: str) -> None:
    """The fetch ends with an error, and data/raw stays as it was."""
    before = contents()
    with pytest.raises(error, match=match):
        fetch("tiny")
    assert contents() == before


@pytest.fixture
def sample(project: Path, source: Path) -> Path:
    """The sample of the task: the raw files and labels.json."""
    folder = project / "data/samples/tiny"
    shutil.copytree(source, folder)
    (folder / "labels.json").write_text(LABELS, encoding="utf-8")
    return folder


def test_samples_of_all_tasks_have_their_digests(project: Path) -> None:
    (project / "data").mkdir()
    (project / "data/samples").symlink_to(ROOT / "data/samples")
    (project / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    tasks = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["tasks"]
    for task in tasks.keys() & RECORDS.keys():
        fetch(task)
        assert sha256(Path(f"data/raw/{task}/SOURCE.json").read_bytes()) == RECORDS[task]


def test_sample_is_copied_and_described(sample: Path) -> None:
    write_parameters("sample", {"train.csv": {}})
    fetch("tiny")
    assert record() == {
        "source": "sample",
        "files": {
            "labels.json": {"sha256": sha256(LABELS.encode()), "bytes": len(LABELS.encode())},
            "notes.txt": {"sha256": sha256(CONTENT["notes.txt"]), "bytes": 9},
            "train.csv": {"sha256": sha256(CONTENT["train.csv"]), "bytes": 12, "rows": 2},
        },
    }
    for path in sample.iterdir():
        assert raw(path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("description", [False, True], ids=["none", "of a kind that draws no samples"])
def test_task_without_a_sample_is_refused(description: bool) -> None:
    write_parameters("sample", {})
    if description:
        Path("data/samples").mkdir(parents=True)
        Path("data/samples/tiny.yaml").touch()
    refused(ConfigurationError, r"no sample data/samples/tiny; set `source` to the path")


@pytest.mark.usefixtures("sample")
def test_sample_without_a_named_file_is_refused() -> None:
    write_parameters("sample", {"train.csv": {}, "test.csv": {}})
    refused(ConfigurationError, r"tiny\.files: the source sample has no file test\.csv")


@pytest.mark.usefixtures("sample")
def test_labels_of_the_sample_accompany_another_source_of_the_task(source: Path) -> None:
    write_parameters(str(source), {"train.csv": {}})
    fetch("tiny")
    assert sorted(record()["files"]) == ["labels.json", "train.csv"]
    assert raw("labels.json").read_text(encoding="utf-8") == LABELS
    (source / "labels.json").write_text("{}")
    write_parameters(str(source), {})
    fetch("tiny")
    assert raw("labels.json").read_text(encoding="utf-8") == "{}"


def test_folder_is_copied(source: Path) -> None:
    train = b'a,b\r\n1,"two\nlines"\r\n3,4'  # two rows by the rules of CSV
    (source / "train.csv").write_bytes(train)
    (source / "unwanted.csv").write_text("c\n")
    write_parameters(str(source), {"train.csv": {}, "notes.txt": {}})
    fetch("tiny")
    assert sorted(path.name for path in raw("").iterdir()) == ["SOURCE.json", "notes.txt", "train.csv"]
    notes = CONTENT["notes.txt"]
    assert (raw("train.csv").read_bytes(), raw("notes.txt").read_bytes()) == (train, notes)
    assert record() == {
        "source": str(source),
        "files": {
            "train.csv": {"sha256": sha256(train), "bytes": len(train), "rows": 2},
            "notes.txt": {"sha256": sha256(notes), "bytes": len(notes)},
        },
    }


@pytest.mark.parametrize("files", [{"train": {}, "notes.txt": {}}, {}], ids=["named", "all"])
def test_folders_of_files_are_copied(source: Path, files: dict[str, Any]) -> None:
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


def test_folder_without_a_named_file_is_refused_and_the_older_data_stay(source: Path) -> None:
    write_parameters(str(source), {"train.csv": {}})
    fetch("tiny")
    (source / "train.csv").write_bytes(b"a,b\n9,9\n")
    write_parameters(str(source), {"train.csv": {}, "missing.csv": {}})
    refused(DataError, r"source/missing\.csv: the file does not exist; tiny\.files")


def test_interrupted_fetch_leaves_the_older_data(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parameters(str(source), {"train.csv": {}, "notes.txt": {}})
    fetch("tiny")
    for name in CONTENT:
        (source / name).write_bytes(b"another content\n")
    copy = stage.shutil.copyfile
    copied = []

    def interrupted(*arguments: Any) -> Any:
        if copied:
            raise KeyboardInterrupt
        copied.append(copy(*arguments))

    monkeypatch.setattr(stage.shutil, "copyfile", interrupted)
    refused(KeyboardInterrupt, "^$")
    assert len(copied) == 1


def test_registry_is_read_only_for_a_download(source: Path) -> None:
    registry = Path("tiny.registry")
    registry.write_text("# name, digest, address\n\na.json sha256:00 http://127.0.0.1:9/a.json\n")
    write_parameters(str(source), "tiny.registry")
    fetch("tiny")
    assert sorted(record()["files"]) == sorted(CONTENT)
    expected = {"a.json": stage.RawFile("http://127.0.0.1:9/a.json", "sha256:00")}
    assert stage._registry("tiny", registry) == expected


def test_unusable_registries_are_refused() -> None:
    write_parameters("download", "tiny.registry")
    refused(ConfigurationError, r"tiny\.files: the registry tiny\.registry does not exist")
    Path("tiny.registry").write_text("a.json http://127.0.0.1:9/a.json\n")
    refused(ConfigurationError, r"expected `name hash url`, found 'a\.json http")


@pytest.mark.tasks("poems")
def test_the_registry_of_poems_names_58_files_with_digests() -> None:
    files = stage._registry("poems", ROOT / "data/samples/poems.registry")
    assert sorted(files) == sorted(f"poet.tang.{number}.json" for number in range(0, 58_000, 1000))
    for name, file in files.items():
        assert re.fullmatch(f"https://.+/{name}", str(file.url))
        assert re.fullmatch("sha256:[0-9a-f]{64}", str(file.hash))


@pytest.mark.parametrize("name", ["nowhere", "README.md"])
def test_source_that_is_not_a_folder_is_refused(name: str) -> None:
    Path("README.md").touch()
    write_parameters(name, {"train.csv": {}})
    refused(DataError, rf"tiny\.source: {name} is not a folder; use sample, download or")


def test_unknown_task_is_refused() -> None:
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
def test_mistakes_in_the_section_are_refused(section: Any, named: str) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"tiny": "tabular"}, "tiny": section}))
    refused(ConfigurationError, rf"(?s)params\.yaml.*tiny.*{named}")


@pytest.mark.parametrize(
    "name", ["x; touch canary", "$(touch canary)", "a b", "a\nb", "-a", "", 'a"b', "../a"]
)
@pytest.mark.parametrize("section", ["tasks", "studies"])
def test_names_that_a_shell_could_misread_are_refused(section: str, name: str) -> None:
    parameters = {"tasks": {"tiny": "tabular"}, "tiny": {"source": "sample", "files": {}}}
    parameters[section] = {name: "tabular"}
    Path("params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        fetch("tiny")
    assert str(caught.value).startswith(f"params.yaml, section {section}: {name!r} cannot be a name; ")


@pytest.mark.parametrize("kind", ["shared", "os; touch canary", "Tabular", None, 3])
def test_unknown_kinds_of_data_are_refused(kind: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"tasks": {"tiny": kind}, "tiny": {}}))
    with pytest.raises(ConfigurationError, match=r"tasks\.tiny: there is no kind of data .*; there are: \w+"):
        kind_of("tiny")


@pytest.mark.parametrize("text", [None, "tasks: {tiny: [", "tiny: {}", "tasks: [tiny]", "", "text"], ids=repr)
def test_unusable_params_yaml_is_refused(text: str | None) -> None:
    if text is not None:
        Path("params.yaml").write_text(text)
    refused(ConfigurationError, r"^params\.yaml ")


def test_exit_code_and_message_of_the_command(project: Path, python: Callable[..., Any]) -> None:
    write_parameters("nowhere", {"train.csv": {}})
    search = os.pathsep.join([str(Path(stage.__file__).parents[1]), os.environ["PYTHONPATH"]])
    for task, code in [("tiny", 3), ("tinny", 2)]:
        done = python("-m", "pipelines.fetch", task, cwd=project, PYTHONPATH=search)
        assert done.returncode == code
        assert re.fullmatch("error: .*\n", done.stdout)


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a local HTTP server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def requests() -> list[str]:
    """The paths requested from the server."""
    return []


@pytest.fixture
def server(source: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of the raw files."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            requests.append(self.path)

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits before it tries again
    with serving(partial(Handler, directory=str(source))) as address:
        yield address


def files_at(address: str, kind: str = "sha256", **changed: str) -> dict[str, Any]:
    return {
        name: {"url": f"{address}/{name}", "hash": f"{kind}:{hashlib.new(kind, content).hexdigest()}"}
        | changed
        for name, content in CONTENT.items()
    }


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_download_with_the_right_digest(server: str, kind: str) -> None:
    write_parameters("download", files_at(server, kind))
    fetch("tiny")
    for name, content in CONTENT.items():
        assert raw(name).read_bytes() == content
    assert record()["source"] == "download"
    assert record()["files"]["train.csv"]["sha256"] == sha256(CONTENT["train.csv"])


@pytest.mark.parametrize("others", [{}, {"notes.txt": {}}])
def test_one_file_is_downloaded_beside_those_of_a_folder(
    server: str, source: Path, tmp_path: Path, others: dict[str, Any]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_bytes(b"mine\n")
    name = "train.csv"
    write_parameters(str(own), {name: files_at(server, source="download")[name]} | others)
    fetch("tiny")
    assert {path.name: path.read_bytes() for path in Path("data/raw/tiny").iterdir()} == {
        name: CONTENT[name],
        "notes.txt": b"mine\n",
        "SOURCE.json": raw("SOURCE.json").read_bytes(),
    }
    assert record()["files"][name]["sha256"] == sha256(CONTENT[name])


def test_a_file_and_a_folder_with_sources_of_their_own(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    (other / "net").mkdir(parents=True)
    (other / "words.vec").write_bytes(LINE)
    (other / "net/config.json").write_bytes(b"{}")
    own = {"source": str(other / "words.vec"), "hash": f"sha256:{sha256(LINE)}"}
    write_parameters(str(source), {"train.csv": {}, "my.vec": own, "net": {"source": str(other / "net")}})
    fetch("tiny")
    assert raw("my.vec").read_bytes() == LINE
    assert raw("net/config.json").read_bytes() == b"{}"
    assert set(record()["files"]) == {"my.vec", "net", "train.csv"}
    (other / "words.vec").write_bytes(b"a 2\n")
    with pytest.raises(IntegrityError, match=r"tiny\.files\.my\.vec: .*words\.vec has the digest sha256:"):
        fetch("tiny")
    assert raw("my.vec").read_bytes() == LINE
    write_parameters(str(source), {"my.vec": {"source": "nowhere.vec"}})
    with pytest.raises(DataError, match=r"tiny\.files\.my\.vec: nowhere\.vec does not exist"):
        fetch("tiny")


def test_only_damaged_downloads_are_requested_again(server: str, requests: list[str]) -> None:
    write_parameters("download", files_at(server))
    fetch("tiny")
    raw("train.csv").unlink()
    fetch("tiny")
    assert raw("train.csv").read_bytes() == CONTENT["train.csv"]
    assert len(requests) == len(CONTENT)
    Path("data/downloads/tiny/train.csv").write_bytes(b"a,b\n1,")
    fetch("tiny")
    assert raw("train.csv").read_bytes() == CONTENT["train.csv"]
    assert requests[len(CONTENT) :] == ["/train.csv"]


def test_wrong_digest_is_refused_and_nothing_is_kept(server: str) -> None:
    wanted = "0" * 64
    write_parameters("download", files_at(server, hash=f"sha256:{wanted}"))
    with pytest.raises(IntegrityError) as caught:
        fetch("tiny")
    assert caught.value.exit_code == 4
    assert re.search(rf"{server}/(train\.csv|notes\.txt)", str(caught.value))
    assert wanted in str(caught.value)
    assert any(sha256(content) in str(caught.value) for content in CONTENT.values())
    assert written() == []
    assert not list(Path("data").rglob("*.csv"))


def test_message_without_a_server_names_the_offline_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    write_parameters("download", files_at("http://127.0.0.1:1"))
    refused(ResourceError, rf"http://127\.0\.0\.1:1/.*{OFFLINE}")
    assert ResourceError.exit_code == 6


def test_file_that_the_server_lacks(server: str, source: Path) -> None:
    (source / "train.csv").unlink()
    write_parameters("download", files_at(server))
    refused(ResourceError, rf"/train\.csv: 404.*{OFFLINE}")


class Unreliable(BaseHTTPRequestHandler):
    """Closes the first `times` connections after half of the requested range."""

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
        incomplete = len(self.ranges) <= self.times
        self.wfile.write(rest[: len(rest) // 2] if incomplete else rest)


class Silent(Unreliable):
    """Never answers."""

    def do_GET(self) -> None:
        self.ranges.append(self.headers["Range"])
        self.connection.recv(1)


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[type[Unreliable]]:
    """A server that closes connections early, and a params.yaml with a file of it."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    handler = getattr(request, "param", Unreliable)
    monkeypatch.setattr(handler, "ranges", [])
    with serving(handler) as address:
        file = {"url": f"{address}/file.bin", "hash": f"sha256:{sha256(handler.content)}"}
        write_parameters("download", {"file.bin": file})
        yield handler


@pytest.mark.parametrize("times", [2, 3])
def test_interrupted_download_continues_for_three_attempts(
    times: int, unreliable: type[Unreliable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreliable, "times", times)
    if times == 3:
        refused(ResourceError, rf"/file\.bin: .*{OFFLINE}")
        assert (len(unreliable.ranges), written()) == (3, [])
    fetch("tiny")
    assert raw("file.bin").read_bytes() == unreliable.content
    assert unreliable.ranges == ["bytes=0-", "bytes=16384-", "bytes=24576-", "bytes=28672-"][: times + 1]
    assert [path.name for path in Path("data/downloads/tiny").iterdir()] == ["file.bin"]


@pytest.mark.parametrize("unreliable", [Silent], indirect=True)
def test_server_that_does_not_answer(unreliable: type[Unreliable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "TIMEOUT", 0.1)
    refused(ResourceError, rf"(?i)timed out.*{OFFLINE}")
    assert unreliable.ranges == ["bytes=0-"] * 3


def test_partial_file_of_another_download_is_discarded(unreliable: type[Unreliable]) -> None:
    url = yaml.safe_load(Path("params.yaml").read_text())["tiny"]["files"]["file.bin"]["url"]
    part = Path("data/downloads/tiny", f"{sha256(url.encode())[:16]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"another file" * 10_000)  # longer than the file
    fetch("tiny")
    assert raw("file.bin").read_bytes() == unreliable.content
    assert unreliable.ranges == ["bytes=120000-", "bytes=0-"]


@pytest.mark.parametrize("name", ["../evil.csv", "/evil.csv", "a/../../evil.csv"])
def test_names_that_lead_out_of_the_folder_are_refused(source: Path, project: Path, name: str) -> None:
    (source.parent / "evil.csv").write_text("a\n1\n")
    write_parameters(str(source), {name: {}})
    refused(ConfigurationError, r"tiny\.files: '\S*evil\.csv' leads out of the task's folder")
    assert not list(project.rglob("*.csv"))


def test_archives_are_not_unpacked_and_odd_paths_are_copied(source: Path, project: Path) -> None:
    odd = source.rename(source.with_name("两 words; touch canary\n$(touch canary)"))
    with tarfile.open(odd / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../../canary"))
    write_parameters(str(odd), {})
    fetch("tiny")
    assert sorted(record()["files"]) == ["evil.tar.gz", "notes.txt", "train.csv"]
    assert raw("evil.tar.gz").read_bytes() == (odd / "evil.tar.gz").read_bytes()
    assert not list(project.parent.rglob("canary"))


@pytest.mark.parametrize("missing", ["url", "hash"])
def test_download_needs_url_and_hash(server: str, requests: list[str], missing: str) -> None:
    files = files_at(server)
    del files["notes.txt"][missing]
    write_parameters("download", files)
    refused(ConfigurationError, r"tiny\.files\.notes\.txt needs a url and a hash")
    assert requests == []


@pytest.mark.tasks("fashion_mnist")
def test_fashion_mnist_has_the_addresses_of_torchvision() -> None:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    expected = {
        name: {"url": FashionMNIST.mirrors[0] + name, "hash": f"md5:{digest}"}
        for name, digest in FashionMNIST.resources
    }
    assert parameters["fashion_mnist"]["files"] == expected
    names = [row["en"] for row in parameters["fashion_mnist"]["prepare"]["classes"]]
    assert names == FashionMNIST.classes


@pytest.mark.parametrize("place", ["data/raw/tiny", "data/raw", ".", "data/prepared/tiny"])
def test_a_source_that_fetch_or_dvc_would_replace_is_refused(place: str) -> None:
    Path(place).mkdir(parents=True, exist_ok=True)
    Path(place, "train.csv").write_text("the only copy\n")
    write_parameters(place, {})
    with pytest.raises(ConfigurationError, match=r"tiny\.source: .* overlap|was not written by this project"):
        fetch("tiny")
    assert Path(place, "train.csv").read_text() == "the only copy\n"


def test_files_of_the_user_in_the_raw_folder_stay(source: Path) -> None:
    write_parameters(str(source), {})
    fetch("tiny")
    fetch("tiny")
    raw("notes.md").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"data/raw/tiny/notes\.md was not written by this project"):
        fetch("tiny")
    assert raw("notes.md").read_text() == "mine"
    raw("notes.md").unlink()
    raw("train.csv").write_text("corrected")
    with pytest.raises(
        ConfigurationError, match=r"data/raw/tiny/train\.csv was changed since it was written"
    ):
        fetch("tiny")
    assert raw("train.csv").read_text() == "corrected"


@pytest.mark.unix
@pytest.mark.parametrize("files", [{}, {"a": {}}], ids=["all", "named"])
@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("../../secret.txt", "secret.txt; put a copy in its place"),
        ("..", "source; put a copy in its place"),
        ("/dev/zero", "/dev/zero; put a copy in its place"),
        ("nowhere", "nowhere; put a copy in its place"),
        (None, "is neither a file nor a folder"),
    ],
)
def test_links_out_of_a_source_and_devices_are_refused(
    target: str | None, told: str, files: dict[str, Any], source: Path
) -> None:
    (source.parent / "secret.txt").write_text("secret")
    (source / "a").mkdir()
    if target is None:
        os.mkfifo(source / "a/entry")
    else:
        (source / "a/entry").symlink_to(target)
    write_parameters(str(source), files)
    with pytest.raises(DataError, match=told):
        fetch("tiny")
    assert written() == []


def test_links_to_files_of_the_source_and_a_linked_source_are_followed(source: Path, tmp_path: Path) -> None:
    (source / "link.csv").symlink_to("train.csv")
    (tmp_path / "linked").symlink_to(source)
    write_parameters(str(tmp_path / "linked"), {})
    fetch("tiny")
    assert raw("link.csv").read_bytes() == CONTENT["train.csv"]
    assert not raw("link.csv").is_symlink()


def test_a_full_disk_is_told_and_the_older_data_stay(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "pictures").mkdir()
    (source / "pictures/1.png").touch()
    write_parameters(str(source), {})
    fetch("tiny")
    before = written()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch("tiny")
    assert isinstance(reported_error(caught.value), ResourceError)
    assert written() == before


@pytest.mark.slow
def test_dvc_leaves_what_lies_in_the_raw_folder(
    source: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_parameters(str(source), {})
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["fetch"]
    stage["do"]["deps"] = []
    stage["do"]["params"].pop()  # the digest of the code, of the stage `code`
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"fetch": stage}}))
    for name in ("pipelines", "src"):
        Path(name).symlink_to(ROOT / name)
    raw("").mkdir(parents=True)
    raw("wine.csv").write_text("the only copy\n")
    assert dvc(["init", "--no-scm", "--quiet"]) == 0
    assert dvc(["repro", "--quiet", "fetch@tiny"]) != 0
    assert "data/raw/tiny/wine.csv was not written by this project" in capfd.readouterr().err
    assert raw("wine.csv").read_text() == "the only copy\n"


def test_a_csv_file_that_python_cannot_read_has_no_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text('a\n"' + "x" * (LONGEST_CELL + 1) + '"\n')
    assert stage._description(path).keys() == {"sha256", "bytes"}
