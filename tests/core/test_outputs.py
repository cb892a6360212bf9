import json
import os
from pathlib import Path

import pytest

from src.core.atomic import file_written_whole, written_whole
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError, LockedError, ResourceError
from src.core.outputs import check_output, check_source, require_ours


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the working folder of the test."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.unix
@pytest.mark.parametrize("overwrite", [False, True])
def test_outputs_that_can_never_be_written(overwrite: bool) -> None:
    Path("in.csv").write_text("a\n")
    Path("folder").mkdir()
    Path("link").symlink_to("in.csv")
    Path("dangling").symlink_to("nowhere")
    os.link("in.csv", "second name.csv")
    os.mkfifo("pipe")
    Path("kept.csv").touch()
    Path("kept.csv").chmod(0o444)
    for name, told in {
        "in.csv": "in.csv is the input, too",
        "second name.csv": "second name.csv is the input, too",
        "link": "link is a link to in.csv",
        "dangling": "dangling is a link to nowhere",
        "folder": "'folder' is a folder",
        "": "'.' is a folder",
        "..": "'..' is a folder",
        "pipe": "pipe is not a regular file",
        "/dev/null": "/dev/null is not a regular file",
        "kept.csv": "kept.csv is read-only",
        "春" * 82: "name is longer than 243 bytes",
    }.items():
        with pytest.raises(ConfigurationError, match=told):
            check_output(Path(name), overwrite, [Path("in.csv"), Path("not there")])


def test_an_older_file_is_replaced_in_predictions_or_on_wish() -> None:
    check_output(Path("new.csv"), overwrite=False)
    check_output(Path("春" * 81), overwrite=False)
    Path("predictions").mkdir()
    for name in ("poems.txt", "predictions/../poems.txt", "predictions/poems.txt"):
        Path(name).touch()
    check_output(Path("predictions/poems.txt"), overwrite=False)
    check_output(Path("poems.txt"), overwrite=True)
    for name in ("poems.txt", "predictions/../poems.txt"):
        with pytest.raises(
            ConfigurationError, match=r"poems\.txt exists; name another output, or add --over"
        ):
            check_output(Path(name), overwrite=False)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("data/raw/wine", []),
        ("data/raw/wine", ["wine.csv"]),
        ("data/raw/wine/deeper", []),
        ("data/raw", []),
        (".", []),
        (".", ["data"]),
        ("link", ["wine.csv"]),
        ("models/wine", ["history.csv"]),
        ("data/prepared/wine", []),
        ("reports", []),
    ],
)
def test_a_source_that_overlaps_with_its_copy_is_refused(source: str, names: list[str]) -> None:
    Path("link").symlink_to("data/raw/wine")
    with pytest.raises(ConfigurationError, match=r"wine\.source: .* overlap, which `dvc repro` replaces"):
        check_source("wine", Path(source), names)


def test_other_sources_are_accepted() -> None:
    check_source("wine", Path(), ["poems.txt"])
    check_source("wine", Path("data/raw/wines"), [])
    check_source("wine", Path("my_wine"), [])


def test_a_folder_with_a_file_of_the_user_is_not_replaced() -> None:
    folder = Path("folder")
    require_ours(folder, {})
    (folder / "plots").mkdir(parents=True)
    (folder / "made.txt").write_text("made")
    write_made = {"made.txt": "a" * 64, "plots": None}
    with pytest.raises(ConfigurationError, match=r"folder/made\.txt was changed since it was written"):
        require_ours(folder, write_made)
    require_ours(folder, write_made | {"made.txt": None})
    (folder / ".DS_Store").touch()
    require_ours(folder, write_made | {"made.txt": None})
    (folder / "notes.md").touch()
    with pytest.raises(ConfigurationError, match=r"folder/notes\.md was not written by this project"):
        require_ours(folder, write_made | {"made.txt": None})


def test_the_folder_that_a_link_names_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    Path("models").symlink_to(tmp_path / "disk")
    for text in ("first", "second"):
        with written_whole(Path("models")) as folder:
            (folder / "text").write_text(text)
    assert Path("models").is_symlink()
    assert (tmp_path / "disk/text").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "project"]


def test_a_file_in_the_place_of_a_folder_stays() -> None:
    Path("results").write_text("mine")
    with pytest.raises(ResourceError, match="results is a file"), written_whole(Path("results")):
        pass
    assert Path("results").read_text() == "mine"


def test_a_second_writer_of_a_file_is_refused() -> None:
    path = Path("new/out.csv")
    with file_written_whole(path) as first:
        first.write("first")
        with pytest.raises(LockedError, match="another process is writing"), file_written_whole(path) as file:
            file.write("second")
    assert path.read_text() == "first"
    with file_written_whole(path) as file:
        file.write("third")
    assert path.read_text() == "third"
    assert [one.name for one in path.parent.iterdir()] == ["out.csv"]


def test_a_failed_writer_of_a_file_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), file_written_whole(Path("new/deep/out.csv")):
        raise KeyboardInterrupt
    assert list(Path().iterdir()) == []


def test_a_claim_on_a_file_that_was_just_completed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(partial: Path, target: Path) -> int:
        descriptor = os.open(partial, os.O_RDONLY)
        partial.write_text("complete")
        partial.replace(target)  # by the first writer, between our open and our lock
        return descriptor

    monkeypatch.setattr("src.core.atomic._claim", late)
    with pytest.raises(LockedError), file_written_whole(Path("out.csv")) as file:
        file.write("second")
    assert Path("out.csv").read_text() == "complete"


def test_a_manifest_lists_what_may_be_replaced() -> None:
    folder = Path("export")
    folder.mkdir()
    (folder / "model.onnx").write_text("model")
    write_manifest(folder)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    require_ours(folder, files | {"manifest.json": None})
    (folder / "model.onnx").write_text("edited")
    with pytest.raises(ConfigurationError, match=r"export/model\.onnx was changed"):
        require_ours(folder, files | {"manifest.json": None})
