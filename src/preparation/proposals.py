"""The proposal of a kind of data for new data, and its YAML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Noted(NamedTuple):
    """A value of a proposal with its comment."""

    value: Any
    note: str


@dataclass
class Proposal:
    """A new task: its preparation and its configuration. In both, a value can be `Noted`.

    Args:
        source: the folder with the raw files.
        files: the files or folders of it to use; empty for all.
        prepare: the key `prepare` of the section in params.yaml.
        configuration: the content of configs/<task>.yaml, without the task's name.
        findings: a description of the data, then observations and their consequences.
        predict: the options of a first `predict`.
    """

    source: Path
    files: list[str]
    prepare: dict[str, Any]
    configuration: dict[str, Any]
    findings: list[str]
    predict: str


def configuration(epochs: int, data: dict[str, Any], model: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    """A configuration without the task's name, with the keys that proposals of all kinds share.

    Args:
        epochs: the number of epochs.
        data: the section `data`.
        model: the section `model`.
        trainer: further keys of the section `trainer`.
    """
    return {
        "seed_everything": 42,
        "monitor": Noted("validation/loss", "chooses the best epoch"),
        "mode": "min",
        "trainer": {"max_epochs": epochs, **trainer},
        "data": data,
        "model": model,
    }


def one_cycle(optimizer: str, rate: float, **options: Any) -> dict[str, Any]:
    """The keys of a model for an optimizer of torch.optim under a one-cycle schedule."""
    return {
        "optimizer": {
            "class_path": f"torch.optim.{optimizer}",
            "init_args": {"lr": Noted(rate, "the highest of the schedule"), **options, "fused": True},
        },
        "lr_scheduler": {"class_path": "src.training.optimizers.OneCycle"},
        "lr_interval": "step",
    }


def plain(value: Any) -> Any:
    """A value of a proposal without its comments."""
    if isinstance(value, Noted):
        return plain(value.value)
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def as_yaml(mapping: dict[str, Any], indent: int = 0) -> str:
    """A mapping as YAML: inner mappings as blocks, other values on the line of their key, with comments.

    PyYAML writes the values, since it reads params.yaml: versions of YAML differ in texts such as `yes`.
    """
    text = ""
    for name, value in mapping.items():
        value, note = value if isinstance(value, Noted) else (value, "")
        comment = f" # {one_line(note)}" if note else ""
        block = isinstance(value, dict) and value
        shown = "" if block else f" {_inline(value)}"
        text += f"{' ' * indent}{_inline(name)}:{shown}{comment}\n"
        if block:
            text += as_yaml(value, indent + 2)
    return text


def _inline(value: Any) -> str:
    options: dict[str, Any] = {"allow_unicode": True, "sort_keys": False, "width": float("inf")}
    text = yaml.safe_dump(value, default_flow_style=True, **options).removesuffix("\n...\n").strip("\n")
    if "\n" in text:  # within double quotes a line break is written as \n
        text = yaml.safe_dump(value, default_flow_style=True, default_style='"', **options).strip("\n")
    return text


def one_line(text: str) -> str:
    """A text that may contain names from a file, without line breaks and control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def count(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`, `3 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def listed(names: list[str], most: int = 6) -> str:
    """Names in quotes; of many, only the first ones."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
