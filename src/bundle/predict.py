"""Bundle and raw input -> predictions: the command `predict`, which needs neither data/ nor params.yaml."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

from src.bundle.bundle import Bundle
from src.bundle.module import add_data_arguments, built, write_module_predictions
from src.bundle.registry import bundle_folder
from src.core.documents import parsed_yaml
from src.core.errors import ConfigurationError, IntegrityError
from src.core.outputs import check_output
from src.core.paths import MODELS, PREDICTIONS, require_name

PROGRAM = "python -m src.cli predict"


def predict(arguments: list[str]) -> None:
    """Write the predictions that a command line asks for.

    Args:
        arguments: --bundle FOLDER, --bundle MODEL@STAGE of the registry, or --config FILE for the bundle of
            that configuration's task, which must hold the model that it describes; and below --data the
            arguments of the function that the kind of data has for the bundle's model, such as --data.input.
            Another LightningModule predicts by its own `predict_step`: --output, and below --data the
            arguments of its data module.

    Raises:
        ConfigurationError: an unknown or missing argument, no bundle that can be used, or a file that must
            not be written.
    """
    source = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    _add_source(source)
    try:
        found, _ = source.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"{error}; see {PROGRAM} --bundle FOLDER --help") from None
    parser = ArgumentParser(PROGRAM, description=__doc__, exit_on_error=False)
    _add_source(parser.add_mutually_exclusive_group())
    parser.add_argument(
        "--overwrite", type=bool, default=False, help="Replace an output that exists outside predictions/."
    )
    if found.bundle or found.config:
        bundle = Bundle.open(bundle_folder(found.bundle)) if found.bundle else _bundle_of(found.config)
        write = writer_of(ready(bundle))
        if write is None:
            add_data_arguments(parser, bundle)
        else:
            parser.add_function_arguments(write, "data", skip={"model", "preprocessing"})
            ending = parser.get_default("data.output").suffix
            parser.set_defaults({"data.output": PREDICTIONS / f"{bundle.name}{ending}"})
    try:
        values = parser.parse_args(arguments)
    except ArgumentError as error:
        message = re.sub(r"(?<![-\w])data\.", "--data.", str(error))
        raise ConfigurationError(f"{message}; see {PROGRAM} --bundle FOLDER --help") from None
    if not (found.bundle or found.config):
        raise ConfigurationError("predict needs a trained model: add --bundle models/MODEL")
    request = parser.instantiate(values) if write else built(parser, values, bundle)
    if write is None:
        output = request.output
        check_output(output, values.overwrite, [])
        count = write_module_predictions(bundle, request.get("data"), output)
    else:
        output = request.data.output
        files = {name: value for name, value in request.data.items() if isinstance(value, Path)}
        inputs = [files.pop("input")] if "input" in files else []
        for file in files.values():
            check_output(file, values.overwrite, inputs)
        count = write(bundle.model, bundle.preprocessing, **request.data)
    print(f"{count} predictions: {output}")


def _add_source(group: Any) -> None:
    group.add_argument(
        "--bundle", help="The folder of a trained model, wherever it lies; or MODEL@STAGE of the registry."
    )
    group.add_argument("--config", type=Path, help="A model's configuration: its bundle is models/<model>.")


def _bundle_of(path: Path) -> Bundle:
    """The bundle that a configuration describes."""
    try:
        configuration = parsed_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(configuration, dict):
            raise TypeError("expected keys and values")
        name = configuration.get("name") or configuration["task"]
        require_name(name, "name")
        folder, _ = MODELS / name, configuration["model"]
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is no configuration of a task: {error}") from None
    bundle = Bundle.open(folder)
    try:
        bundle.require_model(configuration)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return bundle


def ready(bundle: Bundle) -> Bundle:
    """Let the bundle's model compute with as many threads as in training, and on an accelerator if any.

    A training that was bound to the CPU binds predictions to it, too.
    """
    try:
        threads, bound_to = bundle.configuration["threads"], bundle.configuration["trainer"]["accelerator"]
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{bundle.folder}/config.yaml is damaged: it has no key {error}") from None
    torch.set_num_threads(threads)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and bound_to != "cpu":
        bundle.model.to(accelerator)
    return bundle


def writer_of(bundle: Bundle) -> Any:
    """The function of its kind of data that writes the predictions of a bundle's model.

    Returns:
        None if the kind has no such function for it: then the module's own `predict_step` predicts.
    """
    kind = bundle.part("predict")
    # a script of this name beside an own module is no part of a kind of data
    if kind is None or not isinstance(bundle.model, tuple(getattr(kind, "WRITERS", ()))):
        return None
    return for_model(bundle, kind.WRITERS)


def for_model(bundle: Bundle, functions: dict[type, Any]) -> Any:
    """The function that a kind of data has for the class of a bundle's model.

    Raises:
        ConfigurationError: it has none.
    """
    for kind, function in functions.items():
        if isinstance(bundle.model, kind):
            return function
    names = " or ".join(kind.__name__ for kind in functions)
    raise ConfigurationError(f"{bundle.folder} holds a {type(bundle.model).__name__}, which is no {names}")
