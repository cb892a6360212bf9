"""params.yaml, checked against typed signatures, and the kinds of data that its tasks name."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from src.core.arguments import explained
from src.core.errors import ConfigurationError
from src.core.paths import PARAMETERS, require_name

SOURCES = Path(__file__).parents[1] / "src"
SHARED = {"bundle", "core", "preparation", "reporting", "training"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser: 8 ms in place of 65 ms a process

Settings = TypeVar("Settings")


def read_parameters() -> dict[str, Any]:
    """Read all of params.yaml.

    Raises:
        ConfigurationError: the file is missing or not YAML, it has no section `tasks`, or a task or study has
            an unusable name.
    """
    try:
        parameters = yaml.load(PARAMETERS.read_text(encoding="utf-8"), LOADER)  # noqa: S506
    except FileNotFoundError:
        raise ConfigurationError(
            f"{PARAMETERS} is not here; run the command in the project's root folder"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{PARAMETERS} is not UTF-8: {error}; save it as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:  # such as a date of month 13
        raise ConfigurationError(f"{PARAMETERS} is not valid YAML: {error}") from None
    if isinstance(parameters, dict) and "tasks" in parameters and parameters["tasks"] is None:
        parameters["tasks"] = {}  # all were removed
    if not isinstance(parameters, dict) or not isinstance(parameters.get("tasks"), dict):
        raise ConfigurationError(f"{PARAMETERS} has no section 'tasks' (lines such as 'name: kind')")
    for section in ("tasks", "models", "studies", "more_studies"):
        for name in parameters.get(section) or {}:
            require_name(name, f"{PARAMETERS}, section {section}")
    return parameters


def studies_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """The sections of all studies by name: first those that are stages, then `more_studies`."""
    return {**(parameters.get("studies") or {}), **(parameters.get("more_studies") or {})}


def kinds_with(part: str) -> list[str]:
    """The kinds of data that have a module of this name, such as `prepare`; sorted."""
    return sorted(path.parent.name for path in SOURCES.glob(f"*/{part}.py"))


def every_kind() -> list[str]:
    """The kinds of data: the packages of src/ that are not shared; sorted."""
    return sorted({path.parent.name for path in SOURCES.glob("*/__init__.py")} - SHARED)


def part_of(kind: str, part: str) -> ModuleType | None:
    """The module src.<kind>.<part>; None if the kind of data does not have it."""
    return import_module(f"src.{kind}.{part}") if kind in kinds_with(part) else None


def kind_of(task: str) -> str:
    """The kind of data that params.yaml gives to a task.

    Raises:
        ConfigurationError: there is no such task, or no such kind of data.
    """
    tasks = read_parameters()["tasks"]
    if task not in tasks:
        known = ", ".join(tasks)
        raise ConfigurationError(f"{PARAMETERS} has no task '{task}'; its tasks are: {known}")
    kind, kinds = tasks[task], every_kind()
    if kind not in kinds:
        raise ConfigurationError(
            f"{PARAMETERS}: tasks.{task}: there is no kind of data {kind!r}; there are: {', '.join(kinds)}"
        )
    return str(kind)


def task_section(task: str) -> dict[str, Any]:
    """The section of a task in params.yaml."""
    section = read_parameters().get(task)
    if not isinstance(section, dict):
        raise ConfigurationError(f"{PARAMETERS} has no section '{task}'")
    return section


def checked(settings_class: type[Settings], values: Any, place: str) -> Settings:
    """Build a dataclass from the values of a section.

    Args:
        settings_class: its signature is the schema.
        values: the content of the section.
        place: the name of the section, for error messages.

    Raises:
        ConfigurationError: an unknown key, a missing key or a value of the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings_class, "settings")
    try:
        parsed = parser.parse_object({"settings": values if values is not None else {}})
        return parser.instantiate(parsed).settings
    except ArgumentError as error:
        keys = inspect.signature(settings_class).parameters
        message = re.sub(r"\bsettings\.", f"{place}.", explained(error, keys))
        raise ConfigurationError(f"{PARAMETERS}, section {place}: {message}") from None
