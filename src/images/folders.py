"""Picture files in folders: which are read, and what is left out."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from src.core.errors import DataError

PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm"),
)
CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")  # beside all names that begin with a dot
MOST_SHOWN = 3
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "t10k", "validation", "val", "valid", "dev")


@dataclass
class LeftOut:
    """The files of a folder that are not read, counted by ending and by subfolder."""

    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        parts = [f"{number:,} {ending}" for ending, number in sorted(self.others.items())]
        if self.hidden:
            parts.append(f"{self.hidden:,} hidden")
        if self.folders:
            inside, names = sum(self.folders.values()), sorted(self.folders)
            more = f" and {len(names) - MOST_SHOWN:,} more" if len(names) > MOST_SHOWN else ""
            parts.append(f"{inside:,} pictures in the subfolders {', '.join(names[:MOST_SHOWN])}{more}")
        return ", ".join(parts)


def class_folders(folder: Path) -> tuple[dict[str, list[Path]], LeftOut]:
    """The picture files of each class folder, all sorted by name, and what is left out.

    Raises:
        DataError: there are no class folders, one has no pictures, or a name is not UTF-8.
    """
    left = LeftOut()
    beside = pictures_of(folder, LeftOut())
    if beside:
        left.others["pictures outside the class folders"] = len(beside)
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    for path in below:
        if path.name.startswith("_") and _pictures_below(path):
            left.folders[f"{path.name}/"] = _pictures_below(path)
    names = [path.name for path in below if path.name[0] not in "._"]
    for name in names:
        require_utf8(folder / name)
    if not names and beside:
        raise DataError(
            f"{folder}: the pictures lie together; move those of each class into a folder with its name"
        )
    if not names:
        raise DataError(f"{folder}: no folders, expected one per class")
    files = {name: require_pictures(folder / name, left, "class folder") for name in names}
    return files, left


def require_pictures(folder: Path, left: LeftOut, kind: str = "folder") -> list[Path]:
    """The picture files in a folder, sorted by name.

    Raises:
        DataError: there are none; the message names what was found instead.
    """
    found = LeftOut()
    paths = pictures_of(folder, found)
    if not paths:
        instead = f", found {found}" if str(found) else ""
        raise DataError(f"{folder}: no {', '.join(PICTURES)} files in this {kind}{instead}")
    left.hidden += found.hidden
    left.others += found.others
    left.folders += found.folders
    return paths


def pictures_of(folder: Path, left: LeftOut) -> list[Path]:
    """The picture files in a folder, sorted by name; everything else is counted in `left`.

    Raises:
        DataError: the name of a picture is not UTF-8.
    """
    paths = []
    for path in sorted(folder.iterdir()):
        ending = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower() in CLUTTER:
            left.hidden += 1
        elif path.is_dir():
            if inside := _pictures_below(path):
                left.folders[f"{folder.name}/{path.name}/"] += inside
        elif ending not in PICTURES:
            left.others[ending or "files without an ending"] += 1
        elif not path.is_file():  # opening a pipe would wait for ever
            left.others[f"{ending} that are no regular files"] += 1
        else:
            require_utf8(path)
            paths.append(path)
    return paths


def require_utf8(path: Path) -> None:
    """Raise a DataError if the name of a file or folder is not UTF-8: tables and JSON files name it."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        shown = path.name.encode(errors="surrogateescape").decode("utf-8", errors="backslashreplace")
        raise DataError(
            f"{path.parent}: the name {shown} is not UTF-8; rename it, as with `convmv -f latin1 -t utf8`"
        ) from None


def _pictures_below(folder: Path) -> int:
    return sum(path.suffix.lower() in PICTURES and path.name[0] != "." for path in folder.rglob("*"))


def links_to_outside(folder: Path, paths: list[Path]) -> list[Path]:
    """Those of the paths that lead out of the folder by a link."""
    home = folder.resolve()
    return [path for path in paths if not path.resolve().is_relative_to(home)]


def split_of(name: str) -> str | None:
    """`train` or `test`, if a name begins with a usual word for it."""
    word = name.lower().split(".")[0].split("-")[0].split("_")[0]
    return "train" if word in TRAIN_NAMES else "test" if word in TEST_NAMES else None
