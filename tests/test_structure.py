"""The structure of the project, read from its sources: imports, dependencies of the stages, requirements."""

import ast
import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code import modules_of_stages
from src.core.code import files_of, imports_of

ROOT = Path(__file__).parents[1]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TASKS: dict[str, str] = PARAMETERS["tasks"]
MODELS: dict[str, str] = PARAMETERS["models"]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = PIPELINE["stages"]
SOURCES = sorted(
    path.relative_to(ROOT) for part in ("src", "pipelines") for path in (ROOT / part).rglob("*.py")
)
# the packages that every kind of data may import, and what they may import themselves
COMMON: dict[str, set[str]] = {
    "core": set(),
    "preparation": {"core"},
    "training": {"core"},
    "reporting": {"core"},
    "bundle": {"core"},
}
FILES = {path.as_posix() for path in SOURCES}
KINDS = {path.parts[1] for path in SOURCES if path.parts[0] == "src" and len(path.parts) > 2} - {*COMMON}
LIGHT = ("fetch", "new_task", "prepare", "remove", "report", "export", "serve")


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def config_of(model: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"configs/{model}.yaml").read_text(encoding="utf-8"))


def imported(path: Path) -> set[Path]:
    """The project's files that a file imports itself."""
    names = [f"{name.replace('.', '/')}.py" for name in imports_of(ROOT / path)]
    return {Path(name) for name in names} & set(SOURCES)


def test_imports_go_one_way() -> None:
    for path in SOURCES:
        package = path.parts[1] if len(path.parts) > 2 else path.stem
        if path.parts[0] == "src":
            allowed = COMMON.get(package, {*COMMON}) | {package, "__init__"}
        else:
            allowed = {*COMMON, "__init__", "cli"}
        for other in imported(path):
            if path.parts[0] == other.parts[0] == "pipelines":
                continue
            home = other.parts[1] if len(other.parts) > 2 else other.stem
            assert other.parts[0] == "src", f"{path} imports {other}"
            assert home in allowed, f"{path} imports {other}"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_kind_a_section_and_a_model_of_its_name(task: str) -> None:
    assert TASKS[task] in KINDS
    assert {"source", "files", "prepare"} <= set(PARAMETERS[task])
    assert config_of(task)["task"] == task
    assert task in MODELS


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_names_its_model_and_task(path: Path) -> None:
    config = config_of(path.stem)
    assert config.get("name", config["task"]) == path.stem
    assert config["task"] in TASKS
    assert MODELS.get(path.stem, f"data/prepared/{config['task']}") == f"data/prepared/{config['task']}"


def test_packages_hold_only_a_description() -> None:
    for path in SOURCES:
        if path.name == "__init__.py":
            tree = tree_of(path)
            assert ast.get_docstring(tree), path
            # these prepare the process before anything else is imported
            prepares = path in (Path("src/__init__.py"), Path("pipelines/__init__.py"))
            assert len(tree.body) == 1 or prepares, path


@pytest.mark.parametrize("model", MODELS)
def test_no_key_is_in_both_files(model: str) -> None:
    def names(value: dict[str, Any]) -> Iterator[str]:
        for key, item in value.items():
            yield key
            if isinstance(item, dict):
                yield from names(item)

    config = config_of(model)
    task = config["task"]
    # `prepare.task` is the type of the target, `task` of the configuration is the name of the task
    assert (PARAMETERS[task].get("prepare") or {}).get("task") != config["task"]
    assert set(names(PARAMETERS[task])) & set(names(config)) <= {"task"}
    # `prepare.seed` cuts the splits, `seed_everything` is of the training
    assert "seed" not in config


def test_every_stage_depends_on_its_code() -> None:
    digests = modules_of_stages(PARAMETERS)
    every = {"fetch": TASKS, "prepare": TASKS, "train": MODELS, "evaluate": MODELS}
    every["study"] = PARAMETERS["studies"]
    for name, stage in STAGES.items():
        if name != "code":
            entries = stage.get("do", stage)["params"]
            (found,) = [entry["data/code.json"] for entry in entries if "data/code.json" in entry]
            assert found == ["report" if name == "report" else f"{name}.${{key}}"]
            assert {*digests[name]} == {*every.get(name, ["page"])}


STAGE_OF_A_TASK = {
    "fetch": "from pipelines.fetch import fetch; fetch({task!r})",
    "prepare": "from pipelines.prepare import prepare; prepare({task!r})",
    "train": "from src.cli import main; main(['fit', '--config=configs/{task}.yaml'])",
    "evaluate": "from pipelines.evaluate import evaluate; evaluate({task!r})",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS & set(TASKS.values())))
def test_the_code_of_a_stage_is_what_it_imports(
    kind: str, workspace: Callable[..., Path], tmp_path: Path, python: Callable[..., Any]
) -> None:
    task = [name for name in TASKS if TASKS[name] == kind][-1]
    folder = workspace(tmp_path, task)
    (folder / "data" / "code.json").touch()
    for stage, call in STAGE_OF_A_TASK.items():
        program = f"import sys\n{call.format(task=task)}\nprint('imported', *sys.modules)"
        done = python("-c", program, cwd=folder)
        assert done.returncode == 0, done.stdout
        names = done.stdout.rpartition("imported ")[2].split()
        paths = {Path(*name.split(".")).with_suffix(".py") for name in names}
        assert paths & set(SOURCES) <= files_of(*modules_of_stages(PARAMETERS)[stage][task]), stage


def test_light_commands_have_help_and_load_neither_torch_nor_lightning(python: Callable[..., Any]) -> None:
    names = ("prepare", "sample", "propose")
    modules = sorted(
        f"src.{kind}.{name}" for kind in KINDS for name in names if f"src/{kind}/{name}.py" in FILES
    )
    program = f"""
import runpy, sys
from importlib import import_module
for name in {LIGHT}:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(f"pipelines.{{name}}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, name
print("loaded by help:", sorted({{"sklearn", "pandas", "pooch"}} & set(sys.modules)))
for name in {modules}:
    import_module(name)
print("loaded:", sorted({{"torch", "lightning", "matplotlib", "gradio"}} & set(sys.modules)))
"""
    done = python("-c", program, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("usage: ") == len(LIGHT)
    assert "loaded by help: []\n" in done.stdout
    assert "loaded: []\n" in done.stdout


def test_nothing_is_pickled() -> None:
    forbidden = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    for path in SOURCES:
        assert not {name.partition(".")[0] for name in imports_of(ROOT / path)} & forbidden, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                place = f"{path}, line {node.lineno}"
                options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                assert options.get("weights_only", True) is True, place
                assert options.get("allow_pickle", False) is False, place
                assert ast.unparse(node.func) != "torch.load" or "weights_only" in options, place


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
    assert all(int(minor) - 15 == int(torch[0]) for minor in torchvision)  # needed by images only


def test_tests_reach_no_other_machine(python: Callable[..., Any]) -> None:
    address = ("192.0.2.1", 80)  # reserved for documentation
    with pytest.raises(RuntimeError, match=r"may not connect to 192\.0\.2\.1"):
        socket.create_connection(address, timeout=0.1)
    done = python("-c", f"import socket; socket.create_connection({address}, timeout=0.1)", cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "RuntimeError: the tests may not connect to 192.0.2.1"


def test_dvc_compares_the_scores_of_models_and_draws_losses_by_epoch() -> None:
    # a key of a study's metrics.json is a cell, which would be a column of `dvc metrics show`
    assert [name for name, stage in STAGES.items() if "metrics" in stage.get("do", {})] == ["evaluate"]
    for plot in PIPELINE["plots"]:
        ((path, axes),) = plot.items()
        assert re.fullmatch(r"reports/[\w-]+/plots/learning_curve\.csv", path)
        assert axes == {"x": "epoch", "y": ["train/loss", "validation/loss"]}
