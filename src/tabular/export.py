"""Export of a model of tables: a module from raw numbers, categories, dates and texts to predictions.

B batch, N numeric columns, K categorical columns, G one-hot features, E embedded columns
"""

from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.tabular.columns import NGRAMS, CategoricalColumn, Column, DateColumn, TextColumn
from src.tabular.dates import calendar, date_text, seconds_of
from src.tabular.model import TabularModel
from src.tabular.number_columns import BooleanColumn, NumericColumn, OrderedColumn
from src.tabular.preprocessing import Preprocessing, encode, transform
from src.training.networks import Step

UNKNOWN = -1  # the code of a category that no training row has; its features are all 0
UNSEEN_CATEGORY = "a category that training has not seen"
MISSING_SHARE = 0.05

Kind = TypeVar("Kind")


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
        # an unknown text of an order has its typical place; `impute: drop` leaves missing numbers out
        unfilled = [column.typical if isinstance(column, OrderedColumn) else np.nan for column in numeric]
        fills = [
            other if column.fill is None else column.fill
            for column, other in zip(numeric, unfilled, strict=True)
        ]
        self.fill = _constants(fills)  # (N,)
        self.center = _constants([column.center for column in numeric])  # (N,)
        self.scale = _constants([column.scale for column in numeric])  # (N,)
        self.numeric = numeric
        self.indicated = [place for place, column in enumerate(numeric) if column.indicator]
        self.dates = _of_kind(preprocessing, DateColumn)
        categorical = preprocessing.categorical
        self.looked_up = [place for place, column in enumerate(categorical) if column.embedded]
        self.unknown = nn.Buffer(torch.tensor([categorical[place].width for place in self.looked_up]))  # (E,)
        widths = [0 if column.embedded else column.width for column in categorical]
        repeats = torch.tensor(widths, dtype=torch.int64)
        self.column = nn.Buffer(torch.arange(len(widths)).repeat_interleave(repeats))  # (G,)
        self.category = nn.Buffer(torch.cat([torch.arange(width) for width in [0, *widths]]))  # (G,)
        self.order = nn.Buffer(torch.tensor(_feature_order(preprocessing)))  # (N + G,)

    def forward(
        self,
        numbers: Tensor | None = None,
        categories: Tensor | None = None,
        dates: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Map raw rows to predictions.

        Args:
            numbers: (B, N) float64, NaN where missing; 1 or 0 for yes or no, and the places of ordered texts.
            categories: (B, K) int64, their codes.
            dates: (B, D) float64, seconds since 1970, NaN where missing.
            texts: (B, H) float32, the hashed n-grams of the columns of texts.
        """
        parts = []
        if numbers is not None:
            filled = torch.where(numbers.isnan(), self.fill, numbers)
            if any(column.transform != "none" for column in self.numeric):
                filled = torch.stack(list(map(_transformed, filled.unbind(1), self.numeric)), dim=1)
            parts.append(((filled - self.center) / self.scale).float())  # (B, N)
            parts.append(numbers[:, self.indicated].isnan().float())
        if categories is not None:
            if len(self.column):
                parts.append((categories[:, self.column] == self.category).float())  # (B, G)
            if self.looked_up:
                codes = categories[:, self.looked_up]
                parts.append(torch.where(codes == UNKNOWN, self.unknown, codes).float())  # (B, E)
        if dates is not None:
            parts += [
                _of_dates(seconds, column)
                for seconds, column in zip(dates.unbind(1), self.dates, strict=True)
            ]
        if texts is not None:
            parts.append(texts)
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

    classes, one = [target.classes for target in preprocessing.targets], len(preprocessing.targets) == 1
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
            "yes_or_no": [column.name for column in _of_kind(preprocessing, BooleanColumn)],
            "orders": {column.name: column.order for column in _of_kind(preprocessing, OrderedColumn)},
            "dates": [column.name for column in _of_kind(preprocessing, DateColumn)],
            "texts": {column.name: column.width for column in _of_kind(preprocessing, TextColumn)},
            "ngrams": NGRAMS,
            "categories": [{"name": column.name, **_codes(column)} for column in preprocessing.categorical],
            "missing_texts": preprocessing.missing,
            "unknown": UNKNOWN,
            "lags": preprocessing.lags,
            "target": preprocessing.target.name if one else [target.name for target in preprocessing.targets],
            "classes": classes[0] if one else None if classes[0] is None else classes,
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


def _of_dates(seconds: Tensor, column: DateColumn) -> Tensor:
    """The features of dates (B,), as `DateColumn.encode`."""
    missing = seconds.isnan()
    features = []
    for place, part in enumerate(column.parts):
        found = calendar(seconds, part)
        if column.fills:
            found = torch.where(missing, column.fills[place], found)
        features.append((found - column.centers[place]) / column.scales[place])
    features += [missing.to(seconds.dtype)] if column.indicator else []
    return torch.stack(features, 1).float()


def _of_kind(preprocessing: Preprocessing, kind: type[Kind]) -> list[Kind]:
    return [column for column in preprocessing.columns if isinstance(column, kind)]


def _raised(size: Tensor, exponent: float) -> Tensor:
    return (exponent * size).expm1() / exponent if exponent else size


def _constants(values: list[float]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float64))


def _feature_order(preprocessing: Preprocessing) -> list[int]:
    """The position of each feature in an array of numbers, indicators, categories, dates and texts."""
    numeric, categorical = preprocessing.numeric, preprocessing.categorical
    places: dict[str, list[int]] = {column.name: [place] for place, column in enumerate(numeric)}
    start = len(numeric)
    for place, name in enumerate([column.name for column in numeric if column.indicator], start=start):
        places[name].append(place)
        start = place + 1
    others: list[Column] = [
        *(column for column in categorical if not column.embedded),
        *(column for column in categorical if column.embedded),
        *_of_kind(preprocessing, DateColumn),
        *_of_kind(preprocessing, TextColumn),
    ]
    for column in others:
        stop = start + len(column.feature_names)
        places[column.name] = list(range(start, stop))
        start = stop
    return [place for column in preprocessing.columns for place in places[column.name]]


def _codes(column: CategoricalColumn) -> dict[str, Any]:
    """The code of each text, and that of a missing cell."""
    codes = {text: code for text, code in column.codes.items() if text is not None}
    return {"codes": codes, "missing": column.codes.get(None, UNKNOWN)}


def _example(column: Column) -> float | str | None:
    """A typical cell, as the inputs have it; missing if that is frequent."""
    if isinstance(column, NumericColumn):
        return float(f"{_middle(column):.4g}")
    if isinstance(column, DateColumn):
        return seconds_of(column.typical)
    if isinstance(column, TextColumn) or None in column.categories:
        return None
    return next((text for text in column.codes if text is not None), None)


def _middle(column: NumericColumn) -> float:
    return float(column.typical if column.fill is None else column.fill)


def random_rows(preprocessing: Preprocessing, generator: np.random.Generator, rows: int) -> pd.DataFrame:
    """Generate raw rows: numbers around the mean, all categories, missing cells and unseen categories."""
    cells: dict[str, NDArray[Any]] = {}
    for column in preprocessing.columns:
        missing = generator.random(rows) < MISSING_SHARE
        if isinstance(column, CategoricalColumn | OrderedColumn | BooleanColumn | TextColumn):
            texts = _texts(column)
            choices = np.array([*texts, None], dtype=object)
            drawn = generator.integers(len(texts) + (column.kind in ("categorical", "text")), size=rows)
            cells[column.name] = choices[np.where(missing & _may_miss(column), len(texts), drawn)]
        elif isinstance(column, DateColumn):
            seconds = (seconds_of(column.typical) or 0) + generator.normal(0, 1e8, rows).round()
            dates = np.array([date_text(value) for value in seconds], dtype=object)
            dates[missing & _may_miss(column)] = None
            cells[column.name] = dates
        else:
            spread = column.scale if column.transform == "none" else abs(column.typical) + 1
            values = generator.normal(_middle(column), spread, rows)
            cells[column.name] = np.where(missing & _may_miss(column), np.nan, values)
    return pd.DataFrame(cells)


def _texts(column: CategoricalColumn | OrderedColumn | BooleanColumn | TextColumn) -> list[str]:
    """Texts for cells of a column, one that training has not seen among them where it may be."""
    if isinstance(column, CategoricalColumn):
        return [*(text for text in column.codes if text is not None), UNSEEN_CATEGORY]
    if isinstance(column, OrderedColumn):
        return column.order
    return ["yes", "no"] if isinstance(column, BooleanColumn) else ["a text", "another one", "一段文字"]


def _may_miss(column: Column) -> bool:
    if isinstance(column, NumericColumn):
        return column.fill is not None
    return bool(column.fills) if isinstance(column, DateColumn) else True


def as_inputs(table: pd.DataFrame, preprocessing: Preprocessing) -> Arrays:
    """Convert raw rows to the inputs of `RawTable`; a kind without columns has no input."""
    inputs: Arrays = {}
    path = Path("rows")
    if preprocessing.numeric:
        numbers = [
            column.ranks(column.parse(table[column.name], path))
            if isinstance(column, OrderedColumn)
            else column.parse(table[column.name], path)
            for column in preprocessing.numeric
        ]
        inputs["numbers"] = np.stack(numbers, axis=1)
    if preprocessing.categorical:
        codes = [
            [column.codes.get(None if pd.isna(text) else text, UNKNOWN) for text in table[column.name]]
            for column in preprocessing.categorical
        ]
        inputs["categories"] = np.array(codes, dtype=np.int64).T.copy()
    if dates := _of_kind(preprocessing, DateColumn):
        inputs["dates"] = np.stack([column.parse(table[column.name], path) for column in dates], axis=1)
    if texts := _of_kind(preprocessing, TextColumn):
        values = {column.name: column.parse(table[column.name], path) for column in texts}
        inputs["texts"] = encode(texts, values, Counter())
    return inputs
