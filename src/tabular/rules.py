"""The keys of `prepare` that say how a column is learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from src.tabular.dates import Part

Kind = Literal["numeric", "categorical", "boolean", "ordered", "date", "text"]
Encoding = Literal["one_hot", "ordinal", "embedding"]
Impute = Literal["mean", "median", "most_frequent", "constant", "drop"]
Scale = Literal["standard", "minmax", "robust", "none"]
Transform = Literal["none", "auto", "log1p", "yeo_johnson", "quantile"]
Numbers = NDArray[np.float64]
Features = NDArray[np.float32]
# of a raw column, (rows,): float64 with NaN, or texts (object) with None where a cell is missing
Values = NDArray[Any]


class ColumnKeys(TypedDict, total=False):
    """The keys of `prepare` for one column.

    Args:
        kind: of the column.
        impute: as the key of `prepare` of this name; the others likewise.
        scale: of numbers.
        transform: of numbers.
        missing_indicators: of numbers.
        min_frequency: of categories.
        encode: of categories: one_hot, a feature each; ordinal, the place in alphabetical order; embedding,
            the code, by which the network looks up a vector.
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
