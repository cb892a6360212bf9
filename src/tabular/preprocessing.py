"""The learnt preprocessing of a table, and the transformation of raw rows into features by it.

Training data and the raw rows of a prediction are transformed by the same code. `prepare.py` learns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.documents import read_json, write_json
from src.core.errors import ConfigurationError, IntegrityError
from src.tabular.dialect import DEFAULT, Reading
from src.tabular.notation import code_text
from src.tabular.values import numeric_values, refuse_cells, require_columns, text_values

FILE = "preprocessing.json"

Kind = Literal["numeric", "categorical"]
Features = NDArray[np.float32]
# of a raw column, (rows,): float64 with NaN, or texts (object) with None where a cell is missing
Values = NDArray[Any]


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers, which becomes one feature: (value - center) / scale.

    Args:
        name: of the column.
        fill: replaces a missing value; None if the column must not have missing values.
        center: in the unit of the column.
        scale: in the unit of the column.
        missing: the number of missing values in the training rows.
        typical: the median of the training rows.
    """

    kind: ClassVar[Kind] = "numeric"

    name: str
    fill: float | None
    center: float
    scale: float
    missing: int
    typical: float

    @property
    def feature_names(self) -> list[str]:
        """The name of the column."""
        return [self.name]

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) to numbers.

        Raises:
            DataError: a cell is not a finite number, or is missing while `fill` is None.
        """
        values = numeric_values(cells, path)
        if self.fill is None:
            refuse_cells(cells, np.isnan(values), path, "is missing; `impute: drop` learns no replacement")
        return values

    def encode(self, values: Values, features: Features) -> int:
        """Write the feature of values (rows,) to `features` (rows, 1); return 0, the unknown values."""
        filled = values if self.fill is None else np.where(np.isnan(values), self.fill, values)
        features[:, 0] = (filled - self.center) / self.scale
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

    name: str
    categories: list[str | None]
    rare: list[str | None]
    missing: int
    typical: str | None

    @property
    def feature_names(self) -> list[str]:
        """The names of the features: column and category."""
        names = [f"{self.name}_{'nan' if category is None else category}" for category in self.categories]
        return [*names, f"{self.name}_rare"] if self.rare else names

    @cached_property
    def codes(self) -> dict[str | None, int]:
        """The number of the feature of each category, as `text_values` writes it."""
        codes = {category: code for code, category in enumerate(self.categories)}
        codes |= dict.fromkeys(self.rare, len(self.categories))
        return {text if text is None else code_text(text): code for text, code in codes.items()}

    def parse(self, cells: "pd.Series[Any]", path: Path) -> Values:
        """Convert raw cells (rows,) to texts."""
        return text_values(cells)

    def encode(self, values: Values, features: Features) -> int:
        """Write the ones of values (rows,) to `features` (rows, width); count the unknown values."""
        known = [category for category in self.codes if category is not None]
        # the result of pandas for an unknown text is -1, which is the index of the last entry
        lookup = np.array([self.codes[category] for category in known] + [-1], dtype=np.int64)
        code_of_row = lookup[pd.Index(known, dtype=object).get_indexer(pd.Index(values, dtype=object))]
        if None in self.codes:
            code_of_row[pd.isna(values)] = self.codes[None]
        rows = np.flatnonzero(code_of_row >= 0)
        features[rows, code_of_row[rows]] = 1
        return len(values) - len(rows)


Column = NumericColumn | CategoricalColumn


@dataclass(frozen=True)
class Target:
    """The column to predict; a quantity becomes (value - center) / scale, after the logarithm if `log`.

    Args:
        name: of the column.
        classes: the texts in the order of their codes; None for a quantity.
        log: whether the natural logarithm is taken.
        center: of the values, after the logarithm.
        scale: likewise.
        at_least_one: whether all values of the training rows are 1 or above.
    """

    name: str
    classes: list[str] | None = None
    log: bool = False
    center: float = 0.0
    scale: float = 1.0
    at_least_one: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """What the preparation of a table has learnt from its training rows: the content of preprocessing.json.

    Args:
        columns: in the order of their features.
        target: the column to predict.
        missing: the texts of cells without a value.
        id: the column that identifies the rows of a prediction.
        lags: the number of earlier values of the target among the features.
        truth: of a generated table: the true weights by column.
        labels: of columns, by name and language.
        prediction_columns: the names of the two columns of predictions; None for the usual ones.
        reading: how raw files hold their tables.
    """

    columns: Sequence[Column]
    target: Target
    missing: Sequence[str] = ()
    id: str | None = None
    lags: int = 0
    truth: dict[str, float] | None = None
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    prediction_columns: list[str] | None = None
    reading: Reading = DEFAULT

    @cached_property
    def features(self) -> list[str]:
        """The names of the F features, in the order of the array's columns."""
        return [name for column in self.columns for name in column.feature_names]

    @property
    def numeric(self) -> list[NumericColumn]:
        """The columns of numbers."""
        return [column for column in self.columns if isinstance(column, NumericColumn)]

    @property
    def categorical(self) -> list[CategoricalColumn]:
        """The columns of categories."""
        return [column for column in self.columns if isinstance(column, CategoricalColumn)]

    def label(self, name: str) -> str:
        """The English label of a column, or its name."""
        return self.labels.get(name, {}).get("en", name)

    def save(self, folder: Path) -> None:
        """Write preprocessing.json."""
        target = asdict(self.target)
        if self.target.classes is not None:  # the other keys are those of a quantity
            target = {"name": self.target.name, "classes": self.target.classes}
        content = {
            "columns": [{**asdict(column), "kind": column.kind} for column in self.columns],
            "features": self.features,
            "id": self.id,
            "labels": self.labels,
            "lags": self.lags,
            "missing": list(self.missing),
            "target": target,
            "task": "regression" if self.target.classes is None else "classification",
            "truth": self.truth,
        }
        if self.prediction_columns:
            content["prediction_columns"] = self.prediction_columns
        if reading := self.reading.changes():
            content["reading"] = reading
        write_json(folder / FILE, content)

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read preprocessing.json of data/prepared/<task> or models/<task>.

        Raises:
            ConfigurationError: there is no such file.
            IntegrityError: its content is not that of a table.
        """
        content = read_json(folder / FILE, f"prepare@{folder.name}")
        kinds: dict[Kind, type[Column]] = {"numeric": NumericColumn, "categorical": CategoricalColumn}
        try:
            return cls(
                columns=[kinds[column.pop("kind")](**column) for column in content["columns"]],
                target=Target(**content["target"]),
                reading=Reading(**content.get("reading", {})),
                **{name: content[name] for name in ("missing", "id", "lags", "truth", "labels")},
                prediction_columns=content.get("prediction_columns"),
            )
        except (KeyError, TypeError, AttributeError, ConfigurationError) as error:
            raise IntegrityError(
                f"{folder / FILE}: expected the preprocessing of a table, found another content ({error}); "
                f"run: dvc repro -f prepare@{folder.name}"
            ) from None


def encode(columns: Sequence[Column], values: Mapping[str, Values], unseen: Counter[str]) -> Features:
    """Turn parsed columns into features.

    Args:
        columns: the learnt columns.
        values: (rows,) by column name.
        unseen: is increased, by column, by the number of cells whose category no training row has.

    Returns:
        Shape (rows, F), in the order of the columns; the features of an unseen category are all 0.
    """
    rows = len(values[columns[0].name])
    widths = [len(column.feature_names) for column in columns]
    features = np.zeros((rows, sum(widths)), dtype=np.float32)
    stops = np.cumsum(widths)
    for column, width, stop in zip(columns, widths, stops, strict=True):
        if unknown := column.encode(values[column.name], features[:, stop - width : stop]):
            unseen[column.name] += unknown
    return features


def transform(
    table: pd.DataFrame, preprocessing: Preprocessing, path: Path, unseen: Counter[str]
) -> Features:
    """Apply the learnt transformation to raw rows.

    Args:
        table: raw rows; further columns and the order of the columns do not matter.
        preprocessing: of the training rows.
        path: the source of the rows, for error messages.
        unseen: as for `encode`.

    Returns:
        Shape (rows, F), in the order of `Preprocessing.features`.

    Raises:
        DataError: a column is missing, or a column of numbers holds a text, infinity or, under
            `impute: drop`, a missing cell.
    """
    require_columns(table, [column.name for column in preprocessing.columns], path)
    columns = preprocessing.columns
    return encode(
        columns, {column.name: column.parse(table[column.name], path) for column in columns}, unseen
    )
