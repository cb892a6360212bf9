"""The structure of the project, read from its sources: who imports whom, what stages depend on."""

import ast
import json
import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.core.code import files_of, imports_of, modules_named

ROOT = Path(__file__).parents[1]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TASKS: dict[str, str] = PARAMETERS["tasks"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SOURCES = sorted(
    path.relative_to(ROOT) for part in ("src", "pipelines") for path in (ROOT / part).rglob("*.py")
)
# what every package of src/ may import beside itself; pipelines may import all of it
COMMON = {
    "core": set(),
    "preparation": {"core"},
    "training": {"core"},
    "reporting": {"core"},
    "bundle": {"core"},
}
KINDS = sorted(
    {path.parent.name for path in SOURCES if path.parts[0] == "src" and len(path.parts) == 3} - {*COMMON}
)
# the modules that a stage imports by a computed name, for the kind of data of its task
COMPUTED = {"fetch": ["sample"], "prepare": ["prepare"], "evaluate": ["evaluate"]}


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def config_of(task: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{task}.yaml").read_text(encoding="utf-8"))
    return config


def imported(path: Path) -> set[Path]:
    """The project's files that a file imports itself."""
    names = [f"{name.replace('.', '/')}.py" for name in imports_of(ROOT / path)]
    return {Path(name) for name in names} & set(SOURCES)


def closure(stage: str, module: str, task: str) -> set[str]:
    """The project's files that a stage computes with for a task."""
    modules = [module, *(f"src.{TASKS[task]}.{name}" for name in COMPUTED.get(stage, []))]
    if stage == "train":
        modules += modules_named(config_of(task))
    if stage == "evaluate":  # the bundle names the class of the model
        modules += modules_named(config_of(task)["model"])
    if module in ("pipelines.study", "pipelines.report"):
        modules.append(f"{module}.__main__")
    return {path.as_posix() for path in files_of(*modules)}


def stages_of(task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, stage in STAGES.items():
        text = json.dumps(stage.get("do", stage))
        text = text.replace("${key}", task).replace("${item}", TASKS[task])
        yield name, json.loads(text)


def test_imports_go_one_way() -> None:
    assert set(KINDS) == set(TASKS.values())
    for path in SOURCES:
        package = path.parts[1] if len(path.parts) > 2 else path.stem
        if path.parts[0] == "pipelines" or package == "cli":
            allowed = {*COMMON}
        else:
            allowed = COMMON.get(package, {*COMMON}) | {package}
        for other in imported(path):
            home = other.parts[1] if len(other.parts) > 2 else other.stem
            inside = other.parts[0] == path.parts[0] == "pipelines"
            assert inside or home in {*allowed, "__init__", "cli"}, f"{path} imports {other}"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_section_its_configuration_and_its_room(task: str) -> None:
    assert {"source", "files", "prepare"} <= set(PARAMETERS[task])
    assert config_of(task)["task"] == task
    for key in ("data", "model"):
        assert config_of(task)[key]["class_path"].startswith(f"src.{TASKS[task]}.{key}.")


@pytest.mark.parametrize("package", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_packages_hold_their_description_only(package: Path) -> None:
    tree = tree_of(package)
    assert ast.get_docstring(tree)
    # they prepare the process before anything else is loaded
    if package not in (Path("src/__init__.py"), Path("pipelines/__init__.py")):
        assert len(tree.body) == 1


@pytest.mark.parametrize("task", TASKS)
def test_no_key_stands_in_both_files(task: str) -> None:
    def names(value: dict[str, Any]) -> Iterator[str]:
        for key, item in value.items():
            yield key
            if isinstance(item, dict):
                yield from names(item)

    config = config_of(task)
    # One word, two meanings: `prepare.task` says what the target is, the other one is the task's name.
    assert (PARAMETERS[task].get("prepare") or {}).get("task") != config["task"]
    assert set(names(PARAMETERS[task])) & set(names(config)) <= {"task"}
    # Two words for one number, on purpose: `prepare.seed` cuts the splits, `seed_everything` trains.
    assert "seed" not in config


@pytest.mark.parametrize("task", TASKS)
def test_stages_list_the_code_that_they_import(task: str) -> None:
    for name, stage in stages_of(task):
        python, option, module, *_ = stage["cmd"].split()
        assert (python, option) == ("python", "-m")
        folders = tuple(f"{path}/" for path in stage["deps"] if (ROOT / path).is_dir())
        needed = {path for path in closure(name, module, task) if not path.startswith(folders)}
        missing = needed - set(stage["deps"])
        assert not missing, f"{name} does not list {sorted(missing)}"


def test_stages_list_no_code_that_no_task_imports() -> None:
    unused: dict[str, set[str]] = {}
    for task in TASKS:
        for name, stage in stages_of(task):
            module = stage["cmd"].split()[2]
            needed = closure(name, module, task)
            code = {
                path
                for path in stage["deps"]
                if path.endswith(".py") or (ROOT / path / "__init__.py").is_file()
            }
            surplus = {path for path in code if not any(f"{file}/".startswith(f"{path}/") for file in needed)}
            unused[name] = unused.get(name, surplus) & surplus
    assert not any(unused.values()), unused


def test_light_verbs_load_neither_torch_nor_lightning(python: Callable[..., Any]) -> None:
    files = sorted((ROOT / "src").glob("*/prepare.py")) + sorted((ROOT / "src").glob("*/sample.py"))
    files += sorted((ROOT / "src").glob("*/propose.py"))
    rooms = "".join(f"import src.{path.parent.name}.{path.stem}\n" for path in files)
    program = (
        "import sys\n"
        "import pipelines.fetch, pipelines.new_task, pipelines.prepare\n"
        "import pipelines.report.__main__, pipelines.export.__main__, pipelines.serve.__main__\n"
        "verbs = {'sklearn', 'pandas', 'pooch'} & set(sys.modules)\n"
        f"{rooms}"
        "print(sorted(verbs), sorted({'torch', 'lightning', 'matplotlib', 'gradio'} & set(sys.modules)))\n"
    )
    done = python("-c", program, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "[] []\n")


@pytest.mark.parametrize("verb", ["fetch", "new_task", "prepare", "report", "export", "serve"])
def test_light_verbs_have_help(python: Callable[..., Any], verb: str) -> None:
    done = python("-m", f"pipelines.{verb}", "--help", cwd=ROOT)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_pickled(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                names.add(str(node.module).split(".")[0])
            assert not names & {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
        if isinstance(node, ast.Call):
            options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            assert options.get("weights_only", True) is True, f"line {node.lineno}"
            assert options.get("allow_pickle", False) is False, f"line {node.lineno}"
            if ast.unparse(node.func) == "torch.load":
                assert "weights_only" in options, f"line {node.lineno}"


def test_requirements_are_locked_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "http://" not in text
    versions: dict[str, str] = {}
    for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]:
        requirement, *hashes = re.split(r" \\\n +", block.strip())
        # options such as --index-url do not match either
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_]+)( ; .+)?", requirement)
        assert found, requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes), requirement
        versions[found[1].lower().replace("_", "-")] = found[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for wanted in project["dependencies"]:
        assert re.split(r"[\[<>=]", wanted)[0].lower() in versions, wanted


def test_torch_and_torchvision_are_of_one_release() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    torch = re.findall(r"^torch==2\.(\d+)\.", text, flags=re.MULTILINE)
    torchvision = re.findall(r"^torchvision==0\.(\d+)\.", text, flags=re.MULTILINE)
    assert len(torch) == 1
    assert [int(minor) - 15 for minor in torchvision] == [int(minor) for minor in torch]


def test_tests_reach_no_other_machine(python: Callable[..., Any]) -> None:
    address = ("192.0.2.1", 80)  # reserved for documentation, so nobody's
    with pytest.raises(RuntimeError, match=r"may not connect to 192\.0\.2\.1"):
        socket.create_connection(address, timeout=0.1)
    done = python("-c", f"import socket; socket.create_connection({address}, timeout=0.1)", cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "RuntimeError: the tests may not connect to 192.0.2.1"
