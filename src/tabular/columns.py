"""The kinds of columns of a table: how cells are read, what is learnt from training rows, the features.

One class a kind; those that become one number are in `number_columns`. Training data and the raw rows of a
prediction become features by the same code.
"""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.preparation.splits import Rows
from src.tabular.dates import PARTS, Part, calendar, date_text, seconds_of
from src.tabular.dialect import Reading, ReadingError
from src.tabular.notation import code_text, is_date, missing_mark
from src.tabular.number_columns import BooleanColumn, NumericColumn, OrderedColumn
from src.tabular.rules import PLAIN, Features, Kind, Numbers, Rules, Values
from src.tabular.transforms import learn_fill, learn_scale
from src.tabular.values import (
    category_values,
    code_counts,
    first_rows,
    is_numeric,
    plain_texts,
    refuse_cells,
    refuse_other_notation,
    text_values,
)

logger = logging.getLogger(__name__)

MOSTLY = 0.9  # a column whose cells are numbers beyond this share is a column of numbers
MANY_CATEGORIES = 1000
NGRAMS = (2, 4)  # characters


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
            fill = learn_fill(found[part], rules)
            center, scale = learn_scale(found[part], rules.scale)
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
        "is no date of the calendar, or may be one of two, as 3/4/2024; for these say `day_first` "
        "(`column_types: {NAME: {day_first: true}}`)",
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
        from sklearn.feature_extraction.text import HashingVectorizer  # see `transforms`

        hashing = HashingVectorizer(analyzer="char_wb", ngram_range=NGRAMS, n_features=self.width)
        features[:] = hashing.transform(["" if text is None else text for text in values]).toarray()
        return 0


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories, which becomes one feature of 0 or 1 per category, or one that is their code.

    Args:
        name: of the column.
        categories: the texts, None for a missing cell; the features have this order.
        rare: the categories that share one further feature.
        missing: the number of missing cells in the training rows.
        typical: the most frequent category of the training rows.
        embedded: whether the only feature is the code, by which a network looks up a vector.
    """

    kind: ClassVar[Kind] = "categorical"
    of_texts: ClassVar[bool] = True

    name: str
    categories: list[str | None]
    rare: list[str | None]
    missing: int
    typical: str | None
    embedded: bool = False

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
        from sklearn.preprocessing import OneHotEncoder  # see `transforms`

        # scikit-learn counts numbers a hundred times faster than texts; missing is the last category
        codes, known = _sorted_codes(values)
        codes = np.where(codes < 0, len(known), codes).astype(np.min_scalar_type(-len(known) - 1))
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
        elif rules.encode == "one_hot" and len(categories) - len(rare) > MANY_CATEGORIES:
            logger.warning(
                "column '%s' has %d categories, %d bytes in each row of a batch: consider `min_frequency` or "
                "`encode: embedding`",
                name,
                len(categories),
                4 * (len(categories) - len(rare)),
            )
        frequent = [category for category in categories if category not in set(rare)]
        missing, typical = int(pd.isna(values).sum()), names[np.bincount(codes).argmax()]
        return cls(name, frequent, rare, missing, typical, embedded=rules.encode == "embedding")

    @property
    def feature_names(self) -> list[str]:
        """The names of the features: column and category, or the column alone."""
        if self.embedded:
            return [self.name]
        names = [f"{self.name}_{'nan' if category is None else category}" for category in self.categories]
        return [*names, f"{self.name}_rare"] if self.rare else names

    @property
    def learnt(self) -> str:
        """What is learnt, for a table."""
        found = f"{len(self.categories)} categories, {len(self.rare)} rare"
        return f"{found}, looked up" if self.embedded else found

    def shown(self, features: Features) -> list[str]:
        """The cells of features (rows, width) as a reader knows them."""
        names = ["missing" if name is None else name for name in self.categories]
        names += ["rare"] if self.rare else []
        if self.embedded:
            return [[*names, "unknown"][code] for code in features[:, 0].astype(np.int64)]
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
        """The number of codes, which is the code of an unknown category, too."""
        return len(self.categories) + bool(self.rare)

    def code(self, values: Values) -> NDArray[np.int64]:
        """The codes (rows,) of values (rows,): the number of the category, or `width` of an unknown one."""
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
        """Write the ones or the codes of values (rows,) to `features` (rows, F); count the unknown values."""
        codes = self.code(values)
        rows = np.flatnonzero(codes < self.width)
        if self.embedded:
            features[:, 0] = codes
        else:
            features[rows, codes[rows]] = 1
        return len(values) - len(rows)


Column = NumericColumn | CategoricalColumn | DateColumn | TextColumn
COLUMNS: dict[Kind, type[Column]] = {
    column.kind: column
    for column in (NumericColumn, CategoricalColumn, BooleanColumn, OrderedColumn, DateColumn, TextColumn)
}


def inferred_kind(column: "pd.Series[Any]", train: Rows, path: Path, reading: Reading) -> Kind:
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
    codes, distinct = _coded(column)
    places = first_rows(codes, len(distinct))[:-1]
    few = pd.Series(np.asarray(distinct, dtype=object), index=column.index[places], name=column.name)
    try:
        refuse_other_notation(few, path, reading)
    except ReadingError as error:
        raise DataError(f"{error}, or `column_types: {{{column.name}: categorical}}`") from None
    plain = plain_texts(few, reading)
    cells, training = (code_counts(rows, len(few)) for rows in (codes, codes[train]))
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


def _coded(column: "pd.Series[Any]") -> tuple[NDArray[np.integer], Any]:
    """The codes of texts (rows,), -1 where missing, and the texts as they appear."""
    if isinstance(column.dtype, pd.CategoricalDtype):  # of `StoredTable`: they are so
        return column.cat.codes.to_numpy(), column.cat.categories
    codes, distinct = pd.factorize(column)
    return codes.astype(np.min_scalar_type(-len(distinct) - 1)), distinct


def _sorted_codes(values: Values) -> tuple[NDArray[np.integer], Any]:
    """The codes of texts (rows,), -1 where missing, and the texts in alphabetical order."""
    if not isinstance(values, pd.Categorical):
        return pd.factorize(values, sort=True)
    used = np.unique(values.codes[values.codes >= 0])
    texts = np.asarray(values.categories, dtype=object)[used]
    order = np.argsort(texts)
    renumbered = np.full(len(values.categories) + 1, -1, dtype=np.int32)
    renumbered[used[order]] = np.arange(len(used))
    return renumbered[values.codes], texts[order]


def warn_of_case(column: str, texts: Collection[str]) -> None:
    """Name the texts of a column that differ only in case."""
    alike = Counter(text.casefold() for text in texts)
    same = [text for text in texts if alike[text.casefold()] > 1]
    if same:
        logger.warning("%s has texts that differ only in case: %s", column, ", ".join(map(repr, same[:6])))
