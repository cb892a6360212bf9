"""A project of one's own: every combination of kinds is complete, and what it does not need is gone."""

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code import code
from pipelines.new_project.__main__ import main
from pipelines.new_project.new_project import _commit, _identity, new_project
from pipelines.new_project.packages import locked_without, needed
from src.core.code import code_digest
from src.core.errors import ConfigurationError
from tests.support import contents, ended

ROOT = Path(__file__).parents[2]
KINDS = ("tabular", "images", "text", "descent")
COMBINATIONS = [list(some) for count in range(1, 5) for some in combinations(KINDS, count)]
# of each kind its example, and the packages that no other kind imports
EXAMPLES = {"tabular": "house_prices", "images": "fashion_mnist", "text": "poems", "descent": "bowl"}
PACKAGES = {"tabular": {"openpyxl"}, "text": {"jieba", "nltk", "opencc", "pypinyin"}}
IMPORT = re.compile(r"^\s*from ((?:src|pipelines|tests|benchmarks)[.\w]*) import", re.MULTILINE)

# without the finder of this project's installation, which would find the kinds that the new one does not have
PYTEST = """
import sys
sys.meta_path[:] = [one for one in sys.meta_path if getattr(one, "__name__", "") != "_EditableFinder"]
import pytest
sys.exit(pytest.main(["-x", "-m", "not slow", *sys.argv[1:]]))
"""

pytestmark = pytest.mark.usefixtures("identity")


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is the root, and git knows who commits."""
    monkeypatch.chdir(ROOT)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A B")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def read_modules(path: Path) -> set[str]:
    """The modules without types that mypy may import."""
    (override,) = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["mypy"]["overrides"]
    return {*override["module"]}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kinds", COMBINATIONS, ids="-".join)
def test_every_combination_of_kinds_is_a_complete_project(
    kinds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = "none" if kinds == ["descent"] else "one"
    project = tmp_path / "my-project"
    new_project(project, kinds, examples)
    assert git(project, "status", "--porcelain") == ""
    kept = {"configs", "models", "reports", "data/raw"} if examples == "none" else set()
    tracked = [Path(path) for path in git(project, "ls-files").split()]
    assert {str(path.parent) for path in tracked if path.name == ".gitkeep"} == kept
    assert git(project, "log", "--format=%an %s").startswith("A B Start my-project, made from Lockstep ")
    packages = {path.parent.name for path in project.glob("src/*/prepare.py")}
    assert packages == {*kinds}
    assert {path.name for path in (project / "tests").iterdir()} & {*KINDS} == {*kinds}

    tasks = [EXAMPLES[kind] for kind in kinds] if examples == "one" else []
    parameters = read(project / "params.yaml")
    assert parameters["tasks"] == {EXAMPLES[kind]: kind for kind in kinds if tasks}
    assert parameters["models"] == {task: f"data/prepared/{task}" for task in tasks}
    assert parameters["studies"] == parameters["more_studies"] == {}
    assert sorted(path.stem for path in project.glob("configs/*.yaml")) == sorted(tasks)
    assert {path.stem for path in project.glob("data/samples/*")} == {*tasks, "README"}
    assert {*read(project / "data/expected_scores.yaml")} == {*tasks}

    plots = read(project / "dvc.yaml")["plots"]
    assert [path.split("/")[1] for plot in plots for path in plot] == tasks

    # of what is imported, also in programs of tests, nothing has been left behind
    for path in project.rglob("*.py"):
        for name in IMPORT.findall(path.read_text(encoding="utf-8")):
            for module in (Path(*name.split(".")), Path(*name.split(".")).with_suffix(".py")):
                assert (project / module).exists() or not (ROOT / module).exists(), f"{path} imports {name}"
    checked = subprocess.run(["ruff", "check", "--quiet"], cwd=project, stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout
    for module in ("src.core.code.ROOT", "pipelines.parameters.SOURCES"):
        monkeypatch.setattr(module, project / "src" if module.endswith("SOURCES") else project)
    code_digest.cache_clear()
    with contextlib.chdir(project):
        code()
    code_digest.cache_clear()
    assert {*read(project / "data/code.json")["train"]} == {*tasks}

    # the packages that it needs
    gone = set().union(*(names for kind, names in PACKAGES.items() if kind not in kinds))
    listed = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[\[>=]", one)[0] for one in listed["dependencies"]}
    locked = {*re.findall(r"^([\w.-]+)==", (project / "requirements.lock").read_text(), re.MULTILINE)}
    everything = {*re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)}
    assert everything - locked >= gone
    assert not names & gone
    assert names <= {name.lower() for name in locked}
    if not gone:
        assert locked == everything
    assert listed["name"] == "my-project"

    # the extras, whose lock files the Makefile renews
    extras = {"cluster", "s3", "serve"} | ({"transformers"} if "text" in kinds else set())
    extras |= {"timm"} if "images" in kinds else set()
    assert {path.stem for path in project.glob("requirements-*")} == {f"requirements-{one}" for one in extras}
    for file in ("Makefile", "docs/dependencies.md"):
        text = (project / file).read_text(encoding="utf-8")
        assert {*re.findall(r"requirements-(\w+)\.lock", text)} == extras
    overrides = read_modules(project / "pyproject.toml")
    assert {"sklearn.*", "torchvision.*"} <= overrides
    assert "catboost.*" not in overrides
    assert ("jieba.*" in overrides) == ("text" in kinds)


def test_the_project_has_its_name_where_lockstep_had_its_own(tmp_path: Path) -> None:
    new_project(tmp_path / "folder", ["images"], "one", "Fine_name")
    files = contents(tmp_path / "folder/src", tmp_path / "folder/pipelines")
    tracking = next(text for path, text in files.items() if path.endswith("training/tracking.py"))
    assert b'"Fine_name"' in tracking
    assert not [path for path, text in files.items() if b'"lockstep"' in text or b'"Lockstep"' in text]
    assert (tmp_path / "folder/mkdocs.yml").read_text().splitlines()[1] == "site_name: Fine_name"
    readme = (tmp_path / "folder/README.md").read_text()
    assert readme.startswith("# Fine_name\n")
    assert "The example task is `fashion_mnist`." in readme
    assert git(ROOT, "rev-parse", "HEAD").strip() in readme
    assert (tmp_path / "folder/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.unix  # the command is one of its shell
def test_a_change_of_the_template_is_taken_over(tmp_path: Path) -> None:
    template = tmp_path / "template"
    git(ROOT, "clone", "--quiet", "--shared", str(ROOT), str(template))
    parameters = template / "params.yaml"
    text = parameters.read_text(encoding="utf-8")
    # the configuration of this model is not committed, so the new project cannot have it
    parameters.write_text(text.replace("\nmodels:", "\nmodels:\n  sensor: data/sensor", 1), encoding="utf-8")
    with contextlib.chdir(template):
        new_project(tmp_path / "mine", ["descent"], "none")
    assert read(tmp_path / "mine" / "params.yaml")["models"] == {}
    for file, old, new in (
        ("src/core/errors.py", "exit_code = 7", "exit_code = 8"),
        ("src/text/model.py", "import", "import  "),
        ("pipelines/compare.py", "import", "import  "),
    ):
        text = (template / file).read_text(encoding="utf-8")
        (template / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    git(template, "commit", "--quiet", "--all", "--message", "Better")
    mine = tmp_path / "mine"
    git(mine, "remote", "add", "template", str(template))
    git(mine, "fetch", "--quiet", "template")
    (command,) = re.findall(r"^(git diff .*)$", (mine / "README.md").read_text(), re.MULTILINE)
    command = command.replace("template/main", "FETCH_HEAD")  # a clone of a branch of another name
    subprocess.run(command, shell=True, cwd=mine, check=True, capture_output=True)  # noqa: S602
    assert git(mine, "diff", "--name-only", "HEAD").split() == ["pipelines/compare.py", "src/core/errors.py"]
    assert "exit_code = 8" in (mine / "src/core/errors.py").read_text()


@pytest.mark.parametrize(
    ("folder", "kinds", "name", "told"),
    [
        (
            "new",
            ["sounds"],
            None,
            "there is no kind of data 'sounds'; there are: descent, images, tabular, text",
        ),
        ("new", ["text"], "a b", "expected a letter, then letters, digits, _ or -, found 'a b'"),
        ("1st", ["text"], None, "found '1st'"),
        ("full", ["text"], None, "full holds something already"),
        (
            str(ROOT / "mine"),
            ["text"],
            None,
            "lies in this project; name a folder outside of it, such as ../mine",
        ),
    ],
)
def test_what_cannot_be_made_is_told(
    folder: str, kinds: list[str], name: str | None, told: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        new_project(tmp_path / folder, kinds, "one", name)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_without_an_identity_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("EMAIL", "")
    with pytest.raises(ConfigurationError, match=r"git config --global user\.name NAME"):
        new_project(tmp_path / "mine", ["descent"])
    assert not [*tmp_path.iterdir()]


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words = [
        "new_project",
        str(tmp_path / "mine"),
        "--kinds=descent,images",
        "--examples=none",
        "--name=ours",
    ]
    monkeypatch.setattr(sys, "argv", words)
    assert ended(main) == 0
    assert "the project ours with descent, images; no example" in capsys.readouterr().out
    assert ended(main) == 2


def test_needed_packages_follow_from_what_is_installed() -> None:
    found = needed(["jsonargparse[signatures]>=4", "not_installed"])
    assert {"jsonargparse", "typeshed-client", "docstring-parser", "not-installed"} <= found
    assert "docstring-parser" not in needed(["jsonargparse"])
    assert "jieba" not in found


def test_blocks_of_the_lock_go_whole() -> None:
    block = "{}==1 ; sys_platform == 'win32' \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n"
    text = "".join(map(block.format, ("a", "b-c", "d")))
    assert locked_without(text, {"b-c", "e"}) == block.format("a") + block.format("d")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "examples"), [(["tabular"], "one"), (["text", "images"], "none")], ids=["tabular", "no-example"]
)
def test_a_new_project_passes_its_checks_and_its_examples_run(
    kinds: list[str], examples: str, tmp_path: Path, python: Callable[..., Any]
) -> None:
    project = tmp_path / "mine"
    new_project(project, kinds, examples)
    variables = {"PYTHONPATH": os.pathsep.join([str(project), os.environ["PYTHONPATH"]])}
    for check in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["dvc", "repro"]):
        done = python("-m", *check, cwd=project, **variables)
        assert done.returncode == 0, done.stdout
    changed = {line[3:] for line in git(project, "status", "--porcelain").splitlines()}
    assert changed == ({"dvc.lock", "reports/"} if examples == "one" else {"dvc.lock"})
    # its quick tests, but those of packages that every project has as this one, which take half of the time
    command = [sys.executable, "-c", PYTEST, "--ignore=tests/core", "--ignore=tests/training"]
    tested = subprocess.run(
        command, cwd=project, env=os.environ | variables, stdout=subprocess.PIPE, text=True, timeout=2400
    )
    assert tested.returncode == 0, tested.stdout


def test_the_first_commit_needs_neither_a_signature_nor_a_global_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text("[commit]\n\tgpgsign = true\n[user]\n\tsigningkey = absent\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"):
        monkeypatch.delenv(f"GIT_{name}", raising=False)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "old")
    git(Path(), "init", "--quiet")
    git(Path(), "config", "user.name", "A <B>")
    git(Path(), "config", "user.email", "a@example.org")
    identity = _identity()
    monkeypatch.chdir(tmp_path / "new")
    Path("params.yaml").write_text("models: {a: b}\n")
    _commit("mine", "0" * 40, identity)
    said = git(Path(), "log", "--format=%ae %s").strip()
    assert said == "a@example.org Start mine, made from Lockstep 000000000000"
    hook = Path(".git/hooks/pre-commit")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no commits on Fridays >&2\nexit 1\n")
    hook.chmod(0o755)
    Path("more.txt").write_text("more")
    with pytest.raises(ConfigurationError, match="git refuses the first commit: no commits on Fridays"):
        _commit("mine", "0" * 40, identity)
