"""The learnt preprocessing of a table, and the transformation of raw rows into features by it.

`prepare.py` learns; `columns.py` has the kinds of columns.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.documents import read_json, write_json
from src.core.errors import ConfigurationError, IntegrityError
from src.tabular.columns import COLUMNS, CategoricalColumn, Column
from src.tabular.dialect import DEFAULT, Reading
from src.tabular.number_columns import BooleanColumn, NumericColumn, OrderedColumn
from src.tabular.rules import Features, Values
from src.tabular.values import is_numeric, refuse_no_numbers, require_columns

FILE = "preprocessing.json"


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


class Layout(NamedTuple):
    """Where the features of the columns are: F features of N numbers and C columns of categories.

    Args:
        numbers: the places of the numbers (N,).
        starts: the places of the first categories (C,).
        widths: the numbers of categories of these columns (C,).
        embedded: which of them have their code as the only feature (C,).
        features: F.
    """

    numbers: NDArray[np.int64]
    starts: NDArray[np.int32]
    widths: NDArray[np.int32]
    embedded: NDArray[np.bool_]
    features: int


@dataclass(frozen=True)
class Preprocessing:
    """What the preparation of a table has learnt from its training rows: the content of preprocessing.json.

    Args:
        columns: in the order of their features.
        targets: the columns to predict: all of them quantities, or all of classes; of several each has two.
        missing: the texts of cells without a value.
        id: the column that identifies the rows of a prediction.
        lags: the number of earlier values of the target among the features.
        truth: of a generated table: the true weights by column.
        labels: of columns, by name and language.
        prediction_columns: the names of the columns of predictions, that of the id and those of the targets;
            None for the usual ones.
        split_by: the key of `prepare` by which rows are in one part, such as `group`; None for single rows.
        reading: how raw files hold their tables.
    """

    columns: Sequence[Column]
    targets: Sequence[Target]
    missing: Sequence[str] = ()
    id: str | None = None
    lags: int = 0
    truth: dict[str, float] | None = None
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    prediction_columns: list[str] | None = None
    split_by: str | None = None
    reading: Reading = DEFAULT

    @property
    def target(self) -> Target:
        """The first target, which says what all of them are."""
        return self.targets[0]

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

    @property
    def embedded(self) -> dict[int, int]:
        """The places of the features that are codes, and the numbers of codes of known categories."""
        layout = self.layout
        chosen = layout.embedded
        return dict(zip(layout.starts[chosen].tolist(), layout.widths[chosen].tolist(), strict=True))

    @cached_property
    def layout(self) -> Layout:
        """The places of the numbers and of the categories among the features."""
        numbers, starts = list[int](), list[int]()
        for column, place in places(self.columns):
            if isinstance(column, CategoricalColumn):
                starts.append(place.start)
            else:
                numbers.extend(range(place.start, place.stop))
        widths = [column.width for column in self.categorical]
        embedded = np.array([column.embedded for column in self.categorical], dtype=bool)
        return Layout(
            np.array(numbers, dtype=np.int64),
            np.array(starts, dtype=np.int32),
            np.array(widths, dtype=np.int32),
            embedded,
            len(self.features),
        )

    @property
    def code_type(self) -> np.dtype[np.unsignedinteger]:
        """The smallest type of the codes of all categories, that of an unknown one among them."""
        return np.min_scalar_type(max((column.width for column in self.categorical), default=0))

    @property
    def is_linear(self) -> bool:
        """Whether each column is one of numbers and one feature, a linear function of them."""
        return all(type(column) is NumericColumn and column.is_linear for column in self.columns)

    @property
    def example(self) -> dict[str, Any]:
        """A typical cell of each column, as a request to the service writes it."""
        return {column.name: self._written(column) for column in self.columns}

    def _written(self, column: Column) -> Any:
        if isinstance(column, OrderedColumn):
            return column.order[round(column.typical)]
        if isinstance(column, BooleanColumn):
            return "yes" if column.typical else "no"
        if unit := self.reading.units.get(column.name):
            return f"{column.typical}".replace(".", self.reading.decimal_sign) + unit
        return column.typical

    def label(self, name: str) -> str:
        """The English label of a column, or its name."""
        return self.labels.get(name, {}).get("en", name)

    def save(self, folder: Path) -> None:
        """Write preprocessing.json."""
        targets = [_of_target(target) for target in self.targets]
        content = {
            "columns": [_entries(column) for column in self.columns],
            "features": self.features,
            "id": self.id,
            "labels": self.labels,
            "lags": self.lags,
            "missing": list(self.missing),
            "target": targets[0] if len(targets) == 1 else targets,
            "task": "regression" if self.target.classes is None else "classification",
            "truth": self.truth,
        }
        if self.prediction_columns:
            content["prediction_columns"] = self.prediction_columns
        if self.split_by:
            content["split_by"] = self.split_by
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
        try:
            targets = content["target"]
            return cls(
                columns=[COLUMNS[column.pop("kind")](**column) for column in content["columns"]],
                targets=[Target(**one) for one in (targets if isinstance(targets, list) else [targets])],
                reading=Reading(**content.get("reading", {})),
                **{name: content[name] for name in ("missing", "id", "lags", "truth", "labels")},
                prediction_columns=content.get("prediction_columns"),
                split_by=content.get("split_by"),
            )
        except (KeyError, TypeError, AttributeError, ConfigurationError) as error:
            raise IntegrityError(
                f"{folder / FILE}: expected the preprocessing of a table, found another content ({error}); "
                f"run: dvc repro -f prepare@{folder.name}"
            ) from None


def _of_target(target: Target) -> dict[str, Any]:
    """The content of a target; the keys of a quantity only if it is one."""
    return asdict(target) if target.classes is None else {"name": target.name, "classes": target.classes}


def _entries(column: Column) -> dict[str, Any]:
    """The content of a column, without what has its default."""
    defaults = {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in fields(column)
    }
    learnt = {name: value for name, value in asdict(column).items() if defaults.get(name, MISSING) != value}
    return {**learnt, "kind": column.kind}


def places(columns: Sequence[Column]) -> Iterator[tuple[Column, slice]]:
    """Each column with the place of its features."""
    start = 0
    for column in columns:
        stop = start + len(column.feature_names)
        yield column, slice(start, stop)
        start = stop


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
    features = np.zeros((rows, sum(len(column.feature_names) for column in columns)), dtype=np.float32)
    for column, place in places(columns):
        if unknown := column.encode(values[column.name], features[:, place]):
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
        columns, {column.name: _parsed(column, table, preprocessing, path) for column in columns}, unseen
    )


def _parsed(column: Column, table: pd.DataFrame, preprocessing: Preprocessing, path: Path) -> Values:
    """The values (rows,) of a column of raw rows."""
    cells = table[column.name]
    if not column.of_texts and not is_numeric(cells):
        refuse_no_numbers(cells, path, preprocessing.reading)
    return column.parse(cells, path)


def transform_parts(
    table: pd.DataFrame, preprocessing: Preprocessing, path: Path, unseen: Counter[str]
) -> tuple[Features, NDArray[Any]]:
    """Apply the learnt transformation to raw rows, as `transform`.

    Returns:
        The numbers (rows, N), and the codes of categories (rows, C): what `data.densify` takes.
    """
    require_columns(table, [column.name for column in preprocessing.columns], path)
    numbers = np.zeros((len(table), len(preprocessing.layout.numbers)), dtype=np.float32)
    codes = np.empty((len(table), len(preprocessing.categorical)), dtype=preprocessing.code_type)
    start = category = 0
    for column in preprocessing.columns:
        values = _parsed(column, table, preprocessing, path)
        if isinstance(column, CategoricalColumn):
            codes[:, category] = column.code(values)
            if unknown := int(np.count_nonzero(codes[:, category] == column.width)):
                unseen[column.name] += unknown
            category += 1
        else:
            stop = start + len(column.feature_names)
            if unknown := column.encode(values, numbers[:, start:stop]):
                unseen[column.name] += unknown
            start = stop
    return numbers, codes
