"""Bundle and raw input -> predictions: the command `predict`, which needs neither data/ nor params.yaml."""

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from lightning import LightningModule

from src.shared.bundle import (
    load_model,
    read_configuration,
    read_manifest,
    refuse_other_model,
    restrict_imports,
)
from src.shared.errors import ConfigurationError
from src.shared.folders import MODELS, read_preprocessing

PROGRAM = "python -m src.cli predict"


def predict(arguments: list[str]) -> None:
    """Write the predictions that a command line asks for.

    Args:
        arguments: --bundle FOLDER, or --config FILE for the bundle of that configuration's task, which must
            hold the model that it describes; and below --data the keywords of the function that the room has
            for the bundle's model, such as --data.input.

    Raises:
        ConfigurationError: an unknown or missing argument, or no bundle that can be used.
    """
    source = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_source(source)
    found, _ = source.parse_known_args(arguments)
    parser = ArgumentParser(PROGRAM, description=__doc__, exit_on_error=False)
    _add_source(parser.add_mutually_exclusive_group())
    if found.bundle or found.config:
        bundle = found.bundle or _bundle_of(found.config)
        model, preprocessing = open_bundle(bundle)
        write = writer_of(model)
        parser.add_function_arguments(write, "data", skip={"model", "preprocessing"})
    try:
        values = parser.parse_args(arguments)
    except ArgumentError as error:
        message = re.sub(r"(?<![-\w])data\.", "--data.", str(error))
        raise ConfigurationError(f"{message}; see {PROGRAM} --bundle FOLDER --help") from None
    if not (found.bundle or found.config):
        raise ConfigurationError("predict needs a trained model: add --bundle models/TASK")
    request = parser.instantiate(values).data
    count = write(model, preprocessing, **request)
    print(f"{count} predictions: {request.output}")


def _add_source(group: Any) -> None:
    group.add_argument("--bundle", type=Path, help="The folder of a trained model, wherever it lies.")
    group.add_argument("--config", type=Path, help="A task's configuration: its model is models/<task>.")


def _bundle_of(path: Path) -> Path:
    """The bundle that a configuration describes."""
    try:
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
        bundle, values = MODELS / configuration["task"], configuration["model"]
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is no configuration of a task: {error}") from None
    read_manifest(bundle)
    restrict_imports()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", skip={"preprocessing"})
    try:
        resolved = yaml.safe_load(parser.dump(parser.parse_object({"model": values})))
    except ArgumentError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    refuse_other_model(bundle, configuration | {"model": resolved["model"]})
    return bundle


def open_bundle(folder: Path) -> tuple[LightningModule, dict[str, Any]]:
    """The model of a bundle, ready to predict, and its preprocessing.

    It computes with as many threads as in training, and on an accelerator where there is one, unless the
    training was bound to the CPU.

    Raises:
        ConfigurationError, IntegrityError: as `load_model`.
    """
    model = load_model(folder, LightningModule)
    configuration = read_configuration(folder)
    torch.set_num_threads(configuration["threads"])
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and configuration["trainer"]["accelerator"] != "cpu":
        model.to(accelerator)
    return model, read_preprocessing(folder)


def writer_of(model: LightningModule) -> Any:
    """The function of its room that writes the predictions of a model."""
    room = type(model).__module__.split(".")[1]
    writers = import_module(f"src.{room}.predict").WRITERS
    return next(write for kind, write in writers.items() if isinstance(model, kind))
