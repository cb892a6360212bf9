"""The code that a result depends on: the project's modules that it imports, and one digest of them.

The folder of a run, the cells of studies and the preparations of folds are named by this digest. The stages
of dvc.yaml depend on it by data/code.json (`pipelines.code`).
"""

import ast
import io
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from tokenize import COMMENT, tokenize
from typing import Any

import yaml

from src.core.digests import file_digest
from src.core.paths import LOCK

ROOT = Path(__file__).parents[2]
PACKAGES = ("src", "pipelines")
LOCKED = ("torch", "lightning", "pytorch_lightning")  # which configurations name most
SHARDED = ("fsdp2", "src.training.sharding.FullySharded")  # names of the strategy
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_digest(*modules: str) -> str:
    """The sha256 of all that a module computes with: the project's code and the locked packages.

    Comments, docstrings and empty lines are left out. Of packages that a configuration names beside torch and
    Lightning, such as those that are `trusted`, the installed version counts: the lock may not have them.

    Args:
        modules: dotted names, such as `src.tabular.prepare`.
    """
    digest = sha256()
    for name in sorted(_versions(modules)):
        digest.update(f"{name}\n".encode())
    for path in sorted(files_of(*modules)):
        digest.update(f"{path.as_posix()} {_text_digest(ROOT / path)}\n".encode())
    lock = ROOT / LOCK
    digest.update((file_digest(lock) if lock.is_file() else "").encode())
    return digest.hexdigest()


def _versions(modules: Iterable[str]) -> set[str]:
    """The distributions with their versions that bring modules of other packages."""
    found = set()
    for package in {module.partition(".")[0] for module in modules} - {*PACKAGES, *LOCKED, ""}:
        try:
            names = {package: version(package)}
        except PackageNotFoundError:  # the distribution has another name; to find it takes most of a second
            names = {name: version(name) for name in packages_distributions().get(package, [])}
        # without the build, such as +cpu
        found |= {f"{name} {number.partition('+')[0]}" for name, number in names.items()}
    return found


def run_digest(configuration: dict[str, Any], prepared: str | None) -> str:
    """The name of a training's folder in runs/, from all that its result depends on.

    A training whose weights are in parts may go on with another number of processes.

    Args:
        configuration: the resolved one.
        prepared: the sha256 over the prepared data; None without such.
    """
    trainer = configuration.get("trainer") or {}
    strategy = trainer.get("strategy")
    if (strategy.get("class_path") if isinstance(strategy, dict) else strategy) in SHARDED:
        trainer = {name: value for name, value in trainer.items() if name not in ("devices", "num_nodes")}
        configuration = {**configuration, "trainer": trainer}
    code = code_digest("src.cli", *sorted(modules_named(configuration)))
    identity = yaml.safe_dump(configuration) + (prepared or "") + code
    return sha256(identity.encode()).hexdigest()[:12]


def files_of(*modules: str) -> set[Path]:
    """The project's files that some modules import, directly or not, themselves included.

    Imports in functions count, those for type checkers do not. Files that hold nothing but a docstring are
    left out. What is imported by a computed name (`import_module`) has to be among the arguments.

    Args:
        modules: dotted names; a name of another project has no files here.

    Returns:
        Paths relative to the project's root.
    """
    found: set[Path] = set()
    waiting = [path for module in modules for path in _own_files(module)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for module in imports_of(ROOT / path) for file in _own_files(module)]
    return {path for path in found if _code(ROOT / path)}


def imports_of(path: Path) -> Iterator[str]:
    """The dotted names that a file imports; of `from a import b` both a and a.b.

    Names such as `.a` are those of the file's package, if the file is below the project's root.
    """
    around = path.relative_to(ROOT).parent.parts if path.is_relative_to(ROOT) else ()
    for node in _nodes(_parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = around[: len(around) - node.level + 1] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            if package or not node.level:
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)


def modules_named(configuration: Any) -> set[str]:
    """The modules of the classes that a configuration names: by `class_path` or as src.a.B."""
    if isinstance(configuration, str) and configuration.startswith("src."):
        return {configuration.rpartition(".")[0]}
    if isinstance(configuration, list):
        return set().union(*map(modules_named, configuration))
    if not isinstance(configuration, dict):
        return set()
    inner = set().union(*map(modules_named, configuration.values()))
    path = configuration.get("class_path")
    return inner | {path.rpartition(".")[0]} if isinstance(path, str) else inner


def _own_files(module: str) -> list[Path]:
    """The file of a module of the project and the __init__.py of the packages around it."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return []
    packages = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*packages, Path(*parts).with_suffix(".py")) if (ROOT / path).is_file()]


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below a tree but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from _nodes(node)


def _code(path: Path) -> list[ast.stmt]:
    """The statements of a file without its docstring."""
    body = _parsed(path).body
    return body[1:] if ast.get_docstring(_parsed(path)) is not None else body


@cache
def _text_digest(path: Path) -> str:
    """The sha256 of a file without comments, docstrings and empty lines.

    Of the text, not of the syntax tree, which every version of Python writes in another form.
    """
    source = path.read_bytes()
    lines = source.splitlines()
    for token in tokenize(io.BytesIO(source).readline):
        if token.type == COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1].decode()[:column].encode()
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            text = node.body[0]
            assert text.end_lineno is not None  # what a parsed node has
            first, last = text.lineno - 1, text.end_lineno - 1
            rest = lines[last][text.end_col_offset :]
            lines[first] = lines[first][: text.col_offset] + rest
            lines[first + 1 : last + 1] = [b""] * (last - first)
    return sha256(b"\n".join(line.rstrip() for line in lines if line.strip())).hexdigest()


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))
