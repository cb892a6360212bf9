"""Write a project of one's own from the tracked files of this one."""

import contextlib
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.new_project.packages import imported, locked_without, needed, normalised
from pipelines.parameters import LOADER, every_kind, kinds_with, read_parameters, studies_of
from pipelines.remove import removal
from src.core.atomic import written_whole
from src.core.code import imports_of
from src.core.errors import ConfigurationError
from src.core.git import git
from src.core.paths import CONFIGS, LOCK, MODELS, PARAMETERS, RAW, REPORTS, SAMPLES

EXAMPLES = ("one", "none")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
PROJECT = Path("pyproject.toml")
# what is about the course, about Lockstep itself, or a result of it
LEFT_OUT = (
    *("benchmarks", "dvc.lock", "reports", "README.zh-CN.md"),
    *("docs/benchmarks.md", "docs/course.md", "docs/new_project.md"),
    *("docs/house_prices.png", "docs/optimizers.png", "docs/vanishing.png"),
    *("pipelines/new_project", "tests/pipelines/test_new_project.py"),
    *("tests/own_modules", "tests/test_course.py", "tests/test_deletion.py", "tests/test_kills.py"),
)
# the name of the project, as W&B, pip and the pages show it; names of classes and variables stay
NAMED = re.compile(r'(?<=")lockstep(?=")|(?<=project: )lockstep\b|(?<=, )lockstep(?=])')
SHOWN = re.compile(
    r'(?<=")Lockstep(?=")|(?<="# )Lockstep\b|(?<=the project )Lockstep\b|(?<=site_name: )Lockstep\b'
)
INDEX = """# {name}

This project was made from the template Lockstep. These pages are those of Lockstep:
they name its built-in tasks, studies, benchmarks and tests, which this project need not have.
"""
# other changes of single files: each pattern has to be there
EDITS = (
    ("Makefile", r"^bench: .*\n(?:\t.*\n)+\n", ""),
    ("Makefile", r"(?<=lint )bench ", ""),
    ("pyproject.toml", r'(?<="pipelines"), "benchmarks"', ""),
    ("pyproject.toml", r'^"benchmarks/\*" = .*\n', ""),
    ("params.yaml", r"(?<=# many models\.) fashion_mnist_convnet (?:.|\n# )*", ""),
    ("docs/cli.md", r"^\| `python -m pipelines\.new_project .*\n", ""),
    ("docs/index.md", r"^# .*\n", INDEX),
)
# the kinds that use an extra of the Makefile; tables are compared with boosted trees in benchmarks only
EXTRAS: dict[str, tuple[str, ...]] = {"tables": (), "timm": ("images",), "transformers": ("text",)}
SAMPLES_PAGE = """# Samples

`source: sample` in `params.yaml` copies the folder `data/samples/<task>/` to `data/raw/<task>/`.

| sample | rows | content |
|---|---|---|
"""


def new_project(folder: Path, kinds: list[str], examples: str = "one", name: str | None = None) -> None:
    """Write a project of its own, and commit it in a git repository of its own.

    Args:
        folder: of the new project; absent or empty.
        kinds: the kinds of data that it keeps.
        examples: `one`, the first task of each kind in params.yaml, or `none`.
        name: of the project, None for that of the folder.

    Raises:
        ConfigurationError: the folder holds something or lies in this project, there is no such kind, the
            name cannot be used, or git knows no name and address for the commit.
    """
    name = name or folder.resolve().name
    commit = _check(folder, kinds, name)
    root, identity = Path.cwd(), _identity()
    files = [Path(path) for path in git("ls-files", "-z").split("\0") if path]
    with written_whole(folder.absolute()) as place:
        for path in files:
            if path.is_file() and not any(path.is_relative_to(part) for part in LEFT_OUT):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place / path)
        with contextlib.chdir(place):
            tasks = _remove_others(kinds, examples)
            _reduce_samples(tasks)
            _reduce_packages(root, files)
            _reduce_extras(kinds)
            _reduce_documentation()
            _rename(name)
            _write_readme(name, kinds, tasks, commit)
            _commit(name, commit, identity)
    shown = f"the example {', '.join(tasks)}" if tasks else "no example"
    print(f"written and committed: {folder}/, the project {name} with {', '.join(kinds)}; {shown}")
    print(f"\ncd {folder} && make repro")


def _check(folder: Path, kinds: list[str], name: str) -> str:
    """Refuse what cannot be done before anything is written; return the commit of this project."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"--name: expected a letter, then letters, digits, _ or -, found {name!r}")
    known = every_kind()
    for kind in kinds:
        if kind not in known:
            raise ConfigurationError(
                f"--kinds: there is no kind of data '{kind}'; there are: {', '.join(known)}"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} holds something already; name a new folder")
    if folder.resolve().is_relative_to(Path.cwd()):
        raise ConfigurationError(
            f"{folder} lies in this project; name a folder outside of it, such as ../{name}"
        )
    read_parameters()  # this is the root folder
    _identity()
    try:
        return git("rev-parse", "HEAD")
    except subprocess.CalledProcessError:
        raise ConfigurationError("this folder is no git repository; clone the project with git") from None


def _identity() -> list[str]:
    """The options of git for a commit by who commits here, without a signature.

    Raises:
        ConfigurationError: git knows no name and address.
    """
    try:
        found = git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except (OSError, subprocess.CalledProcessError):
        raise ConfigurationError(
            "git needs a name and an address for the first commit: git config --global user.name NAME && "
            "git config --global user.email ADDRESS"
        ) from None
    name, _, rest = found.rpartition(" <")
    options = {"user.name": name, "user.email": rest.partition(">")[0], "commit.gpgsign": "false"}
    return [part for key, value in options.items() for part in ("-c", f"{key}={value}")]


def _remove_others(kinds: list[str], examples: str) -> list[str]:
    """Remove other kinds, tasks and models, and all studies; return the tasks that stay."""
    parameters = read_parameters()
    tasks = parameters["tasks"]
    first = {kind: task for task, kind in reversed(tasks.items())}
    kept = [first[kind] for kind in kinds if kind in first and examples == "one"]
    # the configuration of a model in params.yaml may not be committed, and is then not copied
    configured = {path.stem for path in CONFIGS.glob("*.yaml")} | (parameters.get("models") or {}).keys()
    removal(
        kinds=[kind for kind in every_kind() if kind not in kinds],
        tasks=[task for task in tasks if task not in kept],
        models=[name for name in configured if name not in tasks],
        studies=studies_of(parameters),
    ).apply()
    return kept


def _reduce_samples(tasks: list[str]) -> None:
    """Remove samples of tasks that are gone, and write the page of those that stay."""
    page = SAMPLES / "README.md"
    rows = re.findall(r"^\| `(\w+)` \|.*\n", page.read_text(encoding="utf-8"), re.MULTILINE)
    lines = re.findall(r"^\| `\w+` \|.*\n", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = [line for row, line in zip(rows, lines, strict=True) if row in tasks]
    page.write_text(SAMPLES_PAGE + "".join(kept), encoding="utf-8")
    for path in SAMPLES.iterdir():
        if path != page and path.stem not in tasks:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _reduce_packages(root: Path, files: Iterable[Path]) -> None:
    """Take the dependencies that nothing imports any longer, and what only they bring, out of the lock."""
    uses = {path: imported(root / path) for path in files if path.suffix == ".py" and (root / path).is_file()}
    used = {package for path, names in uses.items() if path.is_file() for package in names.values()}
    every = {name: package for names in uses.values() for name, package in names.items()}
    unused = {name: package for name, package in every.items() if package not in used}
    text = PROJECT.read_text(encoding="utf-8")
    listed = tomllib.loads(text)["project"]
    development = listed["optional-dependencies"]["dev"]
    kept = [one for one in listed["dependencies"] if _package(one) not in unused.values()]
    for dependency in {*listed["dependencies"]} - {*kept}:
        text = text.replace(f'    "{dependency}",\n', "")
    names = {name.partition(".")[0] for path in uses if path.is_file() for name in imports_of(path)}
    (section,) = re.findall(r"^module = .*", text, re.MULTILINE)
    modules = [module for module in re.findall(r'"[^"]*"', section) if module.strip('".*') in names]
    text = text.replace(section, f"module = [{', '.join(modules)}]")
    PROJECT.write_text(text, encoding="utf-8")
    gone = needed([*listed["dependencies"], *development]) - needed([*kept, *development])
    LOCK.write_text(locked_without(LOCK.read_text(encoding="utf-8"), gone), encoding="utf-8")
    page = Path("docs/dependencies.md")
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    page.write_text(
        "".join(line for line in lines if not (line.startswith("| ") and line.split()[1] in gone)),
        encoding="utf-8",
    )


def _reduce_extras(kinds: list[str]) -> None:
    """Remove the extras that none of the kinds uses: the lock file, the lines of the Makefile, the docs."""
    for extra, users in EXTRAS.items():
        if {*users} & {*kinds}:
            continue
        Path(f"requirements-{extra}.lock").unlink()
        _edit("Makefile", rf" {extra} \([^)]*\),?", "")
        _edit("Makefile", rf"^\t(?:echo|printf) (?:.*\\\n)*.* -o requirements-{extra}\.lock\n", "")
        _edit("docs/dependencies.md", rf"^`requirements-{extra}\.lock` (?:.+\n)+\n", "")


def _edit(file: str, pattern: str, replacement: str) -> None:
    """Replace the first match of a pattern, which has to be there."""
    path = Path(file)
    text = path.read_text(encoding="utf-8")
    edited, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert count, f"{file}: {pattern}"
    path.write_text(edited, encoding="utf-8")


def _package(requirement: str) -> str:
    return normalised(re.split(r"[\[<>=!~; ]", requirement)[0])


def _reduce_documentation() -> None:
    """Remove the links to pages and pictures that are left out."""
    gone = "|".join(re.escape(Path(path).name) for path in LEFT_OUT if path.startswith("docs/"))
    link = rf"\[([^]]*)\]\((?:{gone})(?:#[^)]*)?\)"
    for page in Path("docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        text = re.sub(rf"^(?:!{link}|\|[^|]*\| {link} \|)\n", "", text, flags=re.MULTILINE)
        page.write_text(re.sub(link, r"\1", text), encoding="utf-8")
    navigation = Path("mkdocs.yml")
    text = navigation.read_text(encoding="utf-8")
    navigation.write_text(re.sub(rf"^  - .*: (?:{gone})\n", "", text, flags=re.MULTILINE), encoding="utf-8")


def _rename(name: str) -> None:
    """Give the project its name, and make the changes of EDITS."""
    for file, pattern, replacement in EDITS:
        _edit(file, pattern, replacement.format(name=name))
    parts = [
        path for part in ("src", "pipelines", "tests") for path in Path(part).rglob("*") if path.is_file()
    ]
    for path in (PROJECT, PARAMETERS, Path("mkdocs.yml"), Path(".devcontainer/devcontainer.json"), *parts):
        if path.suffix in (".py", ".jinja", ".json", ".toml", ".yaml", ".yml"):
            text = path.read_text(encoding="utf-8")
            renamed = SHOWN.sub(name, NAMED.sub(name, text))
            if renamed != text:
                path.write_text(renamed, encoding="utf-8")
    text = PROJECT.read_text(encoding="utf-8")
    description = f'description = "{name}: a PyTorch Lightning project with reproducible pipelines."'
    PROJECT.write_text(re.sub(r"^description = .*", description, text, flags=re.MULTILINE), encoding="utf-8")


def _write_readme(name: str, kinds: list[str], tasks: list[str], commit: str) -> None:
    templates = Environment(  # noqa: S701 - Markdown
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    templates.filters["code"] = lambda text: f"`{text}`"
    proposing = [kind for kind in kinds if kind in kinds_with("propose")]
    values: dict[str, Any] = {
        "name": name,
        "kinds": kinds,
        "tasks": tasks,
        "commit": commit,
        "proposing": proposing,
    }
    text = templates.get_template("README.md.jinja").render(values)
    Path("README.md").write_text(text, encoding="utf-8")


def _commit(name: str, commit: str, identity: list[str]) -> None:
    """Make the git repository and its first commit.

    Raises:
        ConfigurationError: git refuses it, such as by a hook of all repositories.
    """
    models = yaml.load(PARAMETERS.read_text(encoding="utf-8"), LOADER)["models"]  # noqa: S506
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    if not models:  # stages depend on folders that are empty, which git leaves out
        for folder in (CONFIGS, MODELS, RAW, REPORTS):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitkeep").touch()
            git("add", "--force", str(folder / ".gitkeep"))
    try:
        git(*identity, "commit", "--quiet", "--message", f"Start {name}, made from Lockstep {commit[:12]}")
    except subprocess.CalledProcessError as error:
        raise ConfigurationError(f"git refuses the first commit: {error.stderr.strip()}") from None
