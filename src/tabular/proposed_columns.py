"""Of a proposal for a table: the use of the columns other than the targets."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from src.preparation.proposals import Noted, count, listed, plain
from src.tabular.dates import seconds_of
from src.tabular.notation import is_date
from src.tabular.number_columns import TRUTH
from src.tabular.proposed_files import LEAST_ROWS_EACH, MOST_CODES, MOSTLY, is_whole, marked_number
from src.tabular.proposed_training import MOST_CELLS
from src.tabular.splitting import SPELLINGS
from src.tabular.values import MISSING, is_numeric, text_counts

ID_NAME = re.compile(
    r"(?i:(.*[ _.-])?(id|index|nr|no|num|number|uuid|guid|key|account|acct|mrn|sku|isbn|issn|ean|upc|barcode"
    r"|order|serial|ticket|passport|ssn|vin|iban|imei|invoice|ref|reference|hash)|unnamed: 0|row)"
    r"|.*[a-z](Id|ID|No|Nr|Num|Number|Key)|.*(编号|学号|工号|序号|单号|账号|卡号|证号|号码|流水号)"
)
# of persons and things that rows are about
GROUP_NAME = re.compile(
    r"(?i:(.*[ _.-])?(name|patient|subject|person|customer|client|user|student|participant|respondent"
    r"|speaker|author|household|family|animal|device|machine|sensor|vehicle|session"
    r"|employee|member|player|case|batch|lot|loan))"
    r"|.*(姓名|名称|患者|病人|客户|用户|学生|受试者|设备|车辆)|" + ID_NAME.pattern
)
# words that name a measured number, such as uv_index, as well as a thing
NUMBER_WORD = re.compile(r"(?i:(^|[ _.-])(index|nr|no|num|number)$)|(?<=[a-z])(No|Nr|Num|Number)$")
CODE_NAME = re.compile(r".*(code|class|type|zip|postal|region|district|zone|sector|categor|kind|group)", re.I)
SPLIT_NAME = re.compile(r"(?i:(.*[ _.-])?(split|subset|partition|set|part|usage))")
SCALES = (
    ("very low", "low", "medium", "middle", "moderate", "high", "very high", "critical"),
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

DIGITS = re.compile(r"\d+")
LONG_TEXT = 40  # bytes
NAME_WORDS = 5  # the most in a name of a person or thing
MOST_CATEGORIES = 200
RARE_ROWS = 10
FIRST_DAY, LAST_DAY = 19000101, 21001231  # days that are written as numbers
LEAST_GROUPS = 10
LEAST_GROUP_ROWS, MOST_GROUP_ROWS = 2, 50  # on average


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


def features_of(table: pd.DataFrame, answered_by: str | None) -> Features:
    """Propose the use of the columns other than the target.

    Args:
        table: the columns.
        answered_by: the name of the id in a sample submission, which goes before other ids.
    """
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
        elif (distinct := column.nunique()) > MOST_CATEGORIES:
            why = f"{distinct:,} categories, whose vectors are looked up: one_hot has a feature for each"
            found.kinds[name] = Noted({"kind": "categorical", "encode": "embedding"}, why)
        elif mark := marked_number(column):
            found.kinds[name] = Noted("categorical", f"whole numbers and texts such as {mark!r}")
        elif all(map(DIGITS.fullmatch, text_counts(column).index)):
            found.kinds[name] = Noted("categorical", "numbers with leading zeros are codes")
    numbered = [name for name in ids if is_numeric(table[name])]
    if len(ids) + len(found.drop) + len(found.others) == len(table.columns) and numbered:
        del ids[numbered[0]]  # the only possible feature
    # of several, that of the submission, else the one with the name of an id
    named = sorted(ids, key=lambda name: (name != answered_by, not ID_NAME.fullmatch(name)))
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
    why = f"dates; `time: {column.name}` would test on the latest rows (with TabularData, not FoldedData)"
    if is_numeric(column):
        return Noted("date", why) if _are_days(column) else None
    distinct = [text.strip() for text in text_counts(column).index]
    if _is_date(column):
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
        names = np.median([len(text.split()) for text in distinct]) <= NAME_WORDS
        if words > MOSTLY and not (names and GROUP_NAME.fullmatch(str(column.name))):
            return Noted("text", f"{len(distinct):,} different long texts; or add it to `drop`")
    return None


def _are_days(column: "pd.Series[Any]") -> bool:
    """Whether all numbers of a column are days of the calendar, written as 20240517."""
    numbers = column.dropna()
    within = is_whole(column) and bool(numbers.between(FIRST_DAY, LAST_DAY).all())
    return within and all(_reads(f"{number:.0f}", None) for number in numbers.unique())


def _reads(text: str, day_first: bool | None) -> bool:
    return seconds_of(text, day_first) is not None


def _id_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column identifies its row, if it does: a network would memorize the rows by it."""
    if not column.is_unique or column.isna().any() or _is_date(column):
        return None
    if not is_numeric(column):
        return "a different text in each row identifies it"
    if is_whole(column) and ID_NAME.fullmatch(str(column.name)):
        return "a different number in each row identifies it"
    if is_whole(column) and column.max() - column.min() == len(column) - 1:
        return "it counts the rows"
    return None


def _group_reason(column: "pd.Series[Any]") -> str | None:
    """Why several rows are about what a column names, if they are: a network would know it again."""
    name = str(column.name)
    if not GROUP_NAME.fullmatch(name) or column.isna().any() or _is_date(column):
        return None
    if is_numeric(column) and not GROUP_NAME.fullmatch(NUMBER_WORD.sub("", name)):
        return None
    groups = column.nunique()
    if groups < LEAST_GROUPS or not LEAST_GROUP_ROWS <= len(column) / groups <= MOST_GROUP_ROWS:
        return None
    if is_numeric(column) and not is_whole(column):
        return None
    return f"it names {groups:,} things in {count(len(column), 'row')}; all rows of one are in one part"


def _is_code(column: "pd.Series[Any]") -> bool:
    few = 2 < column.nunique() <= min(MOST_CODES, len(column) / LEAST_ROWS_EACH)
    return few and is_whole(column) and bool(CODE_NAME.match(str(column.name)))


def _is_date(column: "pd.Series[Any]") -> bool:
    if is_numeric(column):
        return False
    counts = text_counts(column)
    return bool(counts[[is_date(text) for text in counts.index]].sum() > MOSTLY * counts.sum())


def _text_reason(column: "pd.Series[Any]") -> str | None:
    """Why a column of texts is not one of categories, if it is not."""
    if _is_date(column):
        if all(_reads(str(text), day_first=True) for text in column.dropna().unique()):
            keys = f"column_types: {{{column.name}: {{kind: date, day_first: true}}}}"
            return f"dates in which the day or the month may be first; say it by `{keys}`, or false"
        return "times, or dates in several notations; add columns of numbers if they matter"
    if column.nunique() > max(len(column) / LEAST_ROWS_EACH, 2):
        return "too many different texts for categories"
    return None


def _categorical(table: pd.DataFrame, features: Features) -> list[str]:
    used = [name for name in table.columns if name not in features.drop]
    used = [name for name in used if name not in features.others]
    given = _given_kinds(features)
    return [name for name in used if given.get(name, "") == "categorical" or _is_inferred(table[name], given)]


def _given_kinds(features: Features) -> dict[str, str]:
    """The kind of each column that has an entry in `column_types`."""
    entries = {name: plain(entry) for name, entry in features.kinds.items()}
    return {name: entry if isinstance(entry, str) else entry["kind"] for name, entry in entries.items()}


def _is_inferred(column: "pd.Series[Any]", given: Collection[str]) -> bool:
    """Whether a column becomes one of categories without a key."""
    return column.name not in given and not is_numeric(column)


def column_keys(table: pd.DataFrame, features: Features, unknown: list[str]) -> dict[str, Any]:
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


def column_findings(table: pd.DataFrame, features: Features, unknown: list[str]) -> list[str]:
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
    kinds = list(_given_kinds(features).values())
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
