"""Export of a model of tables: a module from raw numbers and codes of categories to predictions.

B batch, N numeric columns, K categorical columns, G one-hot features
"""

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.tabular.columns import CategoricalColumn, Column, NumericColumn
from src.tabular.model import TabularModel
from src.tabular.preprocessing import Preprocessing, transform
from src.training.networks import Step

UNKNOWN = -1  # the code of a category that no training row has; its features are all 0
UNSEEN_CATEGORY = "a category that training has not seen"
MISSING_SHARE = 0.05


class RawTable(nn.Module):
    """The transformation of raw rows, the network, the inverse transform of the target, and the decision.

    Args:
        model: in evaluation mode.
        preprocessing: of its training rows.
    """

    def __init__(self, model: TabularModel, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        numeric = preprocessing.numeric
        fills = [np.nan if column.fill is None else column.fill for column in numeric]
        self.fill = _constants(fills)  # (N,)
        self.center = _constants([column.center for column in numeric])  # (N,)
        self.scale = _constants([column.scale for column in numeric])  # (N,)
        self.numeric = numeric
        self.indicated = [place for place, column in enumerate(numeric) if column.indicator]
        widths = [len(column.feature_names) for column in preprocessing.categorical]
        repeats = torch.tensor(widths, dtype=torch.int64)
        self.column = nn.Buffer(torch.arange(len(widths)).repeat_interleave(repeats))  # (G,)
        self.category = nn.Buffer(torch.cat([torch.arange(width) for width in [0, *widths]]))  # (G,)
        self.order = nn.Buffer(torch.tensor(_feature_order(preprocessing)))  # (N + G,)

    def forward(
        self, numbers: Tensor | None = None, categories: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Map numbers (B, N) float64, NaN where missing, and codes (B, K) int64 to predictions."""
        parts = []
        if numbers is not None:
            filled = torch.where(numbers.isnan(), self.fill, numbers)
            if any(column.transform != "none" for column in self.numeric):
                filled = torch.stack(list(map(_transformed, filled.unbind(1), self.numeric)), dim=1)
            parts.append(((filled - self.center) / self.scale).float())  # (B, N)
            parts.append(numbers[:, self.indicated].isnan().float())
        if categories is not None:
            parts.append((categories[:, self.column] == self.category).float())  # (B, G)
        features = torch.cat(parts, dim=1)[:, self.order]
        return with_decision(self.model, self.model(features))


def output_names(model: TabularModel) -> tuple[str, ...]:
    """The prediction and the ends of its interval, or the probabilities and the class by a threshold."""
    if model.target.classes is not None:
        return ("probabilities",) if model.threshold is None else ("probabilities", "class")
    return ("prediction",) if model.margin is None else ("prediction", "lower", "upper")


def with_decision(model: TabularModel, outputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """What `output_names` names, from the outputs (B, O) of the network."""
    answers = model.predict(outputs)
    if model.threshold is not None:
        return answers, model.decide(answers)
    return answers if model.margin is None else (answers, *model.interval_of(outputs))


def exportable(bundle: Bundle) -> Exportable:
    """Prepare the trained model of a bundle, with its preprocessing, for export."""
    model = bundle.model_of(TabularModel)
    preprocessing: Preprocessing = bundle.preprocessing

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        table = random_rows(preprocessing, generator, rows)
        features = transform(table, preprocessing, Path("random rows"), Counter())
        with torch.inference_mode():
            answers = with_decision(model, model(torch.from_numpy(features)))
        parts = answers if isinstance(answers, tuple) else (answers,)
        found = {name: part.numpy() for name, part in zip(names, parts, strict=True)}
        return as_inputs(table, preprocessing), found

    classes = preprocessing.target.classes
    names = output_names(model)
    inputs = as_inputs(random_rows(preprocessing, np.random.default_rng(0), 2), preprocessing)
    return Exportable(
        kind="tabular",
        network=type(model.network).__name__,
        module=RawTable(model, preprocessing).eval(),
        inputs={name: torch.from_numpy(array) for name, array in inputs.items()},
        axes={name: {0: "batch"} for name in inputs},
        outputs=names,
        sample=sample,
        description={
            "numbers": [column.name for column in preprocessing.numeric],
            "categories": [{"name": column.name, **_codes(column)} for column in preprocessing.categorical],
            "missing_texts": preprocessing.missing,
            "unknown": UNKNOWN,
            "lags": preprocessing.lags,
            "target": preprocessing.target.name,
            "classes": classes,
            **_decision(model),
            "example": {column.name: _example(column) for column in preprocessing.columns},
        },
        jumps=model.loss == "perceptron"
        or model.threshold is not None
        or any(isinstance(module, Step) for module in model.modules()),
    )


def _decision(model: TabularModel) -> dict[str, Any]:
    """The threshold of a class, or the share of values that intervals are to have; nothing without them."""
    if model.threshold is not None and model.target.classes is not None:
        return {"threshold": {model.target.classes[model.threshold_class]: float(model.threshold)}}
    return {} if model.margin is None else {"interval": model.interval}


def _transformed(values: Tensor, column: NumericColumn) -> Tensor:
    """The transform of numbers (B,), as `NumericColumn.transformed`."""
    if column.transform in ("log1p", "yeo_johnson"):
        size = values.abs().log1p()
        if column.transform == "log1p":
            return values.sign() * size
        positive, negative = (_raised(size, exponent) for exponent in (column.power, 2 - column.power))
        return torch.where(values < 0, -negative, positive)
    if column.transform == "quantile":
        edges = torch.tensor(column.quantiles, dtype=values.dtype)
        scores = torch.tensor(column.scores, dtype=values.dtype)
        steps = edges.diff()
        within = torch.minimum((values[:, None] - edges[:-1]).clamp(min=0), steps)
        return scores[0] + (within * (scores.diff() / steps)).sum(1)
    return values


def _raised(size: Tensor, exponent: float) -> Tensor:
    return (exponent * size).expm1() / exponent if exponent else size


def _constants(values: list[float]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float64))


def _feature_order(preprocessing: Preprocessing) -> list[int]:
    """The position of each feature in an array of numbers, indicators and categories."""
    numeric = preprocessing.numeric
    indicators = sum(column.indicator for column in numeric)
    numbers, missing, ones = count(), count(len(numeric)), count(len(numeric) + indicators)
    order = list[int]()
    for column in preprocessing.columns:
        if isinstance(column, NumericColumn):
            order += [next(numbers), next(missing)] if column.indicator else [next(numbers)]
        else:
            order += [next(ones) for _ in column.feature_names]
    return order


def _codes(column: CategoricalColumn) -> dict[str, Any]:
    """The code of each text, and that of a missing cell."""
    codes = {text: code for text, code in column.codes.items() if text is not None}
    return {"codes": codes, "missing": column.codes.get(None, UNKNOWN)}


def _example(column: Column) -> float | str | None:
    """A typical cell: the mean of numbers; missing if that is frequent; or the first category."""
    if isinstance(column, NumericColumn):
        return float(f"{_middle(column):.4g}")
    if None in column.categories:
        return None
    return next((text for text in column.codes if text is not None), None)


def _middle(column: NumericColumn) -> float:
    return float(column.typical if column.fill is None else column.fill)


def random_rows(preprocessing: Preprocessing, generator: np.random.Generator, rows: int) -> pd.DataFrame:
    """Generate raw rows: numbers around the mean, all categories, missing cells and unseen categories."""
    cells: dict[str, NDArray[Any]] = {}
    for column in preprocessing.columns:
        if isinstance(column, NumericColumn):
            spread = column.scale if column.transform == "none" else abs(column.typical) + 1
            values = generator.normal(_middle(column), spread, rows)
            missing = generator.random(rows) < MISSING_SHARE
            cells[column.name] = np.where(missing & (column.fill is not None), np.nan, values)
        else:
            texts = [text for text in column.codes if text is not None]
            choices = np.array([*texts, UNSEEN_CATEGORY, None], dtype=object)
            cells[column.name] = choices[generator.integers(len(choices), size=rows)]
    return pd.DataFrame(cells)


def as_inputs(table: pd.DataFrame, preprocessing: Preprocessing) -> Arrays:
    """Convert raw rows to the inputs of `RawTable`; a kind without columns has no input."""
    inputs: Arrays = {}
    if numeric := [column.name for column in preprocessing.numeric]:
        inputs["numbers"] = table[numeric].to_numpy(np.float64, copy=True)
    if preprocessing.categorical:
        codes = [
            [column.codes.get(None if pd.isna(text) else text, UNKNOWN) for text in table[column.name]]
            for column in preprocessing.categorical
        ]
        inputs["categories"] = np.array(codes, dtype=np.int64).T.copy()
    return inputs
