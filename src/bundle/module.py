"""What an ordinary LightningModule gives without code of a kind of data: its scores and its predictions."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from src.bundle.bundle import Bundle
from src.core.atomic import file_written_whole
from src.core.errors import ConfigurationError
from src.core.paths import PREDICTIONS, PREPARED
from src.core.scores import of_validation

Arrays = dict[str, NDArray[Any]]
NEEDED = {
    "validate": ("validation_step", "val_dataloader"),
    "test": ("test_step", "test_dataloader"),
}


def scores(
    trainer: Trainer, stage: str, model: LightningModule, data: LightningDataModule | None, **options: Any
) -> dict[str, float]:
    """The metrics that a module logs for its validation or test rows.

    Args:
        trainer: runs it.
        stage: `validate` or `test`.
        model: the module.
        data: its data module; None if the module has the loaders.
        options: of `trainer.validate` and `trainer.test`.

    Returns:
        By name; empty if the module or its data have no such step.
    """
    step, loader = NEEDED[stage]
    if not (is_overridden(step, model) and is_overridden(loader, data or model)):
        return {}
    rows = getattr(trainer, stage)(model, datamodule=data, **options)
    return {name: value for row in rows for name, value in row.items()}


def lacking(
    model: LightningModule, data: LightningDataModule | None, monitor: str | None = None
) -> list[str]:
    """One line for each ability that an ordinary module does not have, with what will be absent.

    Args:
        model: the module.
        data: its data module; None if the module has the loaders.
        monitor: the metric that chooses the epoch.

    Raises:
        ConfigurationError: there is nothing to train, or `monitor` is of a validation that there is not.
    """
    source = data or model
    for name, owner in (
        ("training_step", model),
        ("configure_optimizers", model),
        ("train_dataloader", source),
    ):
        if not is_overridden(name, owner):
            raise ConfigurationError(f"{type(owner).__name__} has no {name}: there is nothing to train")
    absent = {
        "validate": "no metrics of the validation; the last epoch is kept unless `monitor` names a metric",
        "test": "no metrics of the test",
    }
    lines = []
    for stage, needed in NEEDED.items():
        missing = [
            name
            for name, owner in zip(needed, (model, source), strict=True)
            if not is_overridden(name, owner)
        ]
        if missing and stage == "validate" and of_validation(monitor or ""):
            raise ConfigurationError(
                f"monitor: there will be no '{monitor}': no {' and no '.join(missing)}; leave it "
                "out to keep the last epoch"
            )
        if missing:
            lines.append(f"no {' and no '.join(missing)}: {absent[stage]}")
    return lines


def repeat_setup(seed: int, model: Any, data: Any) -> None:
    """Let each `setup` of an ordinary module and of its data see the same random numbers.

    Many modules split their rows at random in `setup`, which is called for `fit`, for `test` and again in
    each later command. A row of the training in one call could otherwise be a row of the test in another.

    Weights that the `setup` of a module reads are where a training begins; in other commands the trained ones
    stay.

    The validation rows are those that were validated in `fit`, so the owner of the loaders sets up for
    `fit` to validate: modules often know no stage `validate`.

    Args:
        seed: of the training.
        model: a LightningModule.
        data: its LightningDataModule; None if the module has the loaders.
    """
    for part in (model, data):
        if part is not None:
            part.setup = _seeded_setup(part, seed, part is (data or model))


def _seeded_setup(part: Any, seed: int, loads: bool) -> Callable[..., None]:
    setup = part.setup

    @wraps(setup)
    def seeded(stage: str | None = None) -> None:
        seed_everything(seed, verbose=False)
        trained = deepcopy(part.state_dict()) if isinstance(part, nn.Module) and stage != "fit" else None
        setup("fit" if loads and stage == "validate" else stage)
        if trained is not None:  # a setup that reads pretrained weights
            part.load_state_dict(trained, strict=getattr(part, "strict_loading", True))

    return seeded


class Unchanged:
    """A DataLoader as any iterable: Lightning builds a DataLoader anew to predict, which may fail.

    It does for `DataLoader(rows, 8)`, whose second argument has no name. What rows draw at random repeats.

    Args:
        loader: of batches.
        seed: of the training.
    """

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.loader = loader
        self.seed = seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        seed_everything(self.seed, verbose=False)
        return iter(self.loader)


def module_scores(bundle: Bundle, callbacks: list[Callback]) -> dict[str, float]:
    """The metrics of a bundle's module on the validation and test rows of its data module.

    Args:
        bundle: of the module.
        callbacks: of the Trainer that runs it.
    """
    model, data = bundle.model, data_of(bundle)
    trainer = _trainer(bundle, callbacks)
    repeat_setup(_seed(bundle), model, data)
    found: dict[str, float] = {}
    for stage in NEEDED:
        found |= scores(trainer, stage, model, data, verbose=False)
    return found


def data_of(bundle: Bundle) -> LightningDataModule | None:
    """The data module of a bundle, with the arguments of the training; None if the module has the loaders."""
    parser = ArgumentParser(exit_on_error=False)
    add_data_arguments(parser, bundle)
    return built(parser, parser.parse_args([]), bundle).get("data")


def built(parser: ArgumentParser, values: Namespace, bundle: Bundle) -> Any:
    """What the arguments of `add_data_arguments` describe.

    A constructor that draws, such as a split of the rows, draws what it drew in the training.
    """
    more = (bundle.configuration.get("data") or {}).get("dict_kwargs") or {}

    def build(kind: type[LightningDataModule], *args: Any, **kwargs: Any) -> LightningDataModule:
        return kind(*args, **more, **kwargs)

    seed_everything(_seed(bundle), verbose=False)
    return parser.instantiate(values, instantiators=[(build, LightningDataModule, True)])


def add_data_arguments(parser: ArgumentParser, bundle: Bundle) -> None:
    """Add the arguments of the bundle's data module, with the values of the training as defaults."""
    default = PREDICTIONS / f"{bundle.name}.csv"
    parser.add_argument("--output", type=Path, default=default, help="A CSV file, or .npz for arrays.")
    if data := bundle.configuration.get("data"):
        kind = _class_of(data["class_path"])
        parser.add_class_arguments(kind, "data", fail_untyped=False)
        # what the command line of the training gives to data modules that have such arguments
        linked = {
            "prepared": PREPARED / bundle.task,
            "order_seed": bundle.configuration["seed_everything"],
        }
        taken = {name: value for name, value in linked.items() if name in signature(kind).parameters}
        values = {**data.get("init_args", {}), **taken}
        parser.set_defaults({f"data.{name}": value for name, value in values.items()})


def write_module_predictions(bundle: Bundle, data: LightningDataModule | None, output: Path) -> int:
    """Write what `predict_step` returns for each row of `predict_dataloader`.

    Args:
        bundle: of the module.
        data: its data module; None if the module has the loader.
        output: CSV, one row a prediction and one column for each number of it; `.npz`, an array of any
            shape for each name.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: there is no `predict_dataloader`, or the predictions are no table.
    """
    source = data or bundle.model
    if not is_overridden("predict_dataloader", source):
        raise ConfigurationError(f"{type(source).__name__} has no predict_dataloader: predict needs one")
    if not (is_overridden("predict_step", bundle.model) or is_overridden("forward", bundle.model)):
        raise ConfigurationError(f"{type(bundle.model).__name__} has no predict_step: predict needs one")
    trainer, seed = _trainer(bundle), _seed(bundle)
    repeat_setup(seed, bundle.model, data)
    loaders = source.predict_dataloader

    def as_it_is() -> Any:
        loader = loaders()
        if isinstance(loader, list | tuple | dict):
            raise ConfigurationError("predict_dataloader returns several loaders; predict takes one")
        return Unchanged(loader, seed) if isinstance(loader, DataLoader) else loader

    source.predict_dataloader = as_it_is  # type: ignore[method-assign]
    found = trainer.predict(bundle.model, datamodule=data)
    batches = [dict(_named(batch)) for batch in _with_inputs(found or [])]
    if not batches:
        raise ConfigurationError("predict_dataloader has no batches: there is nothing to predict")
    arrays = _joined(batches)
    counts = {name: len(array) for name, array in arrays.items()}
    rows = max(counts.values())
    if len(set(counts.values())) > 1:
        found_rows = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise ConfigurationError(f"predict_step returns columns of different lengths: {found_rows} rows")
    with file_written_whole(output) as file:
        if output.suffix == ".npz":
            if taken := {"file", "allow_pickle"} & arrays.keys():  # arguments of numpy.savez
                raise ConfigurationError(
                    f"predict_step returns '{min(taken)}', an argument of numpy.savez; rename it, or "
                    "write .csv"
                )
            arrays = {
                name: array.astype(str) if array.dtype == object else array for name, array in arrays.items()
            }
            np.savez_compressed(file.buffer, **arrays)  # type: ignore[arg-type]
        else:
            pd.DataFrame(_columns(arrays)).to_csv(file, index=False)
    return rows


def _trainer(bundle: Bundle, callbacks: list[Callback] | None = None) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own
    settings = bundle.configuration["trainer"]
    precision = settings.get("precision")
    double = precision == "64-true"
    trainer = Trainer(
        accelerator="cpu" if settings["accelerator"] == "cpu" else "auto",
        devices=1,
        precision=precision if precision in ("64-true", "bf16-mixed") else None,
        inference_mode=settings.get("inference_mode", True),
        callbacks=callbacks,
        logger=DummyLogger(),  # modules call self.logger
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
    if double:  # the constructor has made a module of float32, which has rounded the weights
        trainer.precision_plugin.convert_module(bundle.model)
        bundle.load_weights(bundle.model)
    return trainer


def _seed(bundle: Bundle) -> int:
    return int(bundle.configuration["seed_everything"])


def _class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _named(prediction: Any, name: str = "prediction") -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of a batch: of tensors, texts or numbers, or of the parts of a mapping or sequence."""
    if isinstance(prediction, torch.Tensor):
        tensor = prediction.detach().cpu()
        # NumPy has no bfloat16, which the layers of a training with bf16-mixed return
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        yield name, np.atleast_1d(tensor.numpy())
    elif isinstance(prediction, np.ndarray | int | float):
        yield name, np.atleast_1d(prediction)
    elif isinstance(prediction, str):
        yield name, np.array([prediction], dtype=object)
    elif isinstance(prediction, list) and prediction and all(isinstance(each, str) for each in prediction):
        yield name, np.array(prediction, dtype=object)
    elif isinstance(prediction, list) and all(isinstance(each, int | float) for each in prediction):
        yield name, np.array(prediction)
    elif isinstance(prediction, list) and all(isinstance(each, Mapping) for each in prediction):
        yield from _joined([dict(_named(each, name)) for each in prediction]).items()
    elif isinstance(prediction, Mapping):
        for key, part in prediction.items():
            yield from _named(part, str(key))
    elif isinstance(prediction, list | tuple):
        for number, part in enumerate(prediction):
            yield from _named(part, f"{name}_{number}")
    else:
        raise ConfigurationError(
            f"predict_step returns {type(prediction).__name__}; tensors, arrays, numbers or texts are "
            "needed, or lists and mappings of them"
        )


def _with_inputs(batches: list[Any]) -> list[Any]:
    """Number the inputs, from 1, where a list of mappings has other than one row for each, such as boxes."""
    if not all(
        isinstance(each, list) and all(isinstance(item, Mapping) for item in each) for each in batches
    ):
        return batches
    items = [dict(_named(item)) for batch in batches for item in batch]
    rows = [max(map(len, item.values()), default=0) for item in items]
    if all(count == 1 for count in rows) or any("input" in item for item in items):
        return batches
    numbers = [np.full(count, number) for number, count in enumerate(rows, 1)]
    return [{"input": number, **item} for number, item in zip(numbers, items, strict=True)]


def _joined(batches: list[Arrays]) -> Arrays:
    """The arrays of all batches, by name."""
    for batch in batches:
        if batch.keys() != batches[0].keys():
            raise ConfigurationError(
                f"predict_step returns {', '.join(batches[0])} at first, and then {', '.join(batch)}"
            )
    try:
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    except ValueError as error:
        raise ConfigurationError(f"predict_step returns parts of different shapes: {error}") from None


def _columns(arrays: Arrays) -> Arrays:
    columns: Arrays = {}
    for name, array in arrays.items():
        if array.ndim > 2:
            raise ConfigurationError(
                f"predict_step returns '{name}' of shape {array.shape}; a table needs (rows, columns): "
                "--output predictions/NAME.npz takes arrays of any shape"
            )
        parts = {name: array} if array.ndim == 1 else {f"{name}_{i}": part for i, part in enumerate(array.T)}
        columns |= parts
    return columns
