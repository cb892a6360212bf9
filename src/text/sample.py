"""The built-in texts: well-known Tang poems, and prose about machines that learn."""

import shutil
from pathlib import Path

import yaml


def write_sample(description: Path, folder: Path) -> None:
    """Copy the file that a description names from beside it.

    Args:
        description: a YAML file with the one key `file`.
        folder: where to write.

    Raises:
        ValueError: the description cannot be used; the message names the file.
    """
    try:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{description} is no YAML: {error}") from None
    if not isinstance(content, dict) or set(content) != {"file"}:
        raise ValueError(f"{description}: expected the key `file` alone")
    name = str(content["file"])
    path = description.parent / name
    if Path(name).name != name or not path.is_file():
        raise ValueError(f"{description}: there is no file '{name}' beside it")
    shutil.copyfile(path, folder / name)
