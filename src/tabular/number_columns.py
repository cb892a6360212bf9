"""Columns that become one number: of numbers, of yes and no, of texts with an order.

One class a kind. Training data and the raw rows of a prediction become features by the same code.
"""

import logging
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from src.core.errors import DataError
from src.tabular.notation import code_text
from src.tabular.rules import PLAIN, Features, Kind, Numbers, Rules, Transform, Values
from src.tabular.transforms import (
    learn_fill,
    learn_scale,
    learn_transform,
    yeo_johnson,
    yeo_johnson_inverse,
)
from src.tabular.values import cell_text, numeric_values, refuse_cells, text_values

logger = logging.getLogger(__name__)

TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1", "是"), 1.0) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0", "否"), 0.0
)


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: (value - center) / scale after a transform, and whether the cell is missing.

    Args:
        name: of the column.
        fill: replaces a missing value; None if the column must not have missing values.
        center: of the transformed values.
        scale: of the transformed values.
        missing: the number of missing values in the training rows.
        typical: the median of the training rows.
        transform: log1p, log(1 + |x|) with the sign of x; yeo_johnson, with `power`; quantile, which
            interpolates `scores` between `quantiles`; or none.
        power: the exponent of Yeo and Johnson's transform, 1 of none.
        quantiles: different numbers in increasing order.
        scores: the quantiles of the standard normal distribution at the same ranks.
        indicator: whether a second feature is 1 where the cell is missing, and 0 elsewhere.
    """

    kind: ClassVar[Kind] = "numeric"
    of_texts: ClassVar[bool] = False

    name: str
    fill: float | None
    center: float
    scale: float
    missing: int
    typical: float
    transform: Transform = "none"
    power: float = 1.0
    quantiles: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    indicator: bool = False

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to numbers, NaN where missing.

        Raises:
            DataError: a cell is not a finite number.
        """
        return numeric_values(cells, path)

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "NumericColumn":
        """Learn replacement, transform and scale from the values of the training rows, which are filled."""
        missing = int(np.count_nonzero(np.isnan(values)))
        present = values[~np.isnan(values)] if missing else values
        if present.min() == present.max():
            logger.warning("column '%s' has only one number in the training rows", name)
        transform = learn_transform(present, rules.transform)
        typical = float(np.median(present, overwrite_input=missing > 0))
        del present
        fill = learn_fill(values, rules)
        indicator = bool(rules.missing_indicators and missing)
        column = cls(name, fill, 0.0, 1.0, missing, typical, indicator=indicator, **transform)
        center, scale = learn_scale(column.transformed(values), rules.scale)
        return replace(column, center=center, scale=scale)

    @property
    def feature_names(self) -> list[str]:
        """The name of the column, and that of the indicator."""
        return [self.name, f"{self.name}_nan"] if self.indicator else [self.name]

    @property
    def is_linear(self) -> bool:
        """Whether the column is one feature, a linear function of its numbers."""
        return self.transform == "none" and not self.indicator

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        fill = "none" if self.fill is None else f"{self.fill:.6g}"
        parts = [f"missing {fill}", f"center {self.center:.6g}", f"scale {self.scale:.6g}"]
        if self.transform != "none":
            power = f" {self.power:.3g}" if self.transform == "yeo_johnson" else ""
            parts.insert(1, f"{self.transform}{power}")
        return ", ".join(parts)

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) of a prediction, as `read`.

        Raises:
            DataError: as `read`, or a cell is missing while `fill` is None.
        """
        values = self.read(cells, path)
        if self.fill is None:
            refuse_cells(cells, np.isnan(values), path, "is missing; `impute: drop` learns no replacement")
        return values

    def transformed(self, values: Numbers) -> Numbers:
        """The transform of numbers (rows,)."""
        if self.transform == "log1p":
            return np.copysign(np.log1p(np.abs(values)), values)
        if self.transform == "yeo_johnson":
            return yeo_johnson(values, self.power)
        if self.transform == "quantile":
            return np.interp(values, self.quantiles, self.scores)
        return values

    def decoded(self, features: Features) -> Numbers:
        """The numbers (rows,) of features (rows, 1 or 2); NaN where the indicator is 1."""
        values = features[:, 0].astype(np.float64) * self.scale + self.center
        if self.transform == "log1p":
            values = np.copysign(np.expm1(np.abs(values)), values)
        elif self.transform == "yeo_johnson":
            values = yeo_johnson_inverse(values, self.power)
        elif self.transform == "quantile":
            values = np.interp(values, self.scores, self.quantiles)
        return np.where(features[:, 1] == 1, np.nan, values) if self.indicator else values

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, 1 or 2) as a reader knows them."""
        return ["missing" if np.isnan(value) else f"{value:.4g}" for value in self.decoded(features)]

    def encode(self, values: Values, features: Features) -> int:
        """Write the features of values (rows,) to `features` (rows, 1 or 2); return 0, the unknown values."""
        missing = np.isnan(values)
        filled = values if self.fill is None else np.where(missing, self.fill, values)
        features[:, 0] = (self.transformed(filled) - self.center) / self.scale
        if self.indicator:
            features[:, 1] = missing
        return 0


@dataclass(frozen=True)
class BooleanColumn(NumericColumn):
    """A column of yes and no: 1 and 0, not scaled."""

    kind: ClassVar[Kind] = "boolean"
    of_texts: ClassVar[bool] = True

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to 1 and 0, NaN where missing.

        Raises:
            DataError: a cell is another text than those of `TRUTH`.
        """
        texts = text_values(cells)
        codes, distinct = pd.factorize(texts)
        known = np.array([*(TRUTH.get(text.lower(), np.inf) for text in distinct), np.nan])
        values: Numbers = known[codes]
        refuse_cells(
            cells, np.isinf(values), path, "is neither yes nor no (true, t, yes, y, on, 1, 是 and so on)"
        )
        return values

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "BooleanColumn":
        """Learn the replacement of missing values from the values of the training rows."""
        missing = int(np.isnan(values).sum())
        if np.nanmin(values) == np.nanmax(values):
            logger.warning("column '%s' has only one value in the training rows", name)
        typical = float(np.nanmedian(values) >= 0.5)
        indicator = rules.missing_indicators and missing > 0
        return cls(name, learn_fill(values, rules), 0.0, 1.0, missing, typical, indicator=indicator)

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, 1 or 2) as a reader knows them."""
        names = {0.0: "no", 1.0: "yes"}
        return [names.get(value, "missing") for value in self.decoded(features).tolist()]


@dataclass(frozen=True)
class OrderedColumn(NumericColumn):
    """A column of texts with an order: the place of the text as a number; an unknown one is missing.

    Args:
        order: the texts from the lowest to the highest.
    """

    kind: ClassVar[Kind] = "ordered"
    of_texts: ClassVar[bool] = True

    order: list[str] = field(default_factory=list)

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to texts, None where missing."""
        return text_values(cells)

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "OrderedColumn":
        """Learn the replacement of missing values and the scale from the values of the training rows.

        Raises:
            DataError: a text is not in the order.
        """
        texts = sorted(map(str, set(values[~pd.isna(values)])))
        order = [code_text(cell_text(text)) for text in rules.order] or texts
        if strange := [text for text in texts if text not in order]:
            known = ", ".join(map(repr, order))
            raise DataError(f"column '{name}': {strange[0]!r} is not in `order`: {known}")
        ranks = _ranks(values, order)
        learnt = NumericColumn.learn(name, ranks, replace(rules, transform="none"))
        return cls(**{one.name: getattr(learnt, one.name) for one in fields(learnt)}, order=order)

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        return f"{len(self.order)} texts in order, {super().learnt}"

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) of a prediction, as `read`.

        Raises:
            DataError: a cell is missing while `fill` is None.
        """
        values = self.read(cells, path)
        if self.fill is None:
            refuse_cells(cells, pd.isna(values), path, "is missing; `impute: drop` learns no replacement")
        return values

    def ranks(self, values: Values) -> Numbers:
        """The places of texts (rows,) in the order, NaN where missing or unknown."""
        return _ranks(values, self.order)

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, 1 or 2) as a reader knows them."""
        ranks = self.decoded(features)
        places = np.clip(np.nan_to_num(ranks).round().astype(int), 0, len(self.order) - 1)
        missing = np.isnan(ranks).tolist()
        return [
            "missing" if no else self.order[place] for place, no in zip(places.tolist(), missing, strict=True)
        ]

    def encode(self, values: Values, features: Features) -> int:
        """Write the features of values (rows,) to `features` (rows, 1 or 2); count the unknown values."""
        ranks = self.ranks(values)
        unknown = int(np.isnan(ranks).sum() - pd.isna(values).sum())
        if self.fill is None:  # an unknown text, since a missing one is refused
            ranks = np.where(np.isnan(ranks), self.typical, ranks)
        super().encode(ranks, features)
        return unknown


def _ranks(values: Values, order: list[str]) -> Numbers:
    places = pd.Index(order, dtype=object).get_indexer(pd.Index(values, dtype=object))
    return np.where(places < 0, np.nan, places.astype(np.float64))
