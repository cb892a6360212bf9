"""A table that nobody has described yet -> a proposal for its preparation and its network."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.shared.errors import ConfigurationError, DataError
from src.shared.proposals import Noted, Proposal, count, listed
from src.tabular.preprocessing import MISSING, READERS, delimiter_of, is_numeric, read_table, text_values

Column = "pd.Series[Any]"

TARGET_NAMES = ("target", "label", "class", "y", "price", "saleprice", "outcome", "response", "species")
# what tables write where nothing is known, beside MISSING
UNKNOWN = ("?", "-", "--", ".", "#N/A", "N.A.", "n/a", "n.a.", "none", "None", "NONE", "unknown", "Unknown")
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

MOST_NUMBER_CLASSES = 20
LEAST_CLASS_ROWS = 5
MOST_CLASSES = 200
MOSTLY = 0.9
SKEWED = 1.0
UNBALANCED = 0.75
FEW_ROWS = 1000
RARE_ROWS = 5
MIN_BATCH = 16
STEPS = 2000
MOST_CATEGORIES = 200
MOST_CODES = 50

ID_NAME = re.compile(r"(.*[ _.-])?(id|index|nr|no|uuid|guid|key)|unnamed: 0|row|number|.*[a-z](Id|ID)", re.I)
CODE_NAME = re.compile(r".*(code|class|type|zip|postal|region|district|zone|sector|categor|kind|group)", re.I)
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([T ]\d.*)?")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


def propose(path: Path, target: str | None) -> Proposal:
    """Look at a table and say how it may be prepared and learnt.

    Args:
        path: the file, or a folder with train.csv (and test.csv) or with one table.
        target: the column to predict; None takes the one whose name says so, or else the last one.

    Raises:
        ConfigurationError: there is no such column, or no sensible target.
        DataError: the file cannot be read.
    """
    file = _table_file(path)
    table, unknown = _read(file)
    name, reason = _target(list(table.columns), target)
    task, classes, findings = _question(table[name], file, name, reason)
    id, drop, types = _features(table.drop(columns=name), file)
    test = _official_test(file, name)

    transform = _target_transform(table[name]) if task == "regression" else None
    prepare: dict[str, Any] = {"target": Noted(name, reason), "task": task, "train": file.name}
    if test:
        prepare["test"] = Noted(test, "an official test part: it has the target, too")
    if id:
        prepare["id"] = Noted(*id)
    if drop:
        prepare["drop"] = list(drop)
        findings += [f"left out: '{column}': {why}" for column, why in drop.items()]
    if transform:
        prepare["target_transform"] = transform
    if types:
        prepare["column_types"] = {column: Noted("categorical", why) for column, why in types.items()}
    texts = [c for c in table if not is_numeric(table[c]) and c not in (name, *drop, *types, id and id[0])]
    if texts or types:
        prepare["min_frequency"] = Noted(RARE_ROWS, "categories with fewer training rows become one")
    if unknown:
        prepare["missing"] = Noted([*MISSING, *unknown], "the cells that mean: no value")
    few = len(table) < FEW_ROWS
    prepare["test_share"] = 0.2
    prepare["validation_share"] = Noted(0.2, "few rows: a tenth would choose the epoch by chance") if few else 0.1
    prepare["seed"] = 42

    numbers = len(table.columns) - 1 - len(drop) - bool(id) - len(texts) - len(types)
    shape = f"{file.name}: {count(len(table), 'row')}, {count(len(table.columns), 'column')}"
    if file.suffix.lower() in (".csv", ".tsv"):
        shape += f", cut by {DELIMITER_NAMES[delimiter_of(file)]}"
    features = f"features: {count(numbers, 'number')}, {len(texts) + len(types)} categorical"
    missing = [column for column in table if column not in drop and table[column].isna().any()]
    if missing:
        features += f"; cells are missing in {listed(missing)}: numbers become the mean, categories their own"
    if unknown:
        findings.append(f"read as missing, beside the usual: {listed(unknown)}")
    if id:
        findings.append(f"id: '{id[0]}': {id[1]}")
    return Proposal(
        source=file.parent,
        files=[file.name, *([test] if test else [])],
        prepare=prepare,
        configuration=_configuration(len(table), classes),
        findings=[shape, *findings, features],
        predict=f"--data.input {shlex.quote(str(file))} --data.output predictions.csv",
    )


def _table_file(path: Path) -> Path:
    if path.is_file():
        return path
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    train = [file for file in tables if file.stem.lower() == "train"]
    found = train or tables
    if len(found) != 1:
        names = f"several ({listed([file.name for file in found])}): name one" if found else "none"
        raise DataError(f"{path}: expected one table ({', '.join(READERS)}), or train.csv, in it; found {names}")
    return found[0]


def _read(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, codes such as 007 as text, and the texts beside MISSING that stand for no value in it."""
    table = read_table(file)
    if all(re.fullmatch(r"-?[\d.]+", str(name)) for name in table.columns):
        raise DataError(f"{file}: the first row holds numbers, expected the names of the columns")
    unknown = set()
    for name in table.columns:
        if not is_numeric(table[name]):
            texts = set(table[name].dropna().astype(str))
            unknown |= texts & set(UNKNOWN)
    whole = [name for name in table if is_numeric(table[name]) and _whole(table[name])]
    as_text = read_table(file, whole)
    codes = [name for name in whole if as_text[name].astype(str).str.fullmatch(r"0\d+").any()]
    kept = sorted(unknown)
    return read_table(file, codes, [*MISSING, *kept]) if codes or kept else table, kept


def _whole(column: Column) -> bool:
    values = column.dropna()
    return bool((values % 1 == 0).all())


def _target(columns: list[str], target: str | None) -> tuple[str, str]:
    """The column to predict, and why this one."""
    if target is not None:
        if target not in columns:
            raise ConfigurationError(f"--target: there is no column '{target}'; there are: {', '.join(columns)}")
        return target, "as you said"
    for name in TARGET_NAMES:
        for column in columns:
            if column.lower() == name:
                return column, "by its name; another column: --target"
    return columns[-1], "a guess: the last column; another one: --target"


def _question(
    column: Column, file: Path, name: str, reason: str
) -> tuple[str, int, list[str]]:
    """Regression or classification, the number of classes, and what there is to say about it."""
    values = column.dropna()
    _refuse_decimal_commas(column, file)
    distinct = values.nunique()
    if is_numeric(column):
        few = distinct <= min(MOST_NUMBER_CLASSES, len(values) / LEAST_CLASS_ROWS)
        if distinct > 2 and not (few and _whole(column)):
            span = f"{values.min():g} to {values.max():g}, median {values.median():g}"
            return "regression", 0, [f"target: '{name}' ({reason}): a quantity, {span}: regression"]
    elif distinct > min(MOST_CLASSES, len(values) / 2):
        raise ConfigurationError(
            f"--target: '{name}' ({reason}) has {distinct} different texts in {len(values)} rows, which are no "
            "classes; name another column"
        )
    counts = pd.Series(text_values(values)).value_counts(sort=True)
    common, share = counts.index[0], counts.iloc[0] / len(values)
    told = f"target: '{name}' ({reason}): {count(distinct, 'class')}"
    findings = [f"{told} ({listed(sorted(counts.index))}): classification"]
    if is_numeric(column) and distinct > 2:
        findings.append(
            f"'{name}' are few whole numbers, so classes; if it is a quantity: `task: regression` here, "
            "and `loss: smooth_l1` in the configuration"
        )
    if share >= UNBALANCED:
        findings.append(
            f"unbalanced: {share:.0%} of the rows are '{common}', so an accuracy of {share:.2f} means nothing "
            "learnt; look at test/f1"
        )
    return "classification", distinct, findings


def _refuse_decimal_commas(column: Column, file: Path) -> None:
    if not is_numeric(column):
        texts = column.dropna().astype(str)
        numbers = texts.map(lambda text: bool(DECIMAL_COMMA.fullmatch(text)))
        if len(texts) and numbers.mean() > MOSTLY / 2:
            row = numbers.to_numpy().argmax()
            raise DataError(
                f"{file}: row {texts.index[row] + 1}, column '{column.name}': '{texts.iloc[row]}': a number with "
                "a comma in it; save the table with decimal points and without thousands separators"
            )


def _features(
    table: pd.DataFrame, file: Path
) -> tuple[tuple[str, str] | None, dict[str, str], dict[str, str]]:
    """The id, the columns to leave out and those that are categories though they look like numbers.

    Returns:
        A name and the reason for it; reasons by name; likewise.
    """
    ids: dict[str, str] = {}
    drop: dict[str, str] = {}
    types: dict[str, str] = {}
    for name in table.columns:
        column = table[name]
        _refuse_decimal_commas(column, file)
        if column.isna().all():
            drop[name] = "no row has a value"
        elif column.nunique(dropna=False) == 1:
            drop[name] = "all rows have the same value"
        elif why := _id_reason(column):
            ids[name] = why
        elif is_numeric(column):
            if _is_code(column):
                types[name] = f"{column.nunique()} whole numbers that look like codes"
        elif why := _text_reason(column):
            drop[name] = why
        elif column.dropna().astype(str).str.fullmatch(r"\d+").all():
            types[name] = "numbers with leading zeros are codes"
    numbered = [name for name in ids if is_numeric(table[name])]
    if len(ids) + len(drop) == len(table.columns) and numbered:
        del ids[numbered[0]]  # the only thing that there is to learn from
    named = sorted(ids, key=lambda name: not ID_NAME.fullmatch(name))
    drop |= {name: f"{ids[name]}, as '{named[0]}' does" for name in named[1:]}
    return ((named[0], ids[named[0]]) if named else None), drop, types


def _id_reason(column: Column) -> str | None:
    """Why a column names its row, if it does: such a column tells a network the answer by heart."""
    if not column.is_unique or column.isna().any():
        return None
    if not is_numeric(column):
        return None if _is_date(column) else "another text in each row names it"
    if _whole(column) and ID_NAME.fullmatch(str(column.name)):
        return "another number in each row names it"
    if _whole(column) and column.max() - column.min() == len(column) - 1:
        return "it counts the rows"
    return None


def _is_code(column: Column) -> bool:
    few = 2 < column.nunique() <= min(MOST_CODES, len(column) / LEAST_CLASS_ROWS)
    return few and _whole(column) and bool(CODE_NAME.match(str(column.name)))


def _is_date(column: Column) -> bool:
    texts = column.dropna().astype(str)
    return bool(texts.map(lambda text: bool(DATE.fullmatch(text))).mean() > MOSTLY)


def _text_reason(column: Column) -> str | None:
    """Why a column of texts is no set of categories, if it is none."""
    if _is_date(column):
        return "dates; write year, month or days since then as number columns if they matter"
    distinct = column.nunique()
    if distinct > min(MOST_CATEGORIES, max(len(column) / LEAST_CLASS_ROWS, 2)):
        return f"{distinct} different texts in {len(column)} rows are too many for categories"
    return None


def _official_test(file: Path, target: str) -> str | None:
    """test.csv beside train.csv, if it has the target."""
    test = file.with_stem("test")
    if file.stem.lower() != "train" or not test.is_file():
        return None
    return test.name if target in read_table(test).columns else None


def _target_transform(column: Column) -> Any:
    values = column.dropna()
    if values.min() > 0:
        logarithms = pd.Series(np.log(values))
        if values.skew() > SKEWED and abs(logarithms.skew()) < values.skew():
            note = f"a few large values (skewness {values.skew():.1f}), of the logarithm {logarithms.skew():.1f}"
            return Noted(["log", "standardize"], note)
    return "standardize"


def _configuration(rows: int, classes: int) -> dict[str, Any]:
    """The network and its training, by the number of rows; 0 classes is regression."""
    batch_size = min(max(2 ** round(math.log2(max(rows, 1) / 16)), MIN_BATCH), 256)
    epochs = min(max(round(STEPS * batch_size / rows), 10), 100)
    rate = 0.005
    return {
        "seed_everything": 42,
        "monitor": Noted("validation/loss", "chooses the best epoch"),
        "mode": "min",
        "trainer": {"max_epochs": epochs},
        "data": {"class_path": "src.tabular.data.TabularData", "init_args": {"batch_size": batch_size}},
        "model": {
            "class_path": "src.tabular.model.TabularModel",
            "init_args": {
                "hidden_sizes": Noted([128] if rows < 10_000 else [256, 128], "[] is a linear model"),
                "activation": "relu",
                "norm": "batch",
                "dropout": 0.2,
                "loss": "cross_entropy" if classes else "smooth_l1",
                "optimizer": {
                    "class_path": "torch.optim.AdamW",
                    "init_args": {
                        "lr": rate,
                        "weight_decay": Noted(1, "times the learning rate; more of it for fewer rows"),
                        "fused": True,
                    },
                },
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                    "init_args": {"max_lr": rate},
                },
                "lr_interval": "step",
            },
        },
    }
