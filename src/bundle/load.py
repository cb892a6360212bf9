"""Trained models in a notebook or script:

from src import load
model = load("house_prices")
model.predict(table)
"""

import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import LightningModule

from src.bundle.bundle import Bundle
from src.bundle.predict import for_model, ready
from src.bundle.registry import bundle_folder, home
from src.core.errors import ConfigurationError, DataError
from src.core.paths import MODELS


def load(model: str | Path) -> "Predictor":
    """Open a trained model.

    Args:
        model: its name, for models/<name> of the working folder or else of this project; a name and a stage
            or version of the registry, such as `house_prices@production`; or the path of a bundle.

    Raises:
        ConfigurationError: there is no such bundle, or it cannot be used.
        IntegrityError: a file of the bundle is damaged.
    """
    if isinstance(model, str) and re.fullmatch(r"[\w-]+", model) and not Path(model).is_dir():
        model = home() / MODELS / model
    return Predictor(ready(Bundle.open(bundle_folder(model))))


@dataclass(frozen=True)
class Predictor:
    """A trained model that predicts what is in memory, by the functions of the command `predict`.

    Args:
        bundle: with the model on its device.
    """

    bundle: Bundle

    def __repr__(self) -> str:
        """One line, for notebooks."""
        return f"{type(self).__name__}({type(self.model).__name__} of {self.bundle.folder})"

    @property
    def model(self) -> LightningModule:
        """The LightningModule, in evaluation mode."""
        return self.bundle.model

    def predict(self, inputs: Any, /, **options: Any) -> pd.DataFrame:
        """Predict.

        Args:
            inputs: what the kind of data takes: a DataFrame with the columns of the training data, a list of
                pictures (of Pillow, or paths), a list of starts of poems, or a list of words.
            options: further arguments of the function, such as `rhyme=True` of poems.

        Returns:
            The table that the command `predict` writes.

        Raises:
            ConfigurationError: the kind of data has no function for it, or an option cannot be used.
            DataError: the inputs cannot be used, such as a text that is not in a list.
        """
        if isinstance(inputs, str):  # each of its letters would be an input
            raise DataError(
                f"expected a list of inputs or a DataFrame, found {inputs!r}; put it into a list; files and "
                f"folders are read by python -m src.cli predict --bundle {self.bundle.folder}"
            )
        function = predictor_of(self.bundle)
        try:
            signature(function).bind(self.model, self.bundle.preprocessing, inputs, **options)
        except TypeError as error:  # an option that it does not have
            raise ConfigurationError(str(error)) from None
        torch.set_num_threads(self.bundle.configuration["threads"])  # each bundle has its own number
        found: pd.DataFrame = function(self.model, self.bundle.preprocessing, inputs, **options)
        return found


def predictor_of(bundle: Bundle) -> Any:
    """The function of a kind of data that predicts what is in memory.

    Raises:
        ConfigurationError: it has none.
    """
    module = f"src.{bundle.kind}.predict"
    functions = getattr(import_module(module), "PREDICTORS", None) if find_spec(module) else None
    if functions is None:
        raise ConfigurationError(
            f"src/{bundle.kind}/predict.py has no PREDICTORS; call the model itself: load(...).model"
        )
    return for_model(bundle, functions)
