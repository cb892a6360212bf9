"""An ordinary LightningModule in a form that can be exported: its `forward`, from tensors to tensors."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.bundle.module import data_of, repeat_setup
from src.core.errors import ConfigurationError, reported_error

LOADERS = {"predict": "predict_dataloader", "test": "test_dataloader"}


def module_exportable(bundle: Bundle) -> Exportable:
    """The `forward` of a bundle's module.

    The example inputs are the module's `example_input_array`. Without it they come from the first batch of
    its predict or test loader: as many parts as `forward` needs, of a mapping those of its names.

    Raises:
        ConfigurationError: there is no `forward`, no example or one that it does not take, or an input or
            output is no tensor.
    """
    model, name = bundle.model, type(bundle.model).__name__
    if not is_overridden("forward", model):
        raise ConfigurationError(f"{name} cannot be exported: it has no forward")
    example = model.example_input_array
    inputs = _named(name, model, _first_batch(bundle) if example is None else example)
    inputs = {key: _two_rows(name, key, tensor) for key, tensor in inputs.items()}
    try:
        with torch.inference_mode():
            found = model(**inputs)
    except Exception as error:  # a module raises anything
        if (known := reported_error(error)) is not None:
            raise known from None
        whose = "the first batch of its loader" if example is None else "self.example_input_array"
        text = " ".join(str(error).split())[:200]
        raise ConfigurationError(
            f"{name} cannot be exported: forward does not take {whose} ({type(error).__name__}: {text}); set "
            "self.example_input_array in the module to what forward takes"
        ) from error
    outputs = found if isinstance(found, tuple) else (found,)
    if not all(isinstance(output, Tensor) for output in outputs):
        kinds = ", ".join(type(output).__name__ for output in outputs)
        raise ConfigurationError(f"{name} cannot be exported: forward returns {kinds}; tensors are needed")
    names = ("output",) if len(outputs) == 1 else tuple(f"output_{i}" for i in range(len(outputs)))

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        drawn = {key: _drawn(tensor, generator, rows) for key, tensor in inputs.items()}
        with torch.inference_mode():
            answer = model(**drawn)
        answers = answer if isinstance(answer, tuple) else (answer,)
        return (
            {key: tensor.numpy() for key, tensor in drawn.items()},
            {key: tensor.numpy() for key, tensor in zip(names, answers, strict=True)},
        )

    return Exportable(
        kind="module",
        network=name,
        module=model,
        inputs=inputs,
        axes={key: {0: "batch"} for key in inputs},
        outputs=names,
        sample=sample,
        description={
            "inputs": {key: _described(tensor) for key, tensor in inputs.items()},
            "outputs": {key: _described(tensor) for key, tensor in zip(names, outputs, strict=True)},
            "example": {key: tensor[:1].tolist() for key, tensor in inputs.items()},
        },
    )


def _first_batch(bundle: Bundle) -> Any:
    """The first batch of the predict loader, else of the test loader."""
    data = data_of(bundle)
    source = data or bundle.model
    stage = next((stage for stage, loader in LOADERS.items() if is_overridden(loader, source)), None)
    if stage is None:
        raise ConfigurationError(
            f"{type(bundle.model).__name__} cannot be exported: an example of its inputs is needed; set "
            "self.example_input_array in the module, or add a predict_dataloader"
        )
    repeat_setup(int(bundle.configuration["seed_everything"]), bundle.model, data)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # modules ask it for the number of processes and the like
    source.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    source.prepare_data()
    source.setup(stage)
    batch = next(iter(getattr(source, LOADERS[stage])()))
    source.trainer = None
    return batch


def _named(name: str, model: LightningModule, example: Any) -> dict[str, Tensor]:
    """The inputs of `forward` by the names of its parameters."""
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty]
    if isinstance(example, Mapping):
        inputs = {key: example[key] for key in (each.name for each in parameters) if key in example}
    else:
        parts = [example] if isinstance(example, Tensor) else list(example)[: len(needed)]
        inputs = dict(zip(needed, parts, strict=False))
    wrong = [key for key in needed if not isinstance(inputs.get(key), Tensor)]
    if wrong or not inputs:
        raise ConfigurationError(
            f"{name} cannot be exported: the example has no tensor for the parameter "
            f"'{wrong[0] if wrong else ''}' of forward; set self.example_input_array in the module"
        )
    return inputs


def _two_rows(name: str, key: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 0:
        raise ConfigurationError(f"{name} cannot be exported: '{key}' has no axis for the rows of a batch")
    return torch.cat([tensor, tensor])[:2].clone()


def _drawn(example: Tensor, generator: np.random.Generator, rows: int) -> Tensor:
    """Rows like those of an example: noise around them; of whole numbers, values that it contains."""
    values = example.numpy()
    shape = (rows, *values.shape[1:])
    if example.is_floating_point():
        around = values[generator.integers(len(values), size=rows)]
        return torch.from_numpy((around + generator.standard_normal(shape)).astype(values.dtype))
    return torch.from_numpy(generator.choice(values.ravel(), size=shape))


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"shape": ["batch", *tensor.shape[1:]], "type": str(tensor.dtype).removeprefix("torch.")}
