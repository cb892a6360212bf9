"""Write data/code.json: a digest of the code that each stage computes with, on which the stage depends.

DVC does not follow imports. A stage that listed folders of code would run again after every edit of a comment
in them, and would miss a module that a configuration names. The digests are those of `src.core.code`.
"""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli

from pipelines.parameters import LOADER, every_kind, read_parameters
from src.core.code import code_digest, modules_named
from src.core.documents import write_json
from src.core.errors import ConfigurationError, exit_with_message
from src.core.paths import CONFIGS, PARAMETERS, RAW

OUTPUT = Path("data/code.json")


def code() -> None:
    """Write the digest of the code of every stage.

    The digests are over the imported modules of the project without comments and docstrings, and over
    requirements.lock; that of a study of another model than its task's also over the model's configuration.
    """
    RAW.mkdir(parents=True, exist_ok=True)  # the page depends on it, also where no task fetches data
    parameters = read_parameters()
    digests = {
        stage: {name: code_digest(*sorted(modules)) for name, modules in names.items()}
        for stage, names in modules_of_stages(parameters).items()
    }
    for name, section in (parameters.get("studies") or {}).items():
        if model := section.get("model"):  # dvc.yaml can name the configuration of the task only
            text = digests["study"][name] + yaml.safe_dump(_configuration(str(model)))
            digests["study"][name] = sha256(text.encode()).hexdigest()
    write_json(OUTPUT, digests)


def modules_of_stages(parameters: dict[str, Any]) -> dict[str, dict[str, set[str]]]:
    """The modules whose imports are the code of a stage, by stage and by task, model or study.

    Args:
        parameters: the content of params.yaml.

    Raises:
        ConfigurationError: a model or study has no configuration, or one that is not YAML.
    """
    tasks, models = parameters["tasks"], parameters.get("models") or {}
    studies = parameters.get("studies") or {}
    trained = {name: _configuration(name) for name in models}
    kinds = {task: str(kind) for task, kind in tasks.items()}
    return {
        "fetch": {task: {"pipelines.fetch", f"src.{kind}.sample"} for task, kind in kinds.items()},
        "prepare": {task: {"pipelines.prepare", f"src.{kind}.prepare"} for task, kind in kinds.items()},
        "train": {name: {"src.cli", *modules_named(found)} for name, found in trained.items()},
        "evaluate": {
            name: {"pipelines.evaluate", *_with(modules_named(found), ["evaluate", "preprocessing"])}
            for name, found in trained.items()
        },
        "study": {
            name: {"pipelines.study.__main__", *_with(_of_study(section), ["prepare", "study_figures"])}
            for name, section in studies.items()
        },
        "report": {"page": {"pipelines.report.__main__", *(f"src.{kind}.captions" for kind in every_kind())}},
    }


def _of_study(section: dict[str, Any]) -> set[str]:
    """The modules of the classes that a study and the configuration that it changes name."""
    return modules_named([section, _configuration(str(section.get("model") or section["task"]))])


def _with(modules: Iterable[str], parts: list[str]) -> set[str]:
    """The modules, and those of these names in their packages, which are imported by a computed name."""
    found = set(modules)
    packages = {module.split(".")[1] for module in found if module.startswith("src.")}
    return found | {f"src.{package}.{part}" for package in packages for part in parts}


def _configuration(name: str) -> Any:
    path = CONFIGS / f"{name}.yaml"
    try:
        return yaml.load(path.read_text(encoding="utf-8"), LOADER)  # noqa: S506
    except FileNotFoundError:
        raise ConfigurationError(f"{PARAMETERS} names {name}, but there is no {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from None


if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(code))
