"""Bring the raw files of a task to data/raw/<task>/, from the source that params.yaml names."""

import csv
import json
import logging
import shutil
import sys
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli

from pipelines.parameters import checked, kind_of, task_section
from src.core.atomic import written_whole
from src.core.digests import file_digest, folder_digest
from src.core.errors import ConfigurationError, DataError, IntegrityError, ResourceError, exit_with_message
from src.core.paths import RAW, SAMPLES, SOURCE

DOWNLOADS = Path("data/downloads")
MOST_SHOWN = 6
ATTEMPTS = 3
TIMEOUT = 30.0  # seconds without a byte
PARTIAL_CONTENT = 206  # what HTTP answers with a range of a file
OFFLINE_WAY = "set `source` to sample, or to a folder that holds the files"


@dataclass
class RawFile:
    """Where `source: download` finds a raw file.

    Args:
        url: a public address.
        hash: the digest of its content, as in `sha1:585e...` or `sha256:...`.
    """

    url: str | None = None
    hash: str | None = None


@dataclass
class Source:
    """Where the raw data of a task come from: the keys `source` and `files` of its section.

    Args:
        source: sample, download, the path of a folder, or of a sample's description (.yaml).
        files: the raw files, or folders of files, by name; or, where there are many, the path of a registry
            of them, a line `name hash url` each. Another source than `download` then brings what it has, as
            it does for no files.
    """

    source: str
    files: dict[str, RawFile] | str


def fetch(task: str) -> None:
    """Bring the raw files of a task to data/raw/<task>/ and record them in SOURCE.json.

    The source is the key `source` of the task's section in params.yaml: `sample` writes the built-in
    offline sample, `download` gets the files from their public addresses and checks their digests, and
    anything else is a folder that already holds the files, or a description of a sample (.yaml).

    Args:
        task: a task of params.yaml.
    """
    section = task_section(task)
    wanted = checked(Source, {key: section.get(key) for key in ("source", "files")}, task)
    files = wanted.files
    if isinstance(files, str):
        files = _registry(task, Path(files)) if wanted.source == "download" else {}
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigurationError(f"{task}.files: {name!r} leads out of the task's folder")
    description = SAMPLES / f"{task}.yaml"
    if wanted.source.endswith(".yaml"):
        description = Path(wanted.source).expanduser()
    with written_whole(RAW / task) as folder:
        if wanted.source == "sample" or wanted.source.endswith(".yaml"):
            _write_sample(task, description, folder)
        elif wanted.source == "download":
            _download(task, files, folder)
        else:
            _copy(task, Path(wanted.source).expanduser(), files, folder)
        absent = [name for name in files if not (folder / name).exists()]
        if absent:
            raise ConfigurationError(f"{task}.files: the source {wanted.source} brings no {absent[0]}")
        _write_labels(description, folder / "labels.json")
        names = sorted(path.name for path in folder.iterdir() if path.name != SOURCE)
        record = {"source": wanted.source, "files": {name: _description(folder / name) for name in names}}
        (folder / SOURCE).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    shown = ", ".join(names) if len(names) <= MOST_SHOWN else f"{len(names)} files"
    print(f"{task}: {shown} from {wanted.source}: {RAW / task}/")


def _registry(task: str, path: Path) -> dict[str, RawFile]:
    """The files of a registry in the form of pooch."""
    if not path.is_file():
        raise ConfigurationError(f"{task}.files: there is no registry {path}")
    files = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            try:
                name, digest, url = line.split()
            except ValueError:
                raise ConfigurationError(f"{path}: expected `name hash url`, found '{line}'") from None
            files[name] = RawFile(url, digest)
    return files


def _write_sample(task: str, description: Path, folder: Path) -> None:
    sample = import_module(f"src.{kind_of(task)}.sample")
    if not description.is_file():
        raise ConfigurationError(f"{task}.source: there is no sample ({description}); name a folder")
    try:
        sample.write_sample(description, folder)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _download(task: str, files: dict[str, RawFile], folder: Path) -> None:
    import pooch  # not needed for --help or the sample
    import requests

    for name, file in files.items():
        if not file.url or not file.hash:
            raise ConfigurationError(f"{task}.files.{name} needs a url and a hash for `download`")
    store = pooch.create(
        path=DOWNLOADS / task,
        base_url="",
        registry={name: file.hash for name, file in files.items()},
        urls={name: file.url for name, file in files.items()},
        retry_if_failed=ATTEMPTS - 1,
    )
    pooch.get_logger().setLevel(logging.WARNING)
    for name, file in files.items():
        try:
            shutil.copyfile(store.fetch(name, downloader=_go_on), folder / name)
        except ValueError as error:  # pooch's word for another digest; both stand in its message
            raise IntegrityError(f"{file.url}: {error}") from None
        except requests.RequestException as error:
            raise ResourceError(f"{file.url}: {error}; {OFFLINE_WAY}") from None


def _go_on(url: str, output: str, _: Any) -> None:
    """Download for pooch, from where an earlier attempt broke off if the server knows ranges."""
    import pooch

    part = Path(output).with_name(f"{sha256(url.encode()).hexdigest()[:16]}.part")
    with part.open("ab") as file:

        def begin(response: Any, **_: Any) -> None:
            if response.status_code != PARTIAL_CONTENT:  # the whole file, or an error
                file.truncate(0)

        pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(),
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity", "Range": f"bytes={file.tell()}-"},
            hooks={"response": begin},
        )(url, file, None)
    part.replace(output)


def _copy(task: str, source: Path, files: dict[str, RawFile], folder: Path) -> None:
    if not source.is_dir():
        raise DataError(f"{task}.source: {source} is no folder; use sample, download or the path of a folder")
    for name in files or sorted(path.name for path in source.iterdir()):
        path = source / name
        if path.is_dir():
            shutil.copytree(path, folder / name)
        elif path.is_file():
            shutil.copyfile(path, folder / name)
        else:
            raise DataError(f"{path}: there is no such file; {task}.files names it")


def _description(path: Path) -> dict[str, Any]:
    """sha256, bytes and, of a CSV file, the rows below the header; of a folder sha256 and its files."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        return {"sha256": folder_digest(path), "bytes": size, "files": len(files)}
    description: dict[str, Any] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            description["rows"] = max(sum(1 for _ in csv.reader(file)) - 1, 0)
    return description


def _write_labels(description: Path, path: Path) -> None:
    """What the columns are called for people, {column: {language: label}}, if somebody wrote it down."""
    if not description.is_file():
        return
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    columns = content.get("columns", {})
    labels = {name: column["label"] for name, column in columns.items() if "label" in column}
    path.write_text(json.dumps(labels, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(fetch, as_positional=True))
