"""params.yaml, read through typed signatures: unknown keys and wrong types are refused by name."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from src.core.errors import ConfigurationError

PARAMETERS = Path("params.yaml")
ROOMS = sorted(path.parent.name for path in Path(__file__).parents[1].glob("src/*/prepare.py"))

Settings = TypeVar("Settings")


def read_parameters() -> dict[str, Any]:
    """All of params.yaml.

    Raises:
        ConfigurationError: the file is missing, is no YAML, has no `tasks` section or a name that is none.
    """
    try:
        parameters = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{PARAMETERS} is not here; run the command in the project's root folder"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{PARAMETERS} is no YAML: {error}") from None
    if not isinstance(parameters, dict) or not isinstance(parameters.get("tasks"), dict):
        raise ConfigurationError(f"{PARAMETERS} has no section 'tasks' (lines such as 'name: room')")
    for section in ("tasks", "studies", "more_studies"):
        for name in parameters.get(section) or {}:
            _check_name(section, name)
    return parameters


def _check_name(section: str, name: Any) -> None:
    """A name is a part of paths, stages and the commands of dvc.yaml, which a shell reads."""
    if not re.fullmatch(r"\w[\w-]*", str(name)):
        raise ConfigurationError(
            f"{PARAMETERS}, section {section}: {name!r} cannot be a name; use letters, digits, _ and -"
        )


def room_of(task: str) -> str:
    """The room (kind of data) that params.yaml gives to a task."""
    tasks = read_parameters()["tasks"]
    if task not in tasks:
        known = ", ".join(tasks)
        raise ConfigurationError(f"{PARAMETERS} has no task '{task}'; its tasks are: {known}")
    room = tasks[task]
    if room not in ROOMS:
        raise ConfigurationError(
            f"{PARAMETERS}: tasks.{task}: there is no kind of data {room!r}; there are: {', '.join(ROOMS)}"
        )
    return str(room)


def task_section(task: str) -> dict[str, Any]:
    """The section of a task in params.yaml."""
    section = read_parameters().get(task)
    if not isinstance(section, dict):
        raise ConfigurationError(f"{PARAMETERS} has no section '{task}'")
    return section


def checked(settings_class: type[Settings], values: Any, place: str) -> Settings:
    """Build `settings_class` (a dataclass) from plain `values`.

    Args:
        settings_class: its signature is the schema.
        values: what the file holds.
        place: the section's name, for error messages.

    Raises:
        ConfigurationError: an unknown key, a missing key or a value of the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings_class, "settings")
    try:
        parsed = parser.parse_object({"settings": values if values is not None else {}})
        return parser.instantiate(parsed).settings
    except ArgumentError as error:
        message = str(error).replace("settings.", f"{place}.").replace("Group 'settings'", "the section")
        raise ConfigurationError(f"{PARAMETERS}, section {place}: {message}") from None
