"""Bundle -> a module from raw numbers and category codes to answers in the target's unit.

B batch, N number columns, K category columns, G one-hot features, C classes
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
from src.tabular.model import TabularModel
from src.tabular.preprocessing import transform
from src.training.networks import Step

UNKNOWN = -1  # the code of a category that training has not seen: all zeros
NEVER_SEEN = "a category that training has not seen"
MISSING_SHARE = 0.05

Columns = list[dict[str, Any]]


class RawTable(nn.Module):
    """What `transform` does to raw rows, then the network, then the way back to the target's unit.

    Args:
        model: in evaluation mode.
        columns: of preprocessing.json.
    """

    def __init__(self, model: TabularModel, columns: Columns) -> None:
        super().__init__()
        self.model = model
        numeric, categorical = _of_kind(columns, "numeric"), _of_kind(columns, "categorical")

        def learnt(name: str) -> nn.Buffer:
            values = [np.nan if column[name] is None else column[name] for column in numeric]
            return nn.Buffer(torch.tensor(values, dtype=torch.float64))  # (N,)

        self.fill, self.center, self.scale = learnt("fill"), learnt("center"), learnt("scale")
        widths = torch.tensor([_width(column) for column in categorical], dtype=torch.int64)
        self.column = nn.Buffer(torch.arange(len(widths)).repeat_interleave(widths))  # (G,)
        self.category = nn.Buffer(torch.cat([torch.arange(width) for width in [0, *widths]]))  # (G,)
        self.order = nn.Buffer(torch.tensor(_feature_order(columns)))  # (N + G,)

    def forward(self, numbers: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        """Numbers (B, N) float64, NaN where missing, and codes (B, K) int64 to what `predict` returns."""
        parts = []
        if numbers is not None:
            filled = torch.where(numbers.isnan(), self.fill, numbers)
            parts.append(((filled - self.center) / self.scale).float())  # (B, N)
        if categories is not None:
            parts.append((categories[:, self.column] == self.category).float())  # (B, G)
        features = torch.cat(parts, dim=1)[:, self.order]
        return self.model.predict(self.model(features))


def exportable(bundle: Bundle) -> Exportable:
    """The trained model of a bundle with its preprocessing.

    Args:
        bundle: of the trained model.
    """
    model = bundle.model_of(TabularModel)
    preprocessing = bundle.preprocessing
    columns: Columns = preprocessing["columns"]

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        table = _random_rows(columns, generator, rows)
        features = transform(table, preprocessing, Path("random rows"), Counter())
        with torch.inference_mode():
            answers = model.predict(model(torch.from_numpy(features)))
        return _as_inputs(table, columns), {output: answers.numpy()}

    classes = preprocessing["target"]["classes"]
    output = "prediction" if classes is None else "probabilities"
    inputs = _as_inputs(_random_rows(columns, np.random.default_rng(0), 2), columns)
    return Exportable(
        kind="tabular",
        network=type(model.network).__name__,
        module=RawTable(model, columns).eval(),
        inputs={name: torch.from_numpy(array) for name, array in inputs.items()},
        axes={name: {0: "batch"} for name in inputs},
        outputs=(output,),
        sample=sample,
        description={
            "numbers": [column["name"] for column in _of_kind(columns, "numeric")],
            "categories": [
                {"name": column["name"], **_codes(column)} for column in _of_kind(columns, "categorical")
            ],
            "missing_texts": preprocessing["missing"],
            "unknown": UNKNOWN,
            "lags": preprocessing["lags"],
            "target": preprocessing["target"]["name"],
            "classes": classes,
            "example": {column["name"]: _usual(column) for column in columns},
        },
        jumps=model.loss == "perceptron" or any(isinstance(module, Step) for module in model.modules()),
    )


def _of_kind(columns: Columns, kind: str) -> Columns:
    return [column for column in columns if column["kind"] == kind]


def _width(column: dict[str, Any]) -> int:
    """How many features a categorical column has."""
    return len(column["categories"]) + bool(column["rare"])


def _feature_order(columns: Columns) -> list[int]:
    """Where each feature stands when the numbers come first and the categories after them."""
    numbers, ones = count(), count(len(_of_kind(columns, "numeric")))
    order: list[int] = []
    for column in columns:
        numeric = column["kind"] == "numeric"
        order += [next(numbers)] if numeric else [next(ones) for _ in range(_width(column))]
    return order


def _codes(column: dict[str, Any]) -> dict[str, Any]:
    """The code of each text, and that of a missing cell."""
    codes = {category: code for code, category in enumerate(column["categories"])}
    codes |= dict.fromkeys(column["rare"], len(column["categories"]))
    missing = codes.pop(None, UNKNOWN)
    return {"codes": codes, "missing": missing}


def _usual(column: dict[str, Any]) -> float | str | None:
    """A cell as it may stand in a raw row: the mean; nothing, where that is usual; or the first category."""
    if column["kind"] == "numeric":
        return float(f"{_middle(column):.4g}")
    if None in column["categories"]:
        return None
    return next(iter([*column["categories"], *_codes(column)["codes"]]), None)


def _middle(column: dict[str, Any]) -> float:
    return float(column["center"] if column["fill"] is None else column["fill"])


def _random_rows(columns: Columns, generator: np.random.Generator, rows: int) -> pd.DataFrame:
    """Raw rows as they might come: numbers about the mean, any category, missing cells, unseen categories."""
    cells: dict[str, NDArray[Any]] = {}
    for column in columns:
        if column["kind"] == "numeric":
            values = generator.normal(_middle(column), column["scale"], rows)
            missing = generator.random(rows) < MISSING_SHARE
            cells[column["name"]] = np.where(missing & (column["fill"] is not None), np.nan, values)
        else:
            choices = np.array([*_codes(column)["codes"], NEVER_SEEN, None], dtype=object)
            cells[column["name"]] = choices[generator.integers(len(choices), size=rows)]
    return pd.DataFrame(cells)


def _as_inputs(table: pd.DataFrame, columns: Columns) -> Arrays:
    """Raw rows as the module takes them, by the tables of inputs.json; a kind without columns is no input."""
    inputs: Arrays = {}
    if numeric := _of_kind(columns, "numeric"):
        inputs["numbers"] = table[[column["name"] for column in numeric]].to_numpy(np.float64, copy=True)
    if categorical := _of_kind(columns, "categorical"):
        tables = {column["name"]: _codes(column) for column in categorical}
        codes = [
            [known["missing"] if pd.isna(text) else known["codes"].get(text, UNKNOWN) for text in table[name]]
            for name, known in tables.items()
        ]
        inputs["categories"] = np.array(codes, dtype=np.int64).T.copy()
    return inputs
