"""A proposal for the preparation and the training of a table."""

import json
import math
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import Noted, Proposal, configuration, count, listed, one_cycle, plain
from src.preparation.splits import repeated
from src.reporting.noise import UNBALANCED
from src.tabular.columns import TRUTH
from src.tabular.dates import seconds_of
from src.tabular.dialect import DEFAULT, Reading, ReadingError, as_flow, delimiter_of, format_of
from src.tabular.notation import is_date, missing_mark, plain_number
from src.tabular.reading import CSV_ENDINGS, EXCEL_ENDINGS, JSON_ENDINGS, found_reading, read_table
from src.tabular.sources import ARROW_ENDINGS
from src.tabular.splitting import SPELLINGS
from src.tabular.values import MISSING, is_numeric, plain_texts, text_values

ENDINGS = (".csv", ".tsv", ".xlsx", ".json")
# taken from a folder that has none of ENDINGS; .txt may be a text about the data
MORE_ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS, *EXCEL_ENDINGS, *ARROW_ENDINGS)
COMPRESSED = (".gz", ".zst", ".zip")
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TARGET_NAMES = ("target", "label", "class", "y", "price", "saleprice", "outcome", "response", "species")
# further texts of cells without a value, beside MISSING
UNKNOWN = {"?", "-", "--", ".", "#N/A", "N.A.", "n/a", "n.a.", "none", "None", "NONE", "unknown", "Unknown"}

DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
ID_NAME = re.compile(
    r"(?i:(.*[ _.-])?(id|index|nr|no|num|number|uuid|guid|key|account|acct|mrn|sku|isbn|issn|ean|upc|barcode"
    r"|order|serial|ticket|passport|ssn|vin|iban|imei|invoice|ref|reference|hash)|unnamed: 0|row)"
    r"|.*[a-z](Id|ID|No|Nr|Num|Number|Key)|.*(编号|学号|工号|序号|单号|账号|卡号|证号|号码|流水号)"
)
# of persons and things that rows are about
GROUP_NAME = re.compile(
    r"(?i:(.*[ _.-])?(name|patient|subject|person|customer|client|user|student|participant|respondent"
    r"|speaker|author|household|family|animal|device|machine|sensor|vehicle|session))"
    r"|.*(姓名|名称|患者|病人|客户|用户|学生|受试者|设备|车辆)|" + ID_NAME.pattern
)
LABEL_NAME = re.compile(
    r"(?i:.*(label|class|categor|type|kind|code|species))|.*(标签|类别|类型|种类|代码|编码)"
)
COUNT_NAME = re.compile(
    r"(?i:(.*[ _.-])?(count|counts|number|num|n|quantity|qty|amount|total|age|years|days|hours"
    r"|rooms|visits|score))"
    r"|.*(数|数量|次数|年龄|人数|得分|分数)"
)
SUBMISSION = re.compile(r"(?i:.*submission)")
CODE_NAME = re.compile(r".*(code|class|type|zip|postal|region|district|zone|sector|categor|kind|group)", re.I)

SPLIT_NAME = re.compile(r"(?i:(.*[ _.-])?(split|subset|partition|set|part|usage))")
SCALES = (
    ("very low", "low", "medium", "middle", "moderate", "high", "very high"),
    ("xs", "s", "m", "l", "xl", "xxl"),
    ("tiny", "small", "medium", "large", "huge"),
    ("very poor", "poor", "fair", "average", "good", "very good", "excellent"),
    ("none", "mild", "moderate", "severe"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("很低", "低", "中", "高", "很高"),
    ("小", "中", "大"),
    ("差", "中", "良", "优"),
)
KIND_NAMES = {"date": "of dates", "boolean": "of yes and no", "ordered": "ordered", "text": "of free text"}
LONG_TEXT = 40  # bytes

MOST_NUMBER_CLASSES = 20
MOST_CLASSES = 200
MOST_CODES = 50
MOST_CATEGORIES = 200
LEAST_ROWS_EACH = 5
RARE_ROWS = 10
MOST_STRAY = 3
MOST_SEEN = 3
FEW_ROWS, MANY_ROWS = 1000, 10_000
MOSTLY = 0.9
SKEWED = 1.0
LEAST_GROUPS = 10
LEAST_GROUP_ROWS, MOST_GROUP_ROWS = 2, 50  # on average
LINEAR = 1e-9

Task = Literal["regression", "classification"]

MOST_CELLS = 1_000_000  # above, one network takes less time
ENSEMBLE_ROWS, ENSEMBLE_BATCHES = 4000, 8

STEPS = 2000
BATCHES = 16  # per epoch, within the bounds of the batch size
RATE = 0.005


@dataclass
class Features:
    """The proposed use of the columns other than the target.

    Args:
        id: the column that identifies the rows, and the reason; None if there is no such column.
        group: the column of the person or thing that several rows are about, and the reason; None for none.
        drop: the reason by column to leave out.
        kinds: by column, its entry in `column_types` and the reason.
        split_column: the column that says the part of each row, and the reason.
    """

    id: tuple[str, str] | None = None
    group: tuple[str, str] | None = None
    drop: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, Noted] = field(default_factory=dict)
    split_column: tuple[str, str] | None = None

    @property
    def others(self) -> list[str]:
        """The columns that are read and are no features."""
        return [found[0] for found in (self.id, self.group, self.split_column) if found]


def propose(path: Path, target: str | None, task: Task | None = None, reading: Reading = DEFAULT) -> Proposal:
    """Propose the preparation and the training of a table.

    Args:
        path: the file, or a folder with train.csv (and test.csv) or with one table.
        target: the column to predict; None chooses the one that test.csv lacks, a column with a usual name of
            targets, or the last one.
        task: what the target is; None decides by its values and its name.
        reading: the keys of the file that are known; the others are found.

    Raises:
        ConfigurationError: there is no such column, or it cannot be a target.
        DataError: the file cannot be read, or a column mixes numbers and texts.
    """
    file = _table_file(path)
    try:
        reading, seen = found_reading(file, reading)
    except ReadingError as error:
        raise _choice(error, reading) from None
    table = read_table(file, reading.units, reading=reading)
    columns = list(map(str, table.columns))
    if all(plain_number(name) is not None for name in columns):
        raise DataError(
            f"{file}: the header: expected the names of the columns, found numbers; if they are values: "
            "--reading '{header: none}'"
        )
    test = _test_file(file)
    others_of_test = list(read_table(test, reading.units, reading=reading).columns) if test else None
    name, reason = _target(columns, target, others_of_test)
    table, unknown = _read(file, table, name, reading)
    others = table.drop(columns=name)
    for column in table.columns:
        _refuse_mistyped(table[column], file, reading)
    classes, target_findings = _target_kind(table[name], reason, task, file)
    features = _features(others)
    official = test if others_of_test is not None and name in others_of_test else None
    submission = _submission(file)

    prepare: dict[str, Any] = {
        "target": Noted(name, reason),
        "task": "classification" if classes else "regression",
        "train": file.name,
    }
    if official:
        prepare["test"] = Noted(official.name, "an official test set: it has the target")
    if classes and (rare := _rare_classes(table, name)):
        prepare["drop_rare_classes"] = Noted(2, f"leaves out {listed(rare)}: one row each")
        target_findings.append(f"left out: {listed(rare)}: classes of one row; see `drop_rare_classes`")
    if not classes:
        prepare["target_transform"] = _target_transform(table[name])
    unanswered = int(table[name].isna().sum())
    if unanswered:
        rows = f"{unanswered:,} of {count(len(table), 'row')}"
        prepare["missing_target"] = Noted("drop", f"leaves out {rows}")
        target_findings.append(f"left out: {rows} without a target; see `missing_target`")
    prepare |= _column_keys(others, features, unknown)
    if reading.changes():
        prepare["reading"] = reading.changes()
    if submission:
        prepare["prediction_columns"] = Noted(submission, "those of the submission")
    few = Noted(0.2, "few rows: a tenth would choose the epoch by chance")
    prepare |= {"test_share": 0.2, "validation_share": few if len(table) < FEW_ROWS else 0.1, "seed": 42}

    shape = f"{file.name}: {count(len(table), 'row')}, {count(len(table.columns), 'column')}"
    if format_of(file) in CSV_ENDINGS:
        delimiter = delimiter_of(file, reading)
        shape += f", cut by {DELIMITER_NAMES.get(delimiter, repr(delimiter))}"
    findings = [
        shape,
        *_reading_findings(reading, seen),
        *target_findings,
        *_column_findings(others, features, unknown),
    ]
    if test and not official:
        findings.append(f"'{test.name}' has no target: it is what to predict")
    findings += _suspicious(table, name, features, classes)
    return Proposal(
        source=file.parent,
        files=[file.name, *([official.name] if official else [])],
        prepare=prepare,
        configuration=_configuration(table, classes, bool(features.group or features.split_column)),
        findings=findings,
        predict=f"--data.input {shlex.quote(str(test or file))}",
    )


def _choice(error: ReadingError, known: Reading) -> DataError:
    """The error of a table that several readings would read, with the options of `new_task` for them."""
    options = [json.dumps(known.changes() | keys, ensure_ascii=False) for keys in error.keys]
    ways = [f"--reading {shlex.quote(option)}" for option in options]
    return DataError(f"{error.found}; choose {' or '.join(ways)}")


def _reading_findings(reading: Reading, seen: list[str]) -> list[str]:
    if not reading.changes():
        return []
    more = f"; {len(seen) - MOST_SEEN} more" if len(seen) > MOST_SEEN else ""
    why = "; ".join(seen[:MOST_SEEN]) + more if seen else "by --reading"
    return [f"read with `reading: {as_flow(reading.changes())}`: {why}"]


def _name_and_ending(file: Path) -> tuple[str, str]:
    """The name and the ending of a table in lower case, `train` and `.csv` of Train.CSV.gz."""
    inner = file.with_suffix("") if file.suffix.lower() in COMPRESSED else file
    return inner.stem.lower(), inner.suffix.lower() or file.suffix.lower()


def _tables(folder: Path) -> list[Path]:
    """The tables of a folder: the usual ones, else those with another ending."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    usual = [file for file in files if _name_and_ending(file)[1] in ENDINGS]
    return usual or [file for file in files if _name_and_ending(file)[1] in (*MORE_ENDINGS, ".zip")]


def _table_file(path: Path) -> Path:
    if path.is_file():
        return path
    tables = _tables(path)
    tables = [file for file in tables if not SUBMISSION.fullmatch(_name_and_ending(file)[0])] or tables
    train = [file for file in tables if _name_and_ending(file)[0] == "train"]
    found = train or tables
    if len(found) != 1:
        names = f"several ({listed([file.name for file in found])}): name one" if found else "none"
        raise DataError(
            f"{path}: expected one table ({', '.join(MORE_ENDINGS)}; .gz, .zst, .zip) or train.csv, "
            f"found {names}"
        )
    return found[0]


def _read(file: Path, table: pd.DataFrame, target: str, reading: Reading) -> tuple[pd.DataFrame, list[str]]:
    """Read a table again, with codes such as 007 as text, and find the texts of cells without a value."""
    unknown = set[str]()
    for name in table.columns:
        if not is_numeric(table[name]):
            unknown |= _unknown_texts(table[name], reading, name == target)
    missing = [*MISSING, *sorted(unknown)]
    if unknown or reading.units:
        table = read_table(file, missing=missing, reading=reading)
    whole = [name for name in table.columns if is_numeric(table[name]) and _whole(table[name])]
    texts = read_table(file, whole, missing, reading)
    codes = [name for name in whole if texts[name].astype(str).str.fullmatch(r"0\d+").any()]
    return read_table(file, codes, missing, reading) if codes else table, sorted(unknown)


def _unknown_texts(column: "pd.Series[Any]", reading: Reading, is_target: bool) -> set[str]:
    """The texts of cells without a value.

    They are a few texts without a digit among numbers; among other texts only `?`. In a target of few values
    each text may be a class.
    """
    texts = plain_texts(column, reading)
    are_words = _words(texts)
    few_words, words = are_words.sum(), set(texts[are_words])
    if few_words < len(texts) and words <= UNKNOWN:
        return words
    if is_target and texts.nunique() <= MOST_NUMBER_CLASSES:
        return words & {"?"}
    if mark := missing_mark(texts.value_counts().to_dict()):
        return {mark}
    few = few_words < (1 - MOSTLY) * len(texts) and len(words) <= MOST_STRAY
    return words if few and not any(map(_has_digit, words)) else words & {"?"}


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _words(texts: "pd.Series[Any]") -> NDArray[np.bool_]:
    """Which texts (rows,) are no numbers."""
    return texts.map(lambda text: plain_number(text.strip()) is None).to_numpy(dtype=bool)


def _marked_number(column: "pd.Series[Any]") -> str | None:
    """The first text with a digit, such as `3+`, among a few whole numbers; None for other columns."""
    texts = column.dropna().astype(str)
    if is_numeric(column) or texts.nunique() > min(MOST_CODES, len(texts) / LEAST_ROWS_EACH):
        return None
    words = _words(texts)
    plain = texts[~words].str.fullmatch(r"\d+").all()
    marked = plain and words.any() and not words.all() and texts[words].map(_has_digit).all()
    return str(texts[words].iloc[0]) if marked else None


def _whole(column: "pd.Series[Any]") -> bool:
    return bool((column.dropna() % 1 == 0).all())


def _target(columns: list[str], target: str | None, of_test: list[str] | None) -> tuple[str, str]:
    """The column to predict, and the reason."""
    if target is not None:
        if target not in columns:
            known = ", ".join(columns)
            raise ConfigurationError(f"--target: there is no column '{target}'; expected one of: {known}")
        return target, "by --target"
    lacking = [name for name in columns if of_test is not None and name not in of_test]
    if len(lacking) == 1:
        return lacking[0], "the only column that the test table lacks; another one: --target"
    for name in TARGET_NAMES:
        for column in columns:
            if column.lower() == name:
                return column, "by its name; another one: --target"
    return columns[-1], "a guess: the last column; another one: --target"


def _refuse_mistyped(column: "pd.Series[Any]", file: Path, reading: Reading) -> None:
    """Refuse a column of numbers that pandas has read as texts."""
    if is_numeric(column) or _marked_number(column):
        return
    texts = plain_texts(column, reading)
    commas = texts.str.fullmatch(DECIMAL_COMMA.pattern).to_numpy(dtype=bool)
    words = _words(texts)
    wrong, why = None, ""
    if commas.mean() > MOSTLY / 2:
        wrong, why = commas, "is a number with a comma: --reading '{decimal: \",\"}'"
    elif words.any() and words.mean() < 1 - MOSTLY:
        wrong, why = words, "is a text among numbers; correct it, or leave the cell empty"
    if wrong is not None:
        row = int(wrong.argmax())
        place = f"{file}: row {texts.index[row] + 1}, column '{column.name}'"
        raise DataError(f"{place}: {texts.iloc[row]!r} {why}")


def _target_kind(
    column: "pd.Series[Any]", reason: str, task: Task | None, file: Path
) -> tuple[int, list[str]]:
    """The number of classes, 0 for a quantity, and the findings about the target.

    Raises:
        ConfigurationError: the column cannot be such a target.
        DataError: no row has a value.
    """
    values = column.dropna()
    distinct, start = values.nunique(), f"target: '{column.name}' ({reason})"
    if values.empty:
        formulas = "; of formulas a spreadsheet program stores the values when it saves the file"
        raise DataError(
            f"{file}: the target '{column.name}' ({reason}): expected values, found only empty cells"
            + (formulas if file.suffix.lower() == ".xlsx" else "")
        )
    numeric = is_numeric(column)
    if task == "regression" and not numeric:
        raise ConfigurationError(f"--task: regression needs numbers, '{column.name}' has {values.iloc[0]!r}")
    if not numeric and distinct > min(MOST_CLASSES, len(values) / 2):
        raise ConfigurationError(
            f"{start}: {distinct} texts in {len(values)} rows are too many for classes; choose another column"
        )
    found, doubt = _kind_of(values, numeric)
    said = ""
    if task:
        found, said = task, ", by --task"
    elif doubt:
        other = "classification" if found == "regression" else "regression"
        said = f"; a guess, as it has {doubt}; the other way: --task {other}"
    if found == "regression":
        span = f"{values.min():g} to {values.max():g}, median {values.median():g}"
        return 0, [f"{start}: a quantity, {span}: regression{said}"]
    counts = pd.Series(text_values(values)).value_counts()
    common, share = counts.index[0], counts.iloc[0] / len(values)
    names = listed(sorted(counts.index))
    findings = [f"{start}: {count(distinct, 'class')} ({names}): classification{said}"]
    if share > UNBALANCED:
        findings.append(
            f"unbalanced: {share:.0%} of the rows are '{common}', so compare test/recall, the balanced "
            f"accuracy: always predicting '{common}' has an accuracy of {share:.2f}"
        )
    return distinct, findings


def _kind_of(values: "pd.Series[Any]", numeric: bool) -> tuple[Task, str]:
    """Regression or classification, and what speaks for the other one; nothing if that is clear."""
    counts = values.value_counts()
    distinct, name = len(counts), str(values.name)
    if not numeric or distinct <= 2:
        return "classification", ""
    if not _whole(values):
        return "regression", ""
    often = counts.min() >= 2 and distinct <= len(values) / LEAST_ROWS_EACH
    whole_numbers = f"{distinct} different whole numbers in {count(len(values), 'row')}"
    if often and distinct <= MOST_CLASSES and LABEL_NAME.fullmatch(name):
        return "classification", f"{whole_numbers} and the name of a label"
    if often and distinct <= MOST_NUMBER_CLASSES and not COUNT_NAME.fullmatch(name):
        return "classification", whole_numbers
    return "regression", whole_numbers if distinct <= len(values) / 2 else ""


def _rare_classes(table: pd.DataFrame, target: str) -> list[str]:
    """The classes of one row, where at least two other classes remain."""
    counts = pd.Series(text_values(table.drop_duplicates()[target].dropna())).value_counts()
    rare = sorted(counts.index[counts < 2])
    return rare if len(counts) - len(rare) >= 2 else []


def _suspicious(table: pd.DataFrame, target: str, features: Features, classes: int) -> list[str]:
    """Questions about rows and columns that make a score too good."""
    findings = []
    left_out = {target, *features.drop, *features.others}
    answer = table[target]
    for name in (name for name in table.columns if name not in left_out):
        column = table[name]
        if classes:
            pairs = table[[name, target]].drop_duplicates()
            same = column.nunique() == answer.nunique() == len(pairs)
        else:
            same = is_numeric(column) and column.nunique() > 2 and abs(column.corr(answer)) > 1 - LINEAR
        if same:
            findings.append(
                f"'{name}' tells the target exactly; if it is not known before the target, add it to `drop`"
            )
    if features.group:
        return findings
    used = table.drop(columns=[name for name in left_out if name != target])
    numbers, bound_to_occur = repeated(used, list(used.columns))
    if copies := len(numbers) - numbers.max() - 1:
        fate = "are split as other rows" if bound_to_occur else "stay in one part of the split"
        findings.append(f"{count(copies, 'row')} repeat another one: equal rows {fate}; see `duplicates`")
    return findings


def _features(table: pd.DataFrame) -> Features:
    """Propose the use of the columns other than the target."""
    found, ids = Features(), dict[str, str]()
    for name in table.columns:
        column = table[name]
        if column.isna().all():
            found.drop[name] = "no row has a value"
        elif column.nunique(dropna=False) == 1:
            found.drop[name] = "all rows have the same value"
        elif found.split_column is None and (why := _split_reason(column)):
            found.split_column = (name, why)
        elif kind := _plain_kind(column):
            found.kinds[name] = kind
        elif why := _id_reason(column):
            ids[name] = why
        elif found.group is None and (why := _group_reason(column)):
            found.group = (name, why)
        elif is_numeric(column):
            if _is_code(column):
                why = f"{column.nunique()} whole numbers that look like codes"
                found.kinds[name] = Noted("categorical", why)
        elif why := _text_reason(column):
            found.drop[name] = why
        elif mark := _marked_number(column):
            found.kinds[name] = Noted("categorical", f"whole numbers and texts such as {mark!r}")
        elif column.dropna().astype(str).str.fullmatch(r"\d+").all():
            found.kinds[name] = Noted("categorical", "numbers with leading zeros are codes")
    numbered = [name for name in ids if is_numeric(table[name])]
    if len(ids) + len(found.drop) + len(found.others) == len(table.columns) and numbered:
        del ids[numbered[0]]  # the only possible feature
    # of several, the one with the name of an id
    named = sorted(ids, key=lambda name: not ID_NAME.fullmatch(name))
    found.id = (named[0], ids[named[0]]) if named else None
    found.drop |= {name: f"{ids[name]}, as '{named[0]}' does" for name in named[1:]}
    return found


def _split_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column says the part of each row, if it does."""
    if not SPLIT_NAME.fullmatch(str(column.name)) or is_numeric(column) or column.isna().any():
        return None
    parts = {SPELLINGS.get(text.strip().lower()) for text in column.astype(str).unique()}
    return "it says the part of each row" if None not in parts and parts >= {"train", "test"} else None


def _plain_kind(column: "pd.Series[Any]") -> Noted | None:
    """The entry in `column_types` of a column of dates, of yes and no, of ordered texts or of free text."""
    if is_numeric(column):
        return None
    texts = column.dropna().astype(str)
    distinct = [text.strip() for text in texts.unique()]
    if _is_date(column):
        why = f"dates; `time: {column.name}` would test on the latest rows"
        ways = [order for order in (None, True, False) if all(_reads(text, order) for text in distinct)]
        if None in ways:
            return Noted("date", why)
        return Noted({"kind": "date", "day_first": ways[0]}, why) if len(ways) == 1 else None
    if len(distinct) == 2 and {TRUTH.get(text.lower()) for text in distinct} == {0.0, 1.0}:
        return Noted("boolean", "yes or no")
    for scale in SCALES:
        known = {text.lower(): text for text in distinct}
        if len(known) == len(distinct) > 2 and set(known) <= set(scale):
            order = [known[text] for text in scale if text in known]
            return Noted({"kind": "ordered", "order": order}, "the usual words of a scale")
    many = len(distinct) > min(MOST_CATEGORIES, max(len(column) / LEAST_ROWS_EACH, 2))
    if many and np.median([len(text.encode()) for text in distinct]) >= LONG_TEXT:
        words = np.mean([" " in text or not text.isascii() for text in distinct])
        if words > MOSTLY and not GROUP_NAME.fullmatch(str(column.name)):
            return Noted("text", f"{len(distinct):,} different long texts; or add it to `drop`")
    return None


def _reads(text: str, day_first: bool | None) -> bool:
    return seconds_of(text, day_first) is not None


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


def _group_reason(column: "pd.Series[Any]") -> str | None:
    """Why several rows are about what a column names, if they are: a network would know it again."""
    if not GROUP_NAME.fullmatch(str(column.name)) or column.isna().any() or _is_date(column):
        return None
    groups = column.nunique()
    if groups < LEAST_GROUPS or not LEAST_GROUP_ROWS <= len(column) / groups <= MOST_GROUP_ROWS:
        return None
    if is_numeric(column) and not _whole(column):
        return None
    return f"it names {groups:,} things in {count(len(column), 'row')}; all rows of one are in one part"


def _is_code(column: "pd.Series[Any]") -> bool:
    few = 2 < column.nunique() <= min(MOST_CODES, len(column) / LEAST_ROWS_EACH)
    return few and _whole(column) and bool(CODE_NAME.match(str(column.name)))


def _is_date(column: "pd.Series[Any]") -> bool:
    if is_numeric(column):
        return False
    return bool(column.dropna().astype(str).map(is_date).mean() > MOSTLY)


def _text_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column of texts is not one of categories, if it is not."""
    if _is_date(column):
        if all(_reads(str(text), day_first=True) for text in column.dropna().unique()):
            keys = f"column_types: {{{column.name}: {{kind: date, day_first: true}}}}"
            return f"dates in which the day or the month may be first; say it by `{keys}`, or false"
        return "times, or dates in several notations; add columns of numbers if they matter"
    if column.nunique() > min(MOST_CATEGORIES, max(len(column) / LEAST_ROWS_EACH, 2)):
        return "too many different texts for categories"
    return None


def _test_file(file: Path) -> Path | None:
    """The table test.csv beside train.csv, in any spelling."""
    if _name_and_ending(file)[0] != "train":
        return None
    return next((other for other in _tables(file.parent) if _name_and_ending(other)[0] == "test"), None)


def _submission(file: Path) -> list[str] | None:
    """The two columns of a sample submission beside the table: the id and the prediction."""
    samples = [other for other in _tables(file.parent) if SUBMISSION.fullmatch(_name_and_ending(other)[0])]
    if not samples:
        return None
    columns = list(map(str, read_table(samples[0]).columns))
    return columns if len(columns) == 2 else None


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
    used = [name for name in used if name not in features.others]
    given = {name: plain(kind) for name, kind in features.kinds.items()}
    return [name for name in used if given.get(name, "") == "categorical" or _is_inferred(table[name], given)]


def _is_inferred(column: "pd.Series[Any]", given: Collection[str]) -> bool:
    """Whether a column becomes one of categories without a key."""
    return column.name not in given and not is_numeric(column)


def _column_keys(table: pd.DataFrame, features: Features, unknown: list[str]) -> dict[str, Any]:
    """The keys of `prepare` about columns; those that are often varied also where they have their default."""
    keys: dict[str, Any] = {}
    if features.id:
        keys["id"] = Noted(*features.id)
    if features.group:
        keys["group"] = Noted(*features.group)
    if features.drop:
        keys["drop"] = list(features.drop)
    if features.split_column:
        keys["split_column"] = Noted(*features.split_column)
    if features.kinds:
        keys["column_types"] = features.kinds
    if table.size < MOST_CELLS:  # as the ensemble wants it
        keys |= {"impute": "median", "missing_indicators": True}
        keys |= {"transform": Noted("auto", "the logarithm of counts with a heavy tail"), "scale": "robust"}
    else:
        keys |= {"impute": "mean", "scale": "standard"}
    rare = RARE_ROWS if _categorical(table, features) else 1
    keys["min_frequency"] = Noted(rare, "categories with fewer training rows become one")
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
    if features.group:
        name, why = features.group
        findings.append(f"group, not a feature: '{name}': {why}; without `group` the score is of known ones")
    if unknown:
        findings.append(f"also read as missing: {listed(unknown)}; change `missing` if one is a value")
    categorical = len(_categorical(table, features))
    kinds = [plain(kind) for kind in features.kinds.values()]
    kinds = [kind if isinstance(kind, str) else kind["kind"] for kind in kinds]
    more = {kind: kinds.count(kind) for kind in ("date", "boolean", "ordered", "text") if kind in kinds}
    numbers = (
        len(table.columns) - len(features.drop) - len(features.others) - categorical - sum(more.values())
    )
    named = [f"{found} {KIND_NAMES[kind]}" for kind, found in more.items()]
    findings.append(", ".join([f"features: {count(numbers, 'number')}, {categorical} categorical", *named]))
    missing = [name for name in table.columns if name not in features.drop and table[name].isna().any()]
    if missing:
        findings[-1] += f"; missing cells in {listed(missing)} are filled, or a category of their own"
    return findings


def _configuration(table: pd.DataFrame, classes: int, grouped: bool) -> dict[str, Any]:
    """The configuration of the training: an ensemble of small networks, or one network for a large table.

    Args:
        table: all rows.
        classes: their number, 0 for regression.
        grouped: whether a column says which rows stay together, or their part.
    """
    if table.size < MOST_CELLS:
        return _ensemble(len(table), classes, grouped)
    return _one_network(len(table), classes)


def _ensemble(rows: int, classes: int, grouped: bool) -> dict[str, Any]:
    most = 128 if rows < ENSEMBLE_ROWS else 256
    batch_size = min(max(2 ** int(math.log2(rows / ENSEMBLE_BATCHES)), 16), most)
    # folds are cut by rows: the best epoch would be that of known groups
    data = "TabularData" if grouped else "FoldedData"
    averaging = {
        "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "init_args": {"decay": 0.98, "use_buffers": False},
    }
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "validation/loss", "patience": 10},
    }
    return configuration(
        300,
        callbacks=[averaging, stopping],
        data={"class_path": f"src.tabular.data.{data}", "init_args": {"batch_size": batch_size}},
        model={
            "class_path": "src.tabular.ensemble.TabularEnsemble",
            "init_args": {
                "members": Noted(16, "networks; each leaves out one of 8 folds of the rows"),
                "hidden_sizes": Noted([64, 64], "units of each hidden layer"),
                "dropout": 0.25,
                "loss": "cross_entropy" if classes else "huber",
                "optimizer": {
                    "class_path": "torch.optim.Adam",
                    "init_args": {"lr": 0.01, "betas": [0.9, 0.95], "fused": True},
                },
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.LinearLR",
                    "init_args": {"start_factor": 0.1, "total_iters": Noted(10, "steps of warm-up")},
                },
                "lr_interval": "step",
                "parameter_groups": Noted(
                    [{"pattern": "scale", "lr": 0.06}], "the factors of the inputs learn more quickly"
                ),
            },
        },
    )


def _one_network(rows: int, classes: int) -> dict[str, Any]:
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
