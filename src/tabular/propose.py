"""A proposal for the preparation and the training of a table."""

import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import Noted, Proposal, configuration, count, listed, one_cycle
from src.tabular.reading import MISSING, delimiter_of, is_numeric, read_table, text_values

ENDINGS = (".csv", ".json", ".xlsx", ".tsv")
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TARGET_NAMES = ("target", "label", "class", "y", "price", "saleprice", "outcome", "response", "species")
# further texts of cells without a value, beside MISSING
UNKNOWN = {"?", "-", "--", ".", "#N/A", "N.A.", "n/a", "n.a.", "none", "None", "NONE", "unknown", "Unknown"}

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([T ]\d.*)?")
ID_NAME = re.compile(r"(.*[ _.-])?(id|index|nr|no|uuid|guid|key)|unnamed: 0|row|number|.*[a-z](Id|ID)", re.I)
CODE_NAME = re.compile(r".*(code|class|type|zip|postal|region|district|zone|sector|categor|kind|group)", re.I)

MOST_NUMBER_CLASSES = 20
MOST_CLASSES = 200
MOST_CODES = 50
MOST_CATEGORIES = 200
LEAST_ROWS_EACH = 5
RARE_ROWS = 5
MOST_STRAY = 3
FEW_ROWS, MANY_ROWS = 1000, 10_000
MOSTLY = 0.9
SKEWED = 1.0
UNBALANCED = 0.75

STEPS = 2000
BATCHES = 16  # per epoch, within the bounds of the batch size
RATE = 0.005


@dataclass
class Features:
    """The proposed use of the columns other than the target.

    Args:
        id: the column that identifies the rows, and the reason; None if there is no such column.
        drop: the reason by column to leave out.
        codes: the reason by column of numbers that are categories.
    """

    id: tuple[str, str] | None = None
    drop: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)


def propose(path: Path, target: str | None) -> Proposal:
    """Propose the preparation and the training of a table.

    Args:
        path: the file, or a folder with train.csv (and test.csv) or with one table.
        target: the column to predict; None chooses a column with a usual name of targets, or the last one.

    Raises:
        ConfigurationError: there is no such column, or it cannot be a target.
        DataError: the file cannot be read, or a column mixes numbers and texts.
    """
    file = _table_file(path)
    table, unknown = _read(file)
    name, reason = _target(list(map(str, table.columns)), target)
    others = table.drop(columns=name)
    for column in table.columns:
        _refuse_mistyped(table[column], file)
    classes, target_findings = _target_kind(table[name], reason)
    features = _features(others)
    test = _official_test(file, name)

    prepare: dict[str, Any] = {
        "target": Noted(name, reason),
        "task": "classification" if classes else "regression",
        "train": file.name,
    }
    if test:
        prepare["test"] = Noted(test, "an official test set: it has the target")
    if not classes:
        prepare["target_transform"] = _target_transform(table[name])
    prepare |= _column_keys(others, features, unknown)
    few = Noted(0.2, "few rows: a tenth would choose the epoch by chance")
    prepare |= {"test_share": 0.2, "validation_share": few if len(table) < FEW_ROWS else 0.1, "seed": 42}

    shape = f"{file.name}: {count(len(table), 'row')}, {count(len(table.columns), 'column')}"
    if file.suffix.lower() in (".csv", ".tsv"):
        shape += f", cut by {DELIMITER_NAMES[delimiter_of(file)]}"
    return Proposal(
        source=file.parent,
        files=[file.name, *([test] if test else [])],
        prepare=prepare,
        configuration=_configuration(len(table), classes),
        findings=[shape, *target_findings, *_column_findings(others, features, unknown)],
        predict=f"--data.input {shlex.quote(str(file))} --data.output predictions.csv",
    )


def _table_file(path: Path) -> Path:
    if path.is_file():
        return path
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    train = [file for file in tables if file.stem.lower() == "train"]
    found = train or tables
    if len(found) != 1:
        names = f"several ({listed([file.name for file in found])}): name one" if found else "none"
        raise DataError(f"{path}: expected one table ({', '.join(ENDINGS)}) or train.csv, found {names}")
    return found[0]


def _read(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the table, with codes such as 007 as text, and find the texts of cells without a value."""
    table = read_table(file)
    if all(NUMBER.fullmatch(str(name)) for name in table.columns):
        raise DataError(f"{file}: the header: expected the names of the columns, found numbers")
    unknown = set[str]()
    for name in table.columns:
        if not is_numeric(table[name]):
            unknown |= _unknown_texts(table[name])
    whole = [name for name in table.columns if is_numeric(table[name]) and _whole(table[name])]
    as_text = read_table(file, whole)
    codes = [name for name in whole if as_text[name].astype(str).str.fullmatch(r"0\d+").any()]
    missing = [*MISSING, *sorted(unknown)]
    return read_table(file, codes, missing) if codes or unknown else table, sorted(unknown)


def _unknown_texts(column: "pd.Series[Any]") -> set[str]:
    """The texts of cells without a value: a few texts among numbers; among other texts only `?`."""
    texts = column.dropna().astype(str)
    words = texts[~_matching(texts, NUMBER)]
    distinct = set(words)
    if len(words) < len(texts) and distinct <= UNKNOWN:
        return distinct
    few = len(words) < (1 - MOSTLY) * len(texts) and len(distinct) <= MOST_STRAY
    return distinct if few else distinct & {"?"}


def _matching(texts: "pd.Series[Any]", pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return texts.map(lambda text: bool(pattern.fullmatch(text))).to_numpy(dtype=bool)


def _whole(column: "pd.Series[Any]") -> bool:
    return bool((column.dropna() % 1 == 0).all())


def _target(columns: list[str], target: str | None) -> tuple[str, str]:
    """The column to predict, and the reason."""
    if target is not None:
        if target not in columns:
            known = ", ".join(columns)
            raise ConfigurationError(f"--target: there is no column '{target}'; expected one of: {known}")
        return target, "by --target"
    for name in TARGET_NAMES:
        for column in columns:
            if column.lower() == name:
                return column, "by its name; another one: --target"
    return columns[-1], "a guess: the last column; another one: --target"


def _refuse_mistyped(column: "pd.Series[Any]", file: Path) -> None:
    """Refuse a column of numbers that pandas has read as texts."""
    if is_numeric(column):
        return
    texts = column.dropna().astype(str)
    commas, words = _matching(texts, DECIMAL_COMMA), ~_matching(texts, NUMBER)
    wrong, why = None, ""
    if commas.mean() > MOSTLY / 2:
        wrong, why = (
            commas,
            "is a number with a comma; save the table with decimal points and no thousands separators",
        )
    elif words.any() and words.mean() < 1 - MOSTLY:
        wrong, why = words, "is a text among numbers; correct it, or leave the cell empty"
    if wrong is not None:
        row = int(wrong.argmax())
        place = f"{file}: row {texts.index[row] + 1}, column '{column.name}'"
        raise DataError(f"{place}: {texts.iloc[row]!r} {why}")


def _target_kind(column: "pd.Series[Any]", reason: str) -> tuple[int, list[str]]:
    """The number of classes, 0 for a quantity, and the findings about the target."""
    values = column.dropna()
    distinct, start = values.nunique(), f"target: '{column.name}' ({reason})"
    numeric = is_numeric(column)
    if numeric:
        few = distinct <= min(MOST_NUMBER_CLASSES, len(values) / LEAST_ROWS_EACH)
        if distinct > 2 and not (few and _whole(column)):
            span = f"{values.min():g} to {values.max():g}, median {values.median():g}"
            return 0, [f"{start}: a quantity, {span}: regression"]
    elif distinct > min(MOST_CLASSES, len(values) / 2):
        raise ConfigurationError(
            f"{start}: {distinct} texts in {len(values)} rows are too many for classes; choose another column"
        )
    counts = pd.Series(text_values(values)).value_counts()
    common, share = counts.index[0], counts.iloc[0] / len(values)
    findings = [f"{start}: {count(distinct, 'class')} ({listed(sorted(counts.index))}): classification"]
    if numeric and distinct > 2 and set(values) != set(range(distinct)):
        findings.append(
            f"'{column.name}' has {distinct} different whole numbers, taken as classes; for a quantity set "
            "`task: regression` here and `loss: smooth_l1` in the configuration"
        )
    if share >= UNBALANCED:
        findings.append(
            f"unbalanced: {share:.0%} of the rows are '{common}', so compare test/f1: always predicting "
            f"'{common}' has an accuracy of {share:.2f}"
        )
    return distinct, findings


def _features(table: pd.DataFrame) -> Features:
    """Propose the use of the columns other than the target."""
    found, ids = Features(), dict[str, str]()
    for name in table.columns:
        column = table[name]
        if column.isna().all():
            found.drop[name] = "no row has a value"
        elif column.nunique(dropna=False) == 1:
            found.drop[name] = "all rows have the same value"
        elif why := _id_reason(column):
            ids[name] = why
        elif is_numeric(column):
            if _is_code(column):
                found.codes[name] = f"{column.nunique()} whole numbers that look like codes"
        elif why := _text_reason(column):
            found.drop[name] = why
        elif column.dropna().astype(str).str.fullmatch(r"\d+").all():
            found.codes[name] = "numbers with leading zeros are codes"
    numbered = [name for name in ids if is_numeric(table[name])]
    if len(ids) + len(found.drop) == len(table.columns) and numbered:
        del ids[numbered[0]]  # the only possible feature
    # of several, the one with the name of an id
    named = sorted(ids, key=lambda name: not ID_NAME.fullmatch(name))
    found.id = (named[0], ids[named[0]]) if named else None
    found.drop |= {name: f"{ids[name]}, as '{named[0]}' does" for name in named[1:]}
    return found


def _id_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column identifies its row, if it does: a network would memorize the rows by it."""
    if not column.is_unique or column.isna().any() or _is_date(column):
        return None
    if not is_numeric(column):
        return "a different text in each row identifies it"
    if _whole(column) and ID_NAME.fullmatch(str(column.name)):
        return "a different number in each row identifies it"
    if _whole(column) and column.max() - column.min() == len(column) - 1:
        return "it counts the rows"
    return None


def _is_code(column: "pd.Series[Any]") -> bool:
    few = 2 < column.nunique() <= min(MOST_CODES, len(column) / LEAST_ROWS_EACH)
    return few and _whole(column) and bool(CODE_NAME.match(str(column.name)))


def _is_date(column: "pd.Series[Any]") -> bool:
    if is_numeric(column):
        return False
    return bool(_matching(column.dropna().astype(str), DATE).mean() > MOSTLY)


def _text_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column of texts is not one of categories, if it is not."""
    if _is_date(column):
        return "dates; add columns of numbers such as year, month or days if they matter"
    if column.nunique() > min(MOST_CATEGORIES, max(len(column) / LEAST_ROWS_EACH, 2)):
        return "too many different texts for categories"
    return None


def _official_test(file: Path, target: str) -> str | None:
    """The name of test.csv in the folder of train.csv, if it has the target."""
    test = file.with_stem("test")
    if file.stem.lower() != "train" or not test.is_file():
        return None
    return test.name if target in read_table(test).columns else None


def _target_transform(column: "pd.Series[Any]") -> Any:
    values = column.dropna().to_numpy(dtype=float)
    if values.min() > 0:
        skewness, of_logarithm = _skewness(values), _skewness(np.log(values))
        if skewness > SKEWED and abs(of_logarithm) < skewness:
            note = f"skewed: skewness {skewness:.1f}, of the logarithm {of_logarithm:.1f}"
            return Noted(["log", "standardize"], note)
    return "standardize"


def _skewness(values: Any) -> float:
    deviation: float = values.std()
    return float((((values - values.mean()) / deviation) ** 3).mean()) if deviation else 0.0


def _categorical(table: pd.DataFrame, features: Features) -> list[str]:
    used = [name for name in table.columns if name not in features.drop]
    used = [name for name in used if not features.id or name != features.id[0]]
    return [name for name in used if name in features.codes or not is_numeric(table[name])]


def _column_keys(table: pd.DataFrame, features: Features, unknown: list[str]) -> dict[str, Any]:
    """The keys of `prepare` about columns, without those that would have their default."""
    keys: dict[str, Any] = {}
    if features.id:
        keys["id"] = Noted(*features.id)
    if features.drop:
        keys["drop"] = list(features.drop)
    if features.codes:
        keys["column_types"] = {name: Noted("categorical", why) for name, why in features.codes.items()}
    if _categorical(table, features):
        keys["min_frequency"] = Noted(RARE_ROWS, "categories with fewer training rows become one")
    if unknown:
        keys["missing"] = Noted([*MISSING, *unknown], "the texts of cells without a value")
    return keys


def _column_findings(table: pd.DataFrame, features: Features, unknown: list[str]) -> list[str]:
    """The findings about the columns other than the target."""
    findings = []
    for why in dict.fromkeys(features.drop.values()):
        findings.append(
            f"left out: {listed([name for name in features.drop if features.drop[name] == why])}: {why}"
        )
    if features.id:
        findings.append(f"id, not a feature: '{features.id[0]}': {features.id[1]}")
    if unknown:
        findings.append(f"also read as missing: {listed(unknown)}; change `missing` if one is a value")
    categorical = len(_categorical(table, features))
    numbers = len(table.columns) - len(features.drop) - bool(features.id) - categorical
    findings.append(f"features: {count(numbers, 'number')}, {categorical} categorical")
    missing = [name for name in table.columns if name not in features.drop and table[name].isna().any()]
    if missing:
        findings[-1] += f"; missing cells in {listed(missing)} become the mean, or a category of their own"
    return findings


def _configuration(rows: int, classes: int) -> dict[str, Any]:
    """The configuration of the training by the numbers of rows and of classes, 0 for regression."""
    batch_size = int(min(max(2 ** round(math.log2(rows / BATCHES)), 16), 256))
    epochs = min(max(round(STEPS * batch_size / rows), 10), 100)
    hidden_sizes = [64, 64] if rows < MANY_ROWS else [256, 128]
    return configuration(
        epochs,
        data={"class_path": "src.tabular.data.TabularData", "init_args": {"batch_size": batch_size}},
        model={
            "class_path": "src.tabular.model.TabularModel",
            "init_args": {
                "network": {
                    "class_path": "src.training.networks.MLP",
                    "init_args": {
                        "hidden_sizes": Noted(
                            hidden_sizes, "units of each hidden layer; [] is a linear model"
                        ),
                        "activation": "relu",
                        "norm": "batch",
                        "dropout": 0.2,
                    },
                },
                "loss": "cross_entropy" if classes else "smooth_l1",
                **one_cycle("AdamW", RATE, weight_decay=Noted(0.1, "increase it if training overfits")),
            },
        },
    )
