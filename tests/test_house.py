"""The rules of the house, read from the sources: who imports whom, what stands where, what is never used."""

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

ROOT = Path(__file__).parents[1]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TASKS: dict[str, str] = PARAMETERS["tasks"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SOURCES = sorted(
    path.relative_to(ROOT) for part in ("src", "pipelines") for path in (ROOT / part).rglob("*.py")
)
PREDICT = Path("src/predict.py")
ROOM_FILES = (
    *("sample", "prepare", "preprocessing", "data", "model", "networks"),
    *("predict", "evaluate", "export"),
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def config_of(task: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{task}.yaml").read_text(encoding="utf-8"))
    return config


def files_of(module: str) -> set[Path]:
    """The file of a module of the project and those of the packages around it; none for other modules."""
    parts = module.split(".")
    if parts[0] not in ("src", "pipelines"):
        return set()
    packages = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return {path for path in (*packages, Path(*parts).with_suffix(".py")) if (ROOT / path).is_file()}


def imported(path: Path, room: str | None) -> set[Path]:
    """The project's files that a file imports, those that it names for a room at run time included."""
    files: set[Path] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            files = files.union(*(files_of(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            files |= files_of(str(node.module))
            files = files.union(*(files_of(f"{node.module}.{alias.name}") for alias in node.names))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module" and room:
            # import_module(f"src.{room_of(task)}.evaluate")
            name = node.args[0]
            assert isinstance(name, ast.JoinedStr), f"{path}, line {node.lineno}: which module is that?"
            parts = [part.value if isinstance(part, ast.Constant) else room for part in name.values]
            files |= files_of("".join(map(str, parts)))
    return files


def class_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key != "class_path"] + [value.get("class_path")]
    if isinstance(value, list):
        for item in value:
            yield from class_paths(item)
    elif isinstance(value, str) and value.startswith("src."):
        yield value


def closure(module: str, task: str) -> set[str]:
    """The project's files that `python -m module` loads for a task."""
    config = config_of(task)
    found = files_of(module)
    if module == "src.cli":
        found = found.union(*(files_of(name.rpartition(".")[0]) for name in class_paths(config)))
    if module == "pipelines.evaluate":  # the bundle names the class of the model
        found = found.union(*(files_of(name.rpartition(".")[0]) for name in class_paths(config["model"])))
    other_verbs = {PREDICT} if module == "src.cli" else set()
    waiting = list(found)
    while waiting:
        new = imported(waiting.pop(), TASKS[task]) - found - other_verbs
        found |= new
        waiting += new
    return {path.as_posix() for path in found}


def stages_of(task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, stage in STAGES.items():
        text = json.dumps(stage.get("do", stage))
        text = text.replace("${key}", task).replace("${item}", TASKS[task])
        yield name, json.loads(text)


def test_imports_go_from_pipelines_to_rooms_to_shared() -> None:
    rooms = {path.parts[1] for path in SOURCES if path.parts[0] == "src" and len(path.parts) == 3} - {
        "shared"
    }
    assert rooms == set(TASKS.values())
    for path in SOURCES:
        part = path.parts[0] if len(path.parts) == 2 else path.parts[1]
        inner = {
            "src": {"shared", "src"},
            "shared": {"shared"},
            "pipelines": {"shared", "pipelines", "src", *rooms},
        }
        allowed = inner.get(part, {"shared", part})
        for other in imported(path, room=None) - {Path("src/__init__.py")}:
            home = other.parts[1] if len(other.parts) == 3 else other.parts[0]
            assert home in allowed, f"{path} imports {other}"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_section_its_configuration_and_its_room(task: str) -> None:
    assert {"source", "files", "prepare"} <= set(PARAMETERS[task])
    assert config_of(task)["task"] == task
    for name in ROOM_FILES:
        assert (ROOT / "src" / TASKS[task] / f"{name}.py").is_file(), name
    for key in ("data", "model"):
        assert config_of(task)[key]["class_path"].startswith(f"src.{TASKS[task]}.{key}.")


@pytest.mark.parametrize("package", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_packages_hold_their_description_only(package: Path) -> None:
    tree = tree_of(package)
    assert ast.get_docstring(tree)
    if package != Path("src/__init__.py"):  # it pins the instruction set before anything else loads
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


def modules_listed(stage: dict[str, Any]) -> set[str]:
    return {path for path in stage["deps"] if path.endswith(".py")}


@pytest.mark.parametrize("task", TASKS)
def test_stages_list_the_modules_that_they_import(task: str) -> None:
    for name, stage in stages_of(task):
        python, option, module, *_ = stage["cmd"].split()
        assert (python, option) == ("python", "-m")
        folders = tuple(f"{path}/" for path in stage["deps"] if (ROOT / path).is_dir())
        needed = {path for path in closure(module, task) if not path.startswith(folders)}
        missing = needed - modules_listed(stage)
        assert not missing, f"{name} does not list {sorted(missing)}"


def test_stages_list_no_module_that_no_task_imports() -> None:
    # a stage lists the same files of src/shared for every kind of data
    unused: dict[str, set[str]] = {}
    for task in TASKS:
        for name, stage in stages_of(task):
            module = stage["cmd"].split()[2]
            surplus = modules_listed(stage) - closure(module, task)
            unused[name] = unused.get(name, surplus) & surplus
    assert not any(unused.values()), unused


def test_training_loads_nothing_that_only_predict_needs(python: Callable[..., Any]) -> None:
    assert PREDICT in imported(Path("src/cli.py"), None)
    done = python("-c", "import sys, src.cli; print('src.predict' in sys.modules)", cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "False\n")


def test_light_verbs_load_neither_torch_nor_lightning(python: Callable[..., Any]) -> None:
    files = sorted((ROOT / "src").glob("*/prepare.py")) + sorted((ROOT / "src").glob("*/sample.py"))
    files += sorted((ROOT / "src").glob("*/propose.py"))
    rooms = "".join(f"import src.{path.parent.name}.{path.stem}\n" for path in files)
    program = (
        "import sys\n"
        "import pipelines.fetch, pipelines.new_task, pipelines.prepare, pipelines.report, pipelines.export\n"
        "import pipelines.serve\n"
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
