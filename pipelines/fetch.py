"""Copy, download or draw the raw files of a task into data/raw/<task>/; params.yaml names the source."""

import csv
import json
import logging
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jsonargparse import auto_cli

from pipelines.parameters import checked, kind_of, task_section
from src.core.atomic import written_whole
from src.core.csv_cells import LONGEST_CELL
from src.core.digests import content_digest, file_digest, folder_digest
from src.core.errors import ConfigurationError, DataError, IntegrityError, ResourceError, exit_with_message
from src.core.outputs import check_source, require_ours
from src.core.paths import RAW, SAMPLES, SOURCE, STORES

DOWNLOAD = "download"
DOWNLOADS = Path("data/downloads")
LABELS = "labels.json"  # {column: {language: label}}
MOST_SHOWN = 6
ATTEMPTS = 3
TIMEOUT = 30.0  # seconds without a byte
WEB = ("http", "https", "ftp")
BLOCK = 1 << 23  # bytes of an object that are copied at once
PARTIAL_CONTENT = 206  # the HTTP status of a response with a range of a file
OFFLINE_WAY = "set `source` to sample, or to a folder that holds the files"


@dataclass
class RawFile:
    """A raw file of `source: download`.

    Args:
        url: a public address, or that of an object in a store, s3://BUCKET/KEY or gs://BUCKET/KEY, whose
            access keys are taken from the environment only.
        hash: the digest of the content, such as `sha1:585e...` or `sha256:...`.
        source: where this file is, whatever the source of the others is, such as pretrained weights for data
            of one's own: `download`, or the path of the file or folder, whose sha256 is compared if `hash`
            is given; null for the source of the task.
    """

    url: str | None = None
    hash: str | None = None
    source: str | None = None


@dataclass
class Source:
    """The keys `source` and `files` of a task's section in params.yaml.

    Args:
        source: sample, download, the path of a folder, or the address of a folder: s3://BUCKET/FOLDER.
        files: the raw files, or folders of files, by name; empty for all that the source has. An address
            needs the name and hash of each file. For a download of many files: the path of a registry, a text
            file with a line `name hash url` per file, which folders and the sample ignore.
    """

    source: str
    files: dict[str, RawFile] | str


def fetch(task: str) -> None:
    """Write the raw files of a task to data/raw/<task>/ and record them in SOURCE.json.

    A folder with files that `fetch` has not written, or that were changed since, is not replaced.

    The key `source` of the task's section in params.yaml is `sample` (the files of data/samples/<task>/,
    offline), `download` (public addresses, with verified digests), `none` (a data module of one's own brings
    its data), the path of a folder that holds the files, or the address of one, such as s3://BUCKET/FOLDER.

    Args:
        task: a task of params.yaml.
    """
    section = task_section(task)
    wanted = checked(Source, {key: section.get(key) for key in ("source", "files")}, task)
    files = wanted.files
    remote = wanted.source == DOWNLOAD or "://" in wanted.source
    if isinstance(files, str):
        files = _registry(task, Path(files)) if remote else {}
    if wanted.source != DOWNLOAD and remote:
        files = _addressed(task, wanted.source, files)
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigurationError(f"{task}.files: {name!r} leads out of the task's folder")
    require_ours(RAW / task, fetched(RAW / task))
    downloaded = {name: file for name, file in files.items() if file.source == DOWNLOAD}
    elsewhere = {name: file for name, file in files.items() if file.source not in (None, DOWNLOAD)}
    with written_whole(RAW / task) as folder:
        if wanted.source == "sample":
            _write_sample(task, folder)
        elif wanted.source == "none":  # the data module brings its data
            pass
        elif remote:
            _download(task, {name: file for name, file in files.items() if name not in elsewhere}, folder)
        else:
            others = {name: file for name, file in files.items() if file.source is None}
            _copy(task, Path(wanted.source).expanduser(), others, folder)
        if not remote and downloaded:
            _download(task, downloaded, folder)
        for name, file in elsewhere.items():
            _copy_one(task, name, file, folder)
        absent = [name for name in files if not (folder / name).exists()]
        if absent:
            raise ConfigurationError(f"{task}.files: the source {wanted.source} has no file {absent[0]}")
        labels = SAMPLES / task / LABELS  # of the sample's columns; the download of a task has the same
        if labels.is_file() and not (folder / LABELS).exists():
            shutil.copyfile(labels, folder / LABELS)
        names = sorted(path.name for path in folder.iterdir() if path.name != SOURCE)
        record = {"source": wanted.source, "files": {name: _description(folder / name) for name in names}}
        (folder / SOURCE).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    shown = ", ".join(names) if len(names) <= MOST_SHOWN else f"{len(names)} files"
    print(f"{task}: {shown} from {wanted.source}: {RAW / task}/")


def fetched(folder: Path) -> dict[str, str | None]:
    """The names and sha256 of what an earlier `fetch` has written into a folder."""
    try:
        files = json.loads((folder / SOURCE).read_text(encoding="utf-8"))["files"]
        return {SOURCE: None, **{name: file["sha256"] for name, file in files.items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _registry(task: str, path: Path) -> dict[str, RawFile]:
    """Read a registry in the format of pooch."""
    if not path.is_file():
        raise ConfigurationError(f"{task}.files: the registry {path} does not exist")
    files = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            try:
                name, digest, url = line.split()
            except ValueError:
                raise ConfigurationError(f"{path}: expected `name hash url`, found '{line}'") from None
            files[name] = RawFile(url, digest)
    return files


def _write_sample(task: str, folder: Path) -> None:
    """Copy data/samples/<task>/, or let the kind of data draw what data/samples/<task>.yaml describes."""
    sample, description = SAMPLES / task, SAMPLES / f"{task}.yaml"
    module = f"src.{kind_of(task)}.sample"
    if sample.is_dir():
        _copy(task, sample, {}, folder)
    elif description.is_file() and find_spec(module):
        import_module(module).write_sample(description, folder)
    else:
        raise ConfigurationError(
            f"{task}.source: there is no sample {sample}; set `source` to the path of a folder"
        )


def _addressed(task: str, source: str, files: dict[str, RawFile]) -> dict[str, RawFile]:
    """The files of an address, each with its own address."""
    _require_address(f"{task}.source", source)
    if not files:
        raise ConfigurationError(f"{task}.files: {source} needs the name and the hash of each file")
    web = urlsplit(source).scheme in WEB
    return {
        name: replace(file, url=file.url or f"{source.rstrip('/')}/{quote(name) if web else name}")
        for name, file in files.items()
    }


def _require_address(key: str, url: str) -> None:
    """Refuse an address of an unknown kind, and one with an access key, which is not repeated.

    Raises:
        ConfigurationError: params.yaml, which is committed, must not have keys; or no library reads it.
    """
    found = urlsplit(url)
    if found.username or found.password or re.search(r"(?i)(signature|credential|token|sig)=", found.query):
        raise ConfigurationError(
            f"{key}: the address has an access key in it; leave it out, and set it in the environment, as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if found.scheme not in (*WEB, *STORES):
        known = ", ".join(f"{scheme}://" for scheme in (*WEB, *STORES))
        raise ConfigurationError(f"{key}: found {url}, expected one of {known}")


def _download(task: str, files: dict[str, RawFile], folder: Path) -> None:
    import pooch  # slow, and not needed for --help or the sample
    import requests

    for name, file in files.items():
        if not file.url or not file.hash:
            raise ConfigurationError(f"{task}.files.{name} needs a url and a hash for `source: download`")
        _require_address(f"{task}.files.{name}.url", file.url)
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
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            web = urlsplit(file.url).scheme in WEB
            shutil.copyfile(store.fetch(name, downloader=_resumed if web else _from_store), folder / name)
        except ValueError as error:  # pooch's error for another digest; its message has both
            raise IntegrityError(f"{file.url}: {error}") from None
        except requests.RequestException as error:
            raise ResourceError(f"{file.url}: {error}; {OFFLINE_WAY}") from None


def _resumed(url: str, output: str, _: Any) -> None:
    """Download a file for pooch; continue an interrupted attempt if the server supports ranges."""
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


def _from_store(url: str, output: str, _: Any) -> None:
    """Copy an object of a store for pooch, with the keys of the environment.

    Raises:
        ConfigurationError: the store's library is not installed.
        ResourceError: the store does not answer, refuses the keys, or has no such object.
    """
    import fsspec

    part = Path(output).with_name(f"{sha256(url.encode()).hexdigest()[:16]}.part")
    try:
        with fsspec.open(url, "rb") as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK)
    except ImportError:
        raise ConfigurationError(f"{url}: {STORES[urlsplit(url).scheme]}") from None
    except Exception as error:  # each store has errors of its own
        raise ResourceError(f"{url}: {type(error).__name__}: {error}; {OFFLINE_WAY}") from None
    part.replace(output)


def _copy(task: str, source: Path, files: dict[str, RawFile], folder: Path) -> None:
    if not source.is_dir():
        raise DataError(f"{task}.source: {source} is not a folder; use sample, download or a path of one")
    check_source(task, source, files)
    for name in files or sorted(path.name for path in source.iterdir()):
        if not (source / name).exists():
            raise DataError(f"{source / name}: the file does not exist; {task}.files names it")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy_raw(source / name, folder / name, source.resolve())


def _copy_one(task: str, name: str, file: RawFile, folder: Path) -> None:
    """Copy a file or folder that has a source of its own."""
    source = Path(file.source or "").expanduser()
    if not source.exists():
        raise DataError(f"{task}.files.{name}: {source} does not exist; source is download or its path")
    check_source(task, source.parent, [source.name])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    copy_raw(source.resolve(), folder / name, source.resolve())
    if file.hash and (found := f"sha256:{content_digest(folder / name)}") != file.hash:
        raise IntegrityError(f"{task}.files.{name}: {source} has the digest {found}, expected {file.hash}")


def copy_raw(path: Path, copy: Path, root: Path) -> None:
    """Copy a raw file, or a folder of raw files.

    Args:
        path: the file or folder.
        copy: the place for the copy.
        root: the source folder, without links in its path. Links are followed to files in it only.

    Raises:
        DataError: as `check_raw`.
    """
    _check_entry(path, root)
    if path.is_dir():
        copy.mkdir()
        for entry in sorted(path.iterdir()):
            copy_raw(entry, copy / entry.name, root)
    else:
        shutil.copyfile(path, copy)


def check_raw(path: Path, root: Path) -> None:
    """Check a raw file, or a folder of raw files, as `copy_raw` does, which has the same arguments.

    Raises:
        DataError: a link leads elsewhere, or there is something else than files and folders.
    """
    _check_entry(path, root)
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            check_raw(entry, root)


def _check_entry(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root) or (path.is_symlink() and not path.is_file()):
        raise DataError(
            f"{path} is no file or folder of {root} but leads to {path.resolve()}; put a copy in its place"
        )
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder; remove it from the source")


def _description(path: Path) -> dict[str, Any]:
    """The sha256 and bytes of a file or folder; rows below the header of a CSV, files of a folder."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        return {"sha256": folder_digest(path), "bytes": size, "files": len(files)}
    description: dict[str, Any] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    if path.suffix == ".csv":
        csv.field_size_limit(LONGEST_CELL)  # as of the preparation
        # a cell may be too long for the reader, or be never closed
        with suppress(csv.Error), path.open(encoding="utf-8", errors="replace", newline="") as file:
            description["rows"] = max(sum(1 for _ in csv.reader(file)) - 1, 0)
    return description


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(fetch, as_positional=True))
