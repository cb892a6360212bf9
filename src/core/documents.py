"""JSON documents of the project, all written alike, and nested settings as flat keys."""

import json
from pathlib import Path
from typing import Any

from src.core.errors import ConfigurationError, IntegrityError


def write_json(path: Path, content: Any, sort_keys: bool = True) -> None:
    """Write UTF-8 with one entry a line and a final newline.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=sort_keys, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, stage: str) -> dict[str, Any]:
    """Read a JSON object that a stage of the pipeline has written.

    Args:
        path: the file.
        stage: the name of the stage in dvc.yaml, such as `prepare@line`, for error messages.

    Raises:
        ConfigurationError: there is no such file.
        IntegrityError: it is not a JSON object.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path} is not here; run: dvc repro {stage}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}; run: dvc repro -f {stage}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is damaged: expected an object; run: dvc repro -f {stage}")
    return content


def flat_keys(values: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested settings by their keys on the command line.

    The arguments of a class go without `init_args`: `model.optimizer.lr`.
    """
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name != "init_args":
            flat |= flat_keys(value, f"{prefix}.{name}".lstrip("."))
        elif value:
            flat |= flat_keys(value, prefix)
    return flat
