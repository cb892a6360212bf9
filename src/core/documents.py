"""JSON documents of the project, all written alike, YAML of unknown origin, and settings as flat keys."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from src.core.errors import ConfigurationError, IntegrityError

MOST_VALUES = 100_000  # of a YAML document with its aliases written out
SURROGATE = re.compile("[\ud800-\udfff]")


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
        content = parsed_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}; run: dvc repro -f {stage}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is damaged: expected an object; run: dvc repro -f {stage}")
    return content


def parsed_json(text: str) -> Any:
    """Parse JSON of unknown origin.

    Raises:
        ValueError: it is not JSON, is nested too deeply, has an integer of thousands of digits, or half of a
            surrogate pair, which no UTF-8 file can hold.
    """
    try:
        content = json.loads(text)
        if "\\u" in text and SURROGATE.search(json.dumps(content, ensure_ascii=False)):
            raise ValueError("half of a surrogate pair (\\ud800 to \\udfff)")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return content


def parsed_yaml(text: str) -> Any:
    """Parse YAML of unknown origin: as yaml.safe_load, but of bounded size and depth.

    Aliases are counted before anything is built: a few lines of them can stand for more values than fit into
    memory.

    Raises:
        ValueError: it is not YAML, is nested too deeply, or has more than MOST_VALUES values.
    """
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = float("inf")  # for an alias of a collection that it lies in
            children = node.value if isinstance(node, yaml.CollectionNode) else []
            pairs = (pair if isinstance(pair, tuple) else (pair,) for pair in children)
            sizes[id(node)] = 1 + sum(size(child) for pair in pairs for child in pair)
        return sizes[id(node)]

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        if size(root) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, with its aliases (*name) written out")
        return loader.construct_document(root)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


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
