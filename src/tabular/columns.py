"""The kinds of columns of a table: how cells are read, what is learnt from training rows, the features.

One class a kind. Training data and the raw rows of a prediction become features by the same code.
"""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PowerTransformer, RobustScaler, StandardScaler

from src.core.errors import DataError
from src.tabular.dates import PARTS, Part, calendar, date_text, seconds_of
from src.tabular.dialect import Reading, ReadingError
from src.tabular.notation import code_text, is_date, missing_mark
from src.tabular.values import (
    category_values,
    cell_text,
    is_numeric,
    numeric_values,
    plain_texts,
    refuse_cells,
    refuse_other_notation,
    text_values,
)

logger = logging.getLogger(__name__)

Kind = Literal["numeric", "categorical", "boolean", "ordered", "date", "text"]
Encoding = Literal["one_hot", "ordinal"]
Impute = Literal["mean", "median", "most_frequent", "constant", "drop"]
Scale = Literal["standard", "minmax", "robust", "none"]
Transform = Literal["none", "auto", "log1p", "yeo_johnson", "quantile"]
Numbers = NDArray[np.float64]
Features = NDArray[np.float32]
# of a raw column, (rows,): float64 with NaN, or texts (object) with None where a cell is missing
Values = NDArray[Any]

# each scaler, and the name of its attribute that holds the value which becomes 0
SCALERS = {
    "standard": (StandardScaler, "mean_"),
    "minmax": (MinMaxScaler, "data_min_"),
    "robust": (RobustScaler, "center_"),
}
MOSTLY = 0.9  # a column whose cells are numbers beyond this share is a column of numbers
TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1", "是"), 1.0) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0", "否"), 0.0
)
MANY_CATEGORIES = 1000
NGRAMS = (2, 4)  # characters
HEAVY_TAIL = 0.75  # `transform: auto` is log1p for numbers of at least 0 beyond this skewness
QUANTILES = 101  # of `transform: quantile`


class ColumnKeys(TypedDict, total=False):
    """The keys of `prepare` for one column.

    Args:
        kind: of the column.
        impute: as the key of `prepare` of this name; the others likewise.
        scale: of numbers.
        transform: of numbers.
        missing_indicators: of numbers.
        min_frequency: of categories.
        encode: of categories: one_hot, a feature each; ordinal, the place in alphabetical order.
        order: of `kind: ordered`: its texts from the lowest to the highest.
        parts: of `kind: date`; left out, those that vary among the training rows.
        day_first: of `kind: date` written as 3/4/2024: whether this is the 3rd of April.
        width: of `kind: text`: the number of features.
    """

    kind: Kind
    impute: Impute
    scale: Scale
    transform: Transform
    missing_indicators: bool
    min_frequency: int | float
    encode: Encoding
    order: list[str | int | float | bool]
    parts: list[Part]
    day_first: bool
    width: int


@dataclass(frozen=True)
class Rules:
    """How a column is learnt: the keys of `prepare` of these names, with those of its `ColumnKeys`."""

    kind: Kind | None = None
    impute: Impute = "mean"
    impute_constant: float = 0.0
    scale: Scale = "standard"
    transform: Transform = "none"
    missing_indicators: bool = False
    min_frequency: int | float = 1
    encode: Encoding = "one_hot"
    order: Sequence[str | int | float | bool] = ()
    parts: Sequence[Part] = ()
    day_first: bool | None = None
    width: int = 128


PLAIN = Rules()


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
        """Learn replacement, transform and scale from the values of the training rows."""
        present = values[~np.isnan(values)]
        missing, typical = len(values) - len(present), float(np.median(present))
        if present.min() == present.max():
            logger.warning("column '%s' has only one number in the training rows", name)
        fill, values = _learn_fill(values, rules)
        column = cls(
            name, fill, 0.0, 1.0, missing, typical, indicator=bool(rules.missing_indicators and missing)
        )
        column = replace(column, **_learn_transform(present, rules.transform))
        center, scale = _learn_scale(column.transformed(values), rules.scale)
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


def _learn_fill(values: Numbers, rules: Rules) -> tuple[float | None, Numbers]:
    """The number that replaces a missing one, and the values (rows,) with it."""
    if rules.impute == "drop":
        return None, values
    imputer = SimpleImputer(strategy=rules.impute, fill_value=rules.impute_constant)
    filled = imputer.fit_transform(values[:, np.newaxis])
    return float(imputer.statistics_[0]), filled[:, 0]


def _learn_transform(present: Numbers, transform: Transform) -> dict[str, Any]:
    """The arguments of `NumericColumn` for a transform, from the values that are not missing (rows,)."""
    if transform == "auto":
        transform = "log1p" if present.min() >= 0 and skewness(present) > HEAVY_TAIL else "none"
    if transform == "yeo_johnson" and present.min() < present.max():
        fitted = PowerTransformer(standardize=False).fit(present[:, np.newaxis])
        return {"transform": transform, "power": float(fitted.lambdas_[0])}
    if transform == "quantile":
        count = min(QUANTILES, len(present))
        ranks = (np.arange(count) + 0.5) / count
        found = np.quantile(present, np.linspace(0, 1, count))
        distinct, places = np.unique(found, return_inverse=True)
        mean_ranks = np.bincount(places, ranks) / np.bincount(places)  # equal quantiles share their mean rank
        return {"transform": transform, "quantiles": distinct.tolist(), "scores": ndtri(mean_ranks).tolist()}
    return {"transform": transform}


def _learn_scale(values: Numbers, scale: Scale) -> tuple[float, float]:
    """The center and the scale of numbers (rows,)."""
    if scale == "none":
        return 0.0, 1.0
    scaler_class, center_name = SCALERS[scale]
    table = values[:, np.newaxis]
    scaler = scaler_class().fit(table)
    center = float(getattr(scaler, center_name)[0])
    if scale == "minmax":  # scikit-learn multiplies by this one, and divides by the others
        return center, float(1 / scaler.scale_[0])
    if scale == "robust" and np.ptp(np.percentile(values, (25, 75))) == 0:
        # more than half of the numbers are the same, and the others may be far away
        return center, float(StandardScaler().fit(table).scale_[0])
    return center, float(scaler.scale_[0])


def skewness(values: Numbers) -> float:
    """The third standardized moment of numbers (rows,); 0 if all are the same."""
    deviation = values - values.mean()
    spread = float(np.sqrt((deviation**2).mean()))
    return float(((deviation / spread) ** 3).mean()) if spread else 0.0


def yeo_johnson(values: Numbers, power: float) -> Numbers:
    """Yeo and Johnson's transform of numbers (rows,) (Biometrika 2000)."""
    size = np.log1p(np.abs(values))
    exponent = np.where(values < 0, 2 - power, power)
    with np.errstate(invalid="ignore"):
        raised = np.expm1(exponent * size) / exponent
    return np.copysign(np.where(exponent == 0, size, raised), values)


def yeo_johnson_inverse(values: Numbers, power: float) -> Numbers:
    """The numbers of which `yeo_johnson` is `values` (rows,)."""
    size = np.abs(values)
    exponent = np.where(values < 0, 2 - power, power)
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log1p(exponent * size) / exponent
    return np.copysign(np.expm1(np.where(exponent == 0, size, logarithm)), values)


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
        fill, _ = _learn_fill(values, rules)
        indicator = rules.missing_indicators and missing > 0
        return cls(name, fill, 0.0, 1.0, missing, float(np.nanmedian(values) >= 0.5), indicator=indicator)

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


@dataclass(frozen=True)
class DateColumn:
    """A column of dates and times; each part of the calendar is a feature, scaled as a number.

    Args:
        name: of the column.
        parts: of the calendar.
        fills: of each part, in its unit; empty if the column must not have missing values.
        centers: of each part.
        scales: of each part.
        missing: the number of missing cells in the training rows.
        typical: the median of the training rows.
        day_first: whether 3/4/2024 is the 3rd of April; None if no date is written so.
        indicator: whether a last feature is 1 where the cell is missing, and 0 elsewhere.
    """

    kind: ClassVar[Kind] = "date"
    of_texts: ClassVar[bool] = True

    name: str
    parts: list[Part]
    fills: list[float]
    centers: list[float]
    scales: list[float]
    missing: int
    typical: str
    day_first: bool | None = None
    indicator: bool = False

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to seconds since 1970, NaN where missing.

        Raises:
            DataError: a cell is no date.
        """
        return _seconds(cells, path, rules.day_first)

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "DateColumn":
        """Learn the parts that vary, and of each the replacement and the scale, from the training rows."""
        present = values[~np.isnan(values)]
        found = {part: calendar(values, part) for part in PARTS}
        varying = [part for part in PARTS if np.ptp(calendar(present, part)) > 0]
        parts = list(rules.parts) or varying or ["elapsed"]
        fills, centers, scales = list[float](), list[float](), list[float]()
        for part in parts:
            fill, filled = _learn_fill(found[part], rules)
            center, scale = _learn_scale(filled, rules.scale)
            fills += [] if fill is None else [fill]
            centers.append(center)
            scales.append(scale)
        missing = len(values) - len(present)
        typical = date_text(float(np.median(present)))
        indicator = rules.missing_indicators and missing > 0
        return cls(name, parts, fills, centers, scales, missing, typical, rules.day_first, indicator)

    @property
    def feature_names(self) -> list[str]:
        """The names of the parts, and that of the indicator."""
        return [f"{self.name}_{part}" for part in (*self.parts, *(["nan"] if self.indicator else []))]

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        return ", ".join(self.parts)

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) of a prediction, as `read`.

        Raises:
            DataError: as `read`, or a cell is missing while nothing replaces it.
        """
        values = _seconds(cells, path, self.day_first)
        if not self.fills:
            refuse_cells(cells, np.isnan(values), path, "is missing; `impute: drop` learns no replacement")
        return values

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, width) as a reader knows them: the date, or else the parts."""
        units = features[:, : len(self.parts)].astype(np.float64) * self.scales + self.centers
        if "elapsed" in self.parts:
            return [date_text(round(days * 1440) * 60) for days in units[:, self.parts.index("elapsed")]]
        return [
            " ".join(f"{name} {value:.4g}" for name, value in zip(self.parts, row, strict=True))
            for row in units
        ]

    def encode(self, values: Values, features: Features) -> int:
        """Write the features of values (rows,) to `features` (rows, width); return 0, the unknown values."""
        missing = np.isnan(values)
        for place, part in enumerate(self.parts):
            found = calendar(values, part)
            if self.fills:
                found = np.where(missing, self.fills[place], found)
            features[:, place] = (found - self.centers[place]) / self.scales[place]
        if self.indicator:
            features[:, -1] = missing
        return 0


def _seconds(cells: "pd.Series[Any]", path: Path, day_first: bool | None) -> Numbers:
    texts = text_values(cells)
    codes, distinct = pd.factorize(texts)
    found = [seconds_of(text, day_first) for text in distinct]
    known = np.array([*(np.inf if one is None else one for one in found), np.nan])
    values: Numbers = known[codes]
    refuse_cells(
        cells,
        np.isinf(values),
        path,
        "is no date; of dates such as 3/4/2024 say `day_first` (`column_types: {NAME: {day_first: true}}`)",
    )
    return values


@dataclass(frozen=True)
class TextColumn:
    """A column of free text: the hashed n-grams of 2 to 4 characters within words, of norm 1.

    Args:
        name: of the column.
        width: the number of features.
        missing: the number of missing cells in the training rows.
        typical: None, there is no typical text.
    """

    kind: ClassVar[Kind] = "text"
    of_texts: ClassVar[bool] = True

    name: str
    width: int
    missing: int
    typical: None = None

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to texts, None where missing."""
        return text_values(cells)

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "TextColumn":
        """Count the missing cells; hashing learns nothing."""
        return cls(name, rules.width, int(pd.isna(values).sum()))

    @property
    def feature_names(self) -> list[str]:
        """The name of the column and a number."""
        return [f"{self.name}_{number}" for number in range(self.width)]

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        return f"n-grams hashed to {self.width} features"

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) of a prediction, as `read`."""
        return self.read(cells, path)

    def shown(self, features: Features) -> list[str]:
        """What is known of the cells of features (rows, width)."""
        return ["text" if row.any() else "missing" for row in features]

    def encode(self, values: Values, features: Features) -> int:
        """Write the features of values (rows,) to `features` (rows, width); return 0, the unknown values.

        A missing text is all 0.
        """
        hashing = HashingVectorizer(analyzer="char_wb", ngram_range=NGRAMS, n_features=self.width)
        features[:] = hashing.transform(["" if text is None else text for text in values]).toarray()
        return 0


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories, which becomes one feature of 0 or 1 per category.

    Args:
        name: of the column.
        categories: the texts, None for a missing cell; the features have this order.
        rare: the categories that share one further feature.
        missing: the number of missing cells in the training rows.
        typical: the most frequent category of the training rows.
    """

    kind: ClassVar[Kind] = "categorical"
    of_texts: ClassVar[bool] = True

    name: str
    categories: list[str | None]
    rare: list[str | None]
    missing: int
    typical: str | None

    @staticmethod
    def read(cells: "pd.Series[Any]", path: Path, rules: Rules = PLAIN) -> Values:
        """Convert raw cells (rows,) to texts, None where missing, or to categories of pandas."""
        values: Any = category_values(cells)
        return values

    @classmethod
    def learn(cls, name: str, values: Values, rules: Rules) -> "CategoricalColumn | OrderedColumn":
        """Learn the categories from the values of the training rows."""
        if rules.encode == "ordinal":
            return OrderedColumn.learn(name, values, rules)
        # scikit-learn counts numbers a hundred times faster than texts; missing is the last category
        codes, known = _sorted_codes(values)
        codes = np.where(codes < 0, len(known), codes)
        minimum = None if rules.min_frequency == 1 else rules.min_frequency
        encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=minimum).fit(codes[:, np.newaxis])
        names = [*known, None]
        categories = [names[code] for code in encoder.categories_[0]]
        rare_codes = encoder.infrequent_categories_[0] if minimum else None
        rare = [] if rare_codes is None else [names[code] for code in rare_codes]
        warn_of_case(f"column '{name}'", known)
        if len(known) > 2 and all(map(is_date, known)):
            logger.warning(
                "column '%s' holds dates, taken as %d categories: consider `drop`", name, len(known)
            )
        elif len(categories) > max(50, len(values) // 2):
            logger.warning(
                "column '%s' has %d categories in %d rows: consider `drop` or `min_frequency`",
                name,
                len(categories),
                len(values),
            )
        elif len(categories) - len(rare) > MANY_CATEGORIES:
            logger.warning(
                "column '%s' has %d categories, %d bytes in each row of a batch: consider `min_frequency` or "
                "`encode: ordinal`",
                name,
                len(categories),
                4 * (len(categories) - len(rare)),
            )
        frequent = [category for category in categories if category not in set(rare)]
        return cls(name, frequent, rare, int(pd.isna(values).sum()), names[np.bincount(codes).argmax()])

    @property
    def feature_names(self) -> list[str]:
        """The names of the features: column and category."""
        names = [f"{self.name}_{'nan' if category is None else category}" for category in self.categories]
        return [*names, f"{self.name}_rare"] if self.rare else names

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        return f"{len(self.categories)} categories, {len(self.rare)} rare"

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, width) as a reader knows them."""
        names = ["missing" if name is None else name for name in self.categories]
        names += ["rare"] if self.rare else []
        codes, known = features.argmax(axis=1).tolist(), (features != 0).any(axis=1).tolist()
        return [names[code] if there else "unknown" for code, there in zip(codes, known, strict=True)]

    @cached_property
    def codes(self) -> dict[str | None, int]:
        """The number of the feature of each category, as `text_values` writes it."""
        codes = {category: code for code, category in enumerate(self.categories)}
        codes |= dict.fromkeys(self.rare, len(self.categories))
        return {text if text is None else code_text(text): code for text, code in codes.items()}

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) of a prediction, as `read`."""
        return self.read(cells, path)

    @property
    def width(self) -> int:
        """The number of features, which is the code of an unknown category, too."""
        return len(self.categories) + bool(self.rare)

    def code(self, values: Values) -> NDArray[np.int64]:
        """The codes (rows,) of values (rows,): the number of the feature that is 1, or `width`."""
        if isinstance(values, pd.Categorical):
            lookup = [self.codes.get(text, self.width) for text in [*values.categories, None]]
            return np.array(lookup, dtype=np.int64)[values.codes]
        known = [category for category in self.codes if category is not None]
        # the result of pandas for an unknown text is -1, which is the index of the last entry
        lookup = np.array([self.codes[category] for category in known] + [self.width], dtype=np.int64)
        codes = lookup[pd.Index(known, dtype=object).get_indexer(pd.Index(values, dtype=object))]
        if None in self.codes:
            codes[pd.isna(values)] = self.codes[None]
        return codes

    def encode(self, values: Values, features: Features) -> int:
        """Write the ones of values (rows,) to `features` (rows, width); count the unknown values."""
        codes = self.code(values)
        rows = np.flatnonzero(codes < self.width)
        features[rows, codes[rows]] = 1
        return len(values) - len(rows)


Column = NumericColumn | CategoricalColumn | DateColumn | TextColumn
COLUMNS: dict[Kind, type[Column]] = {
    column.kind: column
    for column in (NumericColumn, CategoricalColumn, BooleanColumn, OrderedColumn, DateColumn, TextColumn)
}


def inferred_kind(column: "pd.Series[Any]", train: NDArray[np.int64], path: Path, reading: Reading) -> Kind:
    """The kind of a column: numeric if every value is a number, categorical if not.

    Args:
        column: shape (rows,), of all rows.
        train: the numbers of the training rows.
        path: the file, for error messages.
        reading: how the file writes numbers.

    Raises:
        DataError: there are a few texts among numbers, or numbers in another notation.
    """
    if is_numeric(column):
        return "numeric"
    codes, distinct = pd.factorize(column)  # as they appear
    first = np.full(len(distinct) + 1, len(column))
    first[codes[::-1]] = np.arange(len(column))[::-1]
    few = pd.Series(np.asarray(distinct, dtype=object), index=column.index[first[:-1]], name=column.name)
    try:
        refuse_other_notation(few, path, reading)
    except ReadingError as error:
        raise DataError(f"{error}, or `column_types: {{{column.name}: categorical}}`") from None
    plain = plain_texts(few, reading)
    cells, training = (np.bincount(rows[rows >= 0], minlength=len(few)) for rows in (codes, codes[train]))
    numbers = pd.to_numeric(plain, errors="coerce").notna().to_numpy()
    mark = missing_mark(pd.Series(cells).groupby(plain.to_numpy()).sum().to_dict())
    if mark or training[numbers].sum() / training.sum() > MOSTLY:
        # one text in any row makes pandas read the whole column as text
        texts = plain[~numbers]
        if len(texts):
            raise DataError(
                f"{path}: row {texts.index[0] + 1}, column '{column.name}': expected a number, found "
                f"{texts.iloc[0]!r}; correct it, add it to `missing` ({cells[~numbers].sum()} of "
                f"{cells.sum()} cells are texts), or set the kind in `column_types`"
            )
    return "categorical"


def _sorted_codes(values: Values) -> tuple[NDArray[np.int64], Any]:
    """The codes of texts (rows,), -1 where missing, and the texts in alphabetical order."""
    if not isinstance(values, pd.Categorical):
        return pd.factorize(values, sort=True)
    used = np.unique(values.codes[values.codes >= 0])
    texts = np.asarray(values.categories, dtype=object)[used]
    order = np.argsort(texts)
    renumbered = np.full(len(values.categories) + 1, -1)
    renumbered[used[order]] = np.arange(len(used))
    return renumbered[values.codes], texts[order]


def warn_of_case(column: str, texts: Collection[str]) -> None:
    """Name the texts of a column that differ only in case."""
    alike = Counter(text.casefold() for text in texts)
    same = [text for text in texts if alike[text.casefold()] > 1]
    if same:
        logger.warning("%s has texts that differ only in case: %s", column, ", ".join(map(repr, same[:6])))
