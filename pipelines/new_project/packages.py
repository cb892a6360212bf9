"""Which dependencies a project still needs, and which packages of requirements.lock they still bring."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from src.core.code import imports_of

# `name[extra, extra] >= 1 ; marker`
REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[([^]]*)\])?[^;]*(?:;(.*))?")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@cache
def imported(file: Path) -> dict[str, str]:
    """The installed packages that a file imports, by the imported name."""
    names = {name.partition(".")[0] for name in imports_of(file)}
    return {name: normalised(_packages()[name][0]) for name in names if name in _packages()}


@cache
def _packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def needed(requirements: Iterable[str]) -> set[str]:
    """The names of all packages that some requirements bring, themselves included.

    The metadata of the installed packages is read. Markers of systems and versions of Python are ignored,
    since the lock is for all of them. What only other systems install has no metadata here.

    Args:
        requirements: such as `dvc>=3.67` or `jsonargparse[signatures]`.
    """
    found: set[tuple[str, str]] = set()  # name and extra, '' for none
    waiting = [pair for text in requirements for pair in _pairs(text)]
    while waiting:
        name, extra = pair = waiting.pop()
        if pair in found:
            continue
        found.add(pair)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            extras = EXTRA.findall(line.partition(";")[2])
            if extra in map(normalised, extras) or (not extra and not extras):
                waiting += _pairs(line)
    return {name for name, _ in found}


def _pairs(requirement: str) -> list[tuple[str, str]]:
    matched = REQUIREMENT.match(requirement)
    assert matched is not None, requirement
    extras = [extra for extra in re.split(r"[\s,]+", matched[2] or "") if extra]
    return [(normalised(matched[1]), normalised(extra)) for extra in ("", *extras)]


def normalised(name: str) -> str:
    """The name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_without(text: str, packages: set[str]) -> str:
    """The text of a lock file without the blocks of some packages."""
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if normalised(block.partition("==")[0]) not in packages)
