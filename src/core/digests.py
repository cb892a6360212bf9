"""The sha256 of files and folders, and the manifests that list them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.core.documents import write_json
from src.core.errors import ConfigurationError, IntegrityError
from src.core.paths import MANIFEST, PARAMETERS, SOURCE
from src.core.shards import read_shards


def file_digest(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """One sha256 over the names and contents of the files below `folder`, in the order of their names."""
    lines = [
        f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256(
        "".join(lines).encode(errors="surrogateescape")
    ).hexdigest()  # names need not be UTF-8


def content_digest(path: Path) -> str:
    """The sha256 of a file or of a folder."""
    return folder_digest(path) if path.is_dir() else file_digest(path)


def write_manifest(folder: Path, **entries: Any) -> None:
    """Write manifest.json, the last file of a folder: the sha256 of each other file.

    Args:
        folder: contains files only.
        entries: further entries of the manifest.
    """
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, {**entries, "files": files})


def manifest_files(folder: Path) -> dict[str, str]:
    """The sha256 of the files that the manifest of a folder lists; empty without a readable manifest."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def prepared_manifest(prepared: Path, arrays: bool = True) -> dict[str, Any]:
    """Read the manifest of data/prepared/<task> and check the digest of every file.

    Args:
        prepared: the folder.
        arrays: whether those in shards are checked; remote ones need not be in the folder.

    Raises:
        ConfigurationError: the file does not exist.
        IntegrityError: a file is missing or differs from the manifest.
    """
    left_out = set() if arrays else read_shards(prepared).keys()
    return _checked(
        prepared / MANIFEST,
        "prepare",
        lambda manifest: {name: digest for name, digest in manifest["files"].items() if name not in left_out},
    )


def data_digest(prepared: Path) -> str | None:
    """The sha256 of the manifest of prepared data.

    Returns:
        None without a manifest, and for one that lists nothing, as the stage `prepare` writes it for a task
        whose data module brings its data: a training is the same before and after that stage.
    """
    path = prepared / MANIFEST
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) == {"files": {}, "raw": {}}:
        return None
    return file_digest(path)


def read_source(raw: Path) -> dict[str, Any]:
    """Read SOURCE.json in data/raw/<task> and check the digest of every raw file.

    Raises:
        ConfigurationError: the file does not exist.
        IntegrityError: a raw file is missing or differs from what was fetched.
    """
    return _checked(
        raw / SOURCE,
        "fetch",
        lambda source: {name: file["sha256"] for name, file in source["files"].items()},
    )


def _checked(path: Path, command: str, digests: Callable[[Any], Mapping[str, str]]) -> dict[str, Any]:
    """Read a file that lists the digests of other files of its folder, and check them."""
    folder = path.parent
    stage = f"{command}@{folder.name}"
    if not path.is_file():
        where = "" if PARAMETERS.is_file() else " in the project's root folder; this is another one"
        raise ConfigurationError(f"{path} is not here; run: dvc repro {stage}{where}")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = digests(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}; run: dvc repro -f {stage}") from None
    require_digests(folder, expected, f"run: dvc repro -f {stage}")
    return content


def require_digests(folder: Path, expected: Mapping[str, str], remedy: str) -> None:
    """Raise IntegrityError for the first file or folder in `folder` whose sha256 is not the expected one.

    Args:
        folder: contains them.
        expected: the digests by name.
        remedy: the end of the message: what to do.
    """
    for name, digest in expected.items():
        place = folder / name
        found = "not a regular file" if place.exists() else "no such file"
        if place.is_dir() or place.is_file():  # a pipe would wait for a writer
            found = content_digest(place)
        if found != digest:
            raise IntegrityError(
                f"{place}: sha256 {found}, expected {digest}; {remedy}; where DVC brings "
                "the damage back from its cache, chmod -R u+w .dvc/cache has it check what lies there"
            )
